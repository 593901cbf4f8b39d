"""What every journal log promises: the simulated one, which the other tests believe, and the one on a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Protocol

import aiokafka
import pytest

from streams.journal.kafka_log import KafkaLog
from streams.journal.log import AppendUnknown, Log, LogRecord, OffsetOutOfRange, read_range
from streams.journal.simulated import SimulatedBroker, SimulatedLog
from streams.kafka import Admin, NewTopic, Partition

HEADERS = (("kind", b"x"), ("empty", b""), ("kind", b"twice"), ("null", None))


class World(Protocol):
    """One partition, and what happens to it behind a client's back."""

    def client(self) -> Log:
        """A client of its own."""

    async def transaction(self, value: bytes) -> None:
        """A record and, behind it, a control marker: an offset without a record."""

    async def recreate(self) -> None:
        """Delete the topic and create it again."""

    async def expire(self, start: int) -> None:
        """Make the log start at *start*."""


class InMemory:
    def __init__(self) -> None:
        self.broker = SimulatedBroker()
        self.broker.max_record_bytes = 1_000_000

    def client(self) -> Log:
        return SimulatedLog(self.broker)

    async def transaction(self, value: bytes) -> None:
        self.broker.append((), value)
        self.broker.mark()

    async def recreate(self) -> None:
        self.broker.recreate()

    async def expire(self, start: int) -> None:
        self.broker.expire(start)


class OnKafka:
    def __init__(self, bootstrap: str, admin: Admin) -> None:
        self.bootstrap, self.admin = bootstrap, admin
        self.topic = f"log-contract.{uuid.uuid4().hex[:8]}"
        self.clients: list[KafkaLog] = []

    async def create(self) -> None:
        configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1000000"}
        await self.admin.create_topic(NewTopic(name=self.topic, partitions=1, replication_factor=1, configs=configs))

    def client(self) -> Log:
        self.clients.append(KafkaLog(self.bootstrap, Partition(self.topic, 0), "contract"))
        return self.clients[-1]

    async def transaction(self, value: bytes) -> None:
        log = self.client()
        end = await log.end_offset()
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=self.topic)
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(self.topic, value, partition=0)
        await producer.stop()
        async with asyncio.timeout(20):
            while await log.end_offset() < end + 2:  # noqa: ASYNC110  # the broker writes the marker after its answer
                await asyncio.sleep(0.02)

    async def recreate(self) -> None:
        await self.admin.delete_topic(self.topic)
        async with asyncio.timeout(20):
            while self.topic in await self.admin.topics():  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.05)
            await self.create()

    async def expire(self, start: int) -> None:
        admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        tp = aiokafka.TopicPartition(self.topic, 0)
        await admin.delete_records({tp: aiokafka.admin.RecordsToDelete(before_offset=start)})
        await admin.close()


@pytest.fixture(params=["simulated", pytest.param("kafka", marks=pytest.mark.integration)])
def bootstrap(request: pytest.FixtureRequest) -> str | None:
    """None for the simulated log; not async, for the stack is started outside of an event loop."""
    return None if request.param == "simulated" else str(request.getfixturevalue("kafka"))


@pytest.fixture
async def world(bootstrap: str | None) -> AsyncIterator[World]:
    if bootstrap is None:
        yield InMemory()
        return
    admin = await Admin.start(bootstrap, "contract")
    on_kafka = OnKafka(bootstrap, admin)
    await on_kafka.create()
    yield on_kafka
    for client in on_kafka.clients:
        await client.close()
    await admin.delete_topic(on_kafka.topic)
    await admin.close()


async def everything(log: Log, start: int = 0) -> list[LogRecord]:
    end = await log.end_offset()
    return [r async for chunk in read_range(log, start, end) for r in chunk]


async def test_an_empty_log_starts_and_ends_at_0_and_gives_nothing(world: World) -> None:
    log = world.client()
    assert (await log.start_offset(), await log.end_offset()) == (0, 0)
    assert await log.fetch(0, 0.2) == ([], 0)
    assert await everything(log) == []


async def test_a_record_is_delivered_as_it_was_appended_at_the_acknowledged_offset(world: World) -> None:
    log, other = world.client(), world.client()
    assert await log.append(HEADERS, b"first") == 0
    assert await log.append((), b"") == 1
    assert await log.end_offset() == 2
    assert await everything(other) == [LogRecord(0, None, HEADERS, b"first"), LogRecord(1, None, (), b"")]


async def test_reading_starts_at_any_offset_and_ends_at_the_end(world: World) -> None:
    log = world.client()
    for n in range(5):
        await log.append((), b"%d" % n)
    for start in (3, 0, 4, 2, 2):
        assert [r.value for r in await everything(log, start)] == [b"%d" % n for n in range(start, 5)]
    assert await log.fetch(5, 0.1) == ([], 5)
    with pytest.raises(OffsetOutOfRange):
        await log.fetch(6, 1.0)
    assert len(await everything(log)) == 5


async def test_what_is_appended_while_somebody_waits_at_the_end_is_delivered(world: World) -> None:
    log, other = world.client(), world.client()
    await log.append((), b"0")
    assert (await other.fetch(0, 5.0)).next_offset == 1
    for n in range(1, 4):
        await log.append((), b"%d" % n)
        found = await other.fetch(n, 5.0)
        assert ([r.offset for r in found.records], found.next_offset) == ([n], n + 1)


async def test_control_markers_are_gaps_and_reading_to_the_end_passes_them(world: World) -> None:
    log = world.client()
    await log.append((), b"a")
    await world.transaction(b"b")
    assert await log.end_offset() == 3  # the last offset is the marker's
    assert [r.offset for r in await everything(log)] == [0, 1]
    assert await log.append((), b"c") == 3
    await world.transaction(b"d")
    assert [(r.offset, r.value) for r in await everything(log, 1)] == [(1, b"b"), (3, b"c"), (4, b"d")]
    assert (await log.fetch(5, 1.0)).next_offset == 6


async def test_clients_that_append_at_the_same_time_each_learn_where_their_records_lie(world: World) -> None:
    async def appends(log: Log, name: bytes) -> dict[int, bytes]:
        return {await log.append((), name + b"%d" % n): name + b"%d" % n for n in range(10)}

    found = await asyncio.gather(*(appends(world.client(), name) for name in (b"a", b"b", b"c")))
    said = {offset: value for part in found for offset, value in part.items()}
    assert said == {r.offset: r.value for r in await everything(world.client())}
    assert len(said) == 30


async def test_a_record_that_is_too_large_is_unknown_and_the_next_append_works(world: World) -> None:
    log = world.client()
    await log.append((), b"a")
    for size in (1_500_000, 9_000_000):  # refused by the broker, by the client
        with pytest.raises(AppendUnknown):
            await log.append((), bytes(size))
    assert await log.append((), b"b") == 1
    assert [r.value for r in await everything(log)] == [b"a", b"b"]


async def test_a_log_start_above_0_is_told_and_nothing_below_is_delivered(world: World) -> None:
    log = world.client()
    for _ in range(3):
        await log.append((), b"x")
    await world.expire(2)
    assert (await log.start_offset(), await log.end_offset()) == (2, 3)
    with pytest.raises(OffsetOutOfRange):
        await log.fetch(0, 1.0)
    assert (await log.fetch(2, 1.0)).next_offset == 3


async def test_in_a_topic_that_was_recreated_offsets_begin_again(world: World) -> None:
    log, reader = world.client(), world.client()
    for _ in range(3):
        await log.append((), b"old")
    assert len(await everything(reader)) == 3
    await world.recreate()
    offset = await appended_in_the_end(log)
    assert offset == 0  # lower than what was known: who sees it halts
    assert [r.value for r in await everything(world.client())] == [b"new"]


async def appended_in_the_end(log: Log) -> int:
    async with asyncio.timeout(30):
        while True:
            try:
                return await log.append((), b"new")
            except AppendUnknown:
                await asyncio.sleep(0.1)


async def test_what_was_cancelled_comes_before_the_next_append_or_never(
    world: World,
) -> None:
    log = world.client()
    await log.append((), b"a")
    for _ in range(5):
        task = asyncio.create_task(log.append((), b"perhaps"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await log.append((), b"b")
    values = [r.value for r in await everything(log)]
    assert (values[0], values[-1]) == (b"a", b"b")
    assert set(values[1:-1]) <= {b"perhaps"}


async def test_closing_twice_is_harmless(world: World) -> None:
    log = world.client()
    await log.append((), b"a")
    await everything(log)
    await log.close()
    await log.close()
