"""The processes of the demo: real ``ledgerline`` commands, each with its log in a file."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ledgerline.errors import UnreachableError
from ledgerline.stack import registry

READY_WITHIN_S: Final = 60.0
STOPPED_WITHIN_S: Final = 30.0
ASK_EVERY_S: Final = 0.1
LOG_TAIL_BYTES: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running command. ``name`` is for people; ``log`` holds everything that it printed."""

    name: str
    running: subprocess.Popen[bytes]
    log: Path
    home: Path

    @property
    def address(self) -> str | None:
        """``host:port`` of its HTTP endpoints once it serves them."""
        return next((p.address for p in registry.registered(self.home) if p.pid == self.running.pid), None)


def start(name: str, arguments: list[str], environment: dict[str, str], home: Path, logs: Path) -> Process:
    """Start ``ledgerline <arguments>`` in a session of its own, so that a Ctrl-C here does not reach it."""
    log = logs / f"{name}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "ledgerline.cli.app", *arguments],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Process(name=name, running=running, log=log, home=home)


async def await_ready(process: Process, http: aiohttp.ClientSession) -> None:
    """Return when ``/readyz`` of *process* answers 200; raises UnreachableError with the end of its log."""
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not await _is_ready(process, http):
                if process.running.poll() is not None:
                    raise UnreachableError(
                        f"{process.name} ended with exit code {process.running.returncode}: {tail(process)}"
                    )
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError:
        raise UnreachableError(f"{process.name} was not ready within {READY_WITHIN_S:.0f} s: {tail(process)}") from None


async def _is_ready(process: Process, http: aiohttp.ClientSession) -> bool:
    address = process.address
    if address is None:
        return False
    with contextlib.suppress(aiohttp.ClientError):
        async with http.get(f"http://{address}/readyz") as answer:
            return answer.status == 200
    return False


async def owned(process: Process, http: aiohttp.ClientSession) -> set[int]:
    """Return the partitions that a worker owns, from its metrics."""
    async with http.get(f"http://{process.address}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        int(sample.labels["partition"])
        for family in families
        for sample in family.samples
        if sample.name == "ledgerline_owned" and sample.value == 1
    }


def kill(process: Process) -> None:
    """SIGKILL *process*: it gets no chance to finish anything."""
    process.running.kill()
    process.running.wait()


def stop(processes: list[Process]) -> None:
    """SIGTERM those that run and wait for their end; SIGKILL after 30 s."""
    running = [process.running for process in processes if process.running.poll() is None]
    for one in running:
        one.send_signal(signal.SIGTERM)
    for one in running:
        try:
            one.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def tail(process: Process) -> str:
    """Return the end of the log of *process*."""
    return process.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "its log is empty"
