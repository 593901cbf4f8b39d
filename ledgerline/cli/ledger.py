"""``init``, ``doctor``, ``rules``: a ledger's topics, database and rules."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import asyncpg
import typer

from ledgerline.cli.shared import AsJson, Cell, Table, echo, fail, kafka_address, money, print_json, run
from ledgerline.errors import ConfigurationError
from ledgerline.settings import Servers, Settings, database_name, load_settings, resolve
from schemas.codec import Malformed
from schemas.config import Bundle, decode_bundle
from sinks.postgres.errors import ForeignLedger, PostgresUnavailable, SchemaMismatch
from sinks.postgres.migrations import ensure_database, migrate, require_schema
from sinks.postgres.session import SCHEMA, connect
from sinks.postgres.statements import statement
from streams.config_log import ConfigVersion, publish_bundle, version_of
from streams.doctor import Diagnosis, examine
from streams.init import Initialised, init_ledger
from streams.kafka import Consumer, Isolation, Partition, read_to_end
from streams.topics import Topics

Dev = Annotated[
    bool,
    typer.Option("--dev", help="Waive replication; init also publishes default rules. Implied by the local stack."),
]

rules = typer.Typer(help="Publish and show rulesets: tiers, limits, near-duplicates, score.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command()(init)
    app.command()(doctor)
    app.add_typer(rules, name="rules")


def init(
    partitions: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Fixed for the life of the ledger; 64, on the local stack 8.")
    ] = None,
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """Create a ledger: its topics, the genesis of every journal, its database and tables. Safe to repeat.

    Example: ledgerline init --partitions 16
    """
    settings = load_settings()
    servers = resolve(settings)
    count = partitions or servers.partitions
    done, applied = run(_init(settings, servers, count, dev=dev or servers.dev))
    if as_json:
        print_json({**asdict(done), "applied_migrations": applied})
        return
    echo(f"ledger {done.ledger_id}: {done.partitions} partitions, topics {settings.prefix}*")
    added = {
        "topics created": len(done.created_topics),
        "journals begun": len(done.written_genesis),
        "migrations applied": applied,
    }
    for name, number in added.items():
        if number:
            echo(f"  {name}: {number}")
    if done.default_bundle_offset is not None:
        echo("  default rules published (for development, not for money)")
    elif not any(added.values()):
        echo("  complete already; nothing was changed")


async def _init(settings: Settings, servers: Servers, partitions: int, *, dev: bool) -> tuple[Initialised, int]:
    """Kafka first: a refusal there leaves PostgreSQL as it was."""
    done = await init_ledger(servers.kafka, settings.prefix, partitions=partitions, dev=dev)
    if servers.postgres_admin is not None:
        await ensure_database(servers.postgres_admin, database_name(settings.prefix))
    return done, await migrate(servers.postgres)


def doctor(dev: Dev = False, as_json: AsJson = False) -> None:
    """Check everything that must hold before anything is decided. Exits with 3 if something does not.

    Example: ledgerline doctor --json
    """
    settings = load_settings()
    servers = resolve(settings)
    diagnosis = run(examine(servers.kafka, settings.prefix, dev=dev or servers.dev))
    database = run(_database_problem(servers.postgres, diagnosis.ledger_id))
    if as_json:
        print_json({**asdict(diagnosis), "database": database})
    else:
        _print_diagnosis(settings, diagnosis, database)
    if diagnosis.refusals or database is not None:
        refused = len(diagnosis.refusals) + (database is not None)
        raise ConfigurationError(f"{refused} finding(s) refuse a start; nothing was changed")


async def _database_problem(dsn: str, ledger_id: str | None) -> str | None:
    """Why a sink would refuse this database."""
    try:
        connection = await connect(dsn)
    except PostgresUnavailable as error:
        if isinstance(error.__cause__, asyncpg.InvalidCatalogNameError):
            return f"{error.__cause__}; run `ledgerline init`"
        raise
    try:
        await require_schema(connection, SCHEMA)
        found = await connection.fetchrow(statement("find_ledger"))
        if found is not None and ledger_id is not None and str(found["ledger_id"]) != ledger_id:
            return str(ForeignLedger(SCHEMA, f"ledger {ledger_id}", f"ledger {found['ledger_id']}"))
    except SchemaMismatch as problem:
        return str(problem)
    finally:
        connection.terminate()
    return None


def _print_diagnosis(settings: Settings, diagnosis: Diagnosis, database: str | None) -> None:
    if diagnosis.ledger_id is not None:
        echo(f"ledger {diagnosis.ledger_id}: {diagnosis.partitions} partitions, topics {settings.prefix}*")
    if diagnosis.refusals:
        shown = Table("finding", "where", "expected", "found", "then")
        for finding in diagnosis.refusals:
            shown.add(Cell(finding.name, "red"), finding.where, finding.expected, finding.found, finding.fix)
        shown.show()
    waived = Counter(finding.name for finding in diagnosis.findings if finding.waived)
    for name, number in waived.items():
        echo(Cell(name, "yellow"), f" of {number} topics, waived by --dev: not for money")
    if database is not None:
        echo(Cell("database", "red"), f"  {database}")
    if not diagnosis.refusals and database is None:
        echo(Cell("healthy", "green"), ": nothing refuses a start")


@rules.command()
def publish(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A bundle as JSON.")],
    as_json: AsJson = False,
) -> None:
    """Publish a ruleset. Every partition picks it up before its next decision, by an event of its journal.

    Example: ledgerline rules publish rules.json
    """
    settings = load_settings()
    value = file.read_bytes()
    try:
        bundle = decode_bundle(value)
    except Malformed as problem:
        raise ConfigurationError(f"{file}: {problem}; nothing was published") from None
    offset = run(publish_bundle(kafka_address(settings), settings.prefix, value))
    if as_json:
        print_json({"version": bundle.version, "offset": offset, "sha256": version_of(offset, value).sha256})
    else:
        typer.echo(f"published version {bundle.version} at {Topics(settings.prefix).config}[0] offset {offset}")


@rules.command()
def show(
    version: Annotated[str | None, typer.Argument(help="A published version; without it the last one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a published ruleset, and which versions there are.

    Example: ledgerline rules show default-1
    """
    settings = load_settings()
    versions = run(_published(kafka_address(settings), settings.prefix))
    chosen = [v for v in versions if v.bundle is not None and version in (None, v.bundle.version)]
    if not chosen or chosen[-1].bundle is None:
        wanted = f"version {version}" if version is not None else "ruleset"
        raise fail(f"no {wanted} in {Topics(settings.prefix).config}; publish one with `ledgerline rules publish FILE`")
    last, bundle = chosen[-1], chosen[-1].bundle
    if as_json:
        print_json({"offset": last.offset, "sha256": last.sha256, "bundle": bundle.model_dump(mode="json")})
        return
    _print_bundle(last, bundle)
    others = [f"{v.offset}: {v.bundle.version if v.bundle else 'unreadable'}" for v in versions]
    echo(f"versions by offset: {', '.join(others)}")


def _print_bundle(version: ConfigVersion, bundle: Bundle) -> None:
    echo(f"version {bundle.version}, offset {version.offset}, sha256 {version.sha256}")
    if bundle.description:
        echo(bundle.description)
    limits = Table("tier", "type", "", "per transaction", "per day", "count per day",
                   right=frozenset({"per transaction", "per day", "count per day"}))  # fmt: skip
    for name, tier in bundle.tiers.items():
        for limit in tier.limits:
            limits.add(
                name,
                limit.type,
                limit.currency,
                money(limit.per_transaction_minor, limit.currency),
                money(limit.daily_sum_minor, limit.currency),
                "" if limit.daily_count is None else str(limit.daily_count),
            )
        if not tier.limits:
            limits.add(name, "no limits", "", "", "", "")
    limits.show()
    near, decline_at = bundle.near_duplicates, bundle.scoring.decline_at
    echo(f"near-duplicates within {near.window_s} s: {near.action}")
    echo("score: reported only" if decline_at is None else f"score: declines from {decline_at} on")


async def _published(kafka: str, prefix: str) -> list[ConfigVersion]:
    consumer = await Consumer.start(kafka, "ledgerline-rules", Isolation.COMMITTED)
    try:
        records = await read_to_end(consumer, Partition(Topics(prefix).config, 0), 0)
    finally:
        await consumer.close()
    return [version_of(record.offset, record.value or b"") for record in records]
