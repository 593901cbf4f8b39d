"""A ledger for kill tests, one partition for each gap, and what can be seen of a partition from outside."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson

from ledgerline.settings import database_name
from ledgerline.verify import Report
from schemas.events import Answer, decode_events
from schemas.outcomes import Outcome, decode_outcome
from schemas.records import header_values, partition_of
from schemas.times import format_time
from sinks.postgres.migrations import ensure_database, migrate
from sinks.postgres.session import session
from streams.init import init_ledger
from streams.journal.framing import BlockHeaders, GenesisHeaders, LeaseHeaders, decode_headers, open_block
from streams.kafka import Admin, Consumer, Isolation, NewTopic, Outgoing, Partition, Producer, Record, read_to_end
from streams.topics import Topics
from tests.ledgerline.verify.topics import delete_topics

PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One partition's journal and outcomes as of now."""

    leases: int
    blocks: int
    answers: tuple[int, ...]  # seqs in the journal that have an outcome
    last_block: tuple[int, ...]  # those of the last block
    outcomes: tuple[Record, ...]  # as published, doubled ones too

    @property
    def published(self) -> tuple[int, ...]:
        """The seqs of the published outcomes, in their order."""
        return tuple(seq_of(record) for record in self.outcomes)

    @property
    def first_occurrences(self) -> list[Outcome]:
        """The outcomes as a reader sees them who de-duplicates by seq."""
        first: dict[int, Record] = {}
        for record in self.outcomes:
            assert first.setdefault(seq_of(record), record).value == record.value, "one content per seq"
        return [decode_outcome(record.value or b"") for record in first.values()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Booked:
    """One partition in PostgreSQL."""

    entries: dict[str, int]  # how many each request id has
    balances: tuple[int, ...]  # of payer and payee


class Ledger:
    """Topics and a database; each partition has the accounts ``payer(p)`` and ``payee(p)``."""

    def __init__(self, kafka: str, dsn: str, prefix: str, partitions: int, producer: Producer) -> None:
        self.kafka, self.dsn, self.prefix, self.topics = kafka, dsn, prefix, Topics(prefix)
        self.partitions = partitions
        self.replies = f"{prefix}answers"
        self._producer = producer
        self._accounts = _accounts(partitions)
        self.sent = [0] * partitions

    @property
    def all(self) -> frozenset[int]:
        """Every partition."""
        return frozenset(range(self.partitions))

    def payer(self, partition: int) -> str:
        return self._accounts[partition][0]

    def payee(self, partition: int) -> str:
        return self._accounts[partition][1]

    def request(self, account: str, kind: str, request_id: str, **fields: Any) -> Outgoing:
        """A request whose answer is also wanted on the reply topic."""
        body = {"v": 1, "type": kind, "request_id": request_id, "account_id": account, "requested_at": _now(), **fields}
        return Outgoing(account.encode(), orjson.dumps(body), (("reply-to", self.replies.encode()),))

    async def send(self, partition: int, requests: Sequence[Outgoing]) -> None:
        """In one batch: a reader gets all of them or none."""
        await self._producer.send_all(Partition(self.topics.requests, partition), requests, 20.0)
        self.sent[partition] += len(requests)

    async def see(self, partition: int) -> Seen:
        """Look at the partition."""
        async with self._looking() as consumer:
            return await self._see(consumer, partition)

    async def see_all(self) -> list[Seen]:
        """Look at every partition."""
        async with self._looking() as consumer:
            return [await self._see(consumer, p) for p in range(self.partitions)]

    async def all_answered(self) -> bool:
        """Whether the last outcome of each partition answers the last request that was sent to it."""
        places = [Partition(self.topics.outcomes, p) for p in range(self.partitions)]
        async with self._looking() as consumer:
            ends = await consumer.end_offsets(places)
            if not all(ends.values()):
                return False
            consumer.assign(places)
            for place in places:
                consumer.seek(place, ends[place] - 1)
            last: dict[int, int] = {}
            while len(last) < len(places):
                for place, records in (await consumer.poll(timeout_ms=1_000)).items():
                    last[place.number] = input_of(records[-1])
        return all(last[p] == sent - 1 for p, sent in enumerate(self.sent))

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[Consumer]:
        consumer = await Consumer.start(self.kafka, "kills", Isolation.COMMITTED)
        try:
            yield consumer
        finally:
            await consumer.close()

    async def _see(self, consumer: Consumer, partition: int) -> Seen:
        journal = await read_to_end(consumer, Partition(self.topics.journal, partition), 0)
        outcomes = await read_to_end(consumer, Partition(self.topics.outcomes, partition), 0)
        leases, blocks = 0, list[tuple[int, ...]]()
        for record in journal:
            match decode_headers(record.headers):
                case GenesisHeaders():
                    pass
                case LeaseHeaders():
                    leases += 1
                case BlockHeaders(seq=first):
                    events = enumerate(decode_events(open_block(record.value).events_json), first)
                    blocks.append(tuple(seq for seq, event in events if isinstance(event, Answer)))
        return Seen(
            leases=leases,
            blocks=len(blocks),
            answers=tuple(sorted({seq for block in blocks for seq in block})),
            last_block=blocks[-1] if blocks else (),
            outcomes=tuple(outcomes),
        )

    async def ends(self, topic: str) -> dict[int, int]:
        """The end of each partition of *topic*."""
        async with self._looking() as consumer:
            found = await consumer.end_offsets([Partition(topic, p) for p in range(self.partitions)])
        return {partition.number: end for partition, end in found.items()}

    async def stored(self) -> dict[int, int]:
        """The next offset of each partition in PostgreSQL."""
        async with session(self.dsn) as connection:
            rows = await connection.fetch("SELECT partition, next_offset FROM sink_positions")
            return {row["partition"]: row["next_offset"] for row in rows}

    async def booked(self, partition: int) -> Booked:
        """What PostgreSQL holds of the partition."""
        names = [self.payer(partition), self.payee(partition)]
        async with session(self.dsn) as connection:
            entries = await connection.fetch(
                "SELECT request_id, count(*) AS entries FROM entries WHERE partition = $1 GROUP BY request_id",
                partition,
            )
            balances = await connection.fetch(
                "SELECT balance_minor FROM balances WHERE partition = $1 AND account_id = ANY ($2) "
                "ORDER BY array_position($2, account_id)",
                partition,
                names,
            )
        return Booked(
            entries={row["request_id"]: row["entries"] for row in entries},
            balances=tuple(row["balance_minor"] for row in balances),
        )


@asynccontextmanager
async def ledger(kafka: str, postgres: str, partitions: int) -> AsyncIterator[Ledger]:
    """A fresh ledger with the default bundle; its topics and database are gone at the end."""
    prefix = f"kills-{secrets.token_hex(4)}."
    name = database_name(prefix)
    dsn = await ensure_database(postgres, name)
    try:
        await migrate(dsn)
        await init_ledger(kafka, prefix, partitions=partitions, dev=True)
        producer = await Producer.start(kafka, "kills")
        try:
            found = Ledger(kafka, dsn, prefix, partitions, producer)
            await _create(kafka, found.replies)
            yield found
        finally:
            await producer.close()
    finally:
        await delete_topics(kafka, prefix)
        async with session(postgres) as connection:
            await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


async def until(reached: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> bool:
    """Whether it is reached in time. Nothing is raised: each gap's test says what is wrong with it."""
    deadline = time.monotonic() + within_s
    while not await reached():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


def failures_in(report: Report, partition: int) -> list[str]:
    """What the checker says of one partition."""
    kept = (failure for line in report.lines.values() for failure in line.failures)
    return [f"{f.invariant}: {f}" for f in kept if f.place.partition == partition]


def seq_of(record: Record) -> int:
    """Of an outcome, from its header."""
    return int(next(header_values(record.headers, "seq")) or b"")


def input_of(record: Record) -> int:
    """The offset of the request that an outcome answers."""
    return int((next(header_values(record.headers, "input")) or b"").rsplit(b"-", 1)[1])


def _accounts(partitions: int) -> list[list[str]]:
    """Two accounts that belong to each partition."""
    found: list[list[str]] = [[] for _ in range(partitions)]
    for number in count():
        account = f"a-{number}"
        here = found[partition_of(account.encode(), partitions)]
        if len(here) < 2:
            here.append(account)
            if all(len(those) == 2 for those in found):
                return found
    raise AssertionError("there is always another number")


def _now() -> str:
    return format_time(int(time.time() * 1000))


async def _create(kafka: str, topic: str) -> None:
    admin = await Admin.start(kafka, "kills")
    try:
        await admin.create_topic(NewTopic(name=topic, partitions=1, replication_factor=1, configs={}))
    finally:
        await admin.close()
