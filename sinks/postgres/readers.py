"""For others who need to know how far the ledger in PostgreSQL is: the worker's witness, and readers who wait."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from sinks.postgres.errors import ForeignLedger
from sinks.postgres.session import SCHEMA, failures, session
from sinks.postgres.statements import statement
from streams.journal.reading import Position

SINK_ID: Final = "main"
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.2


async def sink_position(
    dsn: str, *, ledger_id: str, partition: int, sink_id: str = SINK_ID, schema: str = SCHEMA
) -> Position | None:
    """The position that the sink has stored; None where no sink has ever been. A witness: the journal must hold it.

    Raises: ForeignLedger if the schema holds another ledger; PostgresUnavailable.
    """
    async with session(dsn, schema) as connection:
        with failures(f"read the sink position of partition {partition}"):
            if not await connection.fetchval("SELECT to_regclass('sink_positions') IS NOT NULL"):
                return None
            found = await connection.fetchrow(statement("find_ledger"))
            if found is not None and str(found["ledger_id"]) != ledger_id:
                raise ForeignLedger(schema, f"ledger {ledger_id}", f"ledger {found['ledger_id']}")
            row = await connection.fetchrow(statement("read_position"), sink_id, ledger_id, partition)
    return None if row is None else position_of(row)


async def wait_for(
    dsn: str, *, partition: int, seq: int, timeout_s: float, sink_id: str = SINK_ID, schema: str = SCHEMA
) -> None:
    """Return as soon as PostgreSQL holds everything of *partition* up to *seq*: what was decided can then be queried.

    Asks again at intervals of 10 to 200 ms. Raises TimeoutError after *timeout_s*, naming how far it got;
    PostgresUnavailable.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + timeout_s, _FIRST_PAUSE_S
    async with session(dsn, schema) as connection:
        while True:
            with failures(f"wait for seq {seq} of partition {partition}"):
                written = await connection.fetchval(statement("written_seq"), sink_id, partition)
            if written is not None and written >= seq:
                return
            if loop.time() >= deadline:
                raise TimeoutError(
                    f"partition {partition}: expected seq {seq} in PostgreSQL within {timeout_s} s, found "
                    f"{'no sink' if written is None else f'seq {written}'}; see the sink's /readyz"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def position_of(row: asyncpg.Record) -> Position:
    """The position in a row of ``sink_positions``."""
    return Position(
        next_offset=row["next_offset"],
        epoch=row["epoch"],
        token=row["token"],
        lease_seq=row["lease_seq"],
        seq=row["seq"],
        chain=row["chain"],
        at=row["at"],
        last=row["last"],
    )
