"""``decide``: what a record does to the book. Reads, changes nothing; equal arguments give equal bytes, on any machine.

The order of the checks is docs/design.md §6: 1 to 4 here, 5 to 12 in engine/business.py. Signatures (3) and lists (7)
are not part of this version.
"""

import hashlib

import orjson
from msgspec import Struct

from engine.answers import write_answer, write_outcome, write_replay
from engine.book import Book
from engine.business import Case, settle
from engine.checks import owned, too_early, too_late
from engine.evidence import Evidence
from engine.explanations import write_explanation
from engine.idempotency import Remembered
from engine.intake import Intake, Readable
from engine.limits import Headroom, headroom
from engine.refusals import Refusal, readable
from engine.rulings import Findings, Ruling, accepted, declined, failed, rejected, replayed
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed
from schemas.config import Bundle, decode_bundle
from schemas.events import Answer, Cause, ConfigPickup, Skip
from schemas.outcomes import transaction_id
from schemas.reasons import Reason
from schemas.records import input_hash
from schemas.requests import Unreadable


class Decision(Struct, frozen=True, gc=False):
    """The event that answers a record, and the bytes that its spans point to behind the record: outcome, explanation.

    ``defect`` is the unexpected exception behind an ``internal_error``: the shell counts it and alarms.
    ``payment_digest`` is for ``evolve``: that of a transfer which was looked for among the recent payments.
    """

    event: Answer
    outcome: bytes
    explanation: bytes
    defect: Exception | None = None
    payment_digest: bytes | None = None


class MissingEvidence(Exception):
    """The caller did not bring the outcome body that :func:`needs` asked for."""


def needs(book: Book, intake: Intake) -> int | None:
    """Return the seq of the event whose outcome body :func:`decide` will want as evidence (a replay), or ``None``."""
    content = intake.content
    if isinstance(content, Unreadable) or intake.digest is None:
        return None
    remembered = book.memory.find(intake.digest, book.at)
    return remembered.seq if remembered is not None and remembered.fingerprint == content.fingerprint else None


def decide(book: Book, intake: Intake, evidence: Evidence, at: int, bundle: Bundle, start: int) -> Decision:
    """Return the one answering event of *intake*, with its outcome and explanation.

    *at* (ms) is not before ``book.at``; *bundle* is the one in force; *start* is the number of raw bytes that the
    block holds already. A refusal is a value; an unexpected exception is answered ``internal_error`` and handed on as
    ``defect``. Raises ``AssertionError`` or :class:`MissingEvidence` if the caller broke the contract.
    """
    assert at >= book.at, f"decide: expected at >= {book.at}, got {at}"
    assert book.ruleset is not None, "decide: no bundle was picked up"
    assert book.ruleset.version == bundle.version, (
        f"decide: expected bundle {book.ruleset.version}, got {bundle.version}"
    )
    new = False
    try:
        ruling = _gate(book, intake, evidence, at)
        if ruling is None:
            new = True
            ruling = _business(book, intake, at, bundle)
        return _write(book, intake, evidence, ruling, at, bundle, start, None)
    except MissingEvidence:
        raise
    except Exception as defect:  # noqa: BLE001  the one place: a bug must not stop the partition on one request; it is alarmed
        refusal = Refusal(Reason.INTERNAL_ERROR, "the engine failed to decide this request; the operators are alarmed")
        return _write(book, intake, evidence, failed(refusal, binding=new), at, bundle, start, defect)


def decide_config(
    book: Book, offset: int, value: bytes | None, cause_topic: Cause, cause_offset: int, at: int
) -> ConfigPickup:
    """Return the verdict about the config record at *offset*, which the input (*cause_topic*, *cause_offset*) follows.

    Refused: what is no bundle, and a version that already names another one.
    """
    sha256 = hashlib.sha256(value or b"").hexdigest()
    version, reason = _judge_bundle(book, value, sha256)
    return ConfigPickup(
        at=at,
        cause_topic=cause_topic,
        cause_offset=cause_offset,
        offset=offset,
        sha256=sha256,
        version=version,
        verdict="active" if reason is None else "refused",
        reason=reason,
    )


def skip(book: Book, framed: bytes, offset: int, at: int, start: int) -> Skip:
    """Return the answering event of a record of ``transfers``: there are no links yet, so it has no effect."""
    assert at >= book.at, f"skip: expected at >= {book.at}, got {at}"
    kept = len(framed) <= MAX_REQUEST_BYTES
    return Skip(
        at=at,
        offset=offset,
        sha256=input_hash(framed),
        record=(start if kept else None, len(framed)),
        reason="unsupported",
    )


def _gate(book: Book, intake: Intake, evidence: Evidence, at: int) -> Ruling | None:
    """Checks 1 to 4: return the answer of a record that never becomes business, or ``None``."""
    content = intake.content
    if isinstance(content, Unreadable):
        return rejected(Refusal(Reason(content.reason), str(content.problem)))
    refusal = owned(book, intake.key, content.account_id) or too_early(content.requested_at, at)
    if refusal is not None:
        return rejected(refusal)
    assert intake.digest is not None, "intake: a readable request has a digest"
    remembered = book.memory.find(intake.digest, at)
    if remembered is None:
        refusal = too_late(book, content.requested_at, at)
        return None if refusal is None else rejected(refusal)
    if remembered.fingerprint != content.fingerprint:
        return _conflict(book, content.request_id, remembered)
    return _replay(remembered, evidence)


def _conflict(book: Book, request_id: str, remembered: Remembered) -> Ruling:
    earlier = transaction_id(book.partition, remembered.seq)
    refusal = Refusal(
        Reason.IDEMPOTENCY_CONFLICT,
        f"request_id: {request_id} was answered with another body by {earlier}; a new request needs a new id",
    )
    return rejected(refusal, original=remembered.seq)


def _replay(remembered: Remembered, evidence: Evidence) -> Ruling:
    if evidence.original is None:
        raise MissingEvidence(f"decide: expected the outcome body of event {remembered.seq}")
    body = orjson.loads(evidence.original)
    reason = body["reason"]
    refusal = None if reason is None else Refusal(Reason(reason), body["detail"])
    return replayed(body["status"], refusal, remembered.seq)


def _business(book: Book, intake: Intake, at: int, bundle: Bundle) -> Ruling:
    """Checks 5 to 12, for a request that is owned, timely and new."""
    assert isinstance(intake.content, Readable), "business: an unreadable record was let through"
    findings = Findings()
    result = settle(Case(book, bundle, at, findings), intake.content.request)
    return declined(result, findings) if isinstance(result, Refusal) else accepted(result, findings)


def _write(
    book: Book,
    intake: Intake,
    evidence: Evidence,
    ruling: Ruling,
    at: int,
    bundle: Bundle,
    start: int,
    defect: Exception | None,
) -> Decision:
    limits: list[Headroom] = []
    usage = ruling.effects.usage
    if ruling.findings.standing is not None:
        limits = headroom(ruling.findings.standing, 0 if usage is None else usage.amount_minor)
    if ruling.replayed and evidence.original is not None:
        outcome = write_replay(book, evidence.original)
    else:
        outcome = write_outcome(book, intake, ruling, limits, at, bundle.version)
    explanation = write_explanation(book, bundle, ruling, limits, defect)
    event = write_answer(intake, ruling, (outcome, explanation), at, bundle.version, start)
    return Decision(event, outcome, explanation, defect, ruling.findings.payment_digest)


def _judge_bundle(book: Book, value: bytes | None, sha256: str) -> tuple[str | None, str | None]:
    """Return ``(version, None)`` of a bundle that may be in force, or ``(version if readable, reason)``."""
    if value is None:
        return None, "malformed: value: expected a bundle, found null"
    try:
        bundle = decode_bundle(value)
    except Malformed as problem:
        return None, readable(f"malformed: {problem}")
    if book.versions.get(bundle.version, sha256) != sha256:
        return bundle.version, f"version_taken: version: {bundle.version} already names another bundle"
    return bundle.version, None
