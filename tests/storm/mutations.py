"""Deliberate bugs, one at a time, in a copy of the tree: each must be caught. ``python -m tests.storm.mutations``.

Without ``--storm`` the narrowest tests run; with ``--storm N`` storms with the seeds 1 to N, until one fails.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

ROOT: Final = Path(__file__).parents[2]
TESTS_WITHIN_S: Final = 300.0
STORM_WITHIN_S: Final = 600.0
PACKAGES: Final = ("schemas", "engine", "streams", "sinks", "ledgerline", "tests", "examples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """*old*, which stands once in *file*, becomes *new*. *tests* are the ones that should notice."""

    bug: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


READING: Final = "streams/journal/reading.py"
WRITER: Final = "streams/journal/writer.py"
OWNER: Final = "streams/owner.py"
STORE: Final = "sinks/postgres/store.py"
STATEMENTS: Final = "sinks/postgres/sql/statements.sql"
EVOLVE: Final = "engine/evolve.py"

MUTATIONS: Final = (
    Mutation(
        bug="no token check: a block of the epoch counts whoever wrote it",
        file=READING,
        old="if headers.token != now.token:",
        new="if False:",
        tests=("tests/streams/journal/test_reading.py",),
    ),
    Mutation(
        bug="the last lease of an epoch wins instead of the first",
        file=READING,
        old="if headers.epoch <= self.position.epoch:",
        new="if headers.epoch < self.position.epoch:",
        tests=("tests/streams/journal/test_reading.py",),
    ),
    Mutation(
        bug="the chain is not compared",
        file=READING,
        old="if chain != headers.chain:",
        new="if False:",
        tests=("tests/streams/journal/test_reading.py",),
    ),
    Mutation(
        bug="duplicates are not skipped",
        file=READING,
        old="return Duplicate(record.offset, headers), behind",
        new='raise Corruption(self.where, record.offset, "a new block", "a copy")',
        tests=("tests/streams/journal/test_reading.py",),
    ),
    Mutation(
        bug="a replaced record is not noticed when reading goes on",
        file=READING,
        old="if found != self.position.last:",
        new="if False:",
        tests=("tests/streams/journal/test_reading.py", "tests/streams/journal/test_follower.py"),
    ),
    Mutation(
        bug="the gap in front of an acknowledged offset is not read",
        file=WRITER,
        old="if offset == now.next_offset:  # the common case",
        new="if offset >= now.next_offset:  # the common case",
        tests=("tests/streams/journal/test_writer.py",),
    ),
    Mutation(
        bug="a block without an acknowledgement is sent again under the lease that may be lost",
        file=WRITER,
        old="                await self._lease_until_answered(())\n                self._compare(self._pending)\n",
        new="",
        tests=("tests/streams/journal/test_writer.py",),
    ),
    Mutation(
        bug="no witness check at the take-over",
        file=WRITER,
        old="for source, seq, agrees in witnesses:",
        new="for source, seq, agrees in witnesses[:0]:",
        tests=("tests/streams/journal/test_writer.py", "tests/streams/test_owner.py"),
    ),
    Mutation(
        bug="outcomes are published before the acknowledgement of their block",
        file=OWNER,
        old="            position = await held.writer.append(",
        new="            await self._services.publisher.publish(self._outcomes, block.outcomes)\n"
        "            position = await held.writer.append(",
        tests=("tests/streams/test_owner.py",),
    ),
    Mutation(
        bug="a new owner does not publish what the old one left",
        file=OWNER,
        old="for block in owned.unpublished:",
        new="for block in owned.unpublished[:0]:",
        tests=("tests/streams/test_owner.py",),
    ),
    Mutation(
        bug="a fenced owner keeps the state that is ahead of the journal",
        file=OWNER,
        old="if self._held.ahead:",
        new="if False:",
        tests=("tests/streams/test_owner.py",),
    ),
    Mutation(
        bug="the idempotency entry is forgotten",
        file=EVOLVE,
        old="    book.memory.remember(",
        new="    _ = (",
        tests=("tests/scenarios",),
    ),
    Mutation(
        bug="the input position is not advanced",
        file=EVOLVE,
        old="            book.next_offset[event.topic] = event.offset + 1\n"
        "            _apply(book, event, key, payment)",
        new="            _apply(book, event, key, payment)",
        tests=("tests/engine/test_evolve.py",),
    ),
    Mutation(
        bug="another body under a known id is taken for a retry",
        file="engine/decide.py",
        old="    if remembered.fingerprint != content.fingerprint:",
        new="    if False:",
        tests=("tests/scenarios",),
    ),
    Mutation(
        bug="fees need no funds",
        file="engine/business.py",
        old="amount_minor + sum(fees)):",
        new="amount_minor):",
        tests=("tests/scenarios",),
    ),
    Mutation(
        bug="one transaction more than the daily count",
        file="engine/limits.py",
        old="used_count + 1 > most_count",
        new="used_count > most_count",
        tests=("tests/scenarios",),
    ),
    Mutation(
        bug="the sink's position follows its rows in a transaction of its own",
        file=STORE,
        old="                await one.advance_positions(connection, parts)\n"
        "                await one.copy_rows(connection, batch)\n"
        "                await one.apply_deltas(connection, batch)\n",
        new="                await one.copy_rows(connection, batch)\n"
        "                await one.apply_deltas(connection, batch)\n"
        "                await one.commit(connection)\n"
        "                await one.begin(connection)\n"
        "                await one.advance_positions(connection, parts)\n",
        tests=("tests/sinks/test_store.py",),
    ),
    Mutation(
        bug="the sink advances its position without compare-and-set",
        file=STATEMENTS,
        old="   AND p.sink_epoch = n.sink_epoch AND p.next_offset = n.offset_before AND p.last = n.last_before;",
        new=";",
        tests=("tests/sinks/test_store.py",),
    ),
    Mutation(
        bug="the sink books credits as debits",
        file=STATEMENTS,
        old="SET debits_posted = c.debits_posted + d.debits, credits_posted = c.credits_posted + d.credits,",
        new="SET debits_posted = c.debits_posted + d.credits, credits_posted = c.credits_posted + d.debits,",
        tests=("tests/sinks/test_store.py",),
    ),
)


def main() -> int:
    """Run the mutations that are asked for; print the table. Exit code 1 if one survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.mutations", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="those whose bug contains TEXT")
    parser.add_argument("--storm", metavar="N", type=int, help="let storms find it, with the seeds 1 to N")
    parser.add_argument("--seconds", type=float, default=45.0, help="of traffic of each storm (default %(default)s)")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, tree / name)
        console.print("| deliberate bug | in | caught by | after |\n|---|---|---|---|", markup=False)
        for mutation in MUTATIONS:
            if given.only in mutation.bug:
                began = time.monotonic()
                caught = _with(tree, mutation, given.storm, given.seconds)
                survived += caught is None
                file, seconds = f"`{mutation.file}`", f"{time.monotonic() - began:.0f} s"
                console.print(f"| {mutation.bug} | {file} | {caught or '**NOTHING**'} | {seconds} |", markup=False)
    return 1 if survived else 0


def _with(tree: Path, mutation: Mutation, seeds: int | None, seconds: float) -> str | None:
    """What catches *mutation* in *tree*; None if it survives. The tree is as before afterwards."""
    file = tree / mutation.file
    before = file.read_text()
    if before.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.bug}: expected once in {mutation.file}: {mutation.old!r}; adapt the mutation")
    file.write_text(before.replace(mutation.old, mutation.new))
    try:
        return _tests(tree, mutation) if seeds is None else _storms(tree, seeds, seconds)
    finally:
        file.write_text(before)


def _tests(tree: Path, mutation: Mutation) -> str | None:
    """The first test that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *mutation.tests]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=TESTS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return f"a test that does not end: `{' '.join(mutation.tests)}`"
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[| - |$)", done.stdout, re.MULTILINE)
    if failed is None:
        raise SystemExit(f"{mutation.bug}: the tests did not run:\n{done.stdout}{done.stderr}")
    path, _, name = failed[1].partition("::")
    return f"`{path}`: {name.removeprefix('test_').replace('_', ' ')}"


def _storms(tree: Path, seeds: int, seconds: float) -> str | None:
    """The first seed whose storm fails, and what it says first."""
    for seed in range(1, seeds + 1):
        command = [sys.executable, "-m", "tests.storm", "--seed", str(seed), "--seconds", str(seconds)]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=STORM_WITHIN_S)
        if done.returncode == 1:  # 2: it was too weak, which shows nothing
            kept = re.search(r"^data of the servers, logs of the processes: (\S+)$", done.stdout, re.MULTILINE)
            if kept is not None:
                shutil.rmtree(kept[1], ignore_errors=True)
            said = re.search(r"^WRONG: (.*)$", done.stdout, re.MULTILINE)
            broken = re.search(r"^NOT PROVED: (.*? broken)", done.stdout, re.MULTILINE)
            what = broken[1] if broken else said[1][:200] if said else done.stderr[-200:]
            return f"storm, seed {seed}: {what}"
    return None


if __name__ == "__main__":
    sys.exit(main())
