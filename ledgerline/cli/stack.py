"""``up``, ``down``, ``status``: the local stack."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from ledgerline.errors import UnreachableError
from ledgerline.settings import Settings, database_name, load_settings, with_database
from ledgerline.stack import local, registry
from ledgerline.stack.jars import Report

WATCH_INTERVAL_S = 1.0


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the servers are ready; they go on running.")
    ] = False,
) -> None:
    """Start Apache Kafka and PostgreSQL on this machine, or attach to those that run. Data is kept between starts.

    Without --detach it stays and stops them on Ctrl-C. LEDGERLINE_KAFKA and LEDGERLINE_POSTGRES take the place of one.
    """
    settings = load_settings()
    out = Console(highlight=False, soft_wrap=True)
    for name, given in (("LEDGERLINE_KAFKA", settings.kafka), ("LEDGERLINE_POSTGRES", settings.postgres)):
        if given is not None:
            out.print(f"{name} is set: that server is used, none is started for it")
    if settings.kafka is not None and settings.postgres is not None:
        return
    with progress() as report:
        stack, fresh = local.up(
            settings.layout, report, with_kafka=settings.kafka is None, with_postgres=settings.postgres is None
        )
    print_addresses(settings, stack, out)
    if fresh and not detach:
        out.print("Ctrl-C stops them; their data is kept")
        stay(settings, stack, out)
    elif not fresh:
        out.print("already running; `ledgerline down` stops them")


def down(
    delete: Annotated[bool, typer.Option("--delete", help="Delete the data too. Downloads stay.")] = False,
) -> None:
    """Stop the local stack. Its data is kept unless --delete is given."""
    settings = load_settings()
    with progress() as report:
        was_running = local.down(settings.layout, report)
        if delete:
            local.delete(settings.layout, report)
    typer.echo(("stopped" if was_running else "not running") + (", data deleted" if delete else ""))


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show where the servers are and which processes of this home serve HTTP. Exits with 5 if a server is missing."""
    settings = load_settings()
    stack = local.running(settings.layout)
    kafka = settings.kafka or (stack.kafka.address if stack.kafka else None)
    postgres = ledger_dsn(settings, stack)
    processes = registry.registered(settings.home)
    if as_json:
        shown = {"kafka": kafka, "postgres": postgres, "prefix": settings.prefix, "home": str(settings.home)}
        typer.echo(json.dumps({**shown, "processes": [asdict(entry) for entry in processes]}, indent=2))
    else:
        out = Console(highlight=False, soft_wrap=True)
        print_addresses(settings, stack, out)
        for entry in processes:
            out.print(f"{entry.kind:<10} http://{entry.address}/metrics (process {entry.pid})")
    if kafka is None or postgres is None:
        raise UnreachableError(f"the local stack in {settings.home} is not running; run `ledgerline up --detach`")


def ledger_dsn(settings: Settings, stack: local.Stack) -> str | None:
    """The DSN of the prefix's database, whether it was created already or not; None without a server."""
    if settings.postgres is not None:
        return settings.postgres.get_secret_value()
    if stack.postgres is None:
        return None
    return with_database(stack.postgres.address, database_name(settings.prefix))


def print_addresses(settings: Settings, stack: local.Stack, out: Console) -> None:
    """Print one line for each server."""
    kafka = settings.kafka or (stack.kafka.address if stack.kafka else "not running")
    out.print(f"{'kafka':<10} {kafka}", markup=False)
    out.print(f"{'postgres':<10} {ledger_dsn(settings, stack) or 'not running'}", markup=False)


def stay(settings: Settings, stack: local.Stack, out: Console) -> None:
    """Stay until a signal arrives, then stop the servers; leave if another command stops them, fail if one dies."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    while not asked.wait(WATCH_INTERVAL_S):
        now = local.running(settings.layout)
        if now == stack:
            continue
        if not settings.layout.state.exists():
            out.print("stopped by another command")
            return
        with progress() as report:
            local.down(settings.layout, report)
        died = "Kafka" if now.kafka is None and stack.kafka is not None else "PostgreSQL"
        raise UnreachableError(
            f"{died} ended by itself; its log is below {settings.layout.root}; run `ledgerline up` again"
        )
    with progress() as report:
        local.down(settings.layout, report)
    out.print("stopped")


@contextmanager
def progress() -> Iterator[Report]:
    """Yield a reporter to stderr: on a terminal one line that changes, otherwise one line each."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not sys.stderr.isatty():
        yield lambda line: console.print(line, markup=False)
        return
    with console.status("") as shown:
        yield shown.update
