"""Reading: assigned partitions from stated offsets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import aiokafka
import aiokafka.errors

from streams.kafka import lenient
from streams.kafka.common import (
    CLOSE_TIMEOUT_S,
    FETCH_WAIT_MS,
    REQUEST_TIMEOUT_MS,
    Isolation,
    KafkaFailure,
    Partition,
    Record,
    failures,
    record,
    topic_partition,
)

lenient.install()


class Consumer:
    """Reads assigned partitions, without a group or an offset to fall back to: the caller says where to read."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    @classmethod
    async def start(cls, bootstrap: str, client_id: str, isolation: Isolation, max_poll_records: int = 500) -> Self:
        """Connect. Raises KafkaFailure."""
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            auto_offset_reset="none",  # a lost position is an error, never a silent jump
            enable_auto_commit=False,
            isolation_level=isolation.value,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_records=max_poll_records,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=60_000,
        )
        self = cls(consumer)
        try:
            with failures(f"connect a consumer to {bootstrap}"):
                await asyncio.wait_for(consumer.start(), REQUEST_TIMEOUT_MS / 1000)
        except BaseException:
            await self.close()
            raise
        return self

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Read these from now on. Each needs a ``seek`` before the first ``poll``; other positions are forgotten."""
        self._consumer.assign([topic_partition(p) for p in partitions])

    def seek(self, partition: Partition, offset: int) -> None:
        """Go on at *offset*; what was fetched ahead is dropped."""
        self._consumer.seek(topic_partition(partition), offset)

    def pause(self, *partitions: Partition) -> None:
        """Fetch nothing of these (what was fetched already is kept)."""
        self._consumer.pause(*map(topic_partition, partitions))

    async def poll(
        self, *partitions: Partition, timeout_ms: int, max_records: int | None = None
    ) -> dict[Partition, list[Record]]:
        """Records of *partitions* (none named: of all), waiting up to *timeout_ms*. Raises OffsetOutOfRange."""
        what = ", ".join(map(str, partitions)) or "the assigned partitions"
        with failures(f"read {what}"):
            got = await self._consumer.getmany(
                *map(topic_partition, partitions), timeout_ms=timeout_ms, max_records=max_records
            )
        fetching = self._consumer._fetcher.error_future  # noqa: SLF001  # `getmany` would find nothing, for ever
        if not got and fetching.done():
            raise KafkaFailure(f"read {what}: the client has stopped fetching: {fetching!r}")
        return {Partition(*tp): [record(r) for r in records] for tp, records in got.items()}

    async def position(self, partition: Partition) -> int:
        """The next offset to read. It passes control markers only after a ``poll``."""
        with failures(f"position in {partition}"):
            async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
                return int(await self._consumer.position(topic_partition(partition)))

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Asks the brokers: the log end, or with ``Isolation.COMMITTED`` the last stable offset."""
        with failures("ask for end offsets"):
            return _offsets(await self._consumer.end_offsets([topic_partition(p) for p in partitions]))

    async def start_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offsets that are kept."""
        with failures("ask for start offsets"):
            return _offsets(await self._consumer.beginning_offsets([topic_partition(p) for p in partitions]))

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Bounded; a client that does not end in time loses its connections."""
        await close_consumer(self._consumer, timeout_s)


def _offsets(found: Mapping[Any, int]) -> dict[Partition, int]:
    return {Partition(*tp): int(offset) for tp, offset in found.items()}


async def close_consumer(consumer: Any, timeout_s: float) -> None:
    """Consumers cannot harm the log, so one that does not end in time only loses its connections.

    Its ``stop()`` runs in a task of its own: it awaits fetches that it has cancelled, and while a broker is down their
    CancelledError comes out of it [m]. Here that would look as if the caller had been cancelled, and end it silently.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait({stopping}, timeout=timeout_s)
    finally:
        stopping.cancel()  # nothing, if it has ended
    if not stopping.done() or stopping.cancelled() or stopping.exception() is not None:
        with contextlib.suppress(TimeoutError, OSError, aiokafka.errors.KafkaError):
            await asyncio.wait_for(consumer._client.close(), timeout_s)  # noqa: SLF001  # stop() returns at once now


async def read_to_end(consumer: Consumer, partition: Partition, start: int, timeout_s: float = 60.0) -> list[Record]:
    """Every record of *partition* from *start* to the end as of now; assigns the consumer to it. For small topics.

    The end is reached when the position is there, not when a record of offset end - 1 was seen: it may be a control
    marker.
    """
    async with asyncio.timeout(timeout_s):
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.assign([partition])
        consumer.seek(partition, start)
        found: list[Record] = []
        while await consumer.position(partition) < end:
            found += (await consumer.poll(partition, timeout_ms=FETCH_WAIT_MS)).get(partition, [])
        return [r for r in found if r.offset < end]
