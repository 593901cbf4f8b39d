"""``ledgerline verify``: run the checker, show what it found, and say by the exit code whether the ledger is right."""

from __future__ import annotations

import asyncio
import sys

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from ledgerline.verify.checker import SCHEMA, verify
from ledgerline.verify.render import show
from ledgerline.verify.report import Progress, Report

OK = 0
BROKEN = 1


def run(
    kafka: str, prefix: str, dsn: str | None, *, schema: str = SCHEMA, as_json: bool = False, rebuild: bool = True
) -> int:
    """Verify, print the report (JSON on demand), and return the exit code: 0 if all is proved, 1 if anything is broken.

    Raises what ``verify`` raises where a server does not answer.
    """
    report = asyncio.run(watched(kafka, prefix, dsn, schema=schema, rebuild=rebuild))
    if as_json:
        sys.stdout.write(orjson.dumps(report.to_plain(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        show(report, Console())
    return OK if report.ok else BROKEN


async def watched(kafka: str, prefix: str, dsn: str | None, *, schema: str = SCHEMA, rebuild: bool = True) -> Report:
    """Like ``verify``, with a progress bar on standard error while it lasts and someone can see it."""
    columns = (TextColumn("verify {task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("journal", total=None)

        def progress(now: Progress) -> None:
            bar.update(task, description=now.step, completed=now.done, total=now.total)

        return await verify(kafka, prefix, dsn, schema=schema, rebuild=rebuild, progress=progress)
