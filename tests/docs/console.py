"""Console blocks of the manual: finds them in a page, runs them, and compares what they print with what the page shows.

A block that is executed is written like this; blocks of one name run in one shell, in their order on the page:

    <!-- test: NAME -->
    ```console
    $ ledgerline init
    ledger …: 4 partitions, topics …
    $ ledgerline run &
    ```

A line after ``$ `` is a command, lines after ``> `` continue it. The other lines are what the command prints: each must
be found, in this order, among its lines of output; ``…`` stands for anything and the width of gaps does not count.
Every command must succeed (write ``|| echo …`` where it should not); what was started with ``&`` is asked to end at
the end of the last block, and must end with success. An address ``127.0.0.1:94NN`` gets a free port, the same in all
blocks. ``ledgerline`` and ``python`` are on the PATH, the folder is a copy of the project, and the local stack is up.

A block that cannot be executed stands behind ``<!-- not run: REASON -->`` instead. There is no third kind.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from ledgerline.stack.postgres import psql

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(
    r"^(?:<!-- (?P<kind>test|not run): (?P<said>[^\n]+?) -->\n)?```console\n(?P<lines>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
ADDRESS: Final = re.compile(r"127\.0\.0\.1:94\d\d\b")
END_JOBS: Final = "for job in $(jobs -pr); do kill $job; wait $job; done"
POSTGRES_TOOLS: Final = ("pg_dump", "pg_restore", "psql")
OWN_SETTINGS: Final = ("LEDGERLINE_", "PYTHONPATH", "VIRTUAL_ENV")
"""What the caller's environment may hold of these would change what the page says."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command and the lines that the page shows below it."""

    text: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ran:
    """The output of each command, and of the shell as a whole."""

    code: int
    printed: str
    outputs: list[list[str]]


def pages() -> list[Path]:
    """Every page of the manual: the README and those in ``docs``."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def names(page: Path) -> list[str]:
    """The names of the executed blocks of *page*, each once, in their order."""
    found = (match["said"] for match in BLOCK.finditer(page.read_text()) if match["kind"] == "test")
    return list(dict.fromkeys(found))


def unmarked(page: Path) -> list[str]:
    """The first lines of console blocks that are neither executed nor said not to be."""
    return [match["lines"].partition("\n")[0] for match in BLOCK.finditer(page.read_text()) if match["kind"] is None]


def commands(page: Path, name: str) -> list[Command]:
    """The commands of the blocks called *name*, in order. Raises ValueError for a block that begins with output."""
    found: list[Command] = []
    for match in BLOCK.finditer(page.read_text()):
        if (match["kind"], match["said"]) != ("test", name):
            continue
        begun = False
        for line in match["lines"].splitlines():
            if line.startswith("$ "):
                found.append(Command(line.removeprefix("$ ")))
                begun = True
            elif not begun:
                raise ValueError(f"{page.name}, {name}: expected a command (`$ …`) first, got {line!r}")
            elif line.startswith("> "):
                found[-1] = Command(f"{found[-1].text}\n{line.removeprefix('> ')}", found[-1].shown)
            elif line.strip():
                found[-1].shown.append(line)
    return found


def with_free_ports(listed: list[Command]) -> list[Command]:
    """*listed* with each address ``127.0.0.1:94NN`` replaced by one that is free now."""
    free: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        if match[0] not in free:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                free[match[0]] = f"127.0.0.1:{probe.getsockname()[1]}"
        return free[match[0]]

    return [
        Command(ADDRESS.sub(replace, one.text), [ADDRESS.sub(replace, line) for line in one.shown]) for one in listed
    ]


def missing_line(shown: list[str], printed: list[str]) -> str | None:
    """The first of the *shown* lines that is not found in *printed* behind the lines before it."""
    rest = iter(printed)
    for line in shown:
        wanted = re.compile(r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split()))
        if not any(wanted.fullmatch(" ".join(candidate.split())) for candidate in rest):
            return line
    return None


@contextmanager
def clean_copy() -> Iterator[Path]:
    """What git would hand to a newcomer: the tracked files and the new ones that it does not ignore."""
    folder = Path(tempfile.mkdtemp(prefix="ledgerline-page-"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    try:
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).exists():
                target = folder / "ledgerline" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        yield folder / "ledgerline"
    finally:
        shutil.rmtree(folder)


def environment_in(copy: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """An environment in which ``ledgerline`` and ``python`` are those of this test run, working on *copy*.

    So are PostgreSQL's tools: pg_dump refuses a newer server than itself.
    """
    shims = copy.parent / "bin"
    shims.mkdir(exist_ok=True)
    commands_of = {"ledgerline": f'"{sys.executable}" -m ledgerline.cli.app'}
    commands_of |= dict.fromkeys(("python", "python3"), f'"{sys.executable}"')
    commands_of |= {name: f'"{psql().with_name(name)}"' for name in POSTGRES_TOOLS}
    for name, command in commands_of.items():
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        shim.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)}
    return {**kept, "PATH": f"{shims}:{kept['PATH']}", "PYTHONPATH": str(copy), **settings}


def run(listed: list[Command], *, folder: Path, environment: Mapping[str, str], within_s: float) -> Ran:
    """Run the commands as one shell script in *folder*, until one fails; nothing that it started is left behind.

    Raises subprocess.TimeoutExpired, with what was printed so far.
    """
    mark = f"@@{os.urandom(8).hex()}"
    script = "\n".join(
        [
            "set -e",
            "trap 'left=$(jobs -pr); test -z \"$left\" || kill -KILL $left' EXIT",
            *(f"echo {mark}\n{one.text}" for one in listed),
            END_JOBS,
        ]
    )
    shell = subprocess.Popen(
        ["bash", "-m", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=within_s)
    finally:
        if shell.poll() is None:
            for process in psutil.Process(shell.pid).children(recursive=True):
                process.kill()
            shell.kill()
            shell.wait()
    outputs = [part.splitlines() for part in printed.split(f"{mark}\n")[1:]]
    return Ran(shell.returncode, printed.replace(mark, "$"), outputs)
