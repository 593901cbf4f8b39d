"""The sink process: which partitions it writes, and what it tells about them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry

from sinks.postgres.errors import Deposed, PostgresRefused, PostgresUnavailable
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.migrations import require_schema
from sinks.postgres.partition import FIRST_PAUSE_S, LONGEST_PAUSE_S, PartitionSink
from sinks.postgres.readers import SINK_ID
from sinks.postgres.session import SCHEMA, session, writer_pool
from sinks.postgres.store import PartitionStore
from streams.journal.errors import JournalHalt
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import Log
from streams.kafka import KafkaFailure, Member, Partition
from streams.topics import Topics

if TYPE_CHECKING:
    from sinks.postgres.session import Pool

CONNECTIONS: Final = 4
"""Sessions of one process: its partitions take turns, so that one is decoded while PostgreSQL writes another."""
_POLL_MS: Final = 200
_SETTLE_S: Final = 3.0
"""A rebalance revokes everything first: an empty assignment counts once it has lasted that long. Until then the sink goes on
writing what it has taken, which is safe: who takes a partition from it deposes it."""
_DEPOSED_PAUSE_S: Final = (0.5, 2.0)

_log = structlog.get_logger(__name__)


class Sink:
    """Keeps PostgreSQL up with the journals of the partitions that its consumer group assigns to it.

    *halted* maps each partition that stopped to its cause; the others go on. Several sinks with one *sink_id* share the work;
    another *sink_id* needs a schema of its own.
    """

    def __init__(
        self,
        *,
        kafka: str,
        prefix: str,
        dsn: str,
        sink_id: str = SINK_ID,
        schema: str = SCHEMA,
        registry: CollectorRegistry | None = None,
        store: type[PartitionStore] = PartitionStore,
    ) -> None:
        """Connects to nothing yet. *store* is for tests that stop between the steps of a write."""
        self.kafka, self.topics, self.dsn = kafka, Topics(prefix), dsn
        self.sink_id, self.schema = sink_id, schema
        self.metrics = SinkMetrics(registry or CollectorRegistry())
        self.halted: dict[int, str] = {}
        self.written: dict[int, int] = {}
        self._store_class = store
        self._tasks: dict[int, _Task] = {}
        self._not_before: dict[int, float] = {}  # loop time: a deposed sink backs off
        self._trouble: str | None = "the sink has not started"
        self._progress = asyncio.Event()

    def problems(self) -> list[str]:
        """Why this process is not ready; empty when it is. Each names partition (or topic and offset) and cause."""
        found = [f"partition {p} halted: {cause}" for p, cause in sorted(self.halted.items())]
        if self._trouble is not None:
            found.append(self._trouble)
        for partition, task in sorted(self._tasks.items()):
            if task.sink.trouble is not None:
                found.append(f"partition {partition}: {task.sink.trouble}")
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Write until *stop*; then finish the batches at hand and leave the group.

        A slow or absent Kafka or PostgreSQL is waited for, without end. Raises: SchemaMismatch, ForeignLedger (nothing is
        written); anything else that escapes is a defect.
        """
        await self._await_schema(stop)
        async with writer_pool(self.dsn, self.schema, CONNECTIONS) as pool:
            try:
                await self._follow_group(pool, stop)
            finally:
                await self._leave(list(self._tasks))

    async def wait_for(self, partition: int, seq: int, timeout_s: float) -> None:
        """Return once this process has written everything of *partition* up to *seq*. Raises TimeoutError.

        For readers in this process; others use ``readers.wait_for``.
        """
        async with asyncio.timeout(timeout_s):
            while self.written.get(partition, 0) < seq:
                await self._progress.wait()

    # ---- start

    async def _await_schema(self, stop: asyncio.Event) -> None:
        async def check() -> None:
            async with session(self.dsn, self.schema) as connection:
                await require_schema(connection, self.schema)

        await self._insist(check, stop)

    async def _insist(self, attempt: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Repeat *attempt* while a server is unavailable, 0.1 to 5 s apart."""
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                await attempt()
            except (PostgresUnavailable, KafkaFailure) as error:
                self._trouble = str(error)
                _log.warning("sink.unavailable", cause=self._trouble, pause_s=pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                return

    # ---- which partitions

    async def _follow_group(self, pool: Pool, stop: asyncio.Event) -> None:
        """Be a member of the group and write what it assigns; returns when *stop* comes."""
        group = self.topics.sink_group(self.sink_id)

        async def membership() -> None:
            assignment = _Assignment()
            member = await Member.join(self.kafka, "ledgerline-sink", group, self.topics.journal, assignment.change)
            self._trouble = None
            try:
                while not stop.is_set():
                    await member.poll(_POLL_MS)
                    await self._adjust(pool, assignment.settled())
            finally:
                await member.close()

        await self._insist(membership, stop)

    async def _adjust(self, pool: Pool, assigned: frozenset[int] | None) -> None:
        """Make the running partitions those that are *assigned* (None: not known yet) and not halted."""
        for partition, task in list(self._tasks.items()):
            if task.running.done():
                await self._ended(partition, task)
        if assigned is None:
            return
        await self._leave([p for p in self._tasks if p not in assigned])
        now = asyncio.get_running_loop().time()
        for partition in assigned - self._tasks.keys() - self.halted.keys():
            if now >= self._not_before.get(partition, 0.0):
                self._tasks[partition] = self._start(pool, partition)

    def _start(self, pool: Pool, partition: int) -> _Task:
        log = KafkaLog(self.kafka, Partition(self.topics.journal, partition), "ledgerline-sink")
        sink = PartitionSink(
            log=log,
            partition=partition,
            pool=pool,
            sink_id=self.sink_id,
            schema=self.schema,
            metrics=self.metrics,
            written=self._note,
            store=self._store_class,
        )
        stop = asyncio.Event()
        self.metrics.owned.labels(str(partition)).set(1)
        self.metrics.halted.labels(str(partition)).set(0)
        return _Task(sink, log, stop, asyncio.create_task(sink.run(stop), name=f"sink[{partition}]"))

    def _note(self, partition: int, seq: int) -> None:
        self.written[partition] = seq
        self._progress.set()
        self._progress = asyncio.Event()

    async def _leave(self, partitions: list[int]) -> None:
        """Finish the batches at hand of *partitions* and stop them."""
        for partition in partitions:
            self._tasks[partition].stop.set()
        for partition in partitions:
            task = self._tasks[partition]
            await asyncio.wait([task.running])
            await self._ended(partition, task)

    async def _ended(self, partition: int, task: _Task) -> None:
        """Say how a partition's task ended; a defect, or a schema that is not ours, ends the process."""
        del self._tasks[partition]
        await task.log.close()
        label = str(partition)
        self.metrics.owned.labels(label).set(0)
        self.metrics.lag_records.remove(label)
        self.metrics.lag_seconds.remove(label)
        match task.running.exception():
            case None:
                _log.info("sink.left", partition=partition)
            case Deposed() as deposed:
                _log.warning("sink.deposed", partition=partition, cause=str(deposed))
                pause = random.uniform(*_DEPOSED_PAUSE_S)  # noqa: S311  # jitter
                self._not_before[partition] = asyncio.get_running_loop().time() + pause
            case JournalHalt() | PostgresRefused() as halt:
                self.halted[partition] = str(halt)
                self.metrics.halted.labels(label).set(1)
                _log.error("sink.halted", partition=partition, cause=str(halt))
            case error:
                raise error


@dataclass(frozen=True, slots=True)
class _Task:
    sink: PartitionSink
    log: Log
    stop: asyncio.Event
    running: asyncio.Task[None]


class _Assignment:
    """What the group assigns, without the moments in between that a rebalance makes."""

    def __init__(self) -> None:
        self._assigned: frozenset[int] = frozenset()
        self._since = asyncio.get_running_loop().time()

    def change(self, partitions: frozenset[Partition]) -> None:
        """The member's callback."""
        self._assigned = frozenset(p.number for p in partitions)
        self._since = asyncio.get_running_loop().time()

    def settled(self) -> frozenset[int] | None:
        """None while it may only be the middle of a rebalance."""
        if self._assigned or asyncio.get_running_loop().time() - self._since >= _SETTLE_S:
            return self._assigned
        return None
