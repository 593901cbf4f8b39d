"""Limits of a tier on one request type in one currency: per transaction, and sum and count per UTC day of ``at``."""

from dataclasses import dataclass

from engine.book import Account
from engine.refusals import Refusal
from schemas.bounds import DAY_MS
from schemas.config import Limit, Tier
from schemas.currencies import format_amount
from schemas.reasons import Reason
from schemas.requests import Deposit, Transfer, Withdraw

Headroom = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands on a day with its limit for a request's type and currency, before the request."""

    limit: Limit
    day: int
    sum_minor: int
    count: int


def standing(account: Account, tier: Tier, request: Deposit | Withdraw | Transfer, at: int) -> Standing | None:
    """Return where *account* stands with the limit that applies to *request*, or ``None`` where none does."""
    for limit in tier.limits:
        if limit.type == request.type and limit.currency == request.currency:
            day = at // DAY_MS
            used = account.usage.get(request.type)
            sum_minor, count = used.on(day) if used is not None else (0, 0)
            return Standing(limit, day, sum_minor, count)
    return None


def exceeded(now: Standing, amount_minor: int, currency: str) -> Refusal | None:
    """Return the first limit that *amount_minor* would exceed: per transaction, then the day's sum, then its count."""
    limit = now.limit
    if limit.per_transaction_minor is not None and amount_minor > limit.per_transaction_minor:
        most = format_amount(limit.per_transaction_minor, currency)
        found = format_amount(amount_minor, currency)
        return Refusal(
            Reason.PER_TRANSACTION_LIMIT, f"amount_minor: at most {most} {currency} per {limit.type}, found {found}"
        )
    if limit.daily_sum_minor is not None and now.sum_minor + amount_minor > limit.daily_sum_minor:
        most = format_amount(limit.daily_sum_minor, currency)
        used = format_amount(now.sum_minor, currency)
        return Refusal(
            Reason.DAILY_SUM_LIMIT,
            f"amount_minor: at most {most} {currency} per day by {limit.type}, {used} are used,"
            f" found {format_amount(amount_minor, currency)} more",
        )
    if limit.daily_count is not None and now.count + 1 > limit.daily_count:
        return Refusal(
            Reason.DAILY_COUNT_LIMIT,
            f"type: at most {limit.daily_count} times {limit.type} in {currency} per day, {now.count} are used",
        )
    return None


def headroom(now: Standing, consumed_minor: int) -> list[Headroom]:
    """Return every limit behind the decision, as outcomes tell them (``schemas.outcomes.LimitHeadroom``).

    *consumed_minor* is the accepted amount, or 0 for a decline, which consumes nothing. ``remaining`` is 0 where a
    newer bundle set a limit below what was used.
    """
    limit = now.limit
    found: list[Headroom] = []
    if limit.per_transaction_minor is not None:
        found.append(_sum("per_transaction", consumed_minor, limit.per_transaction_minor))
    if limit.daily_sum_minor is not None:
        found.append(_sum("daily_sum", now.sum_minor + consumed_minor, limit.daily_sum_minor))
    if limit.daily_count is not None:
        used = now.count + (1 if consumed_minor else 0)
        remaining = max(0, limit.daily_count - used)
        found.append({"name": "daily_count", "used": used, "limit": limit.daily_count, "remaining": remaining})
    return found


def _sum(name: str, used_minor: int, limit_minor: int) -> Headroom:
    remaining_minor = max(0, limit_minor - used_minor)
    return {"name": name, "used_minor": used_minor, "limit_minor": limit_minor, "remaining_minor": remaining_minor}
