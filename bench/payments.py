"""The payments that all three ways are given: the same accounts, amounts and limits.

Payer and payee are drawn uniformly among the accounts of one partition. So there is no hot account, which favours the
conventional way: its transactions never wait for each other's row locks for long. Every payment is accepted.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal

from ledgerline.demo.traffic import Outbound
from schemas.config import Bundle
from schemas.records import partition_of
from schemas.times import format_time

PARTITIONS: Final = 8
CURRENCY: Final = "EUR"
FUNDING_MINOR: Final = 10**12
MAX_AMOUNT_MINOR: Final = 5_000
PER_TRANSACTION_MINOR: Final = 1_000_000
DAILY_SUM_MINOR: Final = 10**12
DAILY_COUNT: Final = 1_000_000

BUNDLE: Final = Bundle.model_validate(
    {
        "v": 1,
        "kind": "bundle",
        "version": "bench-1",
        "description": "Limits that are checked for every payment and never reached.",
        "tiers": {
            "standard": {
                "limits": (
                    {
                        "type": "transfer",
                        "currency": CURRENCY,
                        "per_transaction_minor": PER_TRANSACTION_MINOR,
                        "daily_sum_minor": DAILY_SUM_MINOR,
                        "daily_count": DAILY_COUNT,
                    },
                )
            }
        },
        "near_duplicates": {"window_s": 60, "action": "tag"},
        "scoring": {},
    }
)

_OPEN: Final = (
    '{"v":1,"type":"open_account","request_id":"open","account_id":"%s","requested_at":"%s","currency":"EUR"}'
)
_DEPOSIT: Final = (
    '{"v":1,"type":"deposit","request_id":"fund","account_id":"%s","requested_at":"%s","amount_minor":%d,'
    '"currency":"EUR","rail":"bench"}'
)
_TRANSFER: Final = (
    '{"v":1,"type":"transfer","request_id":"%s","account_id":"%s","requested_at":"%s","amount_minor":%d,'
    '"currency":"EUR","payee":"%s"}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Account ids by the partition that owns them; at least two on each."""

    by_partition: Sequence[Sequence[str]]

    @classmethod
    def named(cls, number: int) -> "Accounts":
        """*number* accounts, on no partition more than its share (rounded up); raises ValueError below two for each."""
        if number < 2 * PARTITIONS:
            raise ValueError(f"expected at least {2 * PARTITIONS} accounts, two on each partition, got {number}")
        wanted = -(-number // PARTITIONS)
        found: list[list[str]] = [[] for _ in range(PARTITIONS)]
        missing = number
        for name in (f"customer-{n:06d}" for n in count()):
            own = found[partition_of(name.encode(), PARTITIONS)]
            if len(own) < wanted:
                own.append(name)
                missing -= 1
            if not missing:
                break
        return cls(by_partition=found)

    def all(self) -> Iterator[str]:
        """Every account."""
        return (name for names in self.by_partition for name in names)


def openings(accounts: Accounts) -> Iterator[Outbound]:
    """A request that opens each account."""
    now = format_time(now_ms())
    return (_outbound(name, _OPEN % (name, now), "open_account") for name in accounts.all())


def fundings(accounts: Accounts) -> Iterator[Outbound]:
    """A deposit to each account that all its payments will not use up."""
    now = format_time(now_ms())
    return (_outbound(name, _DEPOSIT % (name, now, FUNDING_MINOR), "deposit") for name in accounts.all())


class Payments:
    """An endless stream of payments; *run* makes their ids differ from those of other runs. Mutable."""

    def __init__(self, accounts: Accounts, run: str, seed: int) -> None:
        self._accounts, self._run = accounts.by_partition, run
        self._random = random.Random(seed)
        self._number = 0

    def next(self, requested_at: str) -> Outbound:
        """One more payment."""
        chance, self._number = self._random.random, self._number + 1
        own = self._accounts[int(chance() * PARTITIONS)]
        payer = int(chance() * len(own))
        payee = (payer + 1 + int(chance() * (len(own) - 1))) % len(own)
        amount = 1 + int(chance() * MAX_AMOUNT_MINOR)
        text = _TRANSFER % (f"{self._run}-{self._number}", own[payer], requested_at, amount, own[payee])
        return _outbound(own[payer], text, "payment")


def now_ms() -> int:
    """The clock of this machine."""
    return time.time_ns() // 1_000_000


def _outbound(account: str, text: str, kind: Literal["open_account", "deposit", "payment"]) -> Outbound:
    return Outbound(key=account.encode(), value=text.encode(), kind=kind)
