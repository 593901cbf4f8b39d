"""Replies: the same bytes as the outcome, to the topic that the request named. Best effort: nothing waits for them."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import structlog

from schemas.records import partition_of
from streams.kafka import Admin, KafkaFailure, Outgoing, Partition, Producer, RecordTooLarge
from streams.metrics import WorkerMetrics
from streams.topics import Topics

MAX_WAITING: Final = 20_000
"""Replies that wait to be sent; what comes on top is dropped and counted. Its outcome stands in ``outcomes``."""

MAX_KNOWN: Final = 1_000
"""Topics whose existence is remembered."""

KNOWN_FOR_S: Final = 60.0
UNKNOWN_FOR_S: Final = 10.0
SEND_TIMEOUT_S: Final = 10.0
PAUSE_AFTER_FAILURE_S: Final = 1.0

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

log = structlog.get_logger(__name__)


class Reply(NamedTuple):
    """One reply and the topic that was named for it, as it was received."""

    topic: bytes
    record: Outgoing


class ReplySink(Protocol):
    """Where replies go."""

    def offer(self, replies: Sequence[Reply]) -> None:
        """Take these; never waits, never fails."""


class Replies:
    """Sends replies in the background, with clients of its own; what fails is counted and dropped.

    A topic must exist: a client that names an unknown one would keep asking for it. Topics of the ledger itself and
    internal ones are refused, or a request could write into the journal.
    """

    def __init__(self, kafka: str, topics: Topics, metrics: WorkerMetrics) -> None:
        self._kafka, self._own, self._metrics = kafka, frozenset(topics.names), metrics
        self._waiting: list[Reply] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._known: dict[str, tuple[int, float]] = {}  # partitions (0: no such topic) and until when that holds
        self._admin: Admin | None = None
        self._producer = Producer(kafka, "ledgerline-replies")

    def offer(self, replies: Sequence[Reply]) -> None:
        """See ``ReplySink``."""
        room = MAX_WAITING - len(self._waiting)
        if len(replies) > room:
            self._metrics.replies_failed.labels("queue_full").inc(len(replies) - max(0, room))
            replies = replies[: max(0, room)]
        if replies:
            self._waiting += replies
            self._idle.clear()
            self._arrived.set()

    async def run(self) -> None:
        """Send what is offered, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            try:
                await self._send(batch)
            except KafkaFailure as error:
                log.warning("replies failed", replies=len(batch), error=str(error))
                self._metrics.replies_failed.labels("kafka").inc(len(batch))
                await self._drop_clients()
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            if not self._waiting:
                self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything offered was sent or given up, at most *timeout_s*."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            self._metrics.replies_failed.labels("shutdown").inc(len(self._waiting))

    async def close(self) -> None:
        """Close the clients; ``run`` must have ended."""
        await self._drop_clients()

    async def _send(self, batch: list[Reply]) -> None:
        by_topic: dict[bytes, list[Outgoing]] = defaultdict(list)
        for reply in batch:
            by_topic[reply.topic].append(reply.record)
        for raw_name, records in by_topic.items():
            name = raw_name.decode("ascii", "replace")
            if not _TOPIC.fullmatch(name) or name in self._own or name.startswith("__"):
                self._metrics.replies_failed.labels("refused_topic").inc(len(records))
                continue
            partitions = await self._partitions(name)
            if partitions == 0:
                self._metrics.replies_failed.labels("unknown_topic").inc(len(records))
                continue
            await self._send_to(name, partitions, records)

    async def _send_to(self, topic: str, partitions: int, records: list[Outgoing]) -> None:
        by_partition: dict[int, list[Outgoing]] = defaultdict(list)
        for record in records:
            by_partition[partition_of(record.key or b"", partitions)].append(record)
        for number, those in by_partition.items():
            try:
                await self._producer.send_all(Partition(topic, number), those, SEND_TIMEOUT_S)
            except RecordTooLarge as error:
                log.warning("a reply topic takes no record of that size", topic=topic, error=str(error))
                self._metrics.replies_failed.labels("too_large").inc(len(those))
            except KafkaFailure as error:
                self._known[topic] = (0, time.monotonic() + UNKNOWN_FOR_S)  # it holds nobody up meanwhile
                log.warning("a reply topic fails; its replies are dropped for a while", topic=topic, error=str(error))
                self._metrics.replies_failed.labels("kafka").inc(len(those))
                await self._drop_clients()
                return
            else:
                self._metrics.replies.inc(len(those))

    async def _partitions(self, topic: str) -> int:
        """How many partitions *topic* has, 0 if there is no such topic; asked at most every minute or 10 s."""
        partitions, until = self._known.get(topic, (0, 0.0))
        now = time.monotonic()
        if now < until:
            return partitions
        if self._admin is None:
            self._admin = await Admin.start(self._kafka, "ledgerline-replies")
        info = (await self._admin.describe_topics([topic])).get(topic)
        partitions = info.partitions if info is not None else 0
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[topic] = (partitions, now + (KNOWN_FOR_S if partitions else UNKNOWN_FOR_S))
        return partitions

    async def _drop_clients(self) -> None:
        admin, self._admin = self._admin, None
        producer, self._producer = self._producer, Producer(self._kafka, "ledgerline-replies")
        await producer.kill()
        if admin is not None:
            await admin.close()
