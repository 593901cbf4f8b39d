"""The ledger in PostgreSQL again from the journal, beside the live one, while the stream runs (docs/design.md §10)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from sinks.postgres.compare import Comparison, Difference, positions_in, snapshot
from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.migrations import migrate, require_schema
from sinks.postgres.rows import COLUMNS
from sinks.postgres.second import SecondSink
from sinks.postgres.session import SCHEMA, failures, session, writer_pool
from sinks.postgres.sink import CONNECTIONS
from sinks.postgres.statements import statement
from sinks.postgres.switch import Busy, Switch
from streams.journal.kafka_log import KafkaLog
from streams.kafka import Partition
from streams.topics import Topics

if TYPE_CHECKING:
    from sinks.postgres.session import Connection

REBUILT: Final = "ledgerline_rebuild"
"""The schema that is filled, until it takes the live one's name."""
SECOND_SINK_ID: Final = "rebuild"
CLOSE_EVENTS: Final = 2_000
"""So few events behind the live sink count as caught up: the rest takes less than a second."""
PATIENCE_S: Final = 120.0
"""Nothing written for so long, with something to write, ends the rebuild."""
HOLD_PATIENCE_S: Final = 30.0
"""The same while the live sinks stand still."""
SWITCH_PATIENCE_S: Final = 600.0
"""How long the switch is tried again while others keep the live tables locked."""
MAX_ROUNDS: Final = 5
"""Comparisons while the live sink goes on; each has less to compare than the one before, unless that is very fast."""
_NOT_CLOSER_S: Final = 20.0
_LOOK_S: Final = 0.25
_RETRY_S: Final = 2.0
_LOCK: Final = 0x6C64677265627569  # "ldgrebui": the advisory lock of the one rebuild in a database

OnProgress = Callable[[str, int, int], None]
"""Told the step, and how many of how many events it has done."""


class RebuildRefused(Exception):
    """Nothing was switched, and the live schema is as it was; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """How a rebuild ended."""

    ledger_id: str
    partitions: int
    events: int
    """Compared."""
    differences: tuple[Difference, ...]
    """At most compare.MAX_DIFFERENCES."""
    retired: str | None
    """What the old schema is called now; None if nothing was switched."""
    seconds: float


class Rebuild:
    """One run.

    1. ``prepare``: see that the live schema can be replaced; drop what an earlier run left; migrate a fresh schema.
    2. ``fold``: a second sink writes the journal from its genesis until it is close behind the live one, which goes on.
    3. ``compare``: take a snapshot of the live schema, bring the rebuilt one to exactly its positions, compare them
       row for row; again with what is new, until that is little. The live sink goes on.
    4. ``hold``: the live sinks stand still (``Switch``).
    5. ``finish``: bring the rebuilt schema to exactly there, and compare what is new. A difference: give up.
    6. ``exchange``: the rebuilt schema takes the name of the live one, which is kept under a dated name.
    7. ``commit``. The live sinks find a higher sink_epoch, leave, and take their partitions again in the rebuilt rows.

    A crash before 7 leaves the live schema as it was and the rebuilt one for the next run to drop: it starts over,
    because rows of an unknown build are no proof. A lost answer to 7 is asked for.
    """

    def __init__(
        self,
        *,
        kafka: str,
        prefix: str,
        dsn: str,
        accept_differences: bool = False,
        progress: OnProgress = lambda _step, _done, _total: None,
    ) -> None:
        """Connects to nothing yet. The DSN's user needs what ``migrate`` needs."""
        self.kafka, self.topics, self.dsn = kafka, Topics(prefix), dsn
        self._accept_differences, self._progress = accept_differences, progress

    async def run(self) -> Rebuilt:
        """Rebuild, compare, switch.

        Raises: RebuildRefused; SchemaMismatch; JournalHalt or PostgresRefused if the journal cannot be folded;
        LogUnavailable, PostgresUnavailable. None of them changes the live schema.
        """
        began = time.monotonic()
        async with self._alone() as control:
            ledger = await self.prepare(control)
            comparison = Comparison(ledger["partitions"])
            async with self._second() as second:
                retired = await self._work(control, second, comparison)
        return Rebuilt(
            ledger_id=str(ledger["ledger_id"]),
            partitions=ledger["partitions"],
            events=comparison.events,
            differences=tuple(comparison.differences),
            retired=retired,
            seconds=time.monotonic() - began,
        )

    async def _work(self, control: Connection, second: SecondSink, comparison: Comparison) -> str | None:
        """Steps 2 to 7; what the old schema is called, None if nothing was switched."""
        deadline, rounds = time.monotonic() + SWITCH_PATIENCE_S, 0
        while True:
            await self.fold(control, second)
            fresh, rounds = await self.compare(second, comparison), rounds + 1
            if comparison.differences and not self._accept_differences:
                return None
            if fresh > CLOSE_EVENTS and rounds < MAX_ROUNDS:
                continue
            await self._analyse()
            try:
                return await self._switch(control, second, comparison)
            except Busy as busy:
                if time.monotonic() > deadline:
                    raise RebuildRefused(
                        f"schema {SCHEMA}: expected its tables to be free for a moment within "
                        f"{SWITCH_PATIENCE_S:.0f} s, found them used by {busy}; nothing was switched: run "
                        "`ledgerline rebuild` again when that has ended"
                    ) from busy
                await asyncio.sleep(_RETRY_S)

    # ---- step 1

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection]:
        """The session that switches. While it lives no other rebuild runs in this database."""
        async with session(self.dsn) as control:
            with failures("begin the rebuild"):
                if not await control.fetchval(statement("rebuild_alone"), _LOCK):
                    holder = await control.fetchrow(statement("rebuild_holder"), _LOCK)
                    who = (
                        "" if holder is None else f" (session {holder['pid']} since {holder['backend_start']:%H:%M:%S})"
                    )
                    raise RebuildRefused(f"another rebuild of this ledger is running{who}; nothing was changed")
            yield control

    async def prepare(self, control: Connection) -> asyncpg.Record:
        """Step 1; return the row of ``ledger``."""
        await require_schema(control, SCHEMA)
        with failures("look up the ledger"):
            ledger = await control.fetchrow(statement("find_ledger"))
        if ledger is None or not await positions_in(control):
            raise RebuildRefused(
                f"schema {SCHEMA}: expected the rows of a ledger, found that no sink has ever written here; nothing "
                "was changed: run `ledgerline sink`"
            )
        with failures("drop what an earlier rebuild left"):
            await control.execute("SET lock_timeout = '30s'")
            await control.execute(f"DROP SCHEMA IF EXISTS {REBUILT} CASCADE")
            await control.execute("SET lock_timeout = '5s'")
        await migrate(self.dsn, REBUILT)
        await self._refuse_foreign_objects(control)
        return ledger

    async def _refuse_foreign_objects(self, control: Connection) -> None:
        with failures("look for objects that are tied to the live schema"):
            found = [row[0] for row in await control.fetch(statement("foreign_objects"), SCHEMA, REBUILT)]
        if found:
            raise RebuildRefused(
                f"schema {SCHEMA}: expected only what Ledgerline creates there, and nothing elsewhere tied to it, "
                f"found {', '.join(found)}: a switch would leave that with the old rows; nothing was switched: drop "
                "it, run `ledgerline rebuild`, create it again"
            )

    # ---- steps 2 and 3

    @contextlib.asynccontextmanager
    async def _second(self) -> AsyncIterator[SecondSink]:
        pool = await writer_pool(self.dsn, REBUILT, CONNECTIONS)
        second = SecondSink(
            log_of=lambda p: KafkaLog(self.kafka, Partition(self.topics.journal, p), "ledgerline-rebuild"),
            pool=pool,
            sink_id=SECOND_SINK_ID,
            schema=REBUILT,
        )
        try:
            yield second
        finally:
            await second.close()
            pool.terminate()  # nothing is under way

    async def fold(self, control: Connection, second: SecondSink) -> None:
        """Step 2. Also ends when the live sink is as fast for a while: the rest is written while that stands still."""
        least, since = None, time.monotonic()
        while True:
            targets = await positions_in(control)
            done, total = sum(second.seqs.values()), sum(target.seq for target in targets.values())
            self._progress("fold", done, total)
            if least is None or total - done < least:
                least, since = total - done, time.monotonic()
            if total - done <= CLOSE_EVENTS or time.monotonic() - since > _NOT_CLOSER_S:
                return
            await second.follow(targets, _LOOK_S)

    async def compare(self, second: SecondSink, comparison: Comparison) -> int:
        """Step 3; how many events the live sink has written meanwhile."""
        async with snapshot(self.dsn, SCHEMA) as (live, targets):
            await second.reach(targets, PATIENCE_S)
            async with session(self.dsn, REBUILT) as rebuilt:
                total = sum(target.seq for target in targets.values())
                async for done in comparison.advance(live, rebuilt, targets):
                    self._progress("compare", done, total)
        async with session(self.dsn) as now:
            return sum(one.seq for one in (await positions_in(now)).values()) - total

    async def _analyse(self) -> None:
        """Readers' plans need statistics, and autovacuum may be a minute away."""
        async with session(self.dsn, REBUILT) as rebuilt:
            with failures("analyse the rebuilt tables"):
                for table in COLUMNS:
                    await rebuilt.execute(f"ANALYZE {table}")

    # ---- steps 4 to 7

    async def _switch(self, control: Connection, second: SecondSink, comparison: Comparison) -> str | None:
        """What the old schema is called; None if the last rows differ. Raises Busy: nothing has changed."""
        oid = await self._oid(REBUILT)
        switch = Switch(control, SCHEMA, REBUILT)
        await self.hold(switch)
        await self.finish(control, second, comparison)  # what it raises ends the session, and with it the transaction
        if comparison.differences and not self._accept_differences:
            await switch.give_up()
            return None
        await switch.close()
        retired = await self.exchange(switch)
        try:
            await self.commit(switch)
        except PostgresUnavailable:
            if await self._name(oid) != SCHEMA:
                raise
        return retired

    async def hold(self, switch: Switch) -> None:
        """Step 4."""
        await switch.hold()

    async def finish(self, control: Connection, second: SecondSink, comparison: Comparison) -> None:
        """Step 5."""
        await require_schema(control, SCHEMA)
        await self._refuse_foreign_objects(control)
        targets = await positions_in(control)
        await second.reach(targets, HOLD_PATIENCE_S)
        async with session(self.dsn, REBUILT) as rebuilt:
            total = sum(target.seq for target in targets.values())
            async for done in comparison.advance(control, rebuilt, targets):
                self._progress("finish", done, total)

    async def exchange(self, switch: Switch) -> str:
        """Step 6."""
        return await switch.exchange()

    async def commit(self, switch: Switch) -> None:
        """Step 7."""
        await switch.commit()

    async def _oid(self, schema: str) -> int:
        async with session(self.dsn) as connection:
            with failures("look up the rebuilt schema"):
                found: int = await connection.fetchval("SELECT oid FROM pg_namespace WHERE nspname = $1", schema)
        return found

    async def _name(self, oid: int) -> str:
        async with session(self.dsn) as connection:
            with failures("ask whether the switch was committed"):
                found: str = await connection.fetchval("SELECT nspname FROM pg_namespace WHERE oid = $1", oid)
        return found
