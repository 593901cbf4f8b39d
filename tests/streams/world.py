"""A partition's owner in memory: a simulated journal, inputs and outcomes as lists. For tests of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from schemas.config import DEFAULT_BUNDLE
from schemas.events import FORMAT, Genesis, encode_genesis
from schemas.outcomes import Outcome, decode_outcome
from schemas.records import header_values
from schemas.times import format_time
from streams.config_log import ConfigLog, version_of
from streams.halts import Halt
from streams.init import default_bundle_value
from streams.inputs import Heads, Input, Lag
from streams.journal.framing import GenesisHeaders, encode_headers
from streams.journal.simulated import SimulatedBroker, SimulatedLog, no_turn
from streams.kafka import LOG_APPEND_TIME, KafkaFailure, Outgoing, Partition, Record
from streams.metrics import WorkerMetrics
from streams.owner import Owner
from streams.replies import Reply
from streams.services import NoSinks, PositionSource, Services
from streams.topics import Topics

LEDGER = "00000000-0000-4000-8000-000000000001"
TOPICS = Topics("t.")
START_MS = 1_700_000_000_000
GENESIS = Genesis(
    ledger_id=LEDGER,
    partition=0,
    partitions=1,
    format=FORMAT,
    at=START_MS,
    retry_window_s=86_400,
    ring_horizon_s=35 * 86_400,
    inputs={"requests": 0, "transfers": 0, "config": 0},
)


class MemoryInputs:
    """``streams.inputs.Inputs`` over two lists that tests append to."""

    trouble: str | None = None

    def __init__(self, world: World) -> None:
        self._world, self._heads, self._next = world, Heads(), dict[str, int]()

    async def start(self, next_offsets: Mapping[str, int]) -> None:
        self._heads, self._next = Heads(), dict(next_offsets)
        if self._next["requests"] < self._world.requests_start:
            raise Halt("gone", topic="t.requests[0]", offset=self._next["requests"])

    async def take(self, limit: int, wait_ms: int) -> list[Input]:  # noqa: ARG002 - nothing is far away
        await asyncio.sleep(0)
        world = self._world
        for name, records in (("transfers", world.transfers), ("requests", world.requests)):
            found = [r for r in records if r.offset >= self._next[name]]
            self._heads.add(name, found)  # type: ignore[arg-type]  # both are input names
            self._heads.ended(name, at_end=True)  # type: ignore[arg-type]
            self._next[name] = found[-1].offset + 1 if found else self._next[name]
        taken = self._heads.take(min(limit, world.batch))
        if not taken:
            await asyncio.sleep(0.001)
        return taken

    def lag(self) -> Lag:
        return Lag(self._heads.waiting())

    def close(self) -> None:
        self._heads = Heads()


class MemoryPublisher:
    """``streams.publisher.Publisher`` into a list. *before* runs in front of each publication and may raise."""

    def __init__(self) -> None:
        self.outcomes: list[Record] = []
        self.before: Callable[[], Awaitable[None]] = no_turn
        self.unreachable = False

    async def publish(self, to: Partition, records: Sequence[Outgoing]) -> None:
        await self.before()
        for record in records:
            place = len(self.outcomes)
            headers = tuple(record.headers)
            self.outcomes.append(
                Record(to.topic, to.number, place, record.key, record.value, headers, START_MS, LOG_APPEND_TIME)
            )

    def trouble(self, to: Partition) -> str | None:  # noqa: ARG002 - it never fails
        return None

    async def tail(self, of: Partition) -> list[Record]:  # noqa: ARG002 - there is one
        if self.unreachable:
            raise KafkaFailure("no broker")
        return self.outcomes[-100:]


class MemoryReplies:
    """``streams.replies.ReplySink`` into a list."""

    def __init__(self) -> None:
        self.sent: list[Reply] = []

    def offer(self, replies: Sequence[Reply]) -> None:
        self.sent += replies


@dataclass
class World:
    """One partition's topics, and everything an owner needs."""

    broker: SimulatedBroker = field(default_factory=SimulatedBroker)
    requests: list[Record] = field(default_factory=list)
    transfers: list[Record] = field(default_factory=list)
    requests_start: int = 0
    batch: int = 2_000
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    replies: MemoryReplies = field(default_factory=MemoryReplies)
    config: ConfigLog = field(default_factory=lambda: ConfigLog(TOPICS.config))
    clock_ms: int = START_MS + 1_000
    turn: Callable[[], Awaitable[None]] = no_turn
    sinks: PositionSource = field(default_factory=NoSinks)
    max_remembered: int = 1_000_000
    numbers: int = 0

    def __post_init__(self) -> None:
        self.broker.append(encode_headers(GenesisHeaders(format=FORMAT)), encode_genesis(GENESIS))
        self.metrics = WorkerMetrics(CollectorRegistry())

    async def publish_config(self, value: bytes | None = None) -> None:
        await self.config.add(
            [version_of(self.config.next_offset, default_bundle_value() if value is None else value)],
            self.config.next_offset + 1,
        )

    def services(self, name: str = "worker") -> Services:
        async def config_end() -> int:
            return self.config.next_offset

        async def soon(_: float) -> None:
            await asyncio.sleep(0.001)

        return Services(
            topics=TOPICS,
            name=name,
            ledger_id=LEDGER,
            open_log=lambda p: SimulatedLog(self.broker, self.turn, f"t.journal[{p}]"),
            open_inputs=lambda _: MemoryInputs(self),
            publisher=self.publisher,
            replies=self.replies,
            config=self.config,
            config_end=config_end,
            metrics=self.metrics,
            sinks=self.sinks,
            max_remembered=self.max_remembered,
            clock_ms=lambda: self.clock_ms,
            sleep=soon,
        )

    # ---- what upstream does

    def send(self, account: str, kind: str, request_id: str | None = None, **fields: Any) -> str:
        """One request; its id."""
        headers = tuple(fields.pop("headers", ()))
        self.numbers += 1
        request_id = request_id or f"r-{self.numbers}"
        body = {"v": 1, "type": kind, "request_id": request_id, "account_id": account, **fields}
        value = orjson.dumps({"requested_at": format_time(START_MS), **body})
        self.send_raw(account.encode(), value, headers)
        return request_id

    def send_raw(
        self, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = (), at: int = 0
    ) -> None:
        records = self.requests
        offset = records[-1].offset + 1 if records else 0
        records.append(
            Record(TOPICS.requests, 0, offset, key, value, headers, at or START_MS + offset, LOG_APPEND_TIME)
        )

    def fund(self, *accounts: str, amount_minor: int = 100_000) -> None:
        for account in accounts:
            self.send(account, "open_account", currency="EUR")
            self.send(account, "deposit", amount_minor=amount_minor, currency="EUR", rail="sepa")

    # ---- what is told

    def outcomes(self) -> list[Outcome]:
        """As published, with repetitions."""
        return [decode_outcome(r.value or b"") for r in self.publisher.outcomes]

    def first_outcomes(self) -> list[Outcome]:
        """First occurrences only: what a reader that drops repetitions sees."""
        seen: dict[int, Outcome] = {}
        for outcome in self.outcomes():
            seen.setdefault(outcome.seq, outcome)
        return list(seen.values())

    def answered(self) -> list[int]:
        """The input offsets that were answered, in the order of first occurrence."""
        inputs = [next(header_values(r.headers, "input")) for r in self.publisher.outcomes]
        return list(dict.fromkeys(int((i or b"").rsplit(b"-", 1)[1]) for i in inputs))

    def bundle(self, version: str, **changes: Any) -> bytes:
        """The default bundle, changed."""
        return orjson.dumps(DEFAULT_BUNDLE.model_dump(mode="json", exclude_none=True) | {"version": version} | changes)


async def until(condition: Callable[[], bool], what: str, within_s: float = 10.0) -> None:
    """Wait until *condition* holds."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - the owner knows nothing of its observers
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"within {within_s} s: expected {what}") from None


class Running:
    """An owner at work, assigned; stopped at the end."""

    def __init__(self, world: World, owner: Owner | None = None, name: str = "worker") -> None:
        self.owner = owner or Owner(0, world.services(name))
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Owner:
        self.owner.assign()
        self.task = asyncio.create_task(self.owner.run())
        return self.owner

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.owner.stop()
        await asyncio.wait_for(self.task, 10)
