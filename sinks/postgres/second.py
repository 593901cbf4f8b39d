"""A second sink: the same sink with another sink_id, folding the journal only as far as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.partition import PartitionSink
from streams.journal.errors import JournalLoss
from streams.journal.framing import Headers
from streams.journal.log import Chunk, Log
from streams.journal.reading import Position

if TYPE_CHECKING:
    from sinks.postgres.session import Pool


class LimitedLog:
    """A journal that ends at ``limit`` for whoever reads it (``streams.journal.log.Log``); the limit only rises."""

    def __init__(self, log: Log) -> None:
        self.limit = 0
        self._log = log
        self._raised = asyncio.Event()

    def allow(self, limit: int) -> None:
        """Let records below the offset *limit* be read."""
        if limit > self.limit:
            self.limit = limit
            self._raised.set()

    @property
    def where(self) -> str:
        """See ``Log``."""
        return self._log.where

    async def start_offset(self) -> int:
        """See ``Log``."""
        return await self._log.start_offset()

    async def end_offset(self) -> int:
        """See ``Log``."""
        return min(self.limit, await self._log.end_offset())

    async def fetch(self, start: int, wait_s: float) -> Chunk:
        """See ``Log``. Raises JournalLoss if the log ends below the limit: somebody has read up to there."""
        if start >= self.limit:
            self._raised.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._raised.wait()
            except TimeoutError:
                return Chunk([], start)
        records, behind = await self._log.fetch(start, wait_s)
        if not records and behind <= start:
            end = await self._log.end_offset()
            if end < self.limit:
                expected = f"a log end of at least {self.limit}, up to which the live sink has read"
                raise JournalLoss(self.where, None, expected, f"log end {end}")
        return Chunk([one for one in records if one.offset < self.limit], min(behind, self.limit))

    async def append(self, headers: Headers, value: bytes) -> int:  # noqa: ARG002 - the port's
        """Never: sinks only read."""
        raise AssertionError("a second sink appends nothing")

    async def close(self) -> None:
        """See ``Log``."""
        await self._log.close()


class SecondSink:
    """Partitions are taken when a position in them is first asked for, and followed up to the last one asked for."""

    def __init__(self, *, log_of: Callable[[int], Log], pool: Pool, sink_id: str, schema: str) -> None:
        self._log_of, self._pool, self._sink_id, self._schema = log_of, pool, sink_id, schema
        self._metrics = SinkMetrics(CollectorRegistry())  # nobody asks: progress is shown by the command
        self._logs: dict[int, LimitedLog] = {}
        self._sinks: dict[int, PartitionSink] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop, self._moved = asyncio.Event(), asyncio.Event()
        self.seqs: dict[int, int] = {}
        """How far each partition is."""

    async def follow(self, targets: Mapping[int, Position], wait_s: float) -> None:
        """Go on towards *targets*; return after *wait_s*. Raises what ended a partition."""
        self._allow(targets)
        await asyncio.wait(self._tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        self._raise_ended()

    async def reach(self, targets: Mapping[int, Position], patience_s: float) -> None:
        """Write everything up to *targets* and nothing behind them; return when it is committed.

        Raises: what ended a partition; PostgresUnavailable if nothing was committed for *patience_s*, naming why.
        """
        self._allow(targets)
        while waiting := [p for p, target in targets.items() if self._sinks[p].next_offset != target.next_offset]:
            self._moved.clear()
            moved = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait({moved, *self._tasks}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()
            self._raise_ended()
            if not moved.done() or moved.cancelled():
                raise PostgresUnavailable(self._why(waiting, targets, patience_s))

    async def close(self) -> None:
        """End it; the batch at hand is finished."""
        self._stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for log in self._logs.values():
            await log.close()

    def _allow(self, targets: Mapping[int, Position]) -> None:
        for partition, target in targets.items():
            if partition not in self._sinks:
                self._start(partition)
            self._logs[partition].allow(target.next_offset)

    def _start(self, partition: int) -> None:
        log = self._logs[partition] = LimitedLog(self._log_of(partition))
        sink = self._sinks[partition] = PartitionSink(
            log=log,
            partition=partition,
            pool=self._pool,
            sink_id=self._sink_id,
            schema=self._schema,
            metrics=self._metrics,
            written=self._note,
        )
        self._tasks.add(asyncio.create_task(sink.run(self._stop), name=f"second sink[{partition}]"))

    def _note(self, partition: int, seq: int) -> None:
        self.seqs[partition] = seq
        self._moved.set()

    def _raise_ended(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    def _why(self, waiting: list[int], targets: Mapping[int, Position], patience_s: float) -> str:
        partition = waiting[0]
        sink = self._sinks[partition]
        return (
            f"rebuild: partition {partition}: expected offset {targets[partition].next_offset} of the journal to be "
            f"reached, found {sink.next_offset} and nothing written for {patience_s} s: {sink.trouble or 'no answer'}"
        )
