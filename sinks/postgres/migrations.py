"""Creating a ledger's database, and bringing its schema up to date."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from sinks.postgres.errors import SchemaMismatch
from sinks.postgres.session import SCHEMA, failures, session
from sinks.postgres.statements import migrations, roles

if TYPE_CHECKING:
    from sinks.postgres.session import Connection

MIGRATION_LOCK: Final = 0x6C65646765726C69  # "ledgerli": the advisory lock under which a database is migrated
LONGEST_S: Final = 86_400.0
"""A statement of a migration may rewrite a ledger of any size: the time-outs of a session are not for it."""


async def ensure_database(admin_dsn: str, name: str) -> str:
    """Create the database *name* unless it is there; return its DSN. *admin_dsn* names any database of that server.

    Raises PostgresUnavailable, also if the user may not create databases.
    """
    async with session(admin_dsn) as connection:
        with failures(f"create database {name}"):
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                quoted = await connection.fetchval("SELECT quote_ident($1)", name)
                # Another `init` may be faster.
                with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                    await connection.execute(f"CREATE DATABASE {quoted}")
    return urlunsplit(urlsplit(admin_dsn)._replace(path=f"/{name}"))


async def migrate(dsn: str, schema: str = SCHEMA) -> int:
    """Apply the migrations that *schema* does not have yet, all or none; return how many those were.

    1. Roles (they belong to the server, so their creation is repeatable and comes first).
    2. Under an advisory lock, in one transaction, as ``ledgerline_owner``: the schema, each missing migration, and a
       row in ``migrations`` with its SHA-256. A crash anywhere leaves the schema as it was.

    The user must be a superuser, or have CREATEROLE and CREATE on the database, or be a member of the three roles.
    Raises SchemaMismatch if the schema is newer than this program or a migration in it has another text;
    PostgresUnavailable.
    """
    async with session(dsn, schema) as connection:
        with failures("create the roles"):
            await connection.execute(roles())
        with failures(f"migrate schema {schema}"):
            async with connection.transaction():
                return await _migrate(connection, schema)


async def _migrate(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> int:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
    quoted = await connection.fetchval("SELECT quote_ident($1)", schema)
    if await connection.fetchval("SELECT to_regnamespace($1) IS NULL", quoted):
        await connection.execute(f"CREATE SCHEMA {quoted} AUTHORIZATION ledgerline_owner")
    await connection.execute("SET LOCAL ROLE ledgerline_owner")
    await connection.execute(f"SET LOCAL statement_timeout = '{LONGEST_S:.0f}s'")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = {row["number"]: row["sha256"] for row in await connection.fetch("SELECT number, sha256 FROM migrations")}
    known = migrations()
    if max(applied, default=0) > len(known):
        raise SchemaMismatch(schema, len(known), max(applied))
    for migration in known:
        sha256 = hashlib.sha256(migration.text.encode()).hexdigest()
        if migration.number not in applied:
            await connection.execute(migration.text, timeout=LONGEST_S)
            await connection.execute(
                "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                sha256,
            )
        elif applied[migration.number] != sha256:
            raise SchemaMismatch(schema, len(known), migration.number - 1)
    return len(known) - len(applied)


async def require_schema(connection: Connection, schema: str) -> None:
    """Raises SchemaMismatch unless *schema* is exactly at this program's last migration; PostgresUnavailable."""
    with failures(f"look up the migrations of schema {schema}"):
        found = 0
        if await connection.fetchval("SELECT to_regclass('migrations') IS NOT NULL"):
            found = await connection.fetchval("SELECT max(number) FROM migrations") or 0
    if found != len(migrations()):
        raise SchemaMismatch(schema, len(migrations()), found)
