"""A worker process: joins the others, and owns each partition that it is assigned."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from streams.config_log import ConfigLog, config_end, follow_config
from streams.doctor import examine
from streams.feed import Feed
from streams.inputs import KafkaInputs
from streams.journal.kafka_log import KafkaLog
from streams.kafka import KafkaFailure, Partition, Producer
from streams.membership import GroupMembership, Membership, StaticMembership
from streams.metrics import Readiness, WorkerMetrics
from streams.owner import Owner
from streams.publisher import KafkaPublisher
from streams.replies import Replies
from streams.services import NoSinks, PositionSource, Services
from streams.status import Phase
from streams.topics import Topics

DRAINED: Final = 0
HALTED: Final = 4
UNREACHABLE: Final = 5

DRAIN_TIMEOUT_S: Final = 20.0
"""For the blocks in flight at a shutdown. What is not published by then is published by the next owner."""

REPLIES_TIMEOUT_S: Final = 5.0
CONFIG_RETRY_S: Final = 1.0
MAX_REMEMBERED: Final = 20_000_000
"""Idempotency entries per partition: about 3 GB at 138 bytes each; at 90 % the partition stops consuming."""

log = structlog.get_logger(__name__)


class StartRefused(Exception):
    """The worker does not start: settings or brokers are not as they must be (exit code 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerOptions:
    """What a worker is told. *partitions* is a static assignment; without it the consumer group assigns."""

    kafka: str
    prefix: str
    dev: bool
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    partitions: frozenset[int] | None = None
    ledger_id: str | None = None
    max_remembered: int = MAX_REMEMBERED


def refuse_optimised() -> None:
    """Raises StartRefused under ``python -O``: the engine's assertions are part of what keeps money right."""
    if sys.flags.optimize:
        raise StartRefused("expected assertions to be on, got python -O (or PYTHONOPTIMIZE): start without it")


class Worker:
    """``run`` until ``stop``.

    Halted partitions do not end it, not even if all are: it stays to own the others and to say on ``/readyz`` what is
    wrong, and a supervisor's restarts would only rebalance the healthy ones. At the end its exit code is then 4.
    """

    def __init__(self, options: WorkerOptions, metrics: WorkerMetrics, sinks: PositionSource | None = None) -> None:
        self._options = options
        self._topics = Topics(options.prefix)
        self._metrics = metrics
        self._sinks = sinks or NoSinks()
        self._config = ConfigLog(self._topics.config)
        self._feed = Feed(options.kafka)
        self._journal = Producer(options.kafka, "ledgerline-journal")
        self._owners: dict[int, Owner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._assigned: frozenset[int] | None = None  # None until the first assignment
        self._stop = asyncio.Event()
        self._owner_ended = asyncio.Event()
        self._services: Services | None = None

    def stop(self) -> None:
        """Drain: publish the blocks in flight, give the partitions back, leave the group; then ``run`` ends."""
        self._stop.set()

    def readiness(self) -> Readiness:
        """Ready: assigned, and every assigned partition is owned and decides (or it is a spare without any)."""
        partitions: dict[str, object] = {}
        ready = self._assigned is not None and not self._stop.is_set()
        for number in sorted(self._assigned or ()):
            owner = self._owners[number]
            partitions[str(number)] = owner.plain()
            ready = ready and owner.well
        self._metrics.ready.set(1 if ready else 0)
        return Readiness(ready, {"worker": self._options.name, "partitions": partitions})

    async def run(self) -> int:
        """Own partitions until ``stop``, and return the exit code.

        0: drained. 4: a partition is halted. 5: the brokers kept it from draining; the next owners publish the rest.

        1. Check the brokers, topics and journals (``doctor``).
        2. Follow ``config``, join the group, own what is assigned.
        3. After ``stop``: every owner finishes its block in flight, publishes it and gives its partition back.
        4. Leave the group, send the replies that wait, close the clients.

        Raises: StartRefused; KafkaFailure if the brokers cannot be reached in 1.
        """
        refuse_optimised()
        ledger_id = await self._examine()
        publisher = KafkaPublisher(self._options.kafka)
        replies = Replies(self._options.kafka, self._topics, self._metrics)
        self._services = self._wire(ledger_id, publisher, replies)
        helpers = [
            asyncio.create_task(self._follow_config(), name="config"),
            asyncio.create_task(replies.run(), name="replies"),
        ]
        member = asyncio.create_task(self._membership().run(self._changed, self._positions), name="membership")
        try:
            await self._until_stopped([*helpers, member])
            drained = await self._drain()
            await _end([member])
            await replies.drain(REPLIES_TIMEOUT_S)
        finally:
            defects = await _end([member, *helpers, *self._tasks.values()])
            await replies.close()
            await publisher.close()
            await self._journal.close()
            await self._feed.close()
        if defects:
            raise defects[0]
        if any(owner.status.phase is Phase.HALTED for owner in self._owners.values()):
            return HALTED
        return DRAINED if drained else UNREACHABLE

    # ---- start

    async def _examine(self) -> str:
        options = self._options
        diagnosis = await examine(options.kafka, options.prefix, dev=options.dev, ledger_id=options.ledger_id)
        waived = sorted({finding.name for finding in diagnosis.findings if finding.waived})
        if waived:
            log.info("waived by --dev", findings=waived)
        if diagnosis.refusals:
            raise StartRefused("\n".join(map(str, diagnosis.refusals)))
        assert diagnosis.ledger_id is not None
        assert diagnosis.partitions is not None
        beyond = [p for p in options.partitions or () if p not in range(diagnosis.partitions)]
        if beyond:
            raise StartRefused(f"expected partitions from 0 to {diagnosis.partitions - 1}, got {sorted(beyond)}")
        log.info("starting", worker=options.name, ledger_id=diagnosis.ledger_id, partitions=diagnosis.partitions)
        return diagnosis.ledger_id

    def _wire(self, ledger_id: str, publisher: KafkaPublisher, replies: Replies) -> Services:
        kafka, topics = self._options.kafka, self._topics
        feed, journal = self._feed, self._journal
        return Services(
            topics=topics,
            name=self._options.name,
            ledger_id=ledger_id,
            open_log=lambda p: KafkaLog(kafka, Partition(topics.journal, p), "ledgerline-journal", journal),
            open_inputs=lambda p: KafkaInputs(topics, p, feed),
            publisher=publisher,
            replies=replies,
            config=self._config,
            config_end=lambda: config_end(kafka, topics.config),
            metrics=self._metrics,
            sinks=self._sinks,
            max_remembered=self._options.max_remembered,
        )

    def _membership(self) -> Membership:
        if self._options.partitions is not None:
            return StaticMembership(self._options.partitions)
        return GroupMembership.of_workers(self._options.kafka, self._topics)

    async def _follow_config(self) -> None:
        while True:
            try:
                await follow_config(self._options.kafka, self._config)
            except KafkaFailure as error:
                log.warning("config cannot be read; trying again", error=str(error))
            await asyncio.sleep(CONFIG_RETRY_S)

    # ---- while it runs

    def _changed(self, assigned: frozenset[int]) -> None:
        """The assignment is now this. Called by the membership; does not fail or wait."""
        if self._stop.is_set():  # nothing is taken while the rest is given back
            return
        assert self._services is not None
        log.info("assigned", partitions=sorted(assigned))
        self._assigned = assigned
        for number in assigned:
            if number not in self._owners:
                owner = self._owners[number] = self.new_owner(number, self._services)
                task = self._tasks[number] = asyncio.create_task(owner.run(), name=f"owner-{number}")
                task.add_done_callback(lambda _: self._owner_ended.set())
        for number, owner in self._owners.items():
            if number in assigned:
                owner.assign()
            else:
                owner.revoke()

    def new_owner(self, partition: int, services: Services) -> Owner:
        """Made once per partition and process."""
        return Owner(partition, services)

    def _positions(self) -> Mapping[int, int]:
        found = ((number, owner.position) for number, owner in self._owners.items())
        return {number: position for number, position in found if position is not None}

    async def _until_stopped(self, helpers: list[asyncio.Task[None]]) -> None:
        """Return after ``stop``; raise what ended a helper or an owner, which should never end by themselves.

        Else a partition whose owner is gone would stay assigned to this process, look owned, and be decided by nobody.
        """
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            while not stopping.done():
                ended = asyncio.create_task(self._owner_ended.wait(), name="owner ended")
                await asyncio.wait([stopping, ended, *helpers], return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                self._owner_ended.clear()
                if self._stop.is_set():
                    return
                working = [task for p, task in self._tasks.items() if self._owners[p].status.halted is None]
                for task in (*helpers, *working):
                    if task.done():
                        _refuse_end(task)
        finally:
            stopping.cancel()

    async def _drain(self) -> bool:
        """Whether every owner has ended by itself in time."""
        for owner in self._owners.values():
            owner.stop()
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks.values(), timeout=DRAIN_TIMEOUT_S)
        for task in late:
            log.error("not drained in time: its block is published by the next owner", task=task.get_name())
        return not late


def _refuse_end(task: asyncio.Task[None]) -> NoReturn:
    """Raises what ended *task*, which should still run."""
    problem = None if task.cancelled() else task.exception()
    raise problem or RuntimeError(f"{task.get_name()}: expected it to run until the worker stops, it ended")


async def _end(tasks: list[asyncio.Task[None]]) -> list[Exception]:
    """Cancel and await *tasks*; what they raised."""
    for task in tasks:
        task.cancel()
    return [end for end in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(end, Exception)]
