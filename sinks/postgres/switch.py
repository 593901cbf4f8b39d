"""The end of a rebuild: one transaction in which the live sinks stand still and two schemas change their names."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import asyncpg

from sinks.postgres.migrations import MIGRATION_LOCK
from sinks.postgres.session import failures
from sinks.postgres.statements import statement

if TYPE_CHECKING:
    from sinks.postgres.session import Connection

CLOSE_TIMEOUT: Final = "500ms"
"""How long readers may have to wait for a table at a time.

Below PostgreSQL's deadlock_timeout of 1 s: whoever waits for us while we wait for him is never the one who is ended.
"""
_CLOSE_ATTEMPTS: Final = 5
_CLOSE_PAUSE_S: Final = (0.05, 0.3)
_BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError)


class Busy(Exception):
    """Others keep the live tables locked; the transaction was rolled back, and the same may succeed later."""


class Switch:
    """One attempt, on a session that does nothing else meanwhile.

    1. ``hold``: lock the live tables against writers and migrations. Sinks finish their transactions; what they begin
       then waits, or is tried again later. Readers go on.
    2. The caller brings the rebuilt schema to exactly where the live one stands, and compares.
    3. ``close``: lock the live tables against readers, too: nobody sees half of each schema.
    4. ``exchange``: carry the grants over, rename both schemas, make the rebuilt rows the live sink's under a higher
       sink_epoch. Who waited for a table by its name gets the rebuilt one.
    5. ``commit``.

    A crash before 5 leaves everything as it was, and the server frees the locks; behind it everything is done.
    """

    def __init__(self, connection: Connection, live: str, rebuilt: str) -> None:
        self._connection, self._live, self._rebuilt = connection, live, rebuilt
        self._tables: list[str] = []

    async def hold(self) -> None:
        """Step 1. Raises Busy, PostgresUnavailable."""
        connection = self._connection
        with failures("hold the live sinks"):
            await connection.execute("BEGIN")
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '2min'")
            self._tables = [row[0] for row in await connection.fetch(statement("ledger_tables"), self._live)]
            try:
                await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
                await connection.execute(f"LOCK TABLE {', '.join(self._tables)} IN EXCLUSIVE MODE")
            except _BUSY as error:
                raise Busy(await self._users()) from error

    async def close(self) -> None:
        """Step 3, in short attempts: a reader in a long transaction must not keep others waiting. Raises Busy."""
        connection = self._connection
        with failures("close the live tables to readers"):
            for _ in range(_CLOSE_ATTEMPTS):
                await connection.execute("SAVEPOINT closing")
                await connection.execute(f"SET LOCAL statement_timeout = '{CLOSE_TIMEOUT}'")
                try:
                    await connection.execute(f"LOCK TABLE {', '.join(self._tables)} IN ACCESS EXCLUSIVE MODE")
                except _BUSY:
                    await connection.execute("ROLLBACK TO SAVEPOINT closing")
                    await asyncio.sleep(random.uniform(*_CLOSE_PAUSE_S))  # noqa: S311  # jitter
                else:
                    await connection.execute("SET LOCAL statement_timeout = '30s'")
                    return
            raise Busy(await self._users())

    async def exchange(self) -> str:
        """Step 4; return what the old schema is called from now on."""
        connection = self._connection
        with failures("switch to the rebuilt schema"):
            retired: str = await connection.fetchval(statement("retired_name"), self._live)
            names = {"live": self._live, "rebuilt": self._rebuilt, "retired": retired}
            quoted = {k: await connection.fetchval("SELECT quote_ident($1)", name) for k, name in names.items()}
            for (grant,) in await connection.fetch(statement("lost_grants"), self._live, self._rebuilt):
                await connection.execute(grant)
            positions = await connection.fetchval(statement("count_positions").format(**quoted))
            expected = {"inherit_ledger": "UPDATE 1", "inherit_positions": f"UPDATE {positions}"}
            for name in ("inherit_ledger", "inherit_positions", "rename_live", "rename_rebuilt"):
                done = await connection.execute(statement(name).format(**quoted))
                assert done == expected.get(name, done), f"{name}: both schemas stand at the same positions, got {done}"
            for (setting,) in await connection.fetch(statement("path_settings"), [self._live, retired]):
                await connection.execute(setting)
        return retired

    async def commit(self) -> None:
        """Step 5. A lost answer is never guessed: the name of the rebuilt schema tells whoever asks."""
        with failures("commit the switch"):
            await self._connection.execute("COMMIT")

    async def give_up(self) -> None:
        """Leave everything as it was."""
        with failures("give up the switch"):
            await self._connection.execute("ROLLBACK")

    async def _users(self) -> str:
        """Who has the live tables open. The transaction may have failed, so it is ended first."""
        await self._connection.execute("ROLLBACK")
        found = await self._connection.fetch(statement("table_users"), self._live)
        return (
            ", ".join(f"{row['application_name'] or 'a session'} (pid {row['pid']})" for row in found) or "nobody now"
        )
