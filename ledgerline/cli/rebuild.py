"""``rebuild``: the ledger in PostgreSQL again from the journal, compared with the live one, then switched."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from ledgerline.cli.shared import AsJson, Cell, echo, fail, kafka_address, postgres_dsn, print_json, run
from ledgerline.errors import ConfigurationError, HaltedError
from ledgerline.logs import configure_logs
from ledgerline.settings import load_settings
from sinks.postgres.compare import MAX_DIFFERENCES, Difference
from sinks.postgres.errors import Deposed, PostgresRefused
from sinks.postgres.rebuild import REBUILT, OnProgress, Rebuild, RebuildRefused, Rebuilt
from sinks.postgres.session import SCHEMA


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(rebuild)


def rebuild(
    accept_differences: Annotated[
        bool,
        typer.Option(
            "--accept-differences", help="Switch even if rows differ: the journal is right, the old rows wrong."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the ledger in PostgreSQL again from the journal, compare it row for row, and switch to it.

    Works beside running workers and sinks; readers keep working. The old rows stay in a schema with a dated name. Exits
    with 1 if rows differ: each is printed and nothing is switched. May be repeated after anything.

    Example: ledgerline rebuild
    """
    settings = load_settings()
    configure_logs(settings.log_format)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # only what delays it
    kafka, dsn = kafka_address(settings), postgres_dsn(settings)
    try:
        with _watched() as progress:
            done = run(
                Rebuild(
                    kafka=kafka,
                    prefix=settings.prefix,
                    dsn=dsn,
                    accept_differences=accept_differences,
                    progress=progress,
                ).run()
            )
    except RebuildRefused as error:
        raise ConfigurationError(str(error)) from error
    except (PostgresRefused, Deposed) as error:
        raise HaltedError(f"the journal could not be written again: {error}; nothing was switched") from error
    if as_json:
        print_json(_plain(done))
    else:
        _print(done)
    if done.retired is None:
        raise fail(
            f"the rebuilt rows differ from the live ones; nothing was switched, and they stay in schema {REBUILT} "
            "until the next rebuild. `ledgerline verify` tells which are right; --accept-differences switches to the "
            "rebuilt ones"
        )


def _print(done: Rebuilt) -> None:
    for difference in done.differences:
        _print_difference(difference)
    if len(done.differences) >= MAX_DIFFERENCES:
        echo(f"there are more: the comparison ended after {MAX_DIFFERENCES} differences")
    where = f"{done.partitions} partitions of ledger {done.ledger_id}"
    what = f"{done.events:,} events in {where}, {done.seconds:.1f} s"
    if done.retired is None:
        echo(Cell("NOT SWITCHED", "red"), f": {what}")
        return
    echo(Cell("rebuilt", "green"), f": {what}; schema {SCHEMA} holds the new rows")
    echo(
        f"the old ones are in schema {done.retired}; when they are no longer needed: DROP SCHEMA {done.retired} CASCADE"
    )


def _print_difference(difference: Difference) -> None:
    echo(Cell(difference.table, "red"), f" {difference.key}")
    echo(f"  live     {difference.live or 'no row'}")
    echo(f"  rebuilt  {difference.rebuilt or 'no row'}")


def _plain(done: Rebuilt) -> dict[str, object]:
    return {
        "switched": done.retired is not None,
        "ledger_id": done.ledger_id,
        "partitions": done.partitions,
        "events": done.events,
        "differences": [difference.to_plain() for difference in done.differences],
        "retired_schema": done.retired,
        "seconds": round(done.seconds, 3),
    }


@contextmanager
def _watched() -> Iterator[OnProgress]:
    """A progress bar on standard error while it lasts, if someone can see it."""
    columns = (TextColumn("rebuild {task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("fold", total=None)

        def progress(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        yield progress
