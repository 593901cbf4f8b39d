"""A fresh database per test, on the shared server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from sinks.postgres.migrations import ensure_database, migrate
from sinks.postgres.session import session


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[str]:
    """DSN of a migrated database that exists for one test."""
    name = f"sink_{secrets.token_hex(6)}"
    dsn = await ensure_database(postgres, name)
    await migrate(dsn)
    yield dsn
    async with session(postgres) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
