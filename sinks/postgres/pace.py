"""How often a partition begins a transaction: rarely enough to be cheap, soon enough that nobody waits for a row."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

INTERVAL_S: Final = 0.1
"""Between two moments at which a partition may begin a transaction, unless the one before was full.

The moments are the same for all partitions of a process, so that they look at their journals together and can share a
transaction; the next is the first that is at least half an interval away. A transaction and the fetch for it cost about
as much as 20 to 30 events. Eight partitions of a slow stream began 70 to 400 of them a second; now 10 to 20. Longer
would save little and be seen by whoever waits for a row.
"""
FULL_EVENTS: Final = 250
"""A transaction of as many is full: it costs next to nothing an event, so the next need not wait."""
FULL_BYTES: Final = 512 * 1024
"""So is one of as many bytes of blocks: half of what one fetch gives, so more may be waiting behind it."""


async def pause_unless(stop: asyncio.Event, seconds: float) -> None:
    """Wait *seconds*, or less if *stop* comes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


class Pace:
    """When one partition may begin its next transaction.

    What comes while it rests stays with the brokers, so that there are fewer fetches too. The first block behind a rest
    or a quiet time is written at once. A backlog is not slowed down: its transactions are full.
    """

    def __init__(
        self,
        interval_s: float = INTERVAL_S,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[asyncio.Event, float], Awaitable[None]] = pause_unless,
    ) -> None:
        self._interval_s, self._clock, self._pause = interval_s, clock, pause
        self._due = clock()

    def begins(self, events: int, size: int) -> bool:
        """A transaction of *events* events in blocks of *size* bytes begins now. Whether it is full."""
        full = events >= FULL_EVENTS or size >= FULL_BYTES
        self._due = self._clock()
        if not full and self._interval_s:
            self._due = (round(self._due / self._interval_s) + 1) * self._interval_s
        return full

    async def rest(self, stop: asyncio.Event) -> None:
        """Return when the next may begin, or as soon as *stop* comes."""
        rest_s = self._due - self._clock()
        if rest_s > 0:
            await self._pause(stop, rest_s)
