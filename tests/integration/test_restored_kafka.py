"""A Kafka that was restored to an older state than PostgreSQL: both sides see it, and nothing is decided or booked."""

import asyncio
from collections.abc import Callable, Mapping

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from ledgerline.client import Client
from ledgerline.processes import PostgresPositions
from schemas.records import header_values
from sinks.postgres.sink import Sink
from streams.kafka import Admin, NewTopic, Outgoing, Partition, Producer, Record
from streams.metrics import WorkerMetrics
from streams.topics import Topics
from streams.worker import HALTED, Worker, WorkerOptions
from tests.ledgerline.verify.running import own_ledger, start, until_written, working
from tests.ledgerline.verify.topics import delete_topics, read_topics

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0
OPEN = {"type": "open_account", "account_id": "alice", "currency": "EUR"}
DEPOSIT = {"type": "deposit", "account_id": "alice", "amount_minor": 5000, "currency": "EUR", "rail": "sepa"}


async def test_postgres_ahead_of_the_journal_halts_the_sink_and_the_worker_that_takes_the_partition(
    kafka: str, postgres: str
) -> None:
    async with own_ledger(kafka, postgres) as servers:
        await start(servers, 1)
        async with working(servers, 1):
            async with Client(kafka=kafka, prefix=servers.prefix) as client:
                for request in (OPEN, DEPOSIT):
                    assert (await client.send(request, timeout=30)).status == "accepted"
            await until_written(servers)
        booked = await rows(servers.dsn)
        older = f"older-{servers.prefix}"
        try:
            await restore(kafka, await read_topics(kafka, servers.prefix), servers.topics, Topics(older))

            sink, stop = Sink(kafka=kafka, prefix=older, dsn=servers.dsn), asyncio.Event()
            writing = asyncio.create_task(sink.run(stop))
            await until(lambda: bool(sink.halted))
            assert sink.halted[0].cause.startswith("JournalLoss")
            stop.set()
            await asyncio.wait_for(writing, PATIENCE_S)

            options = WorkerOptions(kafka=kafka, prefix=older, dev=True, partitions=frozenset({0}))
            worker = Worker(options, WorkerMetrics(CollectorRegistry()), PostgresPositions(servers.dsn))
            deciding = asyncio.create_task(worker.run())
            await until(lambda: "'phase': 'halted'" in str(worker.readiness().detail))
            assert "seen by the row of sink main in PostgreSQL" in str(worker.readiness().detail)
            worker.stop()
            assert await asyncio.wait_for(deciding, PATIENCE_S) == HALTED
        finally:
            await delete_topics(kafka, older)
        assert await rows(servers.dsn) == booked


async def restore(kafka: str, found: Mapping[Partition, list[Record]], previous: Topics, older: Topics) -> None:
    """The topics *previous* as *older*, the journal without its last block, no outcomes: a backup from before it."""
    admin = await Admin.start(kafka, "tests-restored")
    try:
        for spec in older.specs(1):
            configs = spec.configs(min_insync_replicas=1)
            await admin.create_topic(NewTopic(name=spec.name, partitions=1, replication_factor=1, configs=configs))
    finally:
        await admin.close()
    journal = found[Partition(previous.journal, 0)]
    last = max(r.offset for r in journal if next(header_values(r.headers, "kind")) == b"block")
    kept = {
        older.journal: journal[:last],
        older.config: found[Partition(previous.config, 0)],
        older.requests: found[Partition(previous.requests, 0)],
    }
    producer = await Producer.start(kafka, "tests-restored")
    try:
        for topic, records in kept.items():
            outgoing = [Outgoing(r.key, r.value, r.headers) for r in records]
            await producer.send_all(Partition(topic, 0), outgoing, 30)
    finally:
        await producer.close()


async def rows(dsn: str) -> list[tuple[object, ...]]:
    """What PostgreSQL says of the money."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch("SELECT account_id, balance_minor, seq FROM ledgerline.balances ORDER BY 1")
        return [tuple(row.values()) for row in found]
    finally:
        await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the processes only tell by being asked
            await asyncio.sleep(0.05)
