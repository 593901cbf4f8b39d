"""One consumer for the inputs of all partitions of a process.

A fetch costs client and broker as much as many records do. With a consumer for each partition nearly every request has
a fetch of its own at moderate rates; here one fetch brings what all partitions wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from streams.kafka import FETCH_WAIT_MS, Consumer, Isolation, KafkaFailure, OffsetOutOfRange, Partition, Record

FETCH_EVERYTHING: Final = 100_000

PACE_S: Final = 0.005
"""At least this long between two looks: so what all partitions wait for comes together, their blocks travel to the
journal in one request, and their outcomes in another. These requests, not decisions, are what small blocks cost."""


class Heard(NamedTuple):
    """What one look at a place brought, and where the reading stands there."""

    records: list[Record]
    position: int
    stable_end: int | None
    """The last stable offset as of the last fetch; None before the first."""
    end: int | None
    """The log end, likewise."""
    answered_ms: int | None
    """When a broker last answered a fetch of this place, by this machine's clock; None: never."""


class Taker(Protocol):
    """Who reads some places. Its methods neither wait nor raise."""

    def room(self, place: Partition) -> bool:
        """Whether more of *place* may be read now."""

    def hear(self, place: Partition, heard: Heard) -> None:
        """Called after every look that brought records of *place*, and about every 0.1 s if none does."""

    def fail(self, error: Exception) -> None:
        """Nothing more comes, because of *error* (KafkaFailure, or a defect): all its places were removed."""


class Feed:
    """Reads places for their takers, ``read_committed``, each from its own offset, until they are removed.

    A position that is not retained fails the taker that it belongs to; any other failure fails all of them, and the
    next to be added opens another consumer. Every change of the places starts the reading again from what was heard.
    """

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._takers: dict[Partition, Taker] = {}
        self._next: dict[Partition, int] = {}  # also of places whose taker failed, until they are removed
        self._consumer: Consumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._room = asyncio.Event()
        self._looked_at = self._told_at = 0.0  # by the loop's clock: the last look, the last that told everybody

    async def add(self, taker: Taker, offsets: Mapping[Partition, int]) -> None:
        """Read the places *offsets* for *taker*. Raises KafkaFailure."""
        await asyncio.shield(self._change(taker, offsets, ()))

    async def remove(self, places: Collection[Partition]) -> None:
        """Read *places* no more; the last one closes the consumer."""
        await asyncio.shield(self._change(None, {}, places))

    def made_room(self) -> None:
        """A taker that had no room has some again."""
        self._room.set()

    async def _change(
        self, taker: Taker | None, added: Mapping[Partition, int], removed: Collection[Partition]
    ) -> None:
        """Shielded by the callers: cancelled halfway it would leave the other takers without a reader."""
        async with self._changing:
            if taker is None and self._next.keys().isdisjoint(removed):
                return  # as before most takes: the others need not be disturbed
            await self._pause_reading()
            for place in removed:
                self._takers.pop(place, None)
                self._next.pop(place, None)
            if taker is not None:
                if self._consumer is None:
                    self._consumer = await Consumer.start(
                        self._kafka, "ledgerline-inputs", Isolation.COMMITTED, max_poll_records=FETCH_EVERYTHING
                    )
                self._takers.update(dict.fromkeys(added, taker))
                self._next.update(added)
            consumer = self._consumer
            if consumer is None:
                return
            if self._takers:
                consumer.assign(self._takers)
                for place in self._takers:
                    consumer.seek(place, self._next[place])
                self._told_at = 0.0
                self._reading = asyncio.create_task(self._read(consumer), name="inputs")
            else:
                self._consumer = None
                await consumer.close()

    async def _pause_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            if self._consumer is not None:  # else it has failed, and is closing its consumer
                reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.result()  # a defect, if any

    async def _read(self, consumer: Consumer) -> None:
        """Until it is cancelled or fails. What a cancellation keeps from being heard is read again."""
        full: set[Partition] = set()
        try:
            while self._reading is asyncio.current_task():  # a library may swallow the cancellation
                now_full = {place for place, taker in self._takers.items() if not taker.room(place)}
                if now_full != full:
                    consumer.pause(*now_full - full)
                    consumer.resume(*full - now_full)
                    full = now_full
                await self._look(consumer, [place for place in self._takers if place not in full])
        except asyncio.CancelledError as error:
            if self._reading is not asyncio.current_task():
                raise
            await self._fail(consumer, KafkaFailure(f"reading the inputs was cancelled inside the client: {error!r}"))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it: a defect halts the partitions
            await self._fail(consumer, error)

    async def _fail(self, consumer: Consumer, error: Exception) -> None:
        takers, self._takers, self._consumer = self._takers, {}, None
        for taker in dict.fromkeys(takers.values()):
            taker.fail(error)
        await consumer.close()

    async def _look(self, consumer: Consumer, wanted: list[Partition]) -> None:
        if not wanted:
            self._room.clear()
            await self._room.wait()
            return
        found: Mapping[Partition, list[Record]] = {}
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._looked_at + PACE_S - clock())  # at once where that is past
        try:
            found = await consumer.poll(*wanted, timeout_ms=FETCH_WAIT_MS)
        except OffsetOutOfRange as error:
            if not error.places:
                raise
            self._fail_lost(error)
        self._looked_at = clock()
        everybody = self._looked_at - self._told_at >= FETCH_WAIT_MS / 1000
        if everybody:
            self._told_at = self._looked_at
        for place in self._takers if everybody else found:
            await self._tell(consumer, place, found.get(place, []))

    async def _tell(self, consumer: Consumer, place: Partition, records: list[Record]) -> None:
        stable_end = consumer.last_stable_offset(place)
        if records or self._next[place] < (stable_end or 0):  # else there is nothing to pass, not even a marker
            self._next[place] = await consumer.position(place)
        ends = stable_end, consumer.high_water(place)
        self._takers[place].hear(place, Heard(records, self._next[place], *ends, consumer.last_answer_ms(place)))

    def _fail_lost(self, error: OffsetOutOfRange) -> None:
        """Their takers get nothing more; the places leave the consumer with the next change."""
        for taker in {self._takers[place]: None for place in error.places if place in self._takers}:
            self._takers = {place: other for place, other in self._takers.items() if other is not taker}
            taker.fail(error)
