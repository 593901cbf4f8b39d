"""The port to one partition of the journal topic, as one client sees it, and what every adapter promises.

Adapters: ``streams.journal.kafka_log`` on a real broker, ``streams.journal.simulated`` in memory with seeded faults;
both pass the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from streams.journal.framing import Headers


class LogRecord(NamedTuple):
    """A record as delivered."""

    offset: int
    key: bytes | None
    headers: Headers
    value: bytes | None


class Chunk(NamedTuple):
    """Records of one fetch, in order, and the offset to go on from: beyond the last record where markers follow."""

    records: list[LogRecord]
    next_offset: int


class LogUnavailable(Exception):
    """I/O trouble: no answer, no leader, no connection. The same call may succeed later."""


class OffsetOutOfRange(LogUnavailable):
    """The offset is below the log start or above the log end."""


class AppendUnknown(LogUnavailable):
    """The record may be in the log, get there later, or never. It is not sent any more."""


class Log(Protocol):
    """One partition of the journal topic."""

    @property
    def where(self) -> str:
        """``<topic>[<partition>]``, for messages."""

    async def start_offset(self) -> int:
        """The offset of the first record that is kept. Raises LogUnavailable."""

    async def end_offset(self) -> int:
        """One above the last offset that is acknowledged and readable. Raises LogUnavailable."""

    async def fetch(self, start: int, wait_s: float) -> Chunk:
        """Records from offset *start* on, as many as one fetch gives; waits up to *wait_s* for the first; may be empty.

        *start* may be the log end. Raises OffsetOutOfRange, LogUnavailable.
        """

    async def append(self, headers: Headers, value: bytes) -> int:
        """Append one record (key null) with all in-sync replicas and return the offset that was acknowledged.

        The record may lie in the log more than once; any copy may be the acknowledged one. One append at a time.
        Raises AppendUnknown for every error, for no answer in time, and for an answer without an offset; behind
        that, and behind a cancellation, it is not sent any more.
        """

    async def close(self) -> None:
        """Close every client, bounded in time. Ends the process if one that may still append cannot be closed."""


async def read_range(log: Log, start: int, end: int, wait_s: float = 10.0) -> AsyncIterator[list[LogRecord]]:
    """The records with start <= offset < end, in order, a fetch at a time.

    The end is reached when the position is there, not when a record of offset end - 1 was seen: offsets may have gaps.
    Raises LogUnavailable if a fetch below *end* gives nothing within *wait_s*; OffsetOutOfRange.
    """
    while start < end:
        records, start_next = await log.fetch(start, wait_s)
        if start_next <= start:
            raise LogUnavailable(
                f"{log.where}: expected records from offset {start} to {end}, got none within {wait_s} s"
            )
        start = start_next
        within = records if not records or records[-1].offset < end else [r for r in records if r.offset < end]
        if within:
            yield within
