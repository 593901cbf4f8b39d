"""What the commands share: where the servers are, how failures become exit codes, how output looks."""

import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import asyncpg
import orjson
import typer
import uvloop

from ledgerline.errors import ConfigurationError, HaltedError, LedgerlineError, UnreachableError
from ledgerline.settings import Settings, database_name, with_database
from ledgerline.stack import local
from schemas.currencies import EXPONENTS, format_amount
from sinks.postgres.errors import ForeignLedger, PostgresUnavailable, SchemaMismatch
from streams.halts import Halt
from streams.init import InitRefused
from streams.journal.errors import JournalHalt, NoGenesis, WrongLedger
from streams.journal.log import LogUnavailable
from streams.kafka import KafkaFailure, UnknownTopic
from streams.worker import StartRefused

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work*; failures of servers and ledgers become errors with a message and an exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # every failure of it is reported once, by us
    try:
        return uvloop.run(work)
    except (NoGenesis, WrongLedger, InitRefused, StartRefused, ForeignLedger, SchemaMismatch) as error:
        raise ConfigurationError(str(error)) from error
    except (JournalHalt, Halt) as error:
        raise HaltedError(str(error)) from error
    except UnknownTopic as error:
        raise ConfigurationError(f"{error}; run `ledgerline init`, or check LEDGERLINE_PREFIX") from error
    except (KafkaFailure, LogUnavailable) as error:
        raise UnreachableError(
            f"Kafka does not answer: {error}; check LEDGERLINE_KAFKA and `ledgerline status`"
        ) from error
    except PostgresUnavailable as error:
        raise _postgres_failure(error) from error


def _postgres_failure(error: PostgresUnavailable) -> LedgerlineError:
    if isinstance(error.__cause__, (asyncpg.InvalidCatalogNameError, asyncpg.UndefinedTableError)):
        return ConfigurationError(
            f"PostgreSQL holds no ledger here: {error}; run `ledgerline init`, or check LEDGERLINE_PREFIX"
        )
    return UnreachableError(f"PostgreSQL does not answer: {error}; check LEDGERLINE_POSTGRES and `ledgerline status`")


def kafka_address(settings: Settings) -> str:
    """The bootstrap servers, for a command that needs Kafka only. Raises UnreachableError."""
    stack = local.running(settings.layout)
    address = settings.kafka or (stack.kafka.address if stack.kafka else None)
    if address is None:
        raise UnreachableError(
            f"no Kafka: the local stack in {settings.home} is not running; run `ledgerline up --detach`, or set "
            "LEDGERLINE_KAFKA"
        )
    return address


def postgres_dsn(settings: Settings) -> str:
    """The DSN of the ledger's database, for a command that needs PostgreSQL only. Raises UnreachableError."""
    if settings.postgres is not None:
        return settings.postgres.get_secret_value()
    stack = local.running(settings.layout)
    if stack.postgres is None:
        raise UnreachableError(
            f"no PostgreSQL: the local stack in {settings.home} is not running; run `ledgerline up --detach`, or set "
            "LEDGERLINE_POSTGRES"
        )
    return with_database(stack.postgres.address, database_name(settings.prefix))


class Cell(NamedTuple):
    """Text in a colour, which is seen on a terminal only."""

    text: str
    colour: str


class Table:
    """Aligned columns without lines; nothing is ever wrapped or cut, so ids can be copied. Mutable.

    Not rich's: that takes 3 ms a row, longer than deciding a request.
    """

    def __init__(self, *columns: str, right: frozenset[str] = frozenset()) -> None:
        """*right* names the columns of numbers."""
        self._columns = columns
        self._right = [name in right for name in columns]
        self._rows: list[tuple[Cell, ...]] = []

    def add(self, *cells: str | Cell) -> None:
        """Add a row of as many cells as there are columns."""
        assert len(cells) == len(self._columns), cells
        self._rows.append(tuple(Cell(cell, "") if isinstance(cell, str) else cell for cell in cells))

    def show(self) -> None:
        """Print the header and the rows."""
        widths = [
            max(len(name), *(len(row[number].text) for row in self._rows), 0)
            for number, name in enumerate(self._columns)
        ]
        echo(*(Cell(text, "bold") for text in self._aligned(self._columns, widths)))
        for row in self._rows:
            texts = self._aligned([cell.text for cell in row], widths)
            echo(*(Cell(text, cell.colour) for text, cell in zip(texts, row, strict=True)))

    def _aligned(self, texts: Sequence[str], widths: list[int]) -> list[str]:
        last = len(texts) - 1
        return [
            (text.rjust(width) if right else text.ljust(width)) + ("  " if number < last else "")
            for number, (text, width, right) in enumerate(zip(texts, widths, self._right, strict=True))
        ]


def echo(*parts: str | Cell) -> None:
    """Print one line; parts in a colour are plain where output is no terminal, or NO_COLOR is set."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        shown = [_coloured(part) if isinstance(part, Cell) else part for part in parts]
    else:
        shown = [part.text if isinstance(part, Cell) else part for part in parts]
    typer.echo("".join(shown).rstrip())


def _coloured(cell: Cell) -> str:
    if cell.colour == "bold":
        return typer.style(cell.text, bold=True)
    return typer.style(cell.text, fg=cell.colour) if cell.colour else cell.text


def print_json(value: object) -> None:
    """One JSON document, indented."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_json_line(value: object) -> None:
    """One JSON value on one line."""
    typer.echo(orjson.dumps(value).decode())


def money(amount_minor: int | None, currency: str | None) -> str:
    """An amount as people write it, in its currency's digits; empty for none."""
    if amount_minor is None:
        return ""
    if currency is None or currency not in EXPONENTS:
        return str(amount_minor)
    return format_amount(amount_minor, currency)


def fail(message: str, code: int = 1) -> typer.Exit:
    """Say on stderr why the command did not do what was asked; raise what is returned."""
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(code)
