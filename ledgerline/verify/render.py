"""The report for people: one line per invariant, what is wrong below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ledgerline.verify.report import PROMISES, Line, Report

SHOWN: Final = 5
"""Failures shown per invariant; ``--json`` has more."""

_STYLES: Final = {"ok": "green", "FAILED": "bold red", "not checked": "yellow"}


def render(report: Report) -> RenderableType:
    """Return *report* as a table, then its failures, then one sentence."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("promise")
    table.add_column("checked", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in report.lines.values():
        promise = Text(PROMISES[line.invariant])
        if line.note:
            promise.append(f" ({line.note})", "dim")
        table.add_row(line.invariant.value, promise, f"{line.checked:,}", Text(line.verdict, _STYLES[line.verdict]))
    return Group(
        table, *(part for line in report.lines.values() for part in _failures(line)), Text(), _sentence(report)
    )


def show(report: Report, console: Console) -> None:
    """Print *report*."""
    console.print(render(report), soft_wrap=True)


def _failures(line: Line) -> Iterator[Text]:
    if not line.failed:
        return
    yield Text()
    yield Text.assemble((f"{line.invariant} FAILED", "bold red"), f": {PROMISES[line.invariant]}")
    for failure in line.failures[:SHOWN]:
        yield Text(f"  {failure}")
    if line.failed > SHOWN:
        yield Text(f"  … and {line.failed - min(SHOWN, len(line.failures)):,} more", "dim")


def _sentence(report: Report) -> Text:
    where = f"{report.partitions} partitions of ledger {report.ledger_id}"
    what = f"{report.events:,} events in {where}, {report.seconds:.1f} s"
    if report.ok:
        return Text.assemble(("proved", "bold green"), f": {what}")
    broken = ", ".join(line.invariant.value for line in report.lines.values() if line.failed)
    return Text.assemble(("NOT PROVED", "bold red"), f": {broken} broken in {what}")
