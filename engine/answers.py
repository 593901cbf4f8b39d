"""Write a ruling down: the outcome that is published, the explanation for people, and the event that points to both."""

import orjson

from engine.book import Account, Book, available_minor
from engine.intake import Intake
from engine.limits import Headroom
from engine.refusals import readable
from engine.rulings import Effects, Ruling
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.events import Answer, Span
from schemas.outcomes import transaction_id
from schemas.requests import Decoded, Deposit, OpenAccount, Transfer, Unreadable, Withdraw
from schemas.times import format_time

_MONEY = (Transfer, Deposit, Withdraw)  # the most frequent first, as in engine.business.settle


def write_outcome(book: Book, intake: Intake, ruling: Ruling, limits: list[Headroom], at: int, ruleset: str) -> bytes:
    """Return the outcome body of *ruling*, which is not a replay, as the next event will publish it."""
    content = intake.content
    request = content.request if isinstance(content, Decoded) else None
    request_id, account_id, request_type = identity(content)
    amount_minor = request.amount_minor if isinstance(request, _MONEY) else None
    currency = request.currency if isinstance(request, (*_MONEY, OpenAccount)) else None
    balance_minor = available = None
    if request is not None and ruling.status != "rejected":
        account = book.accounts.get(request.account_id)
        if account is None and ruling.effects.account is not None:
            account = Account(ruling.effects.account)
        if account is not None and currency in {None, account.currency}:  # one currency per outcome
            currency = account.currency
            balance_minor, available = _position(account, ruling.effects)
    refusal, score = ruling.refusal, ruling.findings.score
    # A literal in the order of schemas.outcomes.Outcome: the tests hold every body against that model.
    return orjson.dumps(
        {
            "v": 1,
            "request_id": request_id,
            "account_id": account_id,
            "type": request_type,
            "status": ruling.status,
            "reason": None if refusal is None else refusal.reason.value,
            "detail": None if refusal is None else readable(refusal.detail),
            "final": ruling.binding,
            "binding": ruling.binding,
            "replayed": False,
            "transaction": transaction_id(book.partition, ruling.original or book.seq + 1),
            "partition": book.partition,
            "seq": book.seq + 1,
            "at": format_time(at),
            "amount_minor": amount_minor,
            "currency": currency,
            "balance_minor": balance_minor,
            "available_minor": available,
            "limits": limits,
            "score": None if score is None else score.total,
            "rules": ruling.findings.rules,
            "ruleset": ruleset,
        }
    )


def write_replay(book: Book, original: bytes) -> bytes:
    """Return *original*, an outcome body, again: only ``seq`` and ``replayed`` differ."""
    body = orjson.loads(original)
    body["seq"] = book.seq + 1
    body["replayed"] = True
    return orjson.dumps(body)


def identity(content: Decoded | Unreadable) -> tuple[str | None, str | None, str | None]:
    """Return ``(request_id, account_id, type)``, each ``None`` where it could not be read."""
    if isinstance(content, Decoded):
        return content.request.request_id, content.request.account_id, content.request.type
    return content.request_id, content.account_id, content.type


def write_answer(
    intake: Intake, ruling: Ruling, bodies: tuple[bytes, bytes], at: int, ruleset: str, start: int
) -> Answer:
    """Return the event of *ruling* for *intake*; *bodies* are outcome and explanation, which follow the record."""
    content = intake.content
    request = content.request if isinstance(content, Decoded) else None
    request_id, account_id, request_type = identity(content)
    kept = len(intake.framed) <= MAX_REQUEST_BYTES
    record: Span = (start if kept else None, len(intake.framed))
    outcome_start = start + (len(intake.framed) if kept else 0)
    effects = ruling.effects
    return Answer(
        at=at,
        topic="requests",
        offset=intake.offset,
        sha256=intake.sha256,
        record=record,
        request_id=request_id,
        account_id=account_id,
        type=request_type,
        requested_at=None if request is None else request.requested_at,
        fingerprint=content.fingerprint.hex() if isinstance(content, Decoded) else None,
        status=ruling.status,
        reason=None if ruling.refusal is None else ruling.refusal.reason.value,
        binding=ruling.binding,
        replayed=ruling.replayed,
        original=ruling.original,
        legs=effects.legs,
        account=effects.account,
        usage=effects.usage,
        payment=effects.payment,
        profile=effects.profile,
        score=None if ruling.findings.score is None else ruling.findings.score.total,
        ruleset=ruleset,
        outcome=(outcome_start, len(bodies[0])),
        explanation=(outcome_start + len(bodies[0]), len(bodies[1])),
    )


def _position(account: Account, effects: Effects) -> tuple[int, int]:
    """Return ``(balance_minor, available_minor)`` of *account* behind *effects*."""
    terms = effects.account
    floor_minor = account.floor_minor if terms is None else terms.floor_minor
    ceiling_minor = account.ceiling_minor if terms is None else terms.ceiling_minor
    moved = 0
    for account_id, side, amount_minor, _ in effects.legs:
        if account_id == account.account_id:
            moved += amount_minor if side == "credit" else -amount_minor
    balance_minor = account.balance_minor + (moved if account.normal_side == "credit" else -moved)
    available = available_minor(account, floor_minor, ceiling_minor) + moved
    assert available >= 0, f"{account.account_id}: {available} would be available, expected at least 0"
    return balance_minor, available
