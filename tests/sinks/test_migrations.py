from __future__ import annotations

import asyncio
import secrets

import pytest

from sinks.postgres import migrations as migrations_module
from sinks.postgres import session as session_module
from sinks.postgres.errors import PostgresUnavailable, SchemaMismatch
from sinks.postgres.migrations import ensure_database, migrate, require_schema
from sinks.postgres.session import session
from sinks.postgres.statements import Migration, migrations

pytestmark = pytest.mark.integration


async def test_migrations_are_applied_once_and_recorded(database: str) -> None:
    assert await migrate(database) == 0
    async with session(database) as connection:
        rows = await connection.fetch("SELECT number, name FROM migrations ORDER BY number")
        await require_schema(connection, "ledgerline")
    assert [(row["number"], row["name"]) for row in rows] == [(m.number, m.name) for m in migrations()]


async def test_two_that_migrate_at_once_apply_everything_once(postgres: str) -> None:
    name = f"sink_{secrets.token_hex(6)}"
    dsns = await asyncio.gather(*(ensure_database(postgres, name) for _ in range(3)))
    applied = await asyncio.gather(*(migrate(dsn) for dsn in dsns))
    assert sorted(applied) == [0, 0, len(migrations())]
    async with session(postgres) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_another_schema_in_the_same_database_is_another_ledger_of_rows(database: str) -> None:
    assert await migrate(database, "rebuild") == len(migrations())
    async with session(database, "rebuild") as connection:
        await require_schema(connection, "rebuild")
        used = await connection.fetchval("SELECT pg_get_functiondef('refuse_unbalanced'::regproc)")
    assert "SET search_path TO 'rebuild'" in used


async def test_a_schema_that_is_missing_or_newer_is_refused_and_says_what_to_do(database: str) -> None:
    async with session(database, "nothing") as connection:
        with pytest.raises(SchemaMismatch, match="found no ledger; run `ledgerline init`"):
            await require_schema(connection, "nothing")
    async with session(database) as connection:
        await connection.execute("INSERT INTO migrations (number, name, sha256) VALUES (99, 'later', 'x')")
        with pytest.raises(SchemaMismatch, match="found migration 99; install a newer Ledgerline"):
            await require_schema(connection, "ledgerline")
    with pytest.raises(SchemaMismatch, match="found migration 99"):
        await migrate(database)


async def test_a_migration_that_was_edited_after_its_release_is_noticed(database: str) -> None:
    async with session(database) as connection:
        await connection.execute("UPDATE migrations SET sha256 = 'another' WHERE number = 2")
    with pytest.raises(SchemaMismatch):
        await migrate(database)


async def test_decisions_written_before_their_table_became_a_view_read_the_same(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"sink_{secrets.token_hex(6)}"
    dsn = await ensure_database(postgres, name)
    monkeypatch.setattr(migrations_module, "migrations", lambda: migrations()[:5])
    await migrate(dsn)
    columns = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'decisions' "
        "ORDER BY ordinal_position"
    )
    async with session(dsn) as connection:
        await connection.execute(
            "INSERT INTO decisions VALUES (1, now(), 0, true, false, 'r', 'a', 'deposit', 'accepted', null, "
            """'{"status": "accepted"}', '{"score": {"b": 1, "a": 2}}')"""
        )
        await connection.execute("GRANT SELECT ON decisions TO pg_monitor")
        before = await connection.fetchrow("SELECT * FROM decisions"), await connection.fetch(columns)
    monkeypatch.undo()
    await migrate(dsn)
    async with session(dsn) as connection:
        await connection.execute("GRANT USAGE ON SCHEMA ledgerline TO pg_monitor; SET ROLE pg_monitor")
        assert (await connection.fetchrow("SELECT * FROM decisions"), await connection.fetch(columns)) == before
        assert await connection.fetchval("SELECT explanation->'score'->>'a' FROM decisions") == "2"
    async with session(postgres) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_migration_of_a_large_ledger_may_take_longer_than_any_other_statement(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "COMMAND_TIMEOUT_S", 1.0)
    monkeypatch.setitem(session_module.TIMEOUTS, "statement_timeout", "1s")
    number = len(migrations()) + 1
    slow = Migration(number, "slow", "SELECT pg_sleep(1.5)")
    monkeypatch.setattr(migrations_module, "migrations", lambda: [*migrations(), slow])
    assert await migrate(database) == 1


async def test_an_absent_server_is_unavailable() -> None:
    with pytest.raises(PostgresUnavailable, match="PostgreSQL: connect"):
        await migrate("postgresql://postgres@127.0.0.1:1/nothing")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM decision_rows",
        "UPDATE posting_rows SET amount_minor = 1",
        "UPDATE account_terms SET currency = 'USD'",
        "UPDATE sink_positions SET partition = 9",
        "TRUNCATE entries",
        "DROP TABLE skips",
        "ALTER TABLE posting_rows DISABLE TRIGGER entry_balances",
    ],
)
async def test_the_writer_role_cannot_rewrite_history(database: str, statement: str) -> None:
    async with session(database) as connection:
        await connection.execute("SET ROLE ledgerline_writer")
        with pytest.raises(Exception, match=r"permission denied|must be owner"):
            await connection.execute(statement)


async def test_the_reader_role_reads_everything_and_writes_nothing_and_the_owner_cannot_log_in(database: str) -> None:
    async with session(database) as connection:
        assert not await connection.fetchval("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'ledgerline_owner'")
        owners = await connection.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'ledgerline'")
        assert [row[0] for row in owners] == ["ledgerline_owner"]
        await connection.execute("SET ROLE ledgerline_reader")
        for name in ("accounts", "balances", "postings", "trial_balance", "statement", "decisions", "sink_positions"):
            assert await connection.fetch(f"SELECT * FROM {name}") == []
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute("INSERT INTO skips VALUES (1, now(), 0, 0, 'x')")
