"""The sink on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import pytest

from sinks.postgres.migrations import ensure_database, migrate
from sinks.postgres.readers import sink_position, wait_for
from sinks.postgres.session import session
from sinks.postgres.sink import Sink
from streams.journal.kafka_log import KafkaLog
from streams.kafka import Admin, NewTopic, Partition
from streams.topics import Topics
from tests.sinks.journals import LEDGER, Journal, Message, payments

pytestmark = pytest.mark.integration
PARTITIONS = 4


class Ledger:
    """Topics and a database of one test."""

    def __init__(self, kafka: str, dsn: str, prefix: str) -> None:
        self.kafka, self.dsn, self.prefix = kafka, dsn, prefix
        self.journals = [Journal(p) for p in range(PARTITIONS)]
        self._logs = [KafkaLog(kafka, Partition(Topics(prefix).journal, p), "test") for p in range(PARTITIONS)]

    def sink(self) -> Sink:
        return Sink(kafka=self.kafka, prefix=self.prefix, dsn=self.dsn)

    async def append(self, partition: int, *messages: Message) -> None:
        for headers, value in messages:
            await self._logs[partition].append(headers, value)

    async def close(self) -> None:
        for log in self._logs:
            await log.close()


@pytest.fixture
async def ledger(kafka: str, postgres: str) -> AsyncIterator[Ledger]:
    name = f"sink_{secrets.token_hex(6)}"
    dsn = await ensure_database(postgres, name)
    await migrate(dsn)
    topics = Topics(f"{name}.")
    admin = await Admin.start(kafka, "test")
    spec = next(s for s in topics.specs(PARTITIONS) if s.name == topics.journal)
    await admin.create_topic(
        NewTopic(
            name=spec.name,
            partitions=PARTITIONS,
            replication_factor=1,
            configs=spec.configs(min_insync_replicas=1),
        )
    )
    found = Ledger(kafka, dsn, topics.prefix)
    for p in range(PARTITIONS):
        await found.append(p, found.journals[p].start())
    yield found
    await found.close()
    await admin.delete_topic(topics.journal)
    await admin.close()
    async with session(postgres) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def running(*sinks: Sink) -> AsyncIterator[None]:
    """Sinks at work; drained at the end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for sink in sinks:
            group.create_task(sink.run(stop))
        try:
            yield
        finally:
            stop.set()


async def test_what_is_in_the_journal_is_in_postgres_and_a_reader_can_wait_for_it(ledger: Ledger) -> None:
    for p in range(PARTITIONS):
        await ledger.append(p, *payments(ledger.journals[p], blocks=20, per_block=50))
    async with running(ledger.sink()):
        for p in range(PARTITIONS):
            await wait_for(ledger.dsn, partition=p, seq=ledger.journals[p].seq, timeout_s=30)
        position = await sink_position(ledger.dsn, ledger_id=LEDGER, partition=2)
    assert position is not None
    assert position.seq == ledger.journals[2].seq
    assert position.chain == ledger.journals[2].chain
    async with session(ledger.dsn) as connection:
        assert await connection.fetch("SELECT * FROM unproved_balances") == []
