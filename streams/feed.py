"""One reader for the inputs of all partitions of a process.

A fetch costs client and broker as much as many records do. With a reader for each partition nearly every request has
a fetch of its own at moderate rates; here one fetch brings what all partitions wait for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from streams.kafka import FETCH_WAIT_MS, Fetched, Fetcher, Isolation, KafkaFailure, Partition, Record, Unreachable

AT_WORK_S: Final = 0.04
"""How long a look waits for the takers that are at work. So what all partitions wait for comes together, their blocks
travel to the journal in one request, and their outcomes in another: these requests, not decisions, are what small
blocks cost. Long blocks, or a partition in trouble, hold up the others no longer than this."""

PACE_S: Final = 0.002
"""At least this long between two looks, whoever is at work: else every record of a partition that falls behind would
have a fetch of its own."""


class Heard(NamedTuple):
    """What one look at a place brought, and where the reading stands there."""

    records: list[Record]
    position: int
    stable_end: int | None
    """The last stable offset as of this look; None if it was not answered."""
    end: int | None
    """The log end, likewise."""
    answered_ms: int | None
    """When it was answered, by this machine's clock; None: it was not."""


class Taker(Protocol):
    """Who reads some places. Its methods neither wait nor raise."""

    def room(self, place: Partition) -> bool:
        """Whether more of *place* may be read now."""

    def hear(self, place: Partition, heard: Heard) -> None:
        """Called after every look that brought records of *place* or left some behind, else about every 0.1 s."""

    def fail(self, error: Exception) -> None:
        """Nothing more comes, because of *error* (KafkaFailure, or a defect): all its places were removed."""


class Feed:
    """Reads places for their takers, ``read_committed``, each from its own offset, until they are removed.

    A taker that waited, and got records, is at work until it waits again. Between two looks 2 ms pass, and up to 40 ms
    more while somebody is at work.
    What cannot be read fails the taker that it belongs to; a broker that cannot be reached is asked again.
    """

    def __init__(self, kafka: str) -> None:
        self._fetcher = Fetcher(kafka, "ledgerline-inputs", Isolation.COMMITTED)
        self._takers: dict[Partition, Taker] = {}
        self._next: dict[Partition, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # there may be something to read again
        self._waiting: set[Taker] = set()
        self._at_work: set[Taker] = set()
        self._nobody_at_work = asyncio.Event()
        self._looked_at = self._told_at = -math.inf  # by the loop's clock: the last look, the last that told everybody

    def add(self, taker: Taker, offsets: Mapping[Partition, int]) -> None:
        """Read the places *offsets* for *taker*, beginning with the next look, which may be 0.1 s away."""
        self._takers.update(dict.fromkeys(offsets, taker))
        self._next.update(offsets)
        self._changed.set()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="inputs")

    def remove(self, places: Collection[Partition]) -> None:
        """Read *places* no more: nothing is heard of them after this."""
        for place in places:
            if (taker := self._takers.pop(place, None)) is not None:
                self._waiting.discard(taker)
                self._not_at_work(taker)
            self._next.pop(place, None)

    def waits(self, taker: Taker) -> None:
        """*taker* has done with all that it heard, and waits for more."""
        self._waiting.add(taker)
        self._not_at_work(taker)

    def made_room(self) -> None:
        """A taker that had no room has some again."""
        self._changed.set()

    async def kept(self, place: Partition) -> tuple[int, int]:
        """The first offset that is kept of *place*, and its last stable offset. Raises KafkaFailure."""
        return await self._fetcher.start_offset(place), await self._fetcher.end_offset(place)

    async def close(self) -> None:
        """End the reading; nobody hears of anything after this."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        await self._fetcher.close()

    async def _read(self) -> None:
        """Until it is cancelled or fails."""
        try:
            while True:
                await self._look()
        except Exception as error:  # noqa: BLE001 - a defect: whoever waits must hear of it, it halts the partitions
            for taker in dict.fromkeys(self._takers.values()):
                self._fail(taker, error)

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._looked_at + PACE_S - clock())  # at once where that is past
        await self._until_nobody_is_at_work()
        self._changed.clear()
        wanted = {place: self._next[place] for place, taker in self._takers.items() if taker.room(place)}
        if not wanted:
            await self._changed.wait()
            return
        found = await self._fetcher.fetch(wanted, FETCH_WAIT_MS)
        self._looked_at = clock()
        everybody = self._looked_at - self._told_at >= FETCH_WAIT_MS / 1000
        if everybody:
            self._told_at = self._looked_at
        now_ms = int(time.time() * 1000)
        for place, offset in wanted.items():
            if self._next.get(place) != offset:  # removed meanwhile, and perhaps added again
                continue
            match found.get(place):
                case Fetched() as got:
                    self._next[place] = got.next_offset
                    if everybody or got.next_offset != offset or got.stable_end > offset:  # the end is not reached
                        taker = self._takers[place]
                        if got.records and taker in self._waiting:
                            self._waiting.discard(taker)
                            self._at_work.add(taker)
                        taker.hear(place, Heard(got.records, got.next_offset, got.stable_end, got.end, now_ms))
                case None | Unreachable():
                    if everybody:
                        self._takers[place].hear(place, Heard([], offset, None, None, None))
                case KafkaFailure() as error:
                    self._fail(self._takers[place], error)

    async def _until_nobody_is_at_work(self) -> None:
        """Or for long enough: who is at work then is not waited for until they waited again."""
        if not self._at_work:
            return
        self._nobody_at_work.clear()
        enough = asyncio.get_running_loop().call_later(AT_WORK_S, self._nobody_at_work.set)
        try:
            await self._nobody_at_work.wait()
        finally:
            enough.cancel()
        self._at_work.clear()

    def _not_at_work(self, taker: Taker) -> None:
        self._at_work.discard(taker)
        if not self._at_work:
            self._nobody_at_work.set()

    def _fail(self, taker: Taker, error: Exception) -> None:
        self.remove([place for place, other in self._takers.items() if other is taker])
        taker.fail(error)
