"""Two schemas, row for row, at one position of each partition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import orjson

from sinks.postgres.readers import position_of
from sinks.postgres.rows import KEY_BITS
from sinks.postgres.session import failures, session
from sinks.postgres.statements import statement
from streams.journal.reading import Position

if TYPE_CHECKING:
    from sinks.postgres.session import Connection

MAX_DIFFERENCES: Final = 100
"""Differences that are named; then the comparison ends."""
CHUNK: Final = 5_000
"""Events, or accounts, whose rows are compared at once."""
SNAPSHOT_TIMEOUT: Final = "10min"
"""How long a snapshot may wait for the rebuilt schema to reach it."""
_LAST_SEQ: Final = 2**63 - 1

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "decisions": ("partition", "seq"),
    "entries": ("partition", "seq"),
    "posting_rows": ("partition", "seq", "leg"),
    "config_pickups": ("partition", "seq"),
    "skips": ("partition", "seq"),
    "account_terms": ("account_key",),
    "account_counters": ("account_key",),
}
"""Everything that has rows derived from events, and what tells them apart.

``decisions`` is a view: an explanation counts as the value that readers see, whatever the bytes below it.
"""

_BY_SEQ: Final = [table for table, key in KEYS.items() if "seq" in key]
_SEQS: Final = "t.partition = $1 AND t.seq > $2 AND t.seq <= $3"
_ACCOUNTS: Final = "t.account_key >= $1 AND t.account_key < $2"
_TOUCHED: Final = {
    "account_counters": f"{_ACCOUNTS} AND t.seq > $3",
    "account_terms": f"{_ACCOUNTS} AND EXISTS "
    "(SELECT FROM account_counters AS c WHERE c.account_key = t.account_key AND c.seq > $3)",
}


class Difference(NamedTuple):
    """A row that is not the same in both schemas; each row as JSON, None where there is none."""

    table: str
    key: str
    live: str | None
    rebuilt: str | None

    def to_plain(self) -> dict[str, object]:
        """For JSON."""
        live, rebuilt = (None if row is None else orjson.Fragment(row.encode()) for row in self[2:])
        return {"table": self.table, "key": self.key, "live": live, "rebuilt": rebuilt}


class _Part(NamedTuple):
    """Some rows of a table: those that *where* picks."""

    table: str
    where: str
    arguments: tuple[int, ...]


class Comparison:
    """What was found so far. ``advance`` compares what is new since the last time, the first time everything.

    Each part is compared by the number of its rows and the sum of their 64-bit hashes, which the server computes over
    the whole text of each row; the rows of a part that differs are then compared one by one. A later ``advance`` reads
    the rows of later events and of the accounts that these touched, and again whatever lies behind the position.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.upto: dict[int, int] = {}
        """The seq up to which each partition was compared."""
        self._found: dict[tuple[str, str], Difference] = {}

    @property
    def differences(self) -> list[Difference]:
        """At most MAX_DIFFERENCES, in the order in which they were found."""
        return list(self._found.values())[:MAX_DIFFERENCES]

    @property
    def events(self) -> int:
        """How many events were compared."""
        return sum(self.upto.values())

    async def advance(
        self, live: Connection, rebuilt: Connection, targets: Mapping[int, Position]
    ) -> AsyncIterator[int]:
        """Compare up to *targets*, at which both connections see their schema; yields how many events were compared.

        Ends early once MAX_DIFFERENCES were found. Raises PostgresUnavailable.
        """
        with failures("compare the rebuilt schema with the live one"):
            await self._positions(live, rebuilt)
            if not self.upto:
                for part in self._elsewhere():
                    await self._compare(live, rebuilt, part)
            for partition in range(self.partitions):
                target = targets[partition].seq if partition in targets else 0
                numbers = max(
                    [await one.fetchval(statement("last_account_number"), partition) for one in (live, rebuilt)]
                )
                for upto, part in self._parts(partition, target, numbers):
                    await self._compare(live, rebuilt, part)
                    yield self.events + max(0, min(upto, target) - self.upto.get(partition, 0))
                    if len(self._found) >= MAX_DIFFERENCES:
                        return
                self.upto[partition] = target

    def _parts(self, partition: int, target: int, accounts: int) -> Iterator[tuple[int, _Part]]:
        """The rows of *partition* that were not compared yet; the last part of each table has no end."""
        since = self.upto.get(partition, 0)
        for after in range(since, target, CHUNK) or [since]:
            upto = after + CHUNK if after + CHUNK < target else _LAST_SEQ
            for table in _BY_SEQ:
                yield upto, _Part(table, _SEQS, (partition, after, upto))
        first, end = partition << KEY_BITS, (partition + 1) << KEY_BITS
        if partition not in self.upto:
            for number in range(0, accounts + 1, CHUNK):
                last = first + number + CHUNK if number + CHUNK <= accounts else end
                for table in _TOUCHED:
                    yield target, _Part(table, _ACCOUNTS, (first + number, last))
        else:
            for table, where in _TOUCHED.items():
                yield target, _Part(table, where, (first, end, since))

    def _elsewhere(self) -> Iterator[_Part]:
        """Rows of partitions that the ledger does not have."""
        for table in _BY_SEQ:
            yield _Part(table, "t.partition < 0 OR t.partition >= $1", (self.partitions,))
        for table in _TOUCHED:
            yield _Part(table, "t.account_key < 0 OR t.account_key >= $1", (self.partitions << KEY_BITS,))

    async def _positions(self, live: Connection, rebuilt: Connection) -> None:
        there, here = [
            {row["partition"]: row for row in await one.fetch(statement("live_positions"))} for one in (live, rebuilt)
        ]
        for partition in sorted(there.keys() | here.keys()):
            rows = [_shown(rows.get(partition)) for rows in (there, here)]
            if rows[0] != rows[1]:
                self._add(Difference("sink_positions", f"partition {partition}", *rows))

    async def _compare(self, live: Connection, rebuilt: Connection, part: _Part) -> None:
        table, where, arguments = part
        digest = f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} AS t WHERE {where}"  # noqa: S608 - constants
        there, here = await asyncio.gather(*(one.fetchrow(digest, *arguments) for one in (live, rebuilt)))
        if there == here:
            return
        names = ", ".join(f"t.{name}" for name in KEYS[table])
        each = f"SELECT {names}, hashtextextended(t::text, 0) AS hash FROM {table} AS t WHERE {where}"  # noqa: S608 - constants
        rows = [{tuple(row.values()) for row in await one.fetch(each, *arguments)} for one in (live, rebuilt)]
        for *key, _ in sorted(rows[0] ^ rows[1]):
            if len(self._found) >= MAX_DIFFERENCES:
                return
            self._add(await self._difference(live, rebuilt, table, key))

    async def _difference(self, live: Connection, rebuilt: Connection, table: str, key: list[int]) -> Difference:
        is_it = " AND ".join(f"t.{name} = ${number}" for number, name in enumerate(KEYS[table], 1))
        whole = f"SELECT row_to_json(t)::text FROM {table} AS t WHERE {is_it}"  # noqa: S608 - constants
        there, here = [await one.fetchval(whole, *key) for one in (live, rebuilt)]
        named = ", ".join(f"{name} {value}" for name, value in zip(KEYS[table], key, strict=True))
        return Difference(table, named, there, here)

    def _add(self, difference: Difference) -> None:
        self._found[difference.table, difference.key] = difference


@contextlib.asynccontextmanager
async def snapshot(dsn: str, schema: str) -> AsyncIterator[tuple[Connection, dict[int, Position]]]:
    """The rows of *schema* as of now, whatever is written meanwhile, and the positions that they stand for."""
    async with session(dsn, schema) as connection:
        with failures(f"take a snapshot of schema {schema}"):
            await connection.execute(f"SET idle_in_transaction_session_timeout = '{SNAPSHOT_TIMEOUT}'")
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            positions = await positions_in(connection)
        yield connection, positions


async def positions_in(connection: Connection) -> dict[int, Position]:
    """The positions of the sink whose schema it is, by partition."""
    with failures("read the positions"):
        return {row["partition"]: position_of(row) for row in await connection.fetch(statement("live_positions"))}


def _shown(row: asyncpg.Record | None) -> str | None:
    """What must be equal of a position: everything but whose it is."""
    if row is None:
        return None
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    return orjson.dumps({k: v for k, v in plain.items() if k not in {"sink_id", "ledger_id", "sink_epoch"}}).decode()
