"""What the demo shows while it runs, and its tables at the end."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ledgerline.demo.observer import Seen
from ledgerline.demo.timeline import percentile

WINDOW_S: Final = 3.0
PLAIN_EVERY_S: Final = 5.0
"""Where the output is no terminal, one line this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The running totals at one moment."""

    at_s: float
    sent: int
    answered: int
    posted: int


class Progress:
    """A live table on a terminal, otherwise a line every 5 seconds. Rates and latencies: of the last 3 seconds."""

    def __init__(self, console: Console, requests: int) -> None:
        self._console = console
        self._requests = requests
        self._began = time.monotonic()
        self._samples: deque[Sample] = deque([Sample(at_s=self._began, sent=0, answered=0, posted=0)])
        self._latencies_before: deque[tuple[float, int]] = deque([(self._began, 0)])
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._plain_at = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, sent: int, seen: Seen, posted: int, workers: str) -> None:
        """Take in and show the totals of this moment."""
        now = time.monotonic()
        self._samples.append(Sample(at_s=now, sent=sent, answered=seen.answered, posted=posted))
        self._latencies_before.append((now, len(seen.latencies_ms)))
        while len(self._samples) > 2 and self._samples[0].at_s < now - WINDOW_S:
            self._samples.popleft()
            self._latencies_before.popleft()
        first, last = self._samples[0], self._samples[-1]
        elapsed = max(last.at_s - first.at_s, 0.001)
        recent = seen.latencies_ms[self._latencies_before[0][1] :]
        cells = {
            "elapsed": f"{now - self._began:.0f} s",
            "sent": f"{sent:,} of {self._requests:,}",
            "decided/s": f"{(last.answered - first.answered) / elapsed:,.0f}",
            "posted/s": f"{(last.posted - first.posted) / elapsed:,.0f}",
            "p50": _milliseconds(percentile(recent, 0.50)),
            "p99": _milliseconds(percentile(recent, 0.99)),
            "unanswered": f"{sent - seen.answered:,}",
            "sink lag": f"{max(0, sum(seen.seqs.values()) - posted):,}",
            "workers": workers,
        }
        if self._live:
            self._live.update(_row(cells))
        elif now - self._plain_at >= PLAIN_EVERY_S:
            self._plain_at = now
            self._console.print("  ".join(f"{name} {value}" for name, value in cells.items()), soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line above the live table."""
        self._console.print(line, soft_wrap=True)


def _row(cells: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def _milliseconds(value: int | None) -> str:
    return "-" if value is None else f"{value:,} ms"


def outcomes_table(seen: Seen) -> Table:
    """Return the outcomes by type, status and reason, most frequent first within a type."""
    table = Table(title="Outcomes", title_justify="left", header_style="bold")
    for name in ("request", "status", "reason"):
        table.add_column(name)
    table.add_column("count", justify="right")
    for (kind, status, reason), number in sorted(seen.by_result.items(), key=lambda item: (item[0][0], -item[1])):
        style = {"accepted": "green", "declined": "yellow", "rejected": "red"}.get(status, "cyan")
        table.add_row(kind, f"[{style}]{status}[/]", reason or "-", f"{number:,}")
    return table


def latency_line(latencies_ms: list[int]) -> str:
    """Return the latencies of *latencies_ms* in one line."""
    shares = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
    return "  ".join(f"{name} {_milliseconds(percentile(latencies_ms, share))}" for name, share in shares.items())
