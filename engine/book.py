"""The state of one partition: accounts, counters, what is remembered, and how far the inputs are decided.

Mutable and slotted, because it is the hot state and has one writer; only :func:`engine.evolve.evolve` changes it.
"""

from dataclasses import dataclass
from typing import Final

from engine.duplicates import RecentPayments
from engine.idempotency import Memory
from schemas.events import AccountTerms, Genesis, Profile
from schemas.requests import AccountStatus, NormalSide

HOURS_KEPT: Final = 64
"""How many payments' hours of the day an account keeps for its score."""


@dataclass(frozen=True, slots=True)
class ActiveRuleset:
    """The bundle in force: the config record it came in, and its name."""

    offset: int
    sha256: str
    version: str


class SystemAccount:
    """The counters of a system account: no floor, no ceiling, one per partition; mutable."""

    __slots__ = ("credits_posted", "debits_posted")

    def __init__(self) -> None:
        self.debits_posted = 0
        self.credits_posted = 0


class DayUsage:
    """What accepted requests of one type used per UTC day: three lists of equal length, days ascending; mutable."""

    __slots__ = ("counts", "days", "sums_minor")

    def __init__(self) -> None:
        self.days: list[int] = []
        self.sums_minor: list[int] = []
        self.counts: list[int] = []

    def on(self, day: int) -> tuple[int, int]:
        """Return ``(sum_minor, count)`` of *day*, which is the last day known or a later one."""
        if self.days and self.days[-1] == day:
            return self.sums_minor[-1], self.counts[-1]
        return 0, 0

    def add(self, day: int, amount_minor: int) -> None:
        """Count one more request of *amount_minor* on *day*, the last day known or a later one."""
        if not self.days or self.days[-1] < day:
            self.days.append(day)
            self.sums_minor.append(0)
            self.counts.append(0)
        self.sums_minor[-1] += amount_minor
        self.counts[-1] += 1

    def forget(self, first_day: int) -> None:
        """Drop the days before *first_day*."""
        while self.days and self.days[0] < first_day:
            del self.days[0], self.sums_minor[0], self.counts[0]


class Account:
    """A customer's account; mutable. Amounts are minor units of ``currency``.

    ``usage`` counts towards limits by request type. What the score compares a payment with: ``habits``, the profile
    behind the last accepted one, which was made at ``paid_at``, and ``hours``, the UTC hour of day of each of the last
    64 payments.
    """

    __slots__ = (
        "account_id", "attributes", "ceiling_minor", "credits_posted", "currency", "debits_posted", "floor_minor",
        "habits", "held", "hours", "normal_side", "paid_at", "status", "tier", "usage",
    )  # fmt: skip

    def __init__(self, terms: AccountTerms) -> None:
        self.account_id = terms.account_id
        self.currency = terms.currency
        self.normal_side: NormalSide = terms.normal_side
        self.set_terms(terms)
        self.debits_posted = 0
        self.credits_posted = 0
        self.held = 0
        self.usage: dict[str, DayUsage] = {}
        self.habits: Profile | None = None
        self.paid_at = 0
        self.hours = b""

    def set_terms(self, terms: AccountTerms) -> None:
        """Replace what may change about an account; id, currency and normal side never do."""
        self.status: AccountStatus = terms.status
        self.tier = terms.tier
        self.floor_minor = terms.floor_minor
        self.ceiling_minor = terms.ceiling_minor
        self.attributes = terms.attributes

    def terms(self) -> AccountTerms:
        """Return everything about the account that is not a counter."""
        return AccountTerms(
            account_id=self.account_id,
            currency=self.currency,
            normal_side=self.normal_side,
            status=self.status,
            tier=self.tier,
            floor_minor=self.floor_minor,
            ceiling_minor=self.ceiling_minor,
            attributes=self.attributes,
        )

    @property
    def balance_minor(self) -> int:
        """What the account holds (credit-normal) or owes (debit-normal)."""
        if self.normal_side == "credit":
            return self.credits_posted - self.debits_posted
        return self.debits_posted - self.credits_posted

    @property
    def available_minor(self) -> int:
        """What may leave the account now: above its floor (credit-normal), or up to its ceiling (debit-normal)."""
        return available_minor(self, self.balance_minor, self.floor_minor, self.ceiling_minor)


def available_minor(account: Account, balance_minor: int, floor_minor: int, ceiling_minor: int | None) -> int:
    """Return what would be available on *account* if it had this balance and these bounds."""
    if account.normal_side == "credit":
        return balance_minor - account.held - floor_minor
    return (ceiling_minor or 0) - balance_minor - account.held


class Book:
    """Everything that ``decide`` reads and ``evolve`` changes; one per partition, folded from its journal.

    ``seq`` and ``at`` are those of the last event; ``next_offset`` is the first undecided offset of each input topic
    and ``config_offset`` that of ``config``. ``versions`` maps the name of every bundle that was ever in force to its
    hash.
    """

    __slots__ = (
        "accounts", "at", "config_offset", "genesis", "horizon_days", "memory", "next_offset", "partition", "payments",
        "ruleset", "seq", "system_accounts", "versions",
    )  # fmt: skip

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.partition = genesis.partition
        self.horizon_days = -(-genesis.ring_horizon_s // 86_400)  # usage is kept per day: whole days, rounded up
        self.seq = 0
        self.at = genesis.at
        self.next_offset: dict[str, int] = {
            "requests": genesis.inputs["requests"],
            "transfers": genesis.inputs["transfers"],
        }
        self.config_offset = genesis.inputs["config"]
        self.ruleset: ActiveRuleset | None = None
        self.versions: dict[str, str] = {}
        self.accounts: dict[str, Account] = {}
        self.system_accounts: dict[str, SystemAccount] = {}
        self.memory = Memory(genesis.retry_window_s)
        self.payments = RecentPayments()

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> "Book":
        """Return the book before the first event of the journal that *genesis* begins."""
        return cls(genesis)
