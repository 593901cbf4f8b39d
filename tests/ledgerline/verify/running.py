"""A ledger as it really runs: topics by ``init``, a worker, a sink, and a client's requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry

from ledgerline.settings import database_name
from sinks.postgres.migrations import ensure_database, migrate
from sinks.postgres.sink import Sink
from streams.init import init_ledger
from streams.kafka import Admin, Consumer, Isolation, Outgoing, Partition, Producer, Record
from streams.metrics import WorkerMetrics
from streams.topics import Topics
from streams.worker import Worker, WorkerOptions
from tests.ledgerline.verify.topics import delete_topics, write_topics

PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Servers:
    """Where a ledger lives: *dsn* is its own database."""

    kafka: str
    prefix: str
    dsn: str

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix)


@contextlib.asynccontextmanager
async def own_ledger(kafka: str, postgres: str) -> AsyncIterator[Servers]:
    """A prefix and a migrated database of its own, both gone at the end; no topics yet."""
    prefix = f"verify-{uuid.uuid4().hex[:8]}."
    name = database_name(prefix)
    dsn = await ensure_database(postgres, name)
    try:
        await migrate(dsn)
        yield Servers(kafka=kafka, prefix=prefix, dsn=dsn)
    finally:
        await delete_topics(kafka, prefix)
        connection = await asyncpg.connect(postgres)
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.close()


@contextlib.asynccontextmanager
async def working(servers: Servers, partitions: int) -> AsyncIterator[None]:
    """One worker that owns every partition, and one sink, until the end of the block."""
    worker = Worker(
        WorkerOptions(kafka=servers.kafka, prefix=servers.prefix, dev=True, partitions=frozenset(range(partitions))),
        WorkerMetrics(CollectorRegistry()),
    )
    working = asyncio.create_task(worker.run())
    try:
        async with sinking(servers):
            yield
            worker.stop()
            assert await asyncio.wait_for(working, PATIENCE_S) == 0
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@contextlib.asynccontextmanager
async def sinking(servers: Servers) -> AsyncIterator[None]:
    """One sink until the end of the block."""
    sink, stop = Sink(kafka=servers.kafka, prefix=servers.prefix, dsn=servers.dsn), asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    try:
        yield
        stop.set()
        await asyncio.wait_for(running, PATIENCE_S)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def start(servers: Servers, partitions: int) -> None:
    """Create the ledger's topics, with the default bundle."""
    await init_ledger(servers.kafka, servers.prefix, partitions=partitions, dev=True)


async def send(servers: Servers, requests: Mapping[int, Iterable[Record]]) -> None:
    """Append *requests*, made in memory, to their partitions."""
    producer = await Producer.start(servers.kafka, "tests-verify")
    try:
        for partition, records in requests.items():
            outgoing = [Outgoing(r.key, r.value, r.headers) for r in records]
            await producer.send_all(Partition(servers.topics.requests, partition), outgoing, 30)
    finally:
        await producer.close()


async def copy(servers: Servers, records: Mapping[Partition, list[Record]], previous: str) -> None:
    """Write *records* to the topics of *servers*, and let a sink bring its Postgres up to their journals."""
    await write_topics(servers.kafka, records, previous=previous, prefix=servers.prefix)
    async with sinking(servers):
        await until_written(servers)


async def until_answered(servers: Servers, number: int) -> None:
    """Wait until ``outcomes`` has *number* records."""
    async with consumer_of(servers) as consumer:
        topic = servers.topics.outcomes
        partitions = [Partition(topic, n) for n in range(await partitions_of(servers))]
        await until(lambda: consumer.end_offsets(partitions), lambda ends: sum(ends.values()) >= number)


async def until_written(servers: Servers) -> None:
    """Wait until Postgres is at the ends of the journals as of now."""
    async with consumer_of(servers) as consumer:
        journals = [Partition(servers.topics.journal, n) for n in range(await partitions_of(servers))]
        ends = await consumer.end_offsets(journals)
    connection = await asyncpg.connect(servers.dsn, server_settings={"search_path": "ledgerline"})
    try:
        await until(
            lambda: connection.fetch("SELECT partition, next_offset FROM sink_positions"),
            lambda rows: {r["partition"]: r["next_offset"] for r in rows} == {p.number: e for p, e in ends.items()},
        )
    finally:
        await connection.close()


async def partitions_of(servers: Servers) -> int:
    """How many partitions the ledger has."""
    admin = await Admin.start(servers.kafka, "tests-verify")
    try:
        return (await admin.describe_topics([servers.topics.journal]))[servers.topics.journal].partitions
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def consumer_of(servers: Servers) -> AsyncIterator[Consumer]:
    consumer = await Consumer.start(servers.kafka, "tests-verify", Isolation.COMMITTED)
    try:
        yield consumer
    finally:
        await consumer.close()


async def until(ask: Callable[[], Any], enough: Callable[[Any], bool]) -> None:
    """Ask again until the answer is enough; fails with the last one after ``PATIENCE_S``."""
    deadline = time.monotonic() + PATIENCE_S
    while not enough(last := await ask()):
        assert time.monotonic() < deadline, f"not reached within {PATIENCE_S:.0f} s: {last}"
        await asyncio.sleep(0.05)
