"""The explanation of a decision: everything that a person needs to see why it came out as it did (docs/requests.md).

JSON, next to the outcome in the block; it is never sent to the requester. Keys appear where they apply:

* ``decision``, ``ruleset``; of a refusal ``reason``, ``detail``, ``check`` (``number`` and ``name`` of the one that
  refused);
* ``original`` (transaction id) and ``replayed``; ``defect``, the exception behind an ``internal_error``;
* ``tier``; ``funds``: ``needed_minor`` and ``available_minor``, before the decision; ``limits`` as in the outcome;
* ``near_duplicate``: ``of`` (transaction id), ``age_ms``, and the rule's ``window_s`` and ``action``;
* ``score``: ``total``, ``decline_at``, the ``parts`` that add up to the total, the ``most`` of each, the ``values``
  used.
"""

from typing import Any

import orjson

from engine.book import Book
from engine.limits import Headroom
from engine.refusals import CHECKS, FAILED_CHECK, readable
from engine.rulings import Findings, Ruling
from engine.scoring import MOST_AMOUNT, MOST_HOUR, MOST_VELOCITY
from schemas.config import Bundle
from schemas.outcomes import transaction_id


def write_explanation(
    book: Book, bundle: Bundle, ruling: Ruling, limits: list[Headroom], defect: Exception | None
) -> bytes:
    """Return the explanation of *ruling* as JSON; *defect* is the exception behind an ``internal_error``."""
    told: dict[str, Any] = {"decision": ruling.status, "ruleset": bundle.version}
    if ruling.replayed:
        told["replayed"] = True
    if ruling.original is not None:
        told["original"] = transaction_id(book.partition, ruling.original)
    refusal = ruling.refusal
    if refusal is not None:
        told["reason"] = refusal.reason.value
        told["detail"] = readable(refusal.detail)
        number = FAILED_CHECK.get(refusal.reason)
        if number is not None:
            told["check"] = {"number": number, "name": CHECKS[number]}
    if defect is not None:
        told["defect"] = readable(f"{type(defect).__name__}: {defect}")
    _tell_findings(told, book, bundle, ruling.findings)
    if limits:
        told["limits"] = limits
    return orjson.dumps(told)


def _tell_findings(told: dict[str, Any], book: Book, bundle: Bundle, findings: Findings) -> None:
    if findings.tier is not None:
        told["tier"] = findings.tier
    if findings.needed_minor is not None:
        told["funds"] = {"needed_minor": findings.needed_minor, "available_minor": findings.available_minor}
    if findings.lookalike is not None:
        told["near_duplicate"] = {
            "of": transaction_id(book.partition, findings.lookalike.seq),
            "age_ms": findings.lookalike_age_ms,
            "window_s": bundle.near_duplicates.window_s,
            "action": bundle.near_duplicates.action,
        }
    score = findings.score
    if score is not None:
        told["score"] = {
            "total": score.total,
            "decline_at": bundle.scoring.decline_at,
            "parts": {"amount": score.amount, "velocity": score.velocity, "hour": score.hour},
            "most": {"amount": MOST_AMOUNT, "velocity": MOST_VELOCITY, "hour": MOST_HOUR},
            "values": score.values,
        }
