"""Processes of their own at the cost of a fork: their server has imported everything once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

from ledgerline.logs import configure_logs

PATIENCE_S = 30.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.kills.victims"])


class Ended(NamedTuple):
    """How a process ended."""

    pid: int
    code: int | None  # as of multiprocessing: -9 after SIGKILL; None: it had to be ended, out of patience
    marker: str  # the pid that died between the steps, as it wrote itself; empty if none did
    note: str  # and what it saw there
    log: str

    @property
    def was_killed(self) -> bool:
        """Whether it died where it should have, by its own hand."""
        return self.code == -signal.SIGKILL and self.marker == str(self.pid)


class Running:
    """A process that was started, its log, and the file in which it says where it died."""

    def __init__(self, folder: Path, name: str, target: Callable[..., int], *arguments: Any) -> None:
        """*target* is called with *arguments* and the marker's path; what it returns is the exit code."""
        self._log, self._marker = folder / f"{name}.log", folder / f"{name}.killed"
        self.process: ForkServerProcess = _context.Process(
            target=_child, args=(self._log, target, (*arguments, self._marker)), name=name, daemon=True
        )
        self.process.start()

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self.process.terminate()

    async def ended(self) -> Ended:
        """Wait for its end; out of patience, end it."""
        # Looked for by this thread alone: the code can be read once, and starting another process looks for it too. Of
        # two threads that look at the same time one would find 255.
        deadline = time.monotonic() + PATIENCE_S
        while self.process.exitcode is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
        code, pid = self.process.exitcode, self.process.pid
        if code is None:
            self.process.kill()
            self.process.join()
        assert pid is not None
        marker, _, note = (self._marker.read_text() if self._marker.exists() else "").partition(" ")
        return Ended(pid, code, marker, note, self._log.read_text())


def _child(log: Path, target: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    configure_logs("console")
    raise SystemExit(target(*arguments))
