"""The upstream services of the storm: they send a seeded mix, lose answers, crash, and never give a request up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ledgerline.client import Client, ClientClosed, NoAnswer, Outcome, UnreachableError, prepare
from schemas.records import partition_of
from streams.kafka import KafkaFailure, Outgoing, Partition, Producer
from tests.storm.servers import Ledger

UPSTREAMS: Final = 3
LANES: Final = 16
"""Of each upstream service: every lane has an account and one request under way at a time."""
THINK_S: Final = (0.0, 0.2)
ANSWER_WITHIN_S: Final = 4.0
"""Then the caller gets NoAnswer, and sends the same request again."""
RESEND_AFTER_S: Final = 1.5
"""The client itself sends a second copy of what it has no answer to."""
CRASH_EVERY_S: Final = (6.0, 18.0)
FUNDING_MINOR: Final = 50_000
MALFORMED_EVERY_S: Final = (0.02, 0.2)
APPEND_WITHIN_S: Final = 10.0
RETRY_S: Final = 0.3

Kind = Literal[
    "open", "fund", "transfer", "deposit", "withdraw", "overdraw", "foreign", "double", "duplicate", "conflict"
]

MIX: Final[dict[Kind, int]] = {
    "transfer": 55,
    "deposit": 12,
    "withdraw": 10,
    "overdraw": 4,
    "foreign": 2,
    "double": 3,
    "duplicate": 10,
    "conflict": 4,
}
"""Weights. ``overdraw`` lacks funds, ``foreign`` has a payee elsewhere, ``double`` is sent twice at the same time."""

BROKEN: Final = (
    (b"u0", b"{"),
    (b"u0", None),
    (None, b"null"),
    (b"", b"[]"),
    (b"\xff", b"\xff\xfe"),
    (b"u0", b'{"v":1}'),
    (b"u0", b'{"v":1,"v":1}'),
    (b"u0", b'{"v":2,"type":"transfer"}'),
)
"""Keys and values that a careless producer sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A request and the outcome that its sender was told. *of* is the first answer that a repetition repeats."""

    kind: Kind
    request: Mapping[str, Any]
    outcome: Outcome
    of: Outcome | None = None


@dataclass(slots=True)
class Ears:
    """What all senders together have asked, lost and heard. Mutable."""

    asked: int = 0
    told: list[Told] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    """Answers that a caller gave up on, by why: each request was sent again."""
    malformed: set[bytes] = field(default_factory=set)
    """Correlation ids of the broken records that the broker has acknowledged."""


class Upstream:
    """A service with one client, which sometimes dies with everything under way. ``ask`` outlives that."""

    def __init__(self, ledger: Ledger, ears: Ears) -> None:
        self._ledger, self._ears = ledger, ears
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, request: Mapping[str, Any]) -> Outcome:
        """Return the outcome of *request*: the same bytes are sent until it is known."""
        self._ears.asked += 1
        while True:
            client = await self._connected()
            try:
                return await client.send(request, timeout=ANSWER_WITHIN_S)
            except NoAnswer:
                self._ears.lost["no answer in time"] += 1
            except ClientClosed:
                self._ears.lost["sender crashed"] += 1

    async def crash(self) -> None:
        """Forget the client and whatever was under way."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> Client:
        async with self._connecting:
            while self._client is None:
                ledger = self._ledger
                client = Client(kafka=ledger.kafka, prefix=ledger.topics.prefix, resend_after_s=RESEND_AFTER_S)
                try:
                    self._client = await client.__aenter__()
                except UnreachableError:
                    await asyncio.sleep(RETRY_S)
            return self._client


class Lane:
    """One account, and the requests on it one after the other: the seed decides what they are."""

    def __init__(self, name: str, account: str, accounts: Mapping[int, list[str]], seed: int, ears: Ears) -> None:
        self._name, self._account, self._ears = name, account, ears
        self._chance = random.Random(f"storm/{seed}/{name}")
        here = next(number for number, names in accounts.items() if account in names)
        self._payees = [other for other in accounts[here] if other != account]
        self._elsewhere = [other for number, names in accounts.items() if number != here for other in names]
        self._mine: list[Told] = []
        self._numbers = 0

    async def open(self, upstream: Upstream) -> None:
        """Open the account and put money on it."""
        await self._tell("open", upstream, self._request("open_account", currency="EUR"))
        funding = self._request("deposit", amount_minor=FUNDING_MINOR, currency="EUR", rail="sepa")
        await self._tell("fund", upstream, funding)

    async def send(self, upstream: Upstream, stop: asyncio.Event) -> None:
        """Send until *stop*; what is under way then is still waited for."""
        while not stop.is_set():
            (kind,) = self._chance.choices(list(MIX), weights=list(MIX.values()))
            await self._one(kind, upstream)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._chance.uniform(*THINK_S))

    async def _one(self, kind: Kind, upstream: Upstream) -> None:
        chance = self._chance
        match kind:
            case "duplicate":
                first = chance.choice(self._mine)
                await self._repeat(kind, upstream, first, first.request)
            case "conflict":
                first = chance.choice(self._mine)
                await self._repeat(kind, upstream, first, {**first.request, "metadata": {"other": "body"}})
            case "double":
                request = self._transfer(chance.randint(1, 3_000), chance.choice(self._payees))
                answers = await asyncio.gather(upstream.ask(request), upstream.ask(request))
                first = Told(kind=kind, request=request, outcome=answers[0])
                self._mine.append(first)
                self._ears.told += [first, Told(kind=kind, request=request, outcome=answers[1], of=answers[0])]
            case "overdraw":
                await self._tell(kind, upstream, self._transfer(900_000, chance.choice(self._payees)))
            case "foreign":
                await self._tell(kind, upstream, self._transfer(1, chance.choice(self._elsewhere)))
            case "deposit" | "withdraw":
                amount = chance.randint(1, 4_000)
                request = self._request(kind, amount_minor=amount, currency="EUR", rail="sepa")
                await self._tell(kind, upstream, request)
            case _:
                fees = [{"code": "svc", "amount_minor": 3}] if chance.random() < 0.2 else []
                await self._tell(
                    kind, upstream, self._transfer(chance.randint(1, 3_000), chance.choice(self._payees), fees=fees)
                )

    async def _tell(self, kind: Kind, upstream: Upstream, request: Mapping[str, Any]) -> None:
        told = Told(kind=kind, request=request, outcome=await upstream.ask(request))
        self._mine.append(told)
        self._ears.told.append(told)

    async def _repeat(self, kind: Kind, upstream: Upstream, first: Told, request: Mapping[str, Any]) -> None:
        told = Told(kind=kind, request=request, outcome=await upstream.ask(request), of=first.outcome)
        self._ears.told.append(told)

    def _transfer(self, amount_minor: int, payee: str, **more: object) -> Mapping[str, Any]:
        return self._request("transfer", amount_minor=amount_minor, currency="EUR", payee=payee, **more)

    def _request(self, kind: str, **fields: object) -> Mapping[str, Any]:
        """Complete, so that every copy has the same ``requested_at``."""
        self._numbers += 1
        named = {"type": kind, "account_id": self._account, "request_id": f"{self._name}-{self._numbers}"}
        return prepare({**named, **fields}, time.time_ns() // 1_000_000).request


class Traffic:
    """All senders of a storm. ``prepare`` first, then ``send`` as a task until ``stop``."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ears = Ears()
        self._ledger, self._seed = ledger, seed
        self._stop = asyncio.Event()
        self._upstreams = [Upstream(ledger, self.ears) for _ in range(UPSTREAMS)]
        names = [f"u{u}-l{lane}" for u in range(UPSTREAMS) for lane in range(LANES)]
        accounts: dict[int, list[str]] = {p: [] for p in range(ledger.partitions)}
        for number, name in enumerate(names):  # as many on each partition as on any other
            accounts[number % ledger.partitions].append(
                _account_on(number % ledger.partitions, ledger.partitions, name)
            )
        homes = [accounts[n % ledger.partitions][n // ledger.partitions] for n in range(len(names))]
        self._lanes = [Lane(name, home, accounts, seed, self.ears) for name, home in zip(names, homes, strict=True)]

    async def prepare(self) -> None:
        """Open and fund every account."""
        await asyncio.gather(*(lane.open(self._upstreams[n % UPSTREAMS]) for n, lane in enumerate(self._lanes)))

    async def send(self) -> None:
        """Send until ``stop``; returns when every request has its answer."""
        helpers = [asyncio.create_task(self._crashing(n)) for n in range(UPSTREAMS)]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._malformed())
                for number, lane in enumerate(self._lanes):
                    group.create_task(lane.send(self._upstreams[number % UPSTREAMS], self._stop))
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            for upstream in self._upstreams:
                await upstream.crash()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stop.set()

    async def _crashing(self, number: int) -> None:
        chance = random.Random(f"storm/{self._seed}/crashes/{number}")
        while not self._stop.is_set():
            await asyncio.sleep(chance.uniform(*CRASH_EVERY_S))
            await self._upstreams[number].crash()

    async def _malformed(self) -> None:
        """Broken records, each sent until it is acknowledged: perhaps twice, and every copy is answered."""
        chance = random.Random(f"storm/{self._seed}/malformed")
        producer: Producer | None = None
        number = 0
        while not self._stop.is_set():
            number += 1
            correlation = b"broken-%d" % number
            to = Partition(self._ledger.topics.requests, chance.randrange(self._ledger.partitions))
            key, value = chance.choice(BROKEN)
            record = Outgoing(key, value, [("correlation-id", correlation)])
            while correlation not in self.ears.malformed:
                try:
                    if producer is None:
                        producer = await Producer.start(self._ledger.kafka, "storm-broken")
                    await producer.send(to, record, APPEND_WITHIN_S)
                    self.ears.malformed.add(correlation)
                except KafkaFailure:
                    if producer is not None:
                        await producer.kill()
                    producer = None
                    await asyncio.sleep(RETRY_S)
            await asyncio.sleep(chance.uniform(*MALFORMED_EVERY_S))
        if producer is not None:
            await producer.close()


def _account_on(partition: int, partitions: int, name: str) -> str:
    number = 0
    while partition_of(f"{name}.{number}".encode(), partitions) != partition:
        number += 1
    return f"{name}.{number}"
