"""``worker``, ``sink``, ``run``: the processes that keep a ledger."""

from typing import Annotated

import typer

from ledgerline.cli.ledger import Dev
from ledgerline.cli.shared import kafka_address, postgres_dsn, run
from ledgerline.errors import UnreachableError
from ledgerline.logs import configure_logs
from ledgerline.processes import run_both, run_sink, run_worker
from ledgerline.settings import Settings, load_settings
from ledgerline.stack import local
from streams.worker import WorkerOptions

Static = Annotated[
    str | None,
    typer.Option(
        "--partitions", metavar="LIST", help="Own exactly these, such as 0,3,5-7, instead of what the group assigns."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command()(worker)
    app.command()(sink)
    app.command("run")(both)


def worker(partitions: Static = None, dev: Dev = False) -> None:
    """Decide requests: own partitions until SIGTERM. Several workers share the partitions of a ledger.

    Exit codes: 0 drained, 3 doctor refuses, 4 a partition halted, 5 Kafka out of reach.

    Example: ledgerline worker
    """
    settings = load_settings()
    configure_logs(settings.log_format)
    try:
        dsn: str | None = postgres_dsn(settings)
    except UnreachableError:  # a worker needs no PostgreSQL; the sink's rows only tell it of lost records earlier
        dsn = None
    code = run(run_worker(settings, _options(settings, partitions, dev=dev), dsn))
    raise typer.Exit(code)


def sink() -> None:
    """Book the journal in PostgreSQL until SIGTERM. Several sinks share the partitions of a ledger.

    Exit codes: 0 drained, 3 another ledger's database or a schema that needs `init`, 4 a partition halted.

    Example: ledgerline sink
    """
    settings = load_settings()
    configure_logs(settings.log_format)
    raise typer.Exit(run(run_sink(settings, kafka_address(settings), postgres_dsn(settings))))


def both(partitions: Static = None, dev: Dev = False) -> None:
    """Run a worker and a sink in one process until SIGTERM: enough for development and small ledgers.

    Exit codes as of worker and sink.

    Example: ledgerline run &
    """
    settings = load_settings()
    configure_logs(settings.log_format)
    dsn = postgres_dsn(settings)
    raise typer.Exit(run(run_both(settings, _options(settings, partitions, dev=dev), dsn)))


def _options(settings: Settings, partitions: str | None, *, dev: bool) -> WorkerOptions:
    kafka = kafka_address(settings)
    stack = local.running(settings.layout)
    ours = stack.kafka is not None and stack.kafka.address == kafka
    chosen = None if partitions is None else partition_list(partitions)
    return WorkerOptions(kafka=kafka, prefix=settings.prefix, dev=dev or settings.dev or ours, partitions=chosen)


def partition_list(text: str) -> frozenset[int]:
    """The numbers in a list such as ``0,3,5-7``. Raises typer.BadParameter."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first, first]
        if not all(end.isascii() and end.isdigit() for end in ends) or int(ends[0]) > int(ends[1]):
            raise typer.BadParameter(f"expected a list such as 0,3,5-7, found {text!r}", param_hint="--partitions")
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(found)
