"""Limits, recounted from the decisions in the journal (I14): what was accepted per account, type and UTC day."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from schemas.config import Bundle, Limit

DAY_MS: Final = 86_400_000


class Used(NamedTuple):
    """What counts on one UTC day."""

    number: int
    sum_minor: int


NOTHING: Final = Used(0, 0)


class Spent:
    """What was accepted per account and type on the latest UTC day of each. Mutable, one owner.

    Earlier days need not be kept: within a partition ``at``, and so the day, never goes back.
    """

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], tuple[int, Used]] = {}

    def on(self, account_id: str, kind: str, at: int) -> Used:
        """Return what was accepted on the UTC day of *at*."""
        day, used = self._used.get((account_id, kind), (-1, NOTHING))
        return used if day == at // DAY_MS else NOTHING

    def add(self, account_id: str, kind: str, at: int, amount_minor: int) -> None:
        """Count an accepted request."""
        used = self.on(account_id, kind, at)
        self._used[account_id, kind] = (at // DAY_MS, Used(used.number + 1, used.sum_minor + amount_minor))


def limit_of(bundle: Bundle, tier: str, kind: str, currency: str) -> Limit | None:
    """Return the limits of *tier* for requests of type *kind* in *currency*."""
    of_tier = bundle.tiers.get(tier)
    found = [] if of_tier is None else [x for x in of_tier.limits if x.type == kind and x.currency == currency]
    return found[0] if found else None


def exceeded(limit: Limit, before: Used, amount_minor: int) -> str | None:
    """Return the reason why *amount_minor* may not follow *before* on the same day, or None."""
    if limit.per_transaction_minor is not None and amount_minor > limit.per_transaction_minor:
        return "per_transaction_limit"
    if limit.daily_sum_minor is not None and before.sum_minor + amount_minor > limit.daily_sum_minor:
        return "daily_sum_limit"
    if limit.daily_count is not None and before.number + 1 > limit.daily_count:
        return "daily_count_limit"
    return None


def headroom(limit: Limit, before: Used, amount_minor: int | None) -> list[dict[str, Any]]:
    """Return the ``limits`` of an outcome behind the decision; *amount_minor* is None where nothing was accepted.

    Nothing remains where a newer bundle set a limit below what was used.
    """
    amount = amount_minor or 0
    rows: list[dict[str, Any]] = []
    for name, used, most in (
        ("per_transaction", amount, limit.per_transaction_minor),
        ("daily_sum", before.sum_minor + amount, limit.daily_sum_minor),
    ):
        if most is not None:
            rows.append({"name": name, "used_minor": used, "limit_minor": most, "remaining_minor": max(0, most - used)})
    if limit.daily_count is not None:
        used, most = before.number + (amount_minor is not None), limit.daily_count
        rows.append({"name": "daily_count", "used": used, "limit": most, "remaining": max(0, most - used)})
    return rows
