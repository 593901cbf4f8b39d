"""``demo``: a stream of payments through the whole engine, a worker killed on the way, and the proof."""

import contextlib
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ledgerline.cli.shared import run
from ledgerline.cli.stack import progress
from ledgerline.demo.run import Options, run_demo
from ledgerline.settings import Settings, load_settings
from ledgerline.stack import local


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(demo)


def demo(
    requests: Annotated[int, typer.Option(min=100, max=1_000_000, help="Payments to play.")] = 60_000,
    rate: Annotated[int, typer.Option(min=1, max=100_000, help="Payments sent per second.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Decides where the troublesome requests stand.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave stack, workers and sink running at the end.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser at the end.")] = False,
) -> None:
    """Play a stream of simulated card payments, kill a worker on the way, and prove the result.

    It uses topics and a database of its own, deleted when the next demo begins; the local stack is started if it
    does not run. It leaves a report, an HTML page with plots, below LEDGERLINE_HOME, and prints its path. Exits with 1
    if an invariant is broken.

    Example: ledgerline demo --requests 10000 --rate 500 --keep
    """
    settings = load_settings()
    options = Options(requests=requests, rate=rate, seed=seed, keep=keep)
    with _stack(settings, keep):
        finished = run(run_demo(options, settings, Console(highlight=False)))
    if open_:
        _show(finished.report)
    if not finished.proved:
        raise typer.Exit(1)


def _show(report: Path) -> None:
    """Open *report* in the browser (``BROWSER`` names another one); a machine without one is no failure of the demo."""
    try:
        opened = webbrowser.open(report.as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        typer.echo(f"no browser could be opened here; open {report} in one", err=True)


@contextlib.contextmanager
def _stack(settings: Settings, keep: bool) -> Iterator[None]:
    """Have the servers running; stop at the end what was started here, unless it is to be kept."""
    with progress() as report:
        _, fresh = local.up(
            settings.layout, report, with_kafka=settings.kafka is None, with_postgres=settings.postgres is None
        )
    finished = False
    try:
        yield
        finished = True
    finally:
        if fresh and not (finished and keep):
            with progress() as report:
                local.down(settings.layout, report)
