"""What the demo sends: the payments of the bundled sample, with troublesome requests mixed in at stated rates.

The sample is simulated and its time is compressed: the payments keep their order, ``requested_at`` is
the moment of sending.
"""

import csv
import gzip
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Final, Literal

import orjson

from schemas.config import Bundle
from schemas.records import partition_of
from schemas.times import format_time

SAMPLE: Final = Path(__file__).parents[2] / "examples" / "data" / "card_payments.csv.gz"
CURRENCY: Final = "USD"
FUNDING_MINOR: Final = 1_000_000
PER_TRANSACTION_MINOR: Final = 300_000
OVER_LIMIT_MINOR: Final = 350_000
RECENT: Final = 2_000
"""Duplicates and conflicts name one of the last 2,000 payments: a retry comes soon after what it repeats."""

Kind = Literal["payment", "duplicate", "near_duplicate", "conflict", "over_limit", "malformed"]

PER_THOUSAND: Final[dict[Kind, int]] = {
    "duplicate": 20,
    "near_duplicate": 10,
    "conflict": 5,
    "over_limit": 5,
    "malformed": 5,
}
"""How many of a thousand requests are of each troublesome kind; the others are payments of the sample."""

DEMO_BUNDLE: Final = Bundle.model_validate(
    {
        "v": 1,
        "kind": "bundle",
        "version": "demo-1",
        "description": "For the demo: months of card payments pass in minutes, so a day's limits are those of a month.",
        "tiers": {
            "standard": {
                "limits": (
                    {
                        "type": "transfer",
                        "currency": CURRENCY,
                        "per_transaction_minor": PER_TRANSACTION_MINOR,
                        "daily_sum_minor": 1_000_000,
                        "daily_count": 150,
                    },
                )
            }
        },
        "near_duplicates": {"window_s": 30, "action": "tag"},
        "scoring": {},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment of the sample: from the customer to the merchant's settlement account on the same partition."""

    payer: str
    payee: str
    amount_minor: int
    merchant: str
    category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A record for ``requests``: its key, its value, and why it is sent."""

    key: bytes
    value: bytes
    kind: Kind | Literal["open_account", "deposit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The payments that will be played, and the accounts that they need."""

    payments: Sequence[Payment]
    customers: Sequence[str]
    settlements: Sequence[str]


def read_sample(path: Path, payments: int, partitions: int) -> Sample:
    """Read the first *payments* rows of the sample; where it is shorter it starts again.

    A merchant gets one settlement account per partition that pays it, because money does not cross partitions yet.
    """
    rows = list(_rows(path, payments))
    repeated = [rows[n % len(rows)] for n in range(payments)]
    settlement = _Settlements(partitions)
    played = [
        Payment(
            payer=f"c-{row['account']}",
            payee=settlement.of(row["merchant"], f"c-{row['account']}"),
            amount_minor=int(row["amount_minor"]),
            merchant=f"m-{row['merchant']}",
            category=row["category"],
        )
        for row in repeated
    ]
    return Sample(
        payments=played,
        customers=list(dict.fromkeys(payment.payer for payment in played)),
        settlements=list(dict.fromkeys(payment.payee for payment in played)),
    )


def _rows(path: Path, wanted: int) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as text:
        yield from islice(csv.DictReader(text), wanted)


class _Settlements:
    """Settlement accounts: ``m-<merchant>-<n>`` with the lowest n whose key falls on the payer's partition."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._partition_of_payer: dict[str, int] = {}
        self._ids: dict[tuple[str, int], str] = {}

    def of(self, merchant: str, payer: str) -> str:
        partition = self._partition_of_payer.get(payer)
        if partition is None:
            partition = self._partition_of_payer[payer] = partition_of(payer.encode(), self._partitions)
        known = self._ids.get((merchant, partition))
        if known is None:
            candidates = (f"m-{merchant}-{n}" for n in count())
            known = next(name for name in candidates if partition_of(name.encode(), self._partitions) == partition)
            self._ids[merchant, partition] = known
        return known


def openings(accounts: Iterable[str], now_ms: int) -> Iterator[Outbound]:
    """Yield a request that opens each account."""
    for account in accounts:
        fields = {"type": "open_account", "currency": CURRENCY}
        yield _request(f"open-{account}", account, fields, now_ms, "open_account")


def fundings(accounts: Iterable[str], now_ms: int) -> Iterator[Outbound]:
    """Yield a deposit of 10,000.00 USD to each account: some heavy spenders will run out of funds."""
    for account in accounts:
        fields = {"type": "deposit", "amount_minor": FUNDING_MINOR, "currency": CURRENCY, "rail": "demo"}
        yield _request(f"fund-{account}", account, fields, now_ms, "deposit")


class Traffic:
    """The stream of payments with trouble mixed in; the same *seed* gives the same kinds in the same order."""

    def __init__(self, payments: Sequence[Payment], requests: int, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible traffic, not a secret
        self._payments = iter(payments)
        self._left = requests
        self._number = 0
        self._recent: deque[tuple[str, Payment, Outbound]] = deque(maxlen=RECENT)

    def take(self, wanted: int, now_ms: int) -> list[Outbound]:
        """Return the next requests, at most *wanted*; an empty list when all have been sent."""
        number = min(wanted, self._left)
        self._left -= number
        return [self._next(now_ms) for _ in range(number)]

    def _next(self, now_ms: int) -> Outbound:
        draw = self._random.randrange(1000)
        for kind, share in PER_THOUSAND.items():
            if draw < share and self._recent:
                return self._trouble(kind, now_ms)
            draw -= share
        payment = next(self._payments)
        request_id = self._fresh()
        sent = _transfer(request_id, payment, payment.amount_minor, now_ms, "payment")
        self._recent.append((request_id, payment, sent))
        return sent

    def _trouble(self, kind: Kind, now_ms: int) -> Outbound:
        request_id, payment, sent = self._random.choice(self._recent)
        match kind:
            case "duplicate":
                return Outbound(key=sent.key, value=sent.value, kind=kind)
            case "near_duplicate":
                _, payment, _ = self._recent[-1]
                return _transfer(self._fresh(), payment, payment.amount_minor, now_ms, kind)
            case "conflict":
                return _transfer(request_id, payment, payment.amount_minor + 1, now_ms, kind)
            case "over_limit":
                return _transfer(self._fresh(), payment, OVER_LIMIT_MINOR, now_ms, kind)
            case _:
                broken = self._random.choice(BREAKAGES)
                good = _transfer(self._fresh(), payment, payment.amount_minor, now_ms, "malformed")
                return Outbound(key=good.key, value=good.value.replace(*broken, 1), kind="malformed")

    def _fresh(self) -> str:
        self._number += 1
        return f"pay-{self._number:07d}"


BREAKAGES: Final = (
    (b'"amount_minor":', b'"amount_minor":"12",'),
    (b'"currency":"USD"', b'"currency":"DOLLARS"'),
    (b'"requested_at":', b'"requested":'),
    (b'{"v":1', b'{"v":1,"v":1'),
    (b'"amount_minor":', b'"amount_minor":-'),
    (b"}", b""),
)
"""What a careless producer gets wrong: (in the good value, in the broken one)."""


def _transfer(request_id: str, payment: Payment, amount_minor: int, now_ms: int, kind: Kind) -> Outbound:
    fields = {
        "type": "transfer",
        "amount_minor": amount_minor,
        "currency": CURRENCY,
        "payee": payment.payee,
        "merchant": payment.merchant,
        "category": payment.category,
        "channel": "card",
    }
    return _request(request_id, payment.payer, fields, now_ms, kind)


def _request(
    request_id: str,
    account: str,
    fields: Mapping[str, object],
    now_ms: int,
    kind: Kind | Literal["open_account", "deposit"],
) -> Outbound:
    value = {"v": 1, "request_id": request_id, "account_id": account, "requested_at": format_time(now_ms), **fields}
    return Outbound(key=account.encode(), value=orjson.dumps(value), kind=kind)
