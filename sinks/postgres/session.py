"""Sessions with PostgreSQL: time-outs, role, codecs, and which of its errors are worth trying again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

from sinks.postgres.errors import PostgresRefused, PostgresUnavailable

SCHEMA: Final = "ledgerline"
WRITER_ROLE: Final = "ledgerline_writer"
CONNECT_TIMEOUT_S: Final = 10.0
COMMAND_TIMEOUT_S: Final = 60.0
"""Of a statement as the client sees it: only a server or network that has fallen silent gets here."""

TIMEOUTS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",  # a stopped sink may hold the position row; its own idle time-out frees it
    "idle_in_transaction_session_timeout": "10s",
}
_REFUSED: Final = {"22", "23", "P0"}
"""Classes of SQLSTATE that blame the data: data exception, integrity constraint, raised by a trigger."""


@contextlib.contextmanager
def failures(doing: str) -> Iterator[None]:
    """Turn what asyncpg and sockets raise into ``PostgresUnavailable`` or ``PostgresRefused``, saying what was done."""
    try:
        yield
    except asyncpg.PostgresError as error:
        text = f"PostgreSQL: {doing}: {error.sqlstate} {error}"
        if (error.sqlstate or "")[:2] in _REFUSED:
            raise PostgresRefused(text) from error
        raise PostgresUnavailable(text) from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # a value that does not fit its column, found before it was sent
            raise PostgresRefused(f"PostgreSQL: {doing}: {error}") from error
        raise PostgresUnavailable(f"PostgreSQL: {doing}: {error}") from error
    # InternalClientError: what asyncpg raises when it loses its place, as on a connection whose server was killed (seen
    # in a storm). The session is ended like any other that failed.
    except (OSError, TimeoutError, asyncpg.InternalClientError) as error:
        raise PostgresUnavailable(f"PostgreSQL: {doing}: {error!r}") from error


async def connect(dsn: str, schema: str = SCHEMA) -> asyncpg.Connection[asyncpg.Record]:
    """A session for reading or migrating, with the schema in its path. Raises PostgresUnavailable."""
    with failures(f"connect to {_address(dsn)}"):
        return await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": "ledgerline", "search_path": schema, **TIMEOUTS},
        )


def _address(dsn: str) -> str:
    """Where *dsn* leads, without its password: event loops differ in whether their errors say it."""
    parts = urlsplit(dsn)
    socket = parse_qs(parts.query).get("host", [""])[0]
    return f"{parts.netloc.rpartition('@')[2] or socket}{parts.path}"


@contextlib.asynccontextmanager
async def session(dsn: str, schema: str = SCHEMA) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """``connect``, closed at the end."""
    connection = await connect(dsn, schema)
    try:
        yield connection
    finally:
        connection.terminate()


def writer_pool(dsn: str, schema: str, connections: int) -> Pool:
    """Sessions for a sink: the writer role's rights whoever logs in, JSON passed as the bytes it is.

    Await it before use; it connects when used.
    """
    return asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections,
        init=_become_writer,
        reset=_keep,
        max_inactive_connection_lifetime=60.0,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={"application_name": "ledgerline-sink", "search_path": schema, **TIMEOUTS},
    )


async def _become_writer(connection: Connection) -> None:
    await connection.execute(f"SET ROLE {WRITER_ROLE}")
    for name, prefix in (("json", b""), ("jsonb", b"\x01")):  # jsonb begins with its version on the wire
        await connection.set_type_codec(
            name, schema="pg_catalog", format="binary", encoder=_prefixed(prefix), decoder=_text
        )


def _prefixed(prefix: bytes) -> Any:
    return (lambda data: prefix + data) if prefix else (lambda data: data)


def _text(data: bytes) -> str:
    return data.removeprefix(b"\x01").decode()


async def _keep(connection: Connection) -> None:
    """Nothing to reset: a session in which anything failed is ended, never given back."""
