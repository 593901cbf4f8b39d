"""A broker that dies and comes back under a running worker. It is one of this test's own, so that it may be killed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgerline.settings import Settings
from ledgerline.stack import kafka as broker
from ledgerline.stack import local
from ledgerline.stack.layout import Layout, layout
from streams.fold import fold_journal
from streams.kafka import KafkaFailure, Outgoing
from tests.integration.upstream import PARTITIONS, Upstream, owned, running, until, upstream, worker

pytestmark = pytest.mark.integration


@pytest.fixture
def own_broker() -> Iterator[Layout]:
    home = Path(tempfile.mkdtemp(prefix="ledgerline-restart-")).resolve()
    files = layout(home, Settings().cache)
    local.up(files, lambda _: None, with_postgres=False)
    yield files
    local.down(files, lambda _: None)
    shutil.rmtree(home)


async def test_a_worker_waits_for_a_killed_broker_and_goes_on(own_broker: Layout) -> None:
    async with upstream(broker.address(own_broker)) as ledger:
        accounts = [ledger.account(p) for p in range(PARTITIONS)]
        one = worker(ledger)
        async with running(one):
            await ledger.send([request for a in accounts for request in ledger.funding(a)])
            await ledger.answers(2 * PARTITIONS)
            await ledger.send(some(ledger, accounts))
            process = broker.find(own_broker)
            assert process is not None
            process.kill()
            process.wait()
            await until(lambda: not one.readiness().ready, "not ready without a broker")
            await asyncio.to_thread(local.up, own_broker, lambda _: None, with_postgres=False)
            await until(lambda: owned(one) == set(range(PARTITIONS)), "all owned again")
            await answers(ledger, 12 * PARTITIONS)
        ledger.check()
        for p in range(PARTITIONS):
            assert (await fold_journal(ledger.kafka, ledger.prefix, p)).seq == 2 + 1 + 10


def some(ledger: Upstream, accounts: list[str]) -> list[Outgoing]:
    return [
        ledger.request(a, "withdraw", amount_minor=1, currency="EUR", rail="sepa") for a in accounts for _ in range(10)
    ]


async def answers(ledger: Upstream, count: int) -> None:
    """The reader of this test meets the same trouble as the worker."""
    async with asyncio.timeout(60):
        while True:
            try:
                await ledger.answers(count)
            except KafkaFailure:
                await asyncio.sleep(0.2)
            else:
                return
