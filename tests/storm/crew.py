"""The processes of the storm: real ``ledgerline worker`` and ``sink`` commands, started again whenever they end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from ledgerline.demo import processes
from ledgerline.demo.processes import Process
from tests.storm.schedule import SINKS, WORKERS
from tests.storm.servers import Ledger

LOOK_EVERY_S: Final = 0.1
ASK_TIMEOUT_S: Final = 2.0
READY_WITHIN_S: Final = 60.0
UNREACHABLE: Final = 5
"""The exit code of a process that found no broker at its start: a supervisor starts it again, as after any end."""


@dataclass(slots=True)
class Post:
    """The place of a worker or sink: whoever fills it. Mutable."""

    kind: str
    number: int
    process: Process
    incarnation: int = 0
    frozen: bool = False
    killed: bool = False

    @property
    def name(self) -> str:
        """For people; the log of the process is named after it and its incarnation."""
        return f"{self.kind}-{self.number + 1}"

    @property
    def pid(self) -> int:
        """Of the process that fills it now."""
        return self.process.running.pid


@dataclass(slots=True, kw_only=True)
class Crew:
    """Three workers and two sinks, supervised: what ends is started again. One task changes it."""

    ledger: Ledger
    http: aiohttp.ClientSession
    logs: Path
    posts: list[Post] = field(default_factory=list)
    unreachable: int = 0
    """Starts that failed because a server was down."""
    failures: list[str] = field(default_factory=list)
    """Ends that nothing explains."""

    def start(self) -> None:
        """Fill every post."""
        for kind, count in (("worker", WORKERS), ("sink", SINKS)):
            for number in range(count):
                self.posts.append(Post(kind, number, self._started(kind, number, 0)))

    @property
    def workers(self) -> list[Post]:
        """The posts of the workers, in order."""
        return [post for post in self.posts if post.kind == "worker"]

    @property
    def sinks(self) -> list[Post]:
        """The posts of the sinks, in order."""
        return [post for post in self.posts if post.kind == "sink"]

    async def supervise(self) -> None:
        """Start again what has ended, without end."""
        while True:
            for post in self.posts:
                code = post.process.running.poll()
                if code is not None:
                    self._note_end(post, code)
                    post.incarnation += 1
                    post.killed = post.frozen = False
                    post.process = self._started(post.kind, post.number, post.incarnation)
            await asyncio.sleep(LOOK_EVERY_S)

    def _note_end(self, post: Post, code: int) -> None:
        if code == UNREACHABLE:
            self.unreachable += 1
        elif not (post.killed and code == -signal.SIGKILL):
            self.failures.append(
                f"{post.name} (incarnation {post.incarnation}) ended by itself with exit code {code}: "
                f"{processes.tail(post.process)}"
            )

    def _started(self, kind: str, number: int, incarnation: int) -> Process:
        name = f"{kind}-{number + 1}.{incarnation}"
        return processes.start(name, [kind], self.ledger.environment, self.ledger.home, self.logs)

    # ---- faults

    def kill(self, post: Post) -> None:
        """SIGKILL; ``supervise`` starts another."""
        post.killed = True
        post.process.running.kill()

    def freeze(self, post: Post) -> None:
        """SIGSTOP: it stands still between any two instructions, its connections stay open."""
        post.frozen = True
        post.process.running.send_signal(signal.SIGSTOP)

    def thaw(self, post: Post) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        if post.frozen:
            post.frozen = False
            post.process.running.send_signal(signal.SIGCONT)

    # ---- what they say

    async def says(self, post: Post) -> dict[str, Any]:
        """What ``/readyz`` says; empty while it cannot be asked."""
        address = post.process.address
        if address is None or post.frozen:
            return {}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
            async with self.http.get(f"http://{address}/readyz", timeout=timeout) as answer:
                said = orjson.loads(await answer.read())
                assert isinstance(said, dict)
                return said
        return {}

    async def await_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Return when every process says it does its work; raises TimeoutError with what they say instead."""
        said: dict[str, dict[str, Any]] = {}
        try:
            async with asyncio.timeout(within_s):
                while not said or not all(one.get("ready") for one in said.values()):
                    said = {post.name: await self.says(post) for post in self.posts}
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            unready = {name: one for name, one in said.items() if not one.get("ready")}
            raise TimeoutError(f"not ready within {within_s:.0f} s: {unready}") from None

    # ---- the end

    async def drain(self) -> None:
        """SIGTERM to all; each must end with 0. ``supervise`` must have been cancelled."""
        await asyncio.to_thread(processes.stop, [post.process for post in self.posts])
        for post in self.posts:
            code = post.process.running.returncode
            if code != 0:
                self.failures.append(
                    f"{post.name} did not drain: exit code {code} after SIGTERM: {processes.tail(post.process)}"
                )

    def abandon(self) -> None:
        """SIGKILL to whatever still runs, stopped or not: for a storm that failed."""
        for post in self.posts:
            if post.process.running.poll() is None:
                post.process.running.kill()
                post.process.running.wait()

    def said_in_logs(self, wanted: Callable[[dict[str, Any]], bool]) -> list[str]:
        """The log lines of all incarnations for which *wanted* is true."""
        found: list[str] = []
        for log in sorted(self.logs.glob("*.log")):
            for line in log.read_bytes().splitlines():
                with contextlib.suppress(orjson.JSONDecodeError):
                    said = orjson.loads(line)
                    if isinstance(said, dict) and wanted(said):
                        found.append(f"{log.name}: {line.decode(errors='replace')[:1000]}")
        return found
