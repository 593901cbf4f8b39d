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

from typing import Final

from msgspec.json import Encoder

from engine.book import Book
from engine.limits import Headroom
from engine.refusals import CHECKS, FAILED_CHECK, readable
from engine.rulings import Findings, Ruling
from engine.scoring import MOST_AMOUNT, MOST_HOUR, MOST_VELOCITY, Score
from schemas.config import Bundle
from schemas.explanations import (
    ExplainedCheck,
    ExplainedFunds,
    ExplainedNearDuplicate,
    ExplainedScore,
    Explanation,
    ScoreParts,
)
from schemas.outcomes import transaction_id

_encode: Final = Encoder().encode
_MOST: Final = ScoreParts(MOST_AMOUNT, MOST_VELOCITY, MOST_HOUR)


def write_explanation(
    book: Book, bundle: Bundle, ruling: Ruling, limits: list[Headroom], defect: Exception | None
) -> bytes:
    """Return the explanation of *ruling* as JSON; *defect* is the exception behind an ``internal_error``."""
    refusal, findings, original = ruling.refusal, ruling.findings, ruling.original
    reason = detail = check = None
    if refusal is not None:
        reason, detail = refusal.reason.value, readable(refusal.detail)
        number = FAILED_CHECK.get(refusal.reason)
        check = None if number is None else ExplainedCheck(number, CHECKS[number])
    return _encode(
        Explanation(
            decision=ruling.status,
            ruleset=bundle.version,
            replayed=ruling.replayed,
            original=None if original is None else transaction_id(book.partition, original),
            reason=reason,
            detail=detail,
            check=check,
            defect=None if defect is None else readable(f"{type(defect).__name__}: {defect}"),
            tier=findings.tier,
            funds=None
            if findings.needed_minor is None
            else ExplainedFunds(findings.needed_minor, findings.available_minor),
            near_duplicate=_near_duplicate(book, bundle, findings),
            score=_score(bundle, findings.score),
            limits=limits or None,
        )
    )


def _near_duplicate(book: Book, bundle: Bundle, findings: Findings) -> ExplainedNearDuplicate | None:
    found, rule = findings.lookalike, bundle.near_duplicates
    if found is None:
        return None
    earlier = transaction_id(book.partition, found.seq)
    return ExplainedNearDuplicate(earlier, findings.lookalike_age_ms, rule.window_s, rule.action)


def _score(bundle: Bundle, score: Score | None) -> ExplainedScore | None:
    if score is None:
        return None
    parts = ScoreParts(score.amount, score.velocity, score.hour)
    return ExplainedScore(score.total, bundle.scoring.decline_at, parts, _MOST, score.values)
