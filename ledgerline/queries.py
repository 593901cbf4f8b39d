"""What people and programs ask the ledger in PostgreSQL. Each question is a typed function; its SQL is the sinks'."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from schemas.outcomes import Outcome, decode_outcome, parse_transaction_id
from schemas.times import format_time
from sinks.postgres.readers import wait_for
from sinks.postgres.session import failures, session
from sinks.postgres.statements import statement


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """An account as of its last event ``seq``. A system account has one per partition, and no ``available_minor``."""

    account_id: str
    partition: int
    currency: str
    debits_posted: int
    credits_posted: int
    held: int
    balance_minor: int
    available_minor: int | None
    seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StatementLine:
    """One posting of an account with the balance behind it."""

    account_id: str
    partition: int
    seq: int
    leg: int
    at: str
    type: str | None
    request_id: str | None
    side: str
    amount_minor: int
    currency: str
    balance_minor: int


async def balances(dsn: str, account_id: str) -> list[Balance]:
    """The balance of *account_id*, one per partition that it stands on; none if the ledger does not know it (yet)."""
    return [Balance(**row) for row in await _rows(dsn, "balance", account_id)]


async def statement_lines(dsn: str, account_id: str, limit: int) -> list[StatementLine]:
    """The last *limit* postings of *account_id*, oldest first."""
    rows = await _rows(dsn, "statement", account_id, limit)
    return [StatementLine(**{**row, "at": format_time(round(row["at"].timestamp() * 1000))}) for row in reversed(rows)]


async def outcomes_of(dsn: str, request_id: str) -> list[Outcome]:
    """Every outcome under *request_id*, replays included. Ids are unique per account only."""
    return [decode_outcome(row["outcome"].encode()) for row in await _rows(dsn, "outcomes_of_request", request_id)]


async def written_through(dsn: str, transaction: str, timeout_s: float) -> None:
    """Return as soon as PostgreSQL holds *transaction*, so that what follows from it can be read.

    Raises: ValueError if it is no transaction id; TimeoutError after *timeout_s*, naming how far it got.
    """
    partition, seq = parse_transaction_id(transaction)
    await wait_for(dsn, partition=partition, seq=seq, timeout_s=timeout_s)


async def _rows(dsn: str, name: str, *arguments: object) -> Sequence[asyncpg.Record]:
    async with session(dsn) as connection:
        with failures(f"ask for {name.replace('_', ' ')}"):
            return await connection.fetch(statement(name), *arguments)
