"""Worker processes: signals, deaths, exit codes. Each is the real command on the real Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from ledgerline.stack import registry
from streams.fold import fold_journal
from streams.kafka import Outgoing, Partition, Producer
from tests.integration.upstream import PARTITIONS, Upstream, upstream

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka: str) -> AsyncIterator[Upstream]:
    async with upstream(kafka) as found:
        yield found


class Processes:
    """``ledgerline worker`` processes of one ledger; what is left of them is killed at the end."""

    def __init__(self, ledger: Upstream, home: Path) -> None:
        self._home = home
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("LEDGERLINE_")} | {
            "LEDGERLINE_HOME": str(home),
            "LEDGERLINE_KAFKA": ledger.kafka,
            "LEDGERLINE_PREFIX": ledger.prefix,
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *python: str, **environment: str) -> subprocess.Popen[str]:
        log = (self._home / f"worker-{len(self.started)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, *python, "-m", "ledgerline.cli.app", "worker", "--dev"],
            env=self._environment | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        return (self._home / f"worker-{self.started.index(process)}.log").read_text()

    async def get(self, process: subprocess.Popen[str], path: str) -> tuple[int, str]:
        """Of its HTTP endpoints; (0, "") while it has none."""
        address = next((e.address for e in registry.registered(self._home) if e.pid == process.pid), None)
        if address is None:
            return 0, ""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://{address}/{path}") as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def ready(self, *processes: subprocess.Popen[str]) -> None:
        """Wait until each answers 200 on /readyz."""
        async with asyncio.timeout(60):
            for process in processes:
                while (await self.get(process, "readyz"))[0] != 200:
                    assert process.poll() is None, self.log(process)
                    await asyncio.sleep(0.1)


@pytest.fixture
def workers(ledger: Upstream, tmp_path: Path) -> Iterator[Processes]:
    found = Processes(ledger, tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.wait()


async def flow(ledger: Upstream, stop: asyncio.Event) -> int:
    """Requests to every partition until *stop*; how many."""
    accounts = [ledger.account(p) for p in range(PARTITIONS)]
    await ledger.send([request for a in accounts for request in ledger.funding(a)])
    total = 2 * PARTITIONS
    while not stop.is_set():
        withdrawals = [
            ledger.request(a, "withdraw", amount_minor=1, currency="EUR", rail="sepa")
            for a in accounts
            for _ in range(5)
        ]
        await ledger.send(withdrawals)
        total += len(withdrawals)
        await asyncio.sleep(0.02)
    return total


async def answered(ledger: Upstream, more: int) -> None:
    """Wait until *more* requests than now have been answered."""
    await ledger.read()
    goal = len(ledger.first_occurrences()) + more
    async with asyncio.timeout(60):
        while len(ledger.first_occurrences()) < goal:
            await ledger.read()


async def test_a_killed_worker_loses_and_doubles_nothing(ledger: Upstream, workers: Processes) -> None:
    one, two = workers.start(), workers.start()
    await workers.ready(one, two)
    enough = asyncio.Event()
    flowing = asyncio.create_task(flow(ledger, enough))
    await answered(ledger, 200)
    one.kill()
    await answered(ledger, 200)
    three = workers.start()
    await workers.ready(two, three)
    enough.set()
    outcomes = await ledger.answers(await flowing)
    assert {o.status for o in outcomes} == {"accepted"}
    ledger.check()


async def test_sigterm_drains_and_ends_with_exit_code_0(ledger: Upstream, workers: Processes) -> None:
    one = workers.start()
    await workers.ready(one)
    enough = asyncio.Event()
    flowing = asyncio.create_task(flow(ledger, enough))
    await answered(ledger, 100)
    one.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(one.wait, 30) == 0, workers.log(one)
    enough.set()
    total = await flowing
    folded = [await fold_journal(ledger.kafka, ledger.prefix, p) for p in range(PARTITIONS)]
    for _ in range(5):
        await ledger.read()
    pick_ups = PARTITIONS
    assert len(ledger.first_occurrences()) == sum(f.seq for f in folded) - pick_ups  # all that is true was published
    two = workers.start()
    await workers.ready(two)
    await ledger.answers(total)
    ledger.check()
    two.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(two.wait, 30) == 0, workers.log(two)


async def test_a_worker_that_was_paused_is_fenced_and_comes_back(ledger: Upstream, workers: Processes) -> None:
    one = workers.start()
    await workers.ready(one)
    enough = asyncio.Event()
    flowing = asyncio.create_task(flow(ledger, enough))
    await answered(ledger, 100)
    one.send_signal(signal.SIGSTOP)
    two = workers.start()
    await workers.ready(two)
    await answered(ledger, 200)
    one.send_signal(signal.SIGCONT)
    await answered(ledger, 200)
    await workers.ready(one, two)
    enough.set()
    outcomes = await ledger.answers(await flowing)
    assert {o.status for o in outcomes} == {"accepted"}
    ledger.check()
    assert (await workers.get(one, "livez"))[0] == 200


async def test_a_halted_partition_is_on_readyz_and_in_the_exit_code(ledger: Upstream, workers: Processes) -> None:
    producer = await Producer.start(ledger.kafka, "test")
    await producer.send(Partition(ledger.topics.journal, 1), Outgoing(None, b"graffiti"), 10)
    await producer.close()
    one = workers.start()
    async with asyncio.timeout(60):
        while 'ledgerline_halted{partition="1"} 1.0' not in (await workers.get(one, "metrics"))[1]:
            assert one.poll() is None, workers.log(one)
            await asyncio.sleep(0.1)
    status, body = await workers.get(one, "readyz")
    assert status == 503
    assert "Corruption" in body
    await ledger.send(ledger.funding(ledger.account(0)))
    await ledger.answers(2)
    one.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(one.wait, 30) == 4, workers.log(one)
    assert "halted" in workers.log(one)


@pytest.mark.parametrize(
    ("python", "environment", "code", "says"),
    [
        (("-O",), {}, 3, "python -O"),
        ((), {"LEDGERLINE_PREFIX": "no-such-ledger."}, 3, "ledgerline init"),
        ((), {"LEDGERLINE_KAFKA": "127.0.0.1:9"}, 5, "127.0.0.1:9"),
    ],
    ids=["optimised", "not initialised", "unreachable"],
)
async def test_a_worker_that_cannot_start_says_why(
    workers: Processes, python: tuple[str, ...], environment: dict[str, str], code: int, says: str
) -> None:
    process = workers.start(*python, **environment)
    assert await asyncio.to_thread(process.wait, 60) == code, workers.log(process)
    assert says in workers.log(process)
