"""The client through the death of its broker, which is started again on its kept data."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from ledgerline.client import Client, NoAnswer, Outcome
from ledgerline.settings import Settings
from ledgerline.stack import local
from ledgerline.stack.layout import Layout, layout
from streams.kafka import Consumer, Isolation, Partition, Producer
from tests.integration.test_client import DEPOSIT, PARTITIONS, Engine, create_topics

pytestmark = pytest.mark.integration

PREFIX = "restart."
TOPICS = [f"{PREFIX}requests", f"{PREFIX}outcomes"]


@pytest.fixture
def stack() -> Iterator[Layout]:
    """A broker of its own: the one that other tests share is never killed."""
    home = Path(tempfile.mkdtemp(prefix="ledgerline-restart-"))
    files = layout(home, Settings().cache)
    yield files
    local.down(files, print)
    shutil.rmtree(home)


def start(files: Layout) -> local.Server:
    found, _ = local.up(files, print, with_postgres=False)
    assert found.kafka is not None
    return found.kafka


def kill(server: local.Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(server.pid)] if psutil.pid_exists(server.pid) else [], timeout=20)


@asynccontextmanager
async def answering(kafka: str, engine: Engine, at: dict[int, int]) -> AsyncIterator[None]:
    """Decide requests from the offsets *at* on, which move."""
    engine.producer = await Producer.start(kafka, "engine")
    consumer = await Consumer.start(kafka, "engine", Isolation.COMMITTED)
    consumer.assign([Partition(TOPICS[0], number) for number in range(PARTITIONS)])
    for number in range(PARTITIONS):
        consumer.seek(Partition(TOPICS[0], number), at.get(number, 0))

    async def run() -> None:
        while True:
            for partition, records in (await consumer.poll(timeout_ms=50)).items():
                for record in records:
                    await engine.decide(record)
                    at[partition.number] = record.offset + 1

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await consumer.close()
        await engine.producer.close()


async def test_requests_survive_the_death_of_the_broker(stack: Layout) -> None:
    broker = await asyncio.to_thread(start, stack)
    kafka, at = broker.address, dict[int, int]()
    await create_topics(kafka, TOPICS)
    idle = await Producer.start(kafka, "idle")
    engine = Engine(PREFIX, idle)
    await idle.close()
    async with Client(kafka=kafka, prefix=PREFIX, resend_after_s=1) as client:
        async with answering(kafka, engine, at):
            first = await client.send({**DEPOSIT, "account_id": "alice", "request_id": "r-1"}, timeout=30)
        unanswered = asyncio.create_task(client.send({**DEPOSIT, "account_id": "bob"}, timeout=120))
        await asyncio.sleep(0)
        await asyncio.to_thread(kill, broker)
        with pytest.raises(NoAnswer, match="acknowledged no copy of it: it may lie there or not"):
            await client.send({**DEPOSIT, "account_id": "alice"}, timeout=2)
        with pytest.raises(NoAnswer, match=r"it was not sent to restart\.requests\[\d\]: no connection"):
            await client.send({**DEPOSIT, "account_id": "carol"}, timeout=2)
        unacknowledged = [
            asyncio.create_task(client.send({**DEPOSIT, "account_id": f"a-{n}", "request_id": f"d-{n}"}, timeout=120))
            for n in range(50)
        ]
        again = await asyncio.to_thread(start, stack)
        assert again.address == kafka
        async with answering(kafka, engine, at):
            answers = await asyncio.gather(unanswered, *unacknowledged)
            assert [answer.status for answer in answers] == ["accepted"] * 51
            replayed = await client.send({**DEPOSIT, "account_id": "alice", "request_id": "r-1"}, timeout=30)
    assert isinstance(first, Outcome)
    assert replayed.transaction == first.transaction
    assert client.counters.refused == 0
