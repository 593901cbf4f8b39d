"""The journal port on a real broker: one partition, its own reader, and a producer that logs may share."""

from __future__ import annotations

from typing import Final, Self

from streams.journal.framing import Headers
from streams.journal.log import AppendUnknown, Chunk, LogRecord, LogUnavailable, OffsetOutOfRange
from streams.kafka import Fetched, Fetcher, Isolation, KafkaFailure, Outgoing, Partition, Producer, Record
from streams.kafka import OffsetOutOfRange as KafkaOffsetOutOfRange

APPEND_TIMEOUT_S: Final = 10.0
"""Without an acknowledgement by then the append counts as unknown."""


class KafkaLog:
    """``streams.journal.log.Log`` on Kafka. Clients connect when they are first needed.

    Reads are not ``read_committed``: the journal knows no transactions; control markers, should there be any, are gaps.
    """

    def __init__(self, bootstrap: str, partition: Partition, client_id: str, producer: Producer | None = None) -> None:
        """Append through *producer*, which whoever made it closes, or through one of its own."""
        self._partition = partition
        self._fetcher = Fetcher(bootstrap, client_id, Isolation.UNCOMMITTED)
        self._own = Producer(bootstrap, client_id) if producer is None else None
        self._producer = producer or self._own
        self._expected = -1  # where the next fetch goes on, -1 if it begins anew
        self._link: tuple[object, object] | None = None  # what the last fetch came by

    @property
    def where(self) -> str:
        """``<topic>[<partition>]``."""
        return str(self._partition)

    async def start_offset(self) -> int:
        """See ``Log``."""
        try:
            return await self._fetcher.start_offset(self._partition)
        except KafkaFailure as error:
            raise LogUnavailable(f"{self.where}: {error}") from error

    async def end_offset(self) -> int:
        """See ``Log``."""
        try:
            return await self._fetcher.end_offset(self._partition)
        except KafkaFailure as error:
            raise LogUnavailable(f"{self.where}: {error}") from error

    async def fetch(self, start: int, wait_s: float) -> Chunk:
        """See ``Log``. A change of leader or connection since the last fetch is a ``LogUnavailable``: confirm first."""
        here, goes_on = self._partition, start == self._expected
        self._expected = -1  # should we fail, or be cancelled
        try:
            found = (await self._fetcher.fetch({here: start}, int(wait_s * 1000))).get(here)
        except KafkaFailure as error:
            raise LogUnavailable(f"{self.where}: {error}") from error
        match found:
            case None:
                raise LogUnavailable(f"{self.where}: expected an answer to a fetch within {wait_s} s, got none")
            case KafkaOffsetOutOfRange():
                raise OffsetOutOfRange(f"{self.where}: {found}") from found
            case KafkaFailure():
                raise LogUnavailable(f"{self.where}: {found}") from found
            case Fetched():
                pass
        before, self._link = self._link, found.link
        if goes_on and before != self._link:
            raise LogUnavailable(f"{self.where}: the leader or the connection to it has changed")
        self._expected = found.next_offset
        return Chunk([_log_record(r) for r in found.records], found.next_offset)

    async def append(self, headers: Headers, value: bytes) -> int:
        """See ``Log``."""
        assert self._producer is not None, "its own, or the one that was given"
        try:
            got = await self._producer.send(self._partition, Outgoing(None, value, headers), APPEND_TIMEOUT_S)
        except KafkaFailure as error:
            raise AppendUnknown(f"{self.where}: {error}") from error
        if got.offset < 0:
            raise AppendUnknown(f"{self.where}: the broker acknowledged a record without its offset")
        return got.offset

    async def close(self) -> None:
        """See ``Log``. Nothing may be under way."""
        if self._own is not None:
            await self._own.close()
        await self._fetcher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _log_record(record: Record) -> LogRecord:
    return LogRecord(record.offset, record.key, record.headers, record.value)
