"""The I/O around the reading rule: what a reader is given, and what is checked whenever reading starts again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self

from streams.journal.errors import JournalLoss, NoGenesis
from streams.journal.log import Log, LogRecord, LogUnavailable, OffsetOutOfRange
from streams.journal.reading import Position, Reader

FETCH_WAIT_S: Final = 10.0
"""How long a record that must be there is waited for; then the log counts as unavailable."""


class Follower:
    """Fetches the records behind a reader's position. For sinks, standbys, restores and writers; one task at a time.

    ``for record in await follower.records(wait_s): verdict = follower.reader.read(record)``. The caller may stop
    between any two records; the next call goes on from ``reader.position``. Each start, and each call after an error,
    begins at the last record that was read and compares it (``Reader.confirm``).
    """

    def __init__(self, log: Log, reader: Reader) -> None:
        self.log = log
        self.reader = reader
        self._resume_at = (
            -1
        )  # reader.position.next_offset, if every record handed out so far was read; -1: confirm first
        self._cursor = 0  # the offset to fetch from: beyond _resume_at where control markers follow

    @classmethod
    async def begin(cls, log: Log, *, ledger_id: str | None, partition: int, position: Position | None = None) -> Self:
        """Open the journal of *partition*, at its genesis or at a stored *position*.

        Raises: NoGenesis if it is empty and no position is known; WrongLedger; JournalLoss if it starts above offset 0
        or ends below the position (its last record is compared by the first ``records``); Corruption; TooOld;
        LogUnavailable.
        """
        start, end = await log.start_offset(), await log.end_offset()
        if start > 0:
            raise JournalLoss(log.where, 0, "a log that is kept from offset 0", f"log start {start}")
        if end == 0 and position is None:
            raise NoGenesis(log.where)
        if end == 0 or (position is not None and end < position.next_offset):
            expected = f"a log end of at least {position.next_offset if position else 1}, up to which was read"
            raise JournalLoss(log.where, None, expected, f"log end {end}")
        first = (await log.fetch(0, FETCH_WAIT_S)).records
        if not first:
            raise LogUnavailable(f"{log.where}: expected the genesis at offset 0, got nothing within {FETCH_WAIT_S} s")
        reader = Reader(log.where, first[0], position)
        reader.expect(ledger_id=ledger_id, partition=partition)
        return cls(log, reader)

    async def records(self, wait_s: float) -> list[LogRecord]:
        """The next records, waiting up to *wait_s* for the first; none if there is none yet.

        Raises: JournalLoss if what was read is not there; LogUnavailable (call again: it will confirm first).
        """
        if self._resume_at != self.reader.position.next_offset:
            found, end = await self._confirmed()
            if found or self._cursor >= end:
                return found
        try:
            found, self._cursor = await self.log.fetch(self._cursor, wait_s)
        except LogUnavailable:
            self.interrupt()
            raise
        self._hand_out(found)
        return found

    async def below(self, end: int) -> AsyncIterator[LogRecord]:
        """Every record below *end*, which the log had; each must be given to the reader before the next is asked for.

        Raises: what ``records`` raises; LogUnavailable if they do not come.
        """
        while not self.at_end(end):
            before = self._cursor
            found = await self.records(FETCH_WAIT_S)
            for record in found:
                if record.offset >= end:
                    return
                yield record
            if not found and self._cursor == before and not self.at_end(end):
                self.interrupt()
                expected = f"records from offset {self.reader.position.next_offset} to {end}"
                raise LogUnavailable(f"{self.reader.where}: expected {expected}, got none within {FETCH_WAIT_S} s")

    def interrupt(self) -> None:
        """The next ``records`` confirms first."""
        self._resume_at = -1

    def at_end(self, end: int) -> bool:
        """Whether reading is confirmed and every record below *end* was given to the reader (markers need none)."""
        behind = self.reader.position.next_offset
        return self._resume_at == behind and max(behind, self._cursor) >= end

    async def _confirmed(self) -> tuple[list[LogRecord], int]:
        """Compare the last record that was read; return what was fetched behind it, and the log end before that."""
        reader, here = self.reader, self.reader.position.next_offset - 1
        start, end = await self.log.start_offset(), await self.log.end_offset()
        if start > 0:
            raise JournalLoss(reader.where, 0, "a log that is kept from offset 0", f"log start {start}")
        if end <= here:
            reader.confirm(None, end)
        try:
            found, cursor = await self.log.fetch(here, FETCH_WAIT_S)
        except OffsetOutOfRange:  # it was cut off since we asked: the next call will know
            self.interrupt()
            raise
        if not found:
            raise LogUnavailable(f"{reader.where}: expected the record at {here}, got nothing within {FETCH_WAIT_S} s")
        reader.confirm(found[0], end)
        self._cursor = cursor
        self._hand_out(found[1:])
        return found[1:], end

    def _hand_out(self, found: list[LogRecord]) -> None:
        self._resume_at = found[-1].offset + 1 if found else self.reader.position.next_offset
