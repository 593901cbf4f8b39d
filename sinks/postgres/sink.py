"""The sink process: which partitions it writes, and what it tells about them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry

from sinks.postgres.errors import Deposed, ForeignLedger, PostgresUnavailable
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.migrations import require_schema
from sinks.postgres.pace import pause_unless
from sinks.postgres.partition import FIRST_PAUSE_S, LONGEST_PAUSE_S, PartitionSink
from sinks.postgres.readers import SINK_ID
from sinks.postgres.session import SCHEMA, session, writer_pool
from sinks.postgres.store import PartitionStore
from sinks.postgres.together import Together
from streams.halts import Halted
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import Log
from streams.kafka import Partition
from streams.membership import GroupMembership, Membership
from streams.metrics import Readiness
from streams.topics import Topics

if TYPE_CHECKING:
    from sinks.postgres.session import Pool

CONNECTIONS: Final = 4
"""Sessions of one process: its partitions take turns, so that one is decoded while PostgreSQL writes another."""
DRAIN_TIMEOUT_S: Final = 15.0
"""How long a partition that is left may take to finish its batch."""
_CHECK_S: Final = 0.25
_DEPOSED_PAUSE_S: Final = (0.5, 2.0)

_log = structlog.get_logger(__name__)


class Sink:
    """Keeps PostgreSQL up with the journals of the partitions that its consumer group assigns to it.

    *halted* maps each partition that stopped to its cause; the others go on. Several sinks with one *sink_id* share
    the work; another *sink_id* needs a schema of its own.
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
        membership: Membership | None = None,
        store: type[PartitionStore] = PartitionStore,
    ) -> None:
        """Connects to nothing yet. *membership* None: the consumer group. *store* is for tests that stop in a write."""
        self.kafka, self.topics, self.dsn = kafka, Topics(prefix), dsn
        self.sink_id, self.schema = sink_id, schema
        self.registry = registry or CollectorRegistry()
        self.metrics = SinkMetrics(self.registry)
        self.halted: dict[int, Halted] = {}
        self.written: dict[int, int] = {}
        self._membership = membership or GroupMembership.of_sinks(kafka, self.topics, sink_id)
        self._store_class = store
        self._together = Together(self.metrics)
        self._assigned: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._tasks: dict[int, _Task] = {}
        self._not_before: dict[int, float] = {}  # loop time: a deposed sink backs off
        self._foreign: ForeignLedger | None = None
        self._trouble: str | None = "the sink has not started"
        self._progress = asyncio.Event()

    @property
    def partitions(self) -> frozenset[int]:
        """Those that this process writes."""
        return frozenset(self._tasks)

    def ready(self) -> Readiness:
        """Ready: the schema is there, the group has answered, no partition halted, no server is being waited for."""
        waiting = {str(p): t.sink.trouble for p, t in sorted(self._tasks.items()) if t.sink.trouble is not None}
        detail: dict[str, object] = {
            "halted": {str(p): halted.plain() for p, halted in sorted(self.halted.items())},
            "waiting": waiting,
            "partitions": sorted(self._tasks),
        }
        if self._trouble is not None:
            detail["cause"] = self._trouble
        return Readiness(not (self.halted or waiting or self._trouble), detail)

    async def run(self, stop: asyncio.Event) -> None:
        """Write until *stop*; then finish the batches at hand and leave the group.

        A slow or absent Kafka or PostgreSQL is waited for, without end. Raises: SchemaMismatch, ForeignLedger
        (nothing is written); anything else that escapes is a defect.
        """
        await self._await_schema(stop)
        pool = await writer_pool(self.dsn, self.schema, CONNECTIONS)
        try:
            self._trouble = "the consumer group has not assigned anything yet"
            await self._follow_group(pool, stop)
        finally:
            await self._together.close()
            pool.terminate()  # nothing is under way

    async def wait_for(self, partition: int, seq: int, timeout_s: float) -> None:
        """Return once this process has written everything of *partition* up to *seq*. Raises TimeoutError.

        For readers in this process; others use ``readers.wait_for``.
        """
        async with asyncio.timeout(timeout_s):
            while self.written.get(partition, 0) < seq:
                await self._progress.wait()

    # ---- start

    async def _await_schema(self, stop: asyncio.Event) -> None:
        """PostgreSQL may be absent at the start too: ask again, 0.1 to 5 s apart."""
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                async with session(self.dsn, self.schema) as connection:
                    await require_schema(connection, self.schema)
            except PostgresUnavailable as error:
                self._trouble = str(error)
                _log.warning("sink.unavailable", cause=self._trouble, pause_s=pause)
                await pause_unless(stop, pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                return

    # ---- which partitions

    async def _follow_group(self, pool: Pool, stop: asyncio.Event) -> None:
        """Write what the group assigns; returns when *stop* comes."""
        membership = asyncio.create_task(self._membership.run(self._assign, self._positions), name="sink membership")
        stopping = asyncio.create_task(stop.wait())
        try:
            while self._foreign is None and not stop.is_set():
                self._changed.clear()
                await self._adjust(pool)
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait(
                    {membership, stopping, changed}, timeout=_CHECK_S, return_when=asyncio.FIRST_COMPLETED
                )
                changed.cancel()
                if membership.done():
                    await membership  # a defect: it never returns
        finally:
            stopping.cancel()
            await self._leave(list(self._tasks))
            membership.cancel()
            await asyncio.wait({membership})
        if self._foreign is not None:
            raise self._foreign

    def _assign(self, partitions: frozenset[int]) -> None:
        self._assigned, self._trouble = partitions, None
        self._changed.set()

    def _positions(self) -> Mapping[int, int]:
        return {p: task.sink.next_offset for p, task in self._tasks.items() if task.sink.next_offset is not None}

    async def _adjust(self, pool: Pool) -> None:
        """Make the running partitions those that are assigned and not halted."""
        for partition, task in list(self._tasks.items()):
            if task.running.done():
                await self._ended(partition, task)
        await self._leave([p for p in self._tasks if p not in self._assigned])
        now = asyncio.get_running_loop().time()
        for partition in self._assigned - self._tasks.keys() - self.halted.keys():
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
            together=self._together,
            store=self._store_class,
        )
        stop = asyncio.Event()
        self.metrics.owned.labels(str(partition)).set(1)
        self.metrics.halted.labels(str(partition)).set(0)
        running = asyncio.create_task(sink.run(stop), name=f"sink[{partition}]")
        running.add_done_callback(lambda _: self._changed.set())
        return _Task(sink, log, stop, running)

    def _note(self, partition: int, seq: int) -> None:
        self.written[partition] = seq
        self._progress.set()
        self._progress = asyncio.Event()

    async def _leave(self, partitions: list[int]) -> None:
        """Stop *partitions* once their batches at hand are finished; after DRAIN_TIMEOUT_S cut them off, as safely."""
        leaving = {p: self._tasks[p] for p in partitions}
        for task in leaving.values():
            task.stop.set()
        running = {task.running for task in leaving.values()}
        if running:
            _, late = await asyncio.wait(running, timeout=DRAIN_TIMEOUT_S)
            for one in late:
                one.cancel()
            await asyncio.wait(running)
        for partition, task in leaving.items():
            await self._ended(partition, task)

    async def _ended(self, partition: int, task: _Task) -> None:
        """Say how a partition's task ended. Whatever is wrong with it, the others go on.

        Only a schema that is not ours ends the process.
        """
        del self._tasks[partition]
        await task.log.close()
        label = str(partition)
        self.metrics.owned.labels(label).set(0)
        for gauge in (self.metrics.lag_records, self.metrics.lag_seconds):
            with contextlib.suppress(KeyError):  # not measured yet
                gauge.remove(label)
        match None if task.running.cancelled() else task.running.exception():
            case None:
                _log.info("sink.left", partition=partition)
            case ForeignLedger() as foreign:
                self._foreign = foreign
            case Deposed() as deposed:
                _log.warning("sink.deposed", partition=partition, cause=str(deposed))
                pause = random.uniform(*_DEPOSED_PAUSE_S)  # noqa: S311  # jitter
                self._not_before[partition] = asyncio.get_running_loop().time() + pause
            case halt:  # journal loss, corruption, refused by the database, or a defect of ours
                self.halted[partition] = Halted.of(halt)
                self.metrics.halted.labels(label).set(1)
                _log.error("sink.halted", partition=partition, cause=str(halt), exc_info=halt)


@dataclass(frozen=True, slots=True)
class _Task:
    sink: PartitionSink
    log: Log
    stop: asyncio.Event
    running: asyncio.Task[None]
