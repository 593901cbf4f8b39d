"""Inflicting faults, and finding out whether they hit work in flight.

A worker or sink is stopped (SIGSTOP) first and looked at from outside; for a process it makes no difference whether a
SIGKILL comes at once or after a stop. If nothing is in flight and the fault is aimed, it goes on and is stopped again a
moment later, for a bounded time: a storm that only ever hits idle processes shows nothing. The first fault of
each kind is aimed, and half of the others; the blind ones strike wherever the process is.

* Worker: a block of its lease is in the journal and not all of its outcomes are published (between steps 7 and 8).
* Sink: a row of ``sink_positions`` of its partitions is locked: its transaction is open (between its steps 1 and 4).
* PostgreSQL: the same, of any sink; the sinks are stopped for the look.
* Broker: as for a worker, of any worker; the workers are stopped for the look, which needs the broker alive.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, assert_never

import asyncpg

from tests.storm.crew import Crew, Post
from tests.storm.eyes import SETTLE_S, Eyes
from tests.storm.schedule import Fault, Kind
from tests.storm.servers import Servers

AIM_WITHIN_S: Final = 20.0
AGAIN_S: Final = (0.02, 0.3)
"""Between two looks: long enough for a process that lost its servers to get back to work."""
OWNS_WITHIN_S: Final = 15.0
TAKEN_WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 0.05
QUERY_WITHIN_S: Final = 5.0


class Hit(NamedTuple):
    """What a fault met. *work* is what was in flight, empty for nothing."""

    kind: Kind
    victim: str
    work: str
    said: str = ""

    def __str__(self) -> str:
        met = f"HIT, {self.work}" if self.work else "nothing in flight"
        return f"{self.kind}{self.victim and f' ({self.victim})'}: {met}{self.said}"


@dataclass(slots=True, kw_only=True)
class Inflicter:
    """Inflicts one fault after the other; a pause goes on in the background (``pauses``)."""

    crew: Crew
    eyes: Eyes
    servers: Servers
    dsn: str
    chance: random.Random
    say: Callable[[str], None]
    pauses: set[asyncio.Task[None]] = field(default_factory=set)
    stopped_sinks: set[int] = field(default_factory=set)
    """The partitions of sinks that are paused: a row of theirs may be locked by a transaction that stands still."""

    async def inflict(self, fault: Fault) -> Hit:
        """Do it, and say what it met. Servers run again when this returns."""
        match fault.kind:
            case Kind.KILL_WORKER:
                post, work = await self._catch_worker(fault)
                self.crew.kill(post)
                return Hit(fault.kind, post.name, work)
            case Kind.PAUSE_WORKER:
                post, work = await self._catch_worker(fault)
                had = self.eyes.owned_by(post.pid)
                self._pause(post, fault.pause_s, lambda: self._have_new_leases(post.pid, had))
                return Hit(fault.kind, post.name, work, f"; it has {len(had)} partition(s)")
            case Kind.KILL_SINK:
                post, work, _ = await self._catch_sink(fault)
                self.crew.kill(post)
                return Hit(fault.kind, post.name, work)
            case Kind.PAUSE_SINK:
                post, work, had = await self._catch_sink(fault)
                epochs = await self._sink_epochs()
                self.stopped_sinks |= had
                self._pause(post, fault.pause_s, lambda: self._have_new_takers(epochs, had))
                return Hit(fault.kind, post.name, work, f"; it has {len(had)} partition(s)")
            case Kind.KILL_BROKER:
                return await self._broker(fault)
            case Kind.KILL_POSTGRES:
                return await self._postgres(fault, self.servers.kill_postgres)
            case Kind.RESTART_POSTGRES:
                return await self._postgres(fault, self.servers.stop_postgres)
            case _:
                assert_never(fault.kind)

    async def heal(self) -> None:
        """Let every stopped process go on."""
        for pause in self.pauses:
            pause.cancel()
        await asyncio.gather(*self.pauses, return_exceptions=True)
        for post in self.crew.posts:
            self.crew.thaw(post)

    # ---- workers

    async def _catch_worker(self, fault: Fault) -> tuple[Post, str]:
        """Stop a worker, at best with a block in flight; the others are passed over if it owns nothing."""
        post = await self._choose(self.crew.workers, fault.victim, self._owns)
        return post, _unpublished(await self._stopped(fault, [post], lambda: self._half_done([post])))

    async def _owns(self, post: Post) -> bool:
        return bool(self.eyes.owned_by(post.pid))

    async def _have_new_leases(self, pid: int, partitions: set[int]) -> bool:
        return not partitions & self.eyes.owned_by(pid)

    # ---- sinks and PostgreSQL

    async def _catch_sink(self, fault: Fault) -> tuple[Post, str, set[int]]:
        """Stop a sink, at best with a transaction open. Returns its partitions too."""
        post = await self._choose(self.crew.sinks, fault.victim, self._writes)
        had = set((await self.crew.says(post)).get("partitions", ()))

        async def locked() -> set[int]:
            return had & await self._locked()

        return post, _open(await self._stopped(fault, [post], locked)), had

    async def _writes(self, post: Post) -> bool:
        return bool((await self.crew.says(post)).get("partitions"))

    async def _postgres(self, fault: Fault, end: Callable[[], Awaitable[None]]) -> Hit:
        """End the server with the sinks stopped, at best in the middle of transactions; start it again."""
        sinks = [post for post in self.crew.sinks if not post.frozen]
        locked = await self._stopped(fault, sinks, self._locked)
        began = time.monotonic()
        await end()
        for post in sinks:
            self.crew.thaw(post)
        await asyncio.sleep(fault.down_s)
        await self.servers.up()
        return Hit(fault.kind, "", _open(locked), f"; away for {time.monotonic() - began:.1f} s")

    async def _locked(self) -> set[int]:
        """The partitions whose position row some transaction holds."""
        await asyncio.sleep(SETTLE_S)
        connection = await self._connect()
        try:
            free = await connection.fetch("SELECT partition FROM ledgerline.sink_positions FOR SHARE SKIP LOCKED")
            known = await connection.fetch("SELECT partition FROM ledgerline.sink_positions")
        finally:
            connection.terminate()
        return {row[0] for row in known} - {row[0] for row in free} - self.stopped_sinks

    async def _sink_epochs(self) -> dict[int, int]:
        connection = await self._connect()
        try:
            rows = await connection.fetch("SELECT partition, sink_epoch FROM ledgerline.sink_positions")
        finally:
            connection.terminate()
        return {row[0]: row[1] for row in rows}

    async def _have_new_takers(self, epochs: dict[int, int], partitions: set[int]) -> bool:
        try:
            now = await self._sink_epochs()
        except (OSError, asyncpg.PostgresError, TimeoutError):  # it is being restarted meanwhile
            return False
        return all(now[p] > epochs[p] for p in partitions)

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.dsn, timeout=QUERY_WITHIN_S, command_timeout=QUERY_WITHIN_S)

    # ---- the broker

    async def _broker(self, fault: Fault) -> Hit:
        """Kill it with the workers stopped, at best with blocks of theirs half done; start it again."""
        if self.pauses:  # without a broker nobody can take what a stopped one has
            await asyncio.wait(self.pauses)
        workers = self.crew.workers
        hit = await self._stopped(fault, workers, lambda: self._half_done(workers))
        began = time.monotonic()
        await self.servers.kill_broker()
        for post in workers:
            self.crew.thaw(post)
        await asyncio.sleep(fault.down_s)
        await self.servers.up()
        return Hit(fault.kind, "", _unpublished(hit), f"; away for {time.monotonic() - began:.1f} s")

    # ---- all

    async def _stopped(self, fault: Fault, posts: list[Post], met: Callable[[], Awaitable[set[int]]]) -> set[int]:
        """Stop *posts* and return what was *met*; if that is nothing and the fault is aimed, at another moment."""
        deadline = time.monotonic() + AIM_WITHIN_S
        while True:
            for post in posts:
                self.crew.thaw(post)
            await asyncio.sleep(self.chance.uniform(*AGAIN_S))
            for post in posts:
                self.crew.freeze(post)
            found = await met()
            if found or not fault.aimed or time.monotonic() > deadline:
                return found

    async def _half_done(self, posts: list[Post]) -> set[int]:
        """The partitions of *posts* with a block in the journal whose outcomes are not all published."""
        if not await self.eyes.catch_up():
            return set()
        owned = {p for post in posts for p in self.eyes.owned_by(post.pid)}
        return {p for p in owned if self.eyes.sights[p].in_flight}

    async def _choose(self, posts: list[Post], first: int, busy: Callable[[Post], Awaitable[bool]]) -> Post:
        """The post number *first*, or the next one that is not stopped and has work."""
        order = [posts[(first + n) % len(posts)] for n in range(len(posts))]
        while all(post.frozen for post in posts):  # earlier faults still hold them; each goes on by itself
            await asyncio.wait(self.pauses, return_when=asyncio.FIRST_COMPLETED)

        async def found() -> bool:
            return any([not post.frozen and await busy(post) for post in order])

        await _within(OWNS_WITHIN_S, found)
        for post in order:
            if not post.frozen and await busy(post):
                return post
        return next(post for post in order if not post.frozen)

    def _pause(self, post: Post, seconds: float, taken: Callable[[], Awaitable[bool]]) -> None:
        """Keep *post* stopped for *seconds*, and until others have taken what it had: then a zombie comes back."""
        began, pid = time.monotonic(), post.pid

        async def pause() -> None:
            await asyncio.sleep(seconds)
            lost = await _within(TAKEN_WITHIN_S, taken)
            if post.pid == pid:
                self.crew.thaw(post)
            if post.kind == "sink":
                self.stopped_sinks.clear()
            what = "others have taken what it had" if lost else "nobody has taken what it had"
            self.say(f"SIGCONT {post.name} after {time.monotonic() - began:.1f} s: {what}")

        task = asyncio.create_task(pause())
        self.pauses.add(task)
        task.add_done_callback(self.pauses.discard)


async def _within(seconds: float, done: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until *done*, at most *seconds*; return whether it was."""
    deadline = time.monotonic() + seconds
    while not await done():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True


def _unpublished(partitions: Iterable[int]) -> str:
    return _on("block journaled and not published", partitions)


def _open(partitions: Iterable[int]) -> str:
    return _on("transaction open", partitions)


def _on(what: str, partitions: Iterable[int]) -> str:
    numbers = ", ".join(map(str, sorted(partitions)))
    return f"{what} on partition {numbers}" if numbers else ""
