"""A ledger at work: requests keep coming, a worker decides them, sinks write them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ledgerline.verify import verify
from sinks.postgres.rebuild import Rebuild
from sinks.postgres.session import session
from sinks.postgres.sink import Sink
from streams.membership import StaticMembership
from tests.kills.ledger import Ledger, until
from tests.kills.processes import Running
from tests.kills.workers import Work, work


@dataclass
class Stream:
    """Requests that keep coming, a worker that decides them, and sinks that write them."""

    here: Ledger
    sinks: list[Sink]
    numbers: count[int] = field(default_factory=count)

    async def ask(self, number: int) -> None:
        """A few requests for each partition, all to be accepted."""
        for p in self.here.all:
            payer, payee = self.here.payer(p), self.here.payee(p)
            names = [f"t-{next(self.numbers)}" for _ in range(number)]
            await self.here.send(
                p,
                [
                    self.here.request(payer, "transfer", name, amount_minor=1, currency="EUR", payee=payee)
                    for name in names
                ],
            )

    async def flow(self, stop: asyncio.Event) -> None:
        """Ask again and again."""
        while not stop.is_set():
            await self.ask(3)
            await asyncio.sleep(0.02)

    async def written(self) -> None:
        """Everything that was asked is decided and in PostgreSQL."""
        assert await until(self.here.all_answered)

        async def all_written() -> bool:
            ends = await self.here.ends(self.here.topics.journal)
            return await self.here.stored() == ends

        assert await until(all_written), [sink.ready() for sink in self.sinks]


@contextlib.asynccontextmanager
async def streaming(here: Ledger, folder: Path) -> AsyncIterator[Stream]:
    """A ledger at work: two accounts in each partition, one of them funded."""
    works = Work(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn, partitions=here.all)
    worker = Running(folder, "worker", work, works)
    sinks = [
        Sink(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn, membership=StaticMembership(frozenset({p})))
        for p in here.all
    ]
    stop = asyncio.Event()
    writing = [asyncio.create_task(sink.run(stop)) for sink in sinks]
    stream = Stream(here, sinks)
    try:
        for p in here.all:
            terms = {"currency": "EUR", "tier": "unlimited"}
            await here.send(
                p,
                [
                    here.request(here.payer(p), "open_account", "open", **terms),
                    here.request(here.payee(p), "open_account", "open", **terms),
                    here.request(here.payer(p), "deposit", "f", amount_minor=10**9, currency="EUR", rail="sepa"),
                ],
            )
        await stream.ask(50)
        await stream.written()
        yield stream
    finally:
        stop.set()
        await asyncio.gather(*writing)
        worker.terminate()
        await worker.ended()


@contextlib.asynccontextmanager
async def beside(*works: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Works that go on until the end of the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for one in works:
            group.create_task(one(stop))
        try:
            yield
        finally:
            stop.set()


def rebuild(here: Ledger, *, accept_differences: bool = False) -> Rebuild:
    return Rebuild(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn, accept_differences=accept_differences)


async def proved(here: Ledger) -> None:
    report = await verify(here.kafka, here.prefix, here.dsn, rebuild=False)
    assert report.ok, report.to_plain()


async def schemas(here: Ledger) -> list[str]:
    async with session(here.dsn) as connection:
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ledgerline%' ORDER BY 1")
    return [row[0] for row in rows]
