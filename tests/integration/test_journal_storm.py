"""Writers that fight for one partition of a real Kafka: processes killed and stopped between any two steps.

Event n answers input n, with everything decided before it mixed in: what was not decided on the state of the journal,
twice, or in another order shows.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.events import FORMAT, Genesis
from streams.journal.genesis import ensure_genesis
from streams.journal.kafka_log import KafkaLog
from streams.kafka import Admin, Consumer, Isolation, NewTopic, Partition, read_to_end
from tests.integration.journal_process import INPUTS, decided, replay

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
LEDGER = str(uuid.UUID(int=7))
SEED = 20


@pytest.fixture
async def topics(kafka: str) -> AsyncIterator[tuple[str, str]]:
    name = f"storm.{uuid.uuid4().hex[:8]}"
    journal, outcomes = f"{name}.journal", f"{name}.outcomes"
    admin = await Admin.start(kafka, "storm")
    for topic in (journal, outcomes):
        configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "8388608"}
        await admin.create_topic(NewTopic(name=topic, partitions=1, replication_factor=1, configs=configs))
    async with KafkaLog(kafka, Partition(journal, 0), "init") as log:
        inputs = {"requests": 0, "transfers": 0, "config": 0}
        await ensure_genesis(
            log,
            Genesis.model_validate(
                {
                    "ledger_id": LEDGER,
                    "partition": 0,
                    "partitions": 1,
                    "format": FORMAT,
                    "at": 1,
                    "retry_window_s": 86_400,
                    "ring_horizon_s": 86_400,
                    "inputs": inputs,
                }
            ),
        )
    yield journal, outcomes
    for topic in (journal, outcomes):
        await admin.delete_topic(topic)
    await admin.close()


def start(kafka: str, topics: tuple[str, str], seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.integration.journal_process", kafka, *topics, LEDGER, str(seed)]
    return subprocess.Popen(command, cwd=ROOT)


async def test_writers_killed_and_stopped_between_any_two_steps_keep_every_promise(
    kafka: str, topics: tuple[str, str]
) -> None:
    chance, seeds = random.Random(SEED), iter(range(SEED, 10_000))
    processes = [start(kafka, topics, next(seeds)) for _ in range(3)]
    kills, pauses, deaths, deadline = 0, 0, 0, time.monotonic() + 240
    log = KafkaLog(kafka, Partition(topics[0], 0), "checker")
    try:
        while any(p.poll() != 0 for p in processes):
            assert time.monotonic() < deadline, f"not finished: {kills} kills, {deaths} in all"
            await asyncio.sleep(chance.random() * 0.5)
            n = chance.randrange(len(processes))
            if processes[n].poll() is None and time.monotonic() < deadline - 200:
                if chance.random() < 0.6:
                    processes[n].kill()
                    processes[n].wait()
                    kills += 1
                else:
                    os.kill(processes[n].pid, signal.SIGSTOP)
                    await asyncio.sleep(chance.random() * 1.5)
                    os.kill(processes[n].pid, signal.SIGCONT)
                    pauses += 1
            for n, process in enumerate(processes):
                code = process.poll()
                assert code in (None, 0, -signal.SIGKILL), f"a writer halted or failed with {code}"
                if code == -signal.SIGKILL:
                    deaths += 1
                    processes[n] = start(kafka, topics, next(seeds))
        journal, reader = await replay(log, LEDGER)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        await log.close()
    assert len(journal) == INPUTS
    for n, number in enumerate(journal):
        assert number == decided(journal[:n], number // 1_000 % 1_000)
    consumer = await Consumer.start(kafka, "checker", Isolation.COMMITTED)
    published = await read_to_end(consumer, Partition(topics[1], 0), 0)
    await consumer.close()
    first = list(dict.fromkeys(r.value for r in published))
    assert first == [b"%d:%d" % pair for pair in enumerate(journal, 1)]
    assert deaths >= 5, "the storm was over too early to show anything"
    assert reader.position.epoch >= 6
