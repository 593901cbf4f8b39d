"""Each role by a login of its own: what it must be able to do, and what it must not."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ledgerline import queries
from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.readers import sink_position
from sinks.postgres.session import connect, session
from tests.sinks.following import broker_with, follow, sink_of, writers
from tests.sinks.journals import LEDGER, Journal, payments

pytestmark = pytest.mark.integration

Refused = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)

ENTRY = "INSERT INTO entries VALUES ({seq}, now(), 3, 2, 'transfer', 'r')"
LEGS = (
    "INSERT INTO posting_rows VALUES ({seq}, 12884901889, 5, 3, 1, true, 'EUR'),"
    " ({seq}, 12884901890, {credit}, 3, 2, false, 'EUR')"
)

CHANGES = (
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "DROP TABLE {table}",
    "ALTER TABLE {table} ADD COLUMN more text",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
)
TABLES = (
    "ledger",
    "sink_positions",
    "account_terms",
    "account_counters",
    "entries",
    "posting_rows",
    "decision_rows",
    "config_pickups",
    "skips",
    "migrations",
)
VIEWS = "accounts", "decisions", "balances", "postings", "trial_balance", "statement", "unproved_balances"
NOBODY_MAY = (
    "SET ROLE ledgerline_owner",
    "SET SESSION AUTHORIZATION ledgerline_owner",
    "SET session_replication_role = replica",
    "CREATE TABLE ledgerline.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE VIEW ledgerline.mine AS SELECT 1",
    "CREATE SCHEMA mine",
    "CREATE OR REPLACE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "ALTER FUNCTION refuse_unbalanced() SET search_path TO pg_temp",
    "DROP TRIGGER entry_balances ON posting_rows",
    "ALTER SCHEMA ledgerline RENAME TO mine",
    "DROP SCHEMA ledgerline CASCADE",
    "GRANT ledgerline_owner TO CURRENT_USER",
    "CREATE ROLE mine",
    "COPY decisions TO PROGRAM 'cat'",
)
WRITER_MAY_NOT = (
    "UPDATE ledger SET sink_id = 'mine'",
    "UPDATE sink_positions SET partition = 1",
    "UPDATE sink_positions SET sink_id = 'mine'",
    "UPDATE sink_positions SET ledger_id = gen_random_uuid()",
    "UPDATE account_terms SET account_id = 'mine'",
    "UPDATE account_terms SET currency = 'USD'",
    "UPDATE account_terms SET normal_side = 'debit'",
    "UPDATE account_terms SET partition = 0",
    "UPDATE account_counters SET account_key = 1",
    "UPDATE entries SET leg_count = 3",
    "UPDATE posting_rows SET amount_minor = 1",
    "UPDATE decisions SET status = 'accepted'",
    "UPDATE decision_rows SET status = 'accepted'",
    "UPDATE config_pickups SET verdict = 'active'",
    "UPDATE skips SET reason = 'x'",
    "UPDATE migrations SET sha256 = 'x'",
    "INSERT INTO migrations (number, name, sha256) VALUES (99, 'mine', 'x')",
    "UPDATE accounts SET tier = 'mine'",
    "DELETE FROM accounts",
)
READER_MAY_NOT = (
    "INSERT INTO ledger VALUES (true, gen_random_uuid(), 'mine', 4)",
    "INSERT INTO skips VALUES (1, now(), 0, 0, 'x')",
    "INSERT INTO accounts (account_id) VALUES ('mine')",
    "UPDATE sink_positions SET sink_epoch = sink_epoch + 1",
    "UPDATE account_counters SET held = 0",
    "UPDATE account_terms SET status = 'open'",
    "UPDATE decisions SET status = 'accepted'",
    "SELECT * FROM sink_positions FOR UPDATE",
    "SET ROLE ledgerline_writer",
)


class Logins(NamedTuple):
    """DSNs of one database: the administrator's, and of logins that were granted one role each."""

    admin: str
    writer: str
    reader: str


@pytest.fixture
async def logins(database: str) -> AsyncIterator[Logins]:
    """A ledger with some rows, written by a sink that logs in as a writer."""
    names = {role: f"{role}_{secrets.token_hex(4)}" for role in ("writer", "reader")}
    async with session(database) as admin:
        for role, name in names.items():
            await admin.execute(f"CREATE ROLE {name} LOGIN IN ROLE ledgerline_{role}")
        found = Logins(database, *(as_user(database, name) for name in names.values()))
        journal = Journal()
        broker = broker_with(journal.start(), *payments(journal, blocks=2, per_block=10))
        async with writers(found.writer) as pool:
            await follow(found.reader, sink_of(pool, broker), journal.seq)
        yield found
        for name in names.values():
            await admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_user(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}"))


async def test_a_login_with_the_writer_role_is_all_that_a_sink_needs(logins: Logins) -> None:
    async with session(logins.reader) as reader:
        assert await reader.fetchval("SELECT count(*) FROM entries") > 20
        assert await reader.fetch("SELECT * FROM unproved_balances") == []


async def test_a_login_with_the_reader_role_is_all_that_queries_need(logins: Logins) -> None:
    account = "acc-3-1"
    assert (await queries.balances(logins.reader, account))[0].account_id == account
    assert await queries.statement_lines(logins.reader, account, 5)
    await queries.written_through(logins.reader, "3-10", 1.0)
    assert await queries.outcomes_of(logins.reader, "r-3")
    assert await sink_position(logins.reader, ledger_id=LEDGER, partition=3) is not None
    async with session(logins.reader) as reader:
        for name in (*TABLES, *VIEWS):
            await reader.fetch(f"SELECT * FROM {name} LIMIT 1")


async def test_neither_the_owner_nor_the_other_roles_can_log_in(logins: Logins) -> None:
    for role in ("owner", "writer", "reader"):
        with pytest.raises(PostgresUnavailable, match="not permitted to log in"):
            await connect(as_user(logins.admin, f"ledgerline_{role}"))


@pytest.mark.parametrize("role", ["writer", "reader"])
async def test_who_writes_or_reads_changes_neither_structure_nor_rights_nor_history(logins: Logins, role: str) -> None:
    forbidden = [change.format(table=table) for table in TABLES for change in CHANGES]
    forbidden += WRITER_MAY_NOT if role == "writer" else READER_MAY_NOT
    async with session(getattr(logins, role)) as connection:
        assert await allowed(connection, [*forbidden, *NOBODY_MAY]) == []


async def test_the_checks_refuse_a_writer_what_does_not_balance_or_leaves_a_gap(logins: Logins) -> None:
    async with session(logins.writer) as writer:
        with pytest.raises(asyncpg.CheckViolationError, match="expected 2 legs from 1 on that balance per currency"):
            await writer.execute(f"{ENTRY.format(seq=1000)}; {LEGS.format(seq=1000, credit=6)}")
        legs = LEGS.format(seq=1000, credit=5).replace("3, 2, false", "3, 3, false")
        with pytest.raises(asyncpg.CheckViolationError, match=r"expected 2 legs from 1 .* got 2 legs up to 3"):
            await writer.execute(f"{ENTRY.format(seq=1000)}; {legs}")
        with pytest.raises(asyncpg.CheckViolationError, match="a row in entries that states the number"):
            await writer.execute(LEGS.format(seq=1000, credit=5))
        with pytest.raises(asyncpg.CheckViolationError, match="expected rows for exactly the events"):
            await writer.execute("UPDATE sink_positions SET seq = seq + 1")


async def test_temporary_tables_of_a_writer_do_not_deceive_the_checks(logins: Logins) -> None:
    async with session(logins.writer) as writer:
        for table in ("entries", "decision_rows", "config_pickups", "skips", "posting_rows"):
            await writer.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM ledgerline.{table} LIMIT 0")
        await writer.execute(ENTRY.format(seq=1000))
        await writer.execute("INSERT INTO skips SELECT seq + 1, now(), 3, 0, 'x' FROM ledgerline.sink_positions")
        with pytest.raises(asyncpg.CheckViolationError, match="a row in entries that states the number"):
            await writer.execute(LEGS.format(seq=1000, credit=5).replace("posting_rows", "ledgerline.posting_rows"))
        with pytest.raises(asyncpg.CheckViolationError, match="expected rows for exactly the events"):
            await writer.execute("UPDATE sink_positions SET seq = seq + 1")


async def allowed(connection: asyncpg.Connection[asyncpg.Record], statements: list[str]) -> list[str]:
    """Those that are not refused for want of rights; nothing stays of them."""
    found: list[str] = []
    for statement in statements:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(statement)
            found.append(statement)
        except Refused as refused:
            if not any(word in str(refused) for word in ("denied", "must be owner", "must be able")):
                found.append(f"{statement}: {refused}")
        except asyncpg.PostgresError as error:
            found.append(f"{statement}: {error}")
        finally:
            with contextlib.suppress(asyncpg.PostgresError):
                await transaction.rollback()
    return found
