"""A partition's sink at work on a simulated log and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.pace import Pace
from sinks.postgres.partition import PartitionSink
from sinks.postgres.readers import wait_for
from sinks.postgres.session import SCHEMA, writer_pool
from sinks.postgres.store import Owner, PartitionStore, claim_ledger
from sinks.postgres.together import Together
from streams.journal.log import LogRecord
from streams.journal.reading import Position, Reader, ValidBlock
from streams.journal.simulated import SimulatedBroker, SimulatedLog
from tests.sinks.journals import LEDGER, Journal, Message

if TYPE_CHECKING:
    from sinks.postgres.session import Pool


async def turn() -> None:
    """Others act; an empty fetch is not repeated at once."""
    await asyncio.sleep(0.001)


def broker_with(*messages: Message, seed: int = 0, unavailable: float = 0.0) -> SimulatedBroker:
    broker = SimulatedBroker(seed, unavailable=unavailable)
    for headers, value in messages:
        broker.append(headers, value)
    return broker


@contextlib.asynccontextmanager
async def writers(dsn: str, connections: int = 2) -> AsyncIterator[Pool]:
    pool = await writer_pool(dsn, SCHEMA, connections)
    try:
        yield pool
    finally:
        pool.terminate()


def sink_of(
    pool: Pool,
    broker: SimulatedBroker,
    *,
    partition: int = 3,
    store: type[PartitionStore] = PartitionStore,
    written: Callable[[int, int], None] = lambda _p, _s: None,
    pace: Pace | None = None,
    together: Together | None = None,
) -> PartitionSink:
    """It never rests unless *pace* says so."""
    return PartitionSink(
        log=SimulatedLog(broker, turn),
        partition=partition,
        pool=pool,
        sink_id="main",
        schema=SCHEMA,
        metrics=SinkMetrics(CollectorRegistry()),
        store=store,
        written=written,
        pace=pace or Pace(0.0),
        together=together,
    )


async def follow(dsn: str, sink: PartitionSink, seq: int, timeout_s: float = 30.0) -> None:
    """Run *sink* until PostgreSQL holds *seq*, then drain it; its exceptions are raised here."""
    stop = asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    waiting = asyncio.create_task(wait_for(dsn, partition=sink.partition, seq=seq, timeout_s=timeout_s))
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    try:
        await running
    except BaseException:
        waiting.cancel()
        await asyncio.wait({waiting})
        raise
    await waiting


class Direct:
    """Blocks of a journal written straight through a store, without a log: for tests of the store itself."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        headers, value = journal.start()
        self.reader = Reader("journal[3]", LogRecord(0, None, headers, value))
        self.owner = Owner(sink_id="main", ledger_id=LEDGER, partition=journal.partition)
        self.start = self.reader.position

    async def take(self, pool: Pool, store: type[PartitionStore] = PartitionStore) -> PartitionStore:
        await claim_ledger(pool, SCHEMA, self.owner, 4)
        return await store.take(pool, self.owner, self.start)

    def read(self, *messages: Message) -> tuple[list[ValidBlock], Position]:
        """The valid blocks of *messages*, and the position behind them: what ``PartitionStore.write`` takes."""
        verdicts = [self.reader.read(LogRecord(self.reader.position.next_offset, None, *m)) for m in messages]
        return [v for v in verdicts if isinstance(v, ValidBlock)], self.reader.position
