"""``verify``: the checker's command."""

from typing import Annotated

import asyncpg
import typer

from ledgerline import verify as checker
from ledgerline.cli.shared import AsJson, kafka_address, postgres_dsn
from ledgerline.errors import ConfigurationError, UnreachableError
from ledgerline.settings import load_settings
from streams.kafka import KafkaFailure, UnknownTopic


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(verify)


def verify(
    rebuild: Annotated[
        bool, typer.Option("--rebuild/--no-rebuild", help="Also fold every journal twice in processes of their own.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Prove the invariants of the ledger from its topics and PostgreSQL alone. Exits with 1 if one is broken.

    Works beside a running ledger.

    Example: ledgerline verify --json
    """
    settings = load_settings()
    kafka, dsn = kafka_address(settings), postgres_dsn(settings)
    try:
        code = checker.run(kafka, settings.prefix, dsn, as_json=as_json, rebuild=rebuild)
    except UnknownTopic as error:
        raise ConfigurationError(f"{error}; run `ledgerline init`, or check LEDGERLINE_PREFIX") from error
    except (KafkaFailure, OSError, asyncpg.PostgresError) as error:
        raise UnreachableError(f"a server does not answer: {error}; see `ledgerline status`") from error
    raise typer.Exit(code)
