"""Everything that a process has in memory of one partition, made together and dropped together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import structlog

from engine.book import Book
from streams.batch import Decider
from streams.journal.follower import Follower
from streams.journal.log import LogUnavailable
from streams.journal.writer import MIN_BACKOFF_S, Writer
from streams.restore import Originals, State
from streams.services import Services


@dataclass(slots=True)
class Held:
    """The writer of a partition's journal, and the state that follows it. Mutable; one task uses it."""

    writer: Writer
    state: State
    decider: Decider
    originals: Originals
    ahead: bool = False
    """Whether the book has moved beyond the journal: if the block does not become true, all this is worthless."""
    counted: tuple[int, int, int, int] = (0, 0, 0, -1)
    """Stale and duplicate records, re-takes, and the epoch that the metrics know of."""

    @property
    def book(self) -> Book:
        """The state that decisions are made on."""
        return self.state.book

    @classmethod
    async def begin(cls, partition: int, services: Services) -> Self:
        """An empty book in front of the journal; ``writer.take`` folds the rest. Raises JournalHalt, LogUnavailable."""
        services.metrics.restores.inc()
        journal = services.open_log(partition)
        try:
            follower = await Follower.begin(journal, ledger_id=services.ledger_id, partition=partition)
        except BaseException:
            await journal.close()
            raise
        state = State(journal.where, follower.reader.genesis)
        writer = Writer(follower, owner=services.name, fold=state.fold, chance=services.chance, sleep=services.sleep)
        originals = Originals(services.open_log(partition), state)

        async def original(seq: int) -> bytes:
            return await find_original(seq, originals, writer, services)

        decider = Decider(state.book, services.topics, services.config, original)
        return cls(writer, state, decider, originals)

    def count(self, partition: str, services: Services) -> None:
        """Tell the metrics what the writer has met since the last call."""
        metrics, writer, before = services.metrics, self.writer, self.counted
        now = (writer.stale, writer.duplicates, writer.retakes, writer.epoch)
        if now == before:
            return
        self.counted = now
        metrics.journal_stale.inc(now[0] - before[0])
        metrics.journal_duplicate.inc(now[1] - before[1])
        metrics.retakes.inc(now[2] - before[2])
        metrics.journal_epoch.labels(partition).set(writer.epoch)

    async def close(self) -> None:
        """Close the journal's clients."""
        await self.writer.close()
        await self.originals.close()


async def find_original(seq: int, originals: Originals, writer: Writer, services: Services) -> bytes:
    """The outcome body of an earlier event. I/O trouble is retried here: the book is already ahead of the journal."""
    body = originals.cached(seq)
    while body is None:
        await services.sleep(originals.delay_s())
        services.metrics.replay_lookups.inc()
        try:
            body = await originals.read(seq, writer.position, writer.index)
        except LogUnavailable as error:
            originals.trouble = str(error)
            structlog.get_logger(__name__).warning(
                "an original could not be read; trying again", seq=seq, error=str(error)
            )
            await services.sleep(MIN_BACKOFF_S)
        else:
            originals.trouble = None
    return body
