"""Write a ruling down: the outcome that is published, the explanation for people, and the event that points to both."""

from typing import Final

import orjson
from msgspec.json import Encoder

from engine.book import Account, Book, available_minor
from engine.intake import Intake, Readable
from engine.limits import Headroom
from engine.refusals import readable
from engine.rulings import Effects, Ruling
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.events import Answer
from schemas.outcomes import OutcomeBody, transaction_id
from schemas.plain import PlainTransfer
from schemas.requests import Deposit, OpenAccount, Transfer, Withdraw
from schemas.times import format_time

_encode: Final = Encoder().encode
_MONEY = (PlainTransfer, Transfer, Deposit, Withdraw)  # the most frequent first, as in engine.business.settle


def write_outcome(book: Book, intake: Intake, ruling: Ruling, limits: list[Headroom], at: int, ruleset: str) -> bytes:
    """Return the outcome body of *ruling*, which is not a replay, as the next event will publish it."""
    status, refusal, effects, findings = ruling.status, ruling.refusal, ruling.effects, ruling.findings
    content, seq, binding, replayed = intake.content, book.seq + 1, ruling.binding, False
    request = content.request if isinstance(content, Readable) else None
    amount_minor = currency = None
    if isinstance(request, _MONEY):
        amount_minor, currency = request.amount_minor, request.currency
    elif isinstance(request, OpenAccount):
        currency = request.currency
    balance_minor = available = None
    if request is not None and status != "rejected":
        account = book.accounts.get(request.account_id)
        if account is None and effects.account is not None:
            account = Account(effects.account)
        if account is not None and (currency is None or currency == account.currency):  # one currency per outcome
            currency = account.currency
            balance_minor, available = _position(account, effects)
    score = findings.score
    # A call with more than 15 keywords builds a dict of them, which takes 2 µs: the first fields go by their order.
    return _encode(
        OutcomeBody(
            1,
            content.request_id,
            content.account_id,
            content.type,
            status,
            None if refusal is None else refusal.reason.value,
            None if refusal is None else readable(refusal.detail),
            binding,  # final
            binding,
            replayed,
            transaction_id(book.partition, ruling.original or seq),
            book.partition,
            seq,
            format_time(at),
            amount_minor=amount_minor,
            currency=currency,
            balance_minor=balance_minor,
            available_minor=available,
            limits=limits,
            score=None if score is None else score.total,
            rules=findings.rules,
            ruleset=ruleset,
        )
    )


def write_replay(book: Book, original: bytes) -> bytes:
    """Return *original*, an outcome body, again: only ``seq`` and ``replayed`` differ."""
    body = orjson.loads(original)
    body["seq"] = book.seq + 1
    body["replayed"] = True
    return orjson.dumps(body)


def write_answer(
    intake: Intake, ruling: Ruling, bodies: tuple[bytes, bytes], at: int, ruleset: str, start: int
) -> Answer:
    """Return the event of *ruling* for *intake*; *bodies* are outcome and explanation, which follow the record."""
    content, size = intake.content, len(intake.framed)
    requested_at = fingerprint = None
    if isinstance(content, Readable):
        requested_at, fingerprint = content.requested_at, content.fingerprint.hex()
    kept = size <= MAX_REQUEST_BYTES
    outcome_start = start + size if kept else start
    explanation_start = outcome_start + len(bodies[0])
    refusal, effects, score = ruling.refusal, ruling.effects, ruling.findings.score
    return Answer(
        at=at,
        topic="requests",
        offset=intake.offset,
        sha256=intake.sha256,
        record=(start if kept else None, size),
        request_id=content.request_id,
        account_id=content.account_id,
        type=content.type,
        requested_at=requested_at,
        fingerprint=fingerprint,
        status=ruling.status,
        reason=None if refusal is None else refusal.reason.value,
        binding=ruling.binding,
        replayed=ruling.replayed,
        original=ruling.original,
        legs=effects.legs,
        account=effects.account,
        usage=effects.usage,
        payment=effects.payment,
        profile=effects.profile,
        score=None if score is None else score.total,
        ruleset=ruleset,
        outcome=(outcome_start, len(bodies[0])),
        explanation=(explanation_start, len(bodies[1])),
    )


def _position(account: Account, effects: Effects) -> tuple[int, int]:
    """Return ``(balance_minor, available_minor)`` of *account* behind *effects*."""
    terms = effects.account
    floor_minor = account.floor_minor if terms is None else terms.floor_minor
    ceiling_minor = account.ceiling_minor if terms is None else terms.ceiling_minor
    moved, own_id = 0, account.account_id
    for account_id, side, amount_minor, _ in effects.legs:
        if account_id == own_id:
            moved += amount_minor if side == "credit" else -amount_minor
    balance_minor = account.balance_minor + (moved if account.normal_side == "credit" else -moved)
    available = available_minor(account, balance_minor, floor_minor, ceiling_minor)
    assert available >= 0, f"{account.account_id}: {available} would be available, expected at least 0"
    return balance_minor, available
