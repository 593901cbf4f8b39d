"""The journal port on a real broker: one partition, a producer that logs may share, a consumer of its own."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from streams.journal.framing import Headers
from streams.journal.log import AppendUnknown, Chunk, LogRecord, LogUnavailable, OffsetOutOfRange
from streams.kafka import (
    Consumer,
    Isolation,
    KafkaFailure,
    Outgoing,
    Partition,
    Producer,
    Record,
    SharedProducer,
)
from streams.kafka import OffsetOutOfRange as KafkaOffsetOutOfRange

APPEND_TIMEOUT_S: Final = 10.0
"""Without an acknowledgement by then the client is closed and the append counts as unknown."""


class KafkaLog:
    """``streams.journal.log.Log`` on Kafka.

    Clients are opened when first needed; the appending one never outlives an error. The logs of one process may share
    it. Then the error of one makes the others' appends in flight unknown, too; so from there on it appends through a
    producer of its own, until that works: a partition without a leader troubles the others once.

    Reads are not ``read_committed``: the journal knows no transactions; control markers, should there be any, are gaps.
    """

    def __init__(
        self, bootstrap: str, partition: Partition, client_id: str, shared: SharedProducer | None = None
    ) -> None:
        """Append through *shared*, which whoever made it closes, or through a producer of its own."""
        self._bootstrap, self._partition, self._client_id = bootstrap, partition, client_id
        self._shared = shared
        self._own = SharedProducer(bootstrap, client_id)
        self._apart = shared is None  # append through our own producer
        self._consumer: Consumer | None = None
        self._cursor = -1  # where the consumer stands, -1 if it must seek
        self._link: tuple[object, object] | None = None

    @property
    def where(self) -> str:
        """``<topic>[<partition>]``."""
        return str(self._partition)

    async def start_offset(self) -> int:
        """See ``Log``."""
        try:
            return (await (await self._reading()).start_offsets([self._partition]))[self._partition]
        except KafkaFailure as error:
            raise await self._failed(error) from error

    async def end_offset(self) -> int:
        """See ``Log``."""
        try:
            return (await (await self._reading()).end_offsets([self._partition]))[self._partition]
        except KafkaFailure as error:
            raise await self._failed(error) from error

    async def fetch(self, start: int, wait_s: float) -> Chunk:
        """See ``Log``. A change of leader or connection since the last fetch is a ``LogUnavailable``: confirm first."""
        try:
            return await self._fetch(start, wait_s)
        except KafkaOffsetOutOfRange as error:
            self._cursor = -1
            raise OffsetOutOfRange(f"{self.where}: offset {start}: {error}") from error
        except KafkaFailure as error:
            raise await self._failed(error) from error

    async def _fetch(self, start: int, wait_s: float) -> Chunk:
        consumer, here = await self._reading(), self._partition
        fresh = start != self._cursor
        if fresh:
            consumer.seek(here, start)
        self._cursor = -1  # should we be cancelled
        consumer.resume(here)
        try:
            found = (await consumer.poll(here, timeout_ms=int(wait_s * 1000))).get(here, [])
        finally:
            consumer.pause(here)  # or it would fetch every block that we append
        position = await consumer.position(here)
        before, self._link = self._link, consumer.link(here)
        if not fresh and before != self._link:
            raise LogUnavailable(f"{self.where}: the leader or the connection to it has changed")
        self._cursor = position
        return Chunk([_log_record(r) for r in found], position)

    async def append(self, headers: Headers, value: bytes) -> int:
        """See ``Log``."""
        producers = self._own if self._apart or self._shared is None else self._shared
        producer: Producer | None = None
        try:
            producer = await producers.usable()
            got = await producer.send(self._partition, Outgoing(None, value, headers), APPEND_TIMEOUT_S)
        except KafkaFailure as error:
            await self._end(producers, producer)
            raise AppendUnknown(f"{self.where}: {error}") from error
        except asyncio.CancelledError:
            await self._end(producers, producer)
            raise
        if got.offset < 0:  # a re-sent request that the broker knew already, without remembering where it lies
            await self._end(producers, producer)
            raise AppendUnknown(f"{self.where}: the broker acknowledged a record without its offset")
        if self._apart and self._shared is not None:
            self._apart = False
            await self._own.close()
        return got.offset

    async def close(self) -> None:
        """See ``Log``. Nothing may be under way."""
        await self._own.close()
        await self._drop_consumer()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _reading(self) -> Consumer:
        if self._consumer is None:
            self._cursor = -1
            consumer = await Consumer.start(self._bootstrap, self._client_id, Isolation.UNCOMMITTED)
            consumer.assign([self._partition])
            consumer.pause(self._partition)
            self._consumer = consumer
        return self._consumer

    async def _failed(self, error: KafkaFailure) -> LogUnavailable:
        """Read on with a fresh client."""
        await self._drop_consumer()
        return LogUnavailable(f"{self.where}: {error}")

    async def _end(self, producers: SharedProducer, producer: Producer | None) -> None:
        self._apart = True
        if producer is not None:
            await producers.replace(producer)

    async def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close()


def _log_record(record: Record) -> LogRecord:
    return LogRecord(record.offset, record.key, record.headers, record.value)
