"""Limits of a tier on one request type in one currency: per transaction, and sum and count per UTC day of ``at``."""

from msgspec import Struct

from engine.book import Account
from engine.refusals import Refusal
from schemas.bounds import DAY_MS
from schemas.config import Limit, LimitedType, Tier
from schemas.currencies import format_amount
from schemas.reasons import Reason


class SumHeadroom(Struct, frozen=True, gc=False):
    """A :class:`schemas.outcomes.SumLimit`, unchecked."""

    name: str
    used_minor: int
    limit_minor: int
    remaining_minor: int


class CountHeadroom(Struct, frozen=True, gc=False):
    """A :class:`schemas.outcomes.CountLimit`, unchecked."""

    name: str
    used: int
    limit: int
    remaining: int


Headroom = SumHeadroom | CountHeadroom


class Standing(Struct, frozen=True, gc=False):
    """Where an account stands on a day with its limit for a request's type and currency, before the request."""

    limit: Limit
    used_minor: int
    used_count: int


def standing(account: Account, tier: Tier, request_type: LimitedType, currency: str, at: int) -> Standing | None:
    """Return where *account* stands with the limit on requests of a type and currency, or ``None`` without one."""
    limit = tier.by_type_and_currency.get((request_type, currency))
    if limit is None:
        return None
    used = account.usage.get(request_type)
    used_minor, used_count = (0, 0) if used is None else used.on(at // DAY_MS)
    return Standing(limit, used_minor, used_count)


def exceeded(now: Standing, amount_minor: int, currency: str) -> Refusal | None:
    """Return the first limit that *amount_minor* would exceed: per transaction, then the day's sum, then its count."""
    limit, used_minor, used_count = now.limit, now.used_minor, now.used_count
    most_minor = limit.per_transaction_minor
    if most_minor is not None and amount_minor > most_minor:
        most = format_amount(most_minor, currency)
        found = format_amount(amount_minor, currency)
        return Refusal(
            Reason.PER_TRANSACTION_LIMIT, f"amount_minor: at most {most} {currency} per {limit.type}, found {found}"
        )
    most_minor = limit.daily_sum_minor
    if most_minor is not None and used_minor + amount_minor > most_minor:
        most = format_amount(most_minor, currency)
        used = format_amount(used_minor, currency)
        return Refusal(
            Reason.DAILY_SUM_LIMIT,
            f"amount_minor: at most {most} {currency} per day by {limit.type}, {used} are used,"
            f" found {format_amount(amount_minor, currency)} more",
        )
    most_count = limit.daily_count
    if most_count is not None and used_count + 1 > most_count:
        return Refusal(
            Reason.DAILY_COUNT_LIMIT,
            f"type: at most {most_count} times {limit.type} in {currency} per day, {used_count} are used",
        )
    return None


def headroom(now: Standing, consumed_minor: int) -> list[Headroom]:
    """Return every limit behind the decision, as outcomes tell them (``schemas.outcomes.LimitHeadroom``).

    *consumed_minor* is the accepted amount, or 0 for a decline, which consumes nothing. ``remaining`` is 0 where a
    newer bundle set a limit below what was used.
    """
    limit, used_minor, used_count = now.limit, now.used_minor, now.used_count
    found: list[Headroom] = []
    if (most_minor := limit.per_transaction_minor) is not None:
        found.append(_sum("per_transaction", consumed_minor, most_minor))
    if (most_minor := limit.daily_sum_minor) is not None:
        found.append(_sum("daily_sum", used_minor + consumed_minor, most_minor))
    if (most_count := limit.daily_count) is not None:
        used = used_count + 1 if consumed_minor else used_count
        found.append(CountHeadroom("daily_count", used, most_count, max(0, most_count - used)))
    return found


def _sum(name: str, used_minor: int, limit_minor: int) -> SumHeadroom:
    return SumHeadroom(name, used_minor, limit_minor, max(0, limit_minor - used_minor))
