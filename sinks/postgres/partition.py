"""The sink of one partition: journal records in, rows out, from the stored position on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import structlog

from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.pace import Pace, pause_unless
from sinks.postgres.store import BREATHE_EVERY, Owner, Part, PartitionStore, PositionMoved, claim_ledger
from sinks.postgres.together import Together
from streams.journal.errors import JournalHalt
from streams.journal.follower import Follower
from streams.journal.log import Log, LogRecord, LogUnavailable
from streams.journal.reading import Position, Reader, ValidBlock

if TYPE_CHECKING:
    from sinks.postgres.session import Pool

MAX_BATCH_EVENTS: Final = 2_000
"""A batch is closed once it has that many events; it holds at most one block more."""
FETCH_WAIT_S: Final = 0.5
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
_LAG_INTERVAL_S: Final = 1.0

_log = structlog.get_logger(__name__)


class PartitionSink:
    """Takes one partition and keeps PostgreSQL up with its journal.

    1. Read the genesis; bind the schema to its ledger, or see that it is bound to it.
    2. Take the partition; go on from the stored position, beginning with the record that was read last.
    3. Fetch, read by the reading rule, write what was fetched in one transaction, rest as ``Pace`` says, repeat.
    4. I/O trouble on either side, or a position that moved: back off, re-read the position row, go on with 3 from
       there. Another sink_epoch in it: leave (Deposed). So a lost answer to COMMIT is never guessed, and nothing in
       memory outlives a doubt.
    """

    def __init__(
        self,
        *,
        log: Log,
        partition: int,
        pool: Pool,
        sink_id: str,
        schema: str,
        metrics: SinkMetrics,
        written: Callable[[int, int], None] = lambda _partition, _seq: None,
        together: Together | None = None,
        store: type[PartitionStore] = PartitionStore,
        pace: Pace | None = None,
    ) -> None:
        """*written* is told (partition, seq) after each commit. *together* None: its transactions are its own.

        *store*, *pace*: for tests of steps and of time.
        """
        self.log, self.partition, self.pool = log, partition, pool
        self.sink_id, self.schema, self.metrics = sink_id, schema, metrics
        self.trouble: str | None = None  # why nothing is being written at the moment
        self._written, self._store_class = written, store
        self._together = together or Together(metrics)
        self._pace = pace or Pace()
        self._failed = False
        self._store: PartitionStore | None = None
        self._lag_due = 0.0

    @property
    def next_offset(self) -> int | None:
        """Of the stored position; None before the partition was taken."""
        return None if self._store is None else self._store.position.next_offset

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the journal until *stop*; the batch at hand is finished. I/O trouble is retried, 0.1 to 5 s apart.

        Raises: JournalHalt, PostgresRefused (the partition halts); Deposed; ForeignLedger.
        """
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                follower, store = await self._resume()
                while not stop.is_set():
                    caught_up = await self._step(follower, store)
                    self.trouble, pause = None, FIRST_PAUSE_S
                    await self._pace.rest(stop)
                    await self._measure(follower, caught_up=caught_up)
            except (LogUnavailable, PostgresUnavailable, PositionMoved) as error:
                cause = {LogUnavailable: "kafka", PostgresUnavailable: "postgres"}.get(type(error), "position")
                self.metrics.retries.labels(cause).inc()
                self.trouble = str(error) or "the position row is not where this sink left it"
                _log.warning("sink.retry", partition=self.partition, cause=self.trouble, pause_s=pause)
                await pause_unless(stop, pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
                pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _resume(self) -> tuple[Follower, PartitionStore]:
        """Begin, or begin again, at the position in the row."""
        if self._store is None:
            self._store = await self._take()
        else:
            await self._store.reread()
        store = self._store
        follower = await Follower.begin(
            self.log, ledger_id=store.owner.ledger_id, partition=self.partition, position=store.position
        )
        self._lag_due = 0.0
        self._written(self.partition, store.position.seq)
        return follower, store

    async def _take(self) -> PartitionStore:
        follower = await Follower.begin(self.log, ledger_id=None, partition=self.partition)
        genesis, start = follower.reader.genesis, follower.reader.position
        owner = Owner(sink_id=self.sink_id, ledger_id=genesis.ledger_id, partition=self.partition)
        await claim_ledger(self.pool, self.schema, owner, genesis.partitions)
        store = await self._store_class.take(self.pool, owner, start)
        _log.info("sink.taken", partition=self.partition, sink_epoch=store.sink_epoch, seq=store.position.seq)
        return store

    async def _step(self, follower: Follower, store: PartitionStore) -> bool:
        """Fetch once and write what came, in as many batches as its size needs. Whether nothing came."""
        records = await follower.records(FETCH_WAIT_S)
        rest = iter(records)
        while True:
            blocks, halt = await _read(follower.reader, rest)
            if follower.reader.position != store.position:
                await self._write(store, blocks, follower.reader.position)
            elif halt is None:
                return not records
            if halt is not None:  # what is valid in front of it has been written
                raise halt

    async def _write(self, store: PartitionStore, blocks: list[ValidBlock], after: Position) -> None:
        """A full batch has a transaction of its own; so has the first one behind a failure, of whatever partition."""
        full = self._pace.begins(sum(len(block.events) for block in blocks), sum(len(block.value) for block in blocks))
        batch = await store.prepare(blocks)
        alone, self._failed = full or self._failed, True
        await (self._together.alone if alone else self._together.shared)(Part(store, batch, after))
        self._failed = False
        self.metrics.events.inc(batch.events)
        self._written(self.partition, after.seq)

    async def _measure(self, follower: Follower, *, caught_up: bool) -> None:
        """Lag, at most once a second; behind a rest, when it is largest."""
        now = time.monotonic()
        if now < self._lag_due:
            return
        self._lag_due = now + _LAG_INTERVAL_S
        position, label = follower.reader.position, str(self.partition)
        behind = await self.log.end_offset() - position.next_offset
        self.metrics.lag_records.labels(label).set(0 if caught_up else max(0, behind))
        age = max(0.0, time.time() - position.at / 1000)
        self.metrics.lag_seconds.labels(label).set(0.0 if behind <= 0 or caught_up else age)
        self.metrics.seq.labels(label).set(position.seq)


async def _read(reader: Reader, records: Iterator[LogRecord]) -> tuple[list[ValidBlock], JournalHalt | None]:
    """The valid blocks among the next *records*, until they make a full batch or the reading rule halts."""
    blocks: list[ValidBlock] = []
    events, breath_at = 0, BREATHE_EVERY
    for record in records:
        try:
            verdict = reader.read(record)
        except JournalHalt as halt:
            return blocks, halt
        if isinstance(verdict, ValidBlock):
            blocks.append(verdict)
            events += len(verdict.events)
            if events >= MAX_BATCH_EVENTS:
                break
            if events >= breath_at:
                breath_at = events + BREATHE_EVERY
                await asyncio.sleep(0)
    return blocks, None
