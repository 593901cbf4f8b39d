"""The journal's clients when the broker freezes, dies and comes back. On a broker of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from ledgerline.settings import Settings
from ledgerline.stack import local
from ledgerline.stack.layout import layout
from streams.journal import kafka_log
from streams.journal.follower import Follower
from streams.journal.genesis import ensure_genesis
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import LogUnavailable
from streams.journal.reading import ValidBlock
from streams.journal.writer import Writer
from streams.kafka import Admin, Consumer, Isolation, KafkaFailure, NewTopic, Outgoing, Partition, Producer, read_to_end
from tests.streams.journal.building import AT, GENESIS, LEDGER, body, numbers

pytestmark = pytest.mark.integration


class Broker:
    """A broker that may be frozen and killed."""

    def __init__(self, home: Path) -> None:
        self.layout = layout(home, Settings().cache)
        self.address = self.start()

    def start(self) -> str:
        stack, _ = local.up(self.layout, lambda _: None, with_postgres=False)
        assert stack.kafka is not None
        self.pid = stack.kafka.pid
        return stack.kafka.address

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        if number is signal.SIGKILL:
            psutil.Process(self.pid).wait(10)

    async def restart(self) -> None:
        assert await asyncio.to_thread(self.start) == self.address


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    home = Path(tempfile.mkdtemp(prefix="ledgerline-broker-")).resolve()
    made = Broker(home)
    yield made
    made.signal(signal.SIGCONT)
    local.down(made.layout, lambda _: None)
    shutil.rmtree(home)


@pytest.fixture
async def partition(broker: Broker) -> Partition:
    """A journal with its genesis."""
    topic = f"journal.{uuid.uuid4().hex[:8]}"
    admin = await Admin.start(broker.address, "test")
    await admin.create_topic(NewTopic(name=topic, partitions=4, replication_factor=1, configs={}))
    await admin.close()
    partition = Partition(topic, GENESIS.partition)
    async with KafkaLog(broker.address, partition, "init") as log:
        await ensure_genesis(log, GENESIS)
    return partition


@pytest.fixture
async def log(broker: Broker, partition: Partition) -> AsyncIterator[KafkaLog]:
    async with KafkaLog(broker.address, partition, "test") as opened:
        yield opened


async def writer_on(log: KafkaLog, state: list[int]) -> Writer:
    follower = await Follower.begin(log, ledger_id=LEDGER, partition=3)
    writer = Writer(follower, owner="test", fold=lambda block: state.extend(numbers(block)))
    await writer.take()
    return writer


async def append(writer: Writer, n: int) -> None:
    await writer.append(body(n), count=1, at=AT + n)
    writer.published(n)


async def followed(log: KafkaLog, until_seq: int) -> list[int]:
    """What a reader finds that goes on whatever happens, up to *until_seq*."""
    follower = None
    found: list[int] = []
    while follower is None or follower.reader.position.seq < until_seq:
        try:
            follower = follower or await Follower.begin(log, ledger_id=LEDGER, partition=3)
            for record in await follower.records(1.0):
                verdict = follower.reader.read(record)
                found += numbers(verdict) if isinstance(verdict, ValidBlock) else []
        except LogUnavailable:
            await asyncio.sleep(0.2)
    return found


async def until(reached: object, what: str) -> None:
    deadline = time.monotonic() + 30
    while not reached():  # type: ignore[operator]  # a function
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def sending() -> int:
    """Running tasks that send batches: each may still append."""
    return sum("Producer._pump" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_a_block_sent_to_a_frozen_broker_counts_once(
    broker: Broker, log: KafkaLog, partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log, "APPEND_TIMEOUT_S", 1.0)
    state: list[int] = []
    writer = await writer_on(log, state)
    await append(writer, 1)
    broker.signal(signal.SIGSTOP)
    try:
        second = asyncio.create_task(append(writer, 2))
        await until(lambda: writer.trouble is not None, "the append is not given up")
        assert not second.done()
    finally:
        broker.signal(signal.SIGCONT)
    await asyncio.wait_for(second, 60)
    await append(writer, 3)
    assert (writer.retakes >= 1, writer.trouble) == (True, None)
    assert writer.epoch >= 2
    async with KafkaLog(broker.address, partition, "reader") as other:
        assert await followed(other, 3) == [1, 2, 3]


async def test_when_the_broker_dies_and_comes_back_writer_and_reader_go_on_and_a_killed_producer_does_not(
    broker: Broker, log: KafkaLog, partition: Partition
) -> None:
    writer, elsewhere = await writer_on(log, []), Partition(partition.topic, 0)
    producer = await Producer.start(broker.address, "test")
    await producer.send(elsewhere, Outgoing(None, b"first"), 10.0)
    async with KafkaLog(broker.address, partition, "reader") as other:
        reading = asyncio.create_task(followed(other, 400))
        writing = asyncio.create_task(write(writer, 400))
        await until(lambda: writer.position.seq > 100, "nothing is written")
        broker.signal(signal.SIGKILL)
        await lose_a_producer(producer, elsewhere)
        await broker.restart()
        await asyncio.wait_for(writing, 90)
        assert await asyncio.wait_for(reading, 60) == list(range(1, 401))
    producer = await Producer.start(broker.address, "test")
    await producer.send(elsewhere, Outgoing(None, b"second"), 20.0)
    await producer.close()
    await log.close()
    assert sending() == 0
    consumer = await Consumer.start(broker.address, "test", Isolation.UNCOMMITTED)
    assert [r.value for r in await read_to_end(consumer, elsewhere, 0)] == [b"first", b"second"]
    await consumer.close()


async def write(writer: Writer, blocks: int) -> None:
    for n in range(1, blocks + 1):
        await append(writer, n)


async def lose_a_producer(producer: Producer, to: Partition) -> None:
    """Without a broker a send fails; the client is killed and cannot be used again."""
    with pytest.raises(KafkaFailure, match="append a record of 4 bytes"):
        await producer.send(to, Outgoing(None, b"late"), 1.0)
    began = time.monotonic()
    await producer.kill()
    assert time.monotonic() - began < 6.0
    with pytest.raises(KafkaFailure, match="was closed"):
        await producer.send(to, Outgoing(None, b"later"), 1.0)
