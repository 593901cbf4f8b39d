"""The state of a partition in memory: a book folded from the journal, and the outcome bodies that replays may want."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from engine.book import Book
from engine.evolve import evolve
from schemas.events import Answer, Genesis, span
from streams.halts import Halt
from streams.journal.index import SeqIndex, find_block
from streams.journal.log import Log
from streams.journal.reading import Position, ValidBlock

CACHED_BODIES: Final = 10_000
"""Outcome bodies kept per partition, the latest: about 6 MB. Older originals are read from the journal."""

LOOKUPS_PER_S: Final = 100
"""Bodies read from the journal per partition and second: a flood of old replays slows its partition only."""


class Bodies:
    """Outcome bodies by seq: the latest ones, of this process and of what it folded. Bounded, the oldest goes first."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[int, bytes] = OrderedDict()

    def get(self, seq: int) -> bytes | None:
        """The body of the outcome of event *seq*, if it is here."""
        return self._bodies.get(seq)

    def keep(self, seq: int, body: bytes) -> None:
        """Remember it."""
        bodies = self._bodies
        bodies[seq] = body
        if len(bodies) > CACHED_BODIES:
            bodies.popitem(last=False)


class State:
    """A book and what goes with it; mutable, one writer. ``position`` of the book is that of its journal's reader."""

    def __init__(self, where: str, genesis: Genesis) -> None:
        self.where = where
        self.book = Book.from_genesis(genesis)
        self.bodies = Bodies()

    def fold(self, block: ValidBlock) -> None:
        """Apply a block of the journal. Raises Halt where the book and the journal contradict each other."""
        book = self.book
        if block.headers.seq != book.seq + 1:
            raise Halt(
                f"expected events from seq {book.seq + 1} on, got {block.headers.seq}",
                topic=self.where,
                offset=block.offset,
            )
        for event in block.events:
            try:
                evolve(book, event)
            except Exception as error:  # whatever it is, this event cannot be applied: the partition must halt
                cause = f"event {block.headers.seq}..{block.last_seq} cannot be applied: {error!r}"
                raise Halt(cause, topic=self.where, offset=block.offset) from error
            if isinstance(event, Answer) and event.binding and not event.replayed:
                body = span(block.raw, event.outcome)
                if body is not None:
                    self.bodies.keep(book.seq, body)


class Originals:
    """Finds the outcome body of an earlier event: in the cache, else in the journal, at most 100 look-ups a second."""

    def __init__(self, log: Log, state: State) -> None:
        self._log, self._state = log, state
        self.trouble: str | None = None  # why a look-up is being tried again
        self._allowance, self._refilled = float(LOOKUPS_PER_S), time.monotonic()
        self.lookups = 0

    def cached(self, seq: int) -> bytes | None:
        """Without asking anyone."""
        return self._state.bodies.get(seq)

    def delay_s(self) -> float:
        """How long the next look-up must wait; takes it from the allowance."""
        now = time.monotonic()
        self._allowance = min(float(LOOKUPS_PER_S), self._allowance + (now - self._refilled) * LOOKUPS_PER_S)
        self._refilled = now
        self._allowance -= 1
        return max(0.0, -self._allowance / LOOKUPS_PER_S)

    async def read(self, seq: int, position: Position, index: SeqIndex) -> bytes:
        """From the journal, which ends at *position*. Raises Halt, JournalLoss, LogUnavailable."""
        self.lookups += 1
        block = await find_block(self._log, seq, position, index)
        event = block.events[seq - block.headers.seq]
        body = span(block.raw, event.outcome) if isinstance(event, Answer) else None
        if body is None:
            raise Halt(
                f"expected seq {seq}, which answered a request, to hold an outcome",
                topic=self._state.where,
                offset=block.offset,
            )
        return body

    async def close(self) -> None:
        """Close the client."""
        await self._log.close()
