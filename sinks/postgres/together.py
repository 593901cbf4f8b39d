"""Partitions that write little share their transactions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.store import Part, write_parts

GATHER_S: Final = 0.03
"""How long a part waits at most for those of others, which look at their journals at the same moments (``Pace``)."""
RECENT_S: Final = 0.25
"""A partition that wrote within this time is waited for, nobody where only one writes. 2.5 intervals of ``Pace``."""
MOST_EVENTS: Final = 2_000
"""A shared transaction is closed once it has that many events; it holds at most one part more."""


class Together:
    """Writes what partitions give it in few transactions.

    Most of a transaction with few rows is fixed cost, for the client as for the server: eight partitions that write a
    dozen events each cost a third in one transaction of what they cost in eight.

    If a transaction of several parts fails, whatever was wrong with one, all of them are told PostgresUnavailable: each
    reads its position again and writes its next part alone, so that a partition that halts halts by itself.
    """

    def __init__(self, metrics: SinkMetrics, gather_s: float = GATHER_S) -> None:
        """Nothing runs yet."""
        self._metrics, self._gather_s = metrics, gather_s
        self._arrived = asyncio.Event()
        self._recent: dict[int, float] = {}  # by partition: loop time of its last part
        self._waiting: list[tuple[Part, asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    async def alone(self, part: Part) -> None:
        """Write *part* in a transaction of its own. Raises what ``write_parts`` raises."""
        await self._write([part])

    async def shared(self, part: Part) -> None:
        """Write *part* with those that other partitions give meanwhile. Raises what ``alone`` raises."""
        loop = asyncio.get_running_loop()
        self._recent[part.store.owner.partition], written = loop.time(), loop.create_future()
        self._waiting.append((part, written))
        self._arrived.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="sink together")
        await written

    async def close(self) -> None:
        """End what is under way; who still waits for it is cancelled."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            self._ended()  # it may never have begun

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._write_and_tell(self._gathered())
        finally:
            self._ended()

    def _ended(self) -> None:
        """However it ended, nobody waits for ever."""
        self._running = None
        for _, written in self._waiting:
            written.cancel()
        self._waiting.clear()

    async def _gather(self) -> None:
        """Return when every partition that wrote recently has given its part, or after GATHER_S."""
        since = asyncio.get_running_loop().time() - RECENT_S
        self._recent = {partition: at for partition, at in self._recent.items() if at > since}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._gather_s):
                while len(self._waiting) < len(self._recent):
                    self._arrived.clear()
                    await self._arrived.wait()

    def _gathered(self) -> list[tuple[Part, asyncio.Future[None]]]:
        """The next transaction's parts, without those that nobody waits for any more."""
        found, events = [], 0
        while self._waiting and events < MOST_EVENTS:
            part, written = self._waiting.pop(0)
            if not written.done():
                found.append((part, written))
                events += part.batch.events
        return found

    async def _write_and_tell(self, gathered: list[tuple[Part, asyncio.Future[None]]]) -> None:
        failure: Exception | None = None
        if gathered:
            try:
                await self._write([part for part, _ in gathered])
            except Exception as error:  # noqa: BLE001 - whoever wrote it is told; the others go on
                failure = error
            except asyncio.CancelledError:
                for _, written in gathered:
                    written.cancel()
                raise
        for _, written in gathered:
            if written.done():
                continue
            if failure is None:
                written.set_result(None)
            elif len(gathered) == 1:
                written.set_exception(failure)
            else:
                why = str(failure) or "one of the position rows is not where this sink left it"
                told = PostgresUnavailable(f"in a transaction of {len(gathered)} partitions: {why}")
                told.__cause__ = failure
                written.set_exception(told)

    async def _write(self, parts: list[Part]) -> None:
        started = time.monotonic()
        await write_parts(parts)
        self._metrics.commit_seconds.observe(time.monotonic() - started)
        self._metrics.batch_rows.observe(sum(part.batch.rows for part in parts))
