"""The plain clients in ``examples/`` against a real ledger: what they print, and that a lost answer costs nothing."""

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from streams.kafka import Admin, Consumer, Isolation, Partition
from tests.examples.java import EXAMPLES, java_command
from tests.integration.upstream import PARTITIONS, Upstream, running, upstream, worker

pytestmark = pytest.mark.integration

WITHIN_S = 120.0
TOLD = [("open_account", "accepted", "0"), ("deposit", "accepted", "10000"), ("withdraw", "accepted", "8750")]


def commands(classes: Path) -> dict[str, list[str]]:
    return {
        "python": [sys.executable, str(EXAMPLES / "plain_aiokafka.py")],
        "java": java_command(classes, "SendRequest"),
    }


async def told(command: list[str], *arguments: str) -> list[tuple[str, ...]]:
    """Type, status and balance of each line that the command prints; it must end with exit code 0."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    try:
        said, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    return [tuple(line.split(" ")[1:4]) for line in said.decode().splitlines()]


async def sent(ledger: Upstream) -> Counter[bytes]:
    """How often each request lies in the ledger's topic now."""
    consumer = await Consumer.start(ledger.kafka, "test", Isolation.COMMITTED)
    try:
        places = [Partition(ledger.topics.requests, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        found: Counter[bytes] = Counter()
        while found.total() < sum(ends.values()):
            for records in (await consumer.poll(timeout_ms=100)).values():
                found.update(record.value or b"" for record in records)
        return found
    finally:
        await consumer.close()


@pytest.mark.parametrize("language", ["python", "java"])
async def test_a_plain_client_prints_its_outcomes_from_outcomes_and_from_a_reply_topic(
    kafka: str, java_classes: Path, language: str
) -> None:
    command = commands(java_classes)[language]
    async with upstream(kafka) as ledger, running(worker(ledger)):
        replies = f"{ledger.prefix}replies"
        try:
            assert await told(command, kafka, ledger.prefix) == TOLD
            assert await told(command, kafka, ledger.prefix, replies) == TOLD
        finally:
            admin = await Admin.start(kafka, "test")
            await admin.delete_topic(replies)
            await admin.close()


async def test_a_plain_client_without_an_answer_sends_the_same_bytes_again(kafka: str, java_classes: Path) -> None:
    async with upstream(kafka) as ledger:
        languages = commands(java_classes).values()
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(told(command, kafka, ledger.prefix)) for command in languages]
            copies: Counter[bytes] = Counter()
            deadline = time.monotonic() + WITHIN_S
            while sum(count > 1 for count in copies.values()) < len(asking):  # nobody answers yet
                assert time.monotonic() < deadline, copies
                await asyncio.sleep(0.2)
                copies = await sent(ledger)
            assert len(copies) == len(asking), "every copy of a request is the same"
            async with running(worker(ledger)):
                await asyncio.wait(asking)
        assert [task.result() for task in asking] == [TOLD] * len(asking)
