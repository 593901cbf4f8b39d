"""One partition's rows in PostgreSQL: taking it, and writing batches with the position as the only guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from sinks.postgres.errors import Deposed, ForeignLedger, PostgresRefused
from sinks.postgres.readers import position_of
from sinks.postgres.rows import COLUMNS, KEY_BITS, Batch, Row, add_block, joined, mentioned, settle_new, terms_row
from sinks.postgres.session import failures
from sinks.postgres.statements import statement
from streams.journal.reading import Position, ValidBlock

if TYPE_CHECKING:
    from sinks.postgres.session import Connection, Pool

MAX_CACHED_ACCOUNTS: Final = 200_000
"""Account keys remembered per partition; beyond, they are forgotten and looked up again as needed."""

BREATHE_EVERY: Final = 64
"""Events after which others on this event loop get a turn, between two blocks: a worker may be among them."""


class PositionMoved(Exception):
    """The compare-and-set found another position or another taker: the row says which. Nothing was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose rows these are: the key of the position row."""

    sink_id: str
    ledger_id: str
    partition: int


async def claim_ledger(pool: Pool, schema: str, owner: Owner, partitions: int) -> None:
    """Bind the schema to the ledger and the sink_id, or see that it is bound to them.

    Raises: ForeignLedger; PostgresUnavailable.
    """
    with failures("look up the ledger of the schema"):
        async with pool.acquire() as connection:
            found = await connection.fetchrow(statement("find_ledger"))
            if found is None:
                try:
                    await connection.execute(statement("claim_ledger"), owner.ledger_id, owner.sink_id, partitions)
                except asyncpg.UniqueViolationError:
                    found = await connection.fetchrow(statement("find_ledger"))
    if found is None:
        return
    there = (str(found["ledger_id"]), found["sink_id"], found["partitions"])
    if there != (owner.ledger_id, owner.sink_id, partitions):
        text = "ledger {} by sink {!r} with {} partitions"
        raise ForeignLedger(schema, text.format(owner.ledger_id, owner.sink_id, partitions), text.format(*there))


class PartitionStore:
    """A partition that was taken: ``sink_epoch`` is this taker's, ``position`` what is known to be committed.

    One task at a time. After any error of ``write`` the position must be read again (``reread``) before the next.
    """

    def __init__(self, pool: Pool, owner: Owner, sink_epoch: int, position: Position) -> None:
        self.pool = pool
        self.owner = owner
        self.sink_epoch = sink_epoch
        self.position = position
        self._keys: dict[str, int] = {}
        self._last_number: int | None = None  # None: ask the database

    @classmethod
    async def take(cls, pool: Pool, owner: Owner, start: Position) -> PartitionStore:
        """Take the partition: from now on no earlier taker can commit. *start* is the position behind the genesis.

        1. Create the row at *start*, unless there is one.
        2. Count its sink_epoch up and read it whole, in one statement.

        A crash between the two leaves a row that says "nothing written yet", which is true. Waits for the row while
        another sink's transaction holds it (PostgresUnavailable after the lock time-out).
        """
        with failures(f"take partition {owner.partition}"):
            async with pool.acquire() as connection:
                await cls.create_row(connection, owner, start)
                row = await cls.count_up(connection, owner)
        return cls(pool, owner, row["sink_epoch"], position_of(row))

    @staticmethod
    async def create_row(connection: Connection, owner: Owner, start: Position) -> None:
        """Step 1 of ``take``."""
        key = (owner.sink_id, owner.ledger_id, owner.partition)
        with contextlib.suppress(asyncpg.UniqueViolationError):  # another sink created it at the same moment
            await connection.execute(statement("create_position"), *key, *_values(start))

    @staticmethod
    async def count_up(connection: Connection, owner: Owner) -> asyncpg.Record:
        """Step 2 of ``take``."""
        key = (owner.sink_id, owner.ledger_id, owner.partition)
        row = await connection.fetchrow(statement("take_partition"), *key)
        assert row is not None, "the position row is never deleted"
        return row

    async def reread(self) -> None:
        """Learn which position counts after an unknown end. Raises Deposed if another sink has taken the partition."""
        owner = self.owner
        with failures(f"read the position of partition {owner.partition}"):
            async with self.pool.acquire() as connection:
                row = await connection.fetchrow(
                    statement("read_position"), owner.sink_id, owner.ledger_id, owner.partition
                )
        found = -1 if row is None else row["sink_epoch"]
        if row is None or found != self.sink_epoch:
            raise Deposed(owner.partition, self.sink_epoch, found)
        self.position = position_of(row)
        self._keys.clear()
        self._last_number = None

    async def write(self, blocks: list[ValidBlock], after: Position) -> Batch:
        """Write *blocks*, which lead from ``position`` to *after*, in a transaction of their own (``write_parts``)."""
        batch = await self.prepare(blocks)
        await write_parts([Part(self, batch, after)])
        return batch

    # ---- the steps of `write_parts`; kill tests stop between any two of them

    async def begin(self, connection: Connection) -> None:
        """Open the transaction."""
        await connection.execute("BEGIN")

    async def advance_positions(self, connection: Connection, parts: list[Part]) -> None:
        """Step 1. Raises PositionMoved."""
        befores = [
            (
                part.store.owner.partition,
                part.store.sink_epoch,
                part.store.position.next_offset,
                part.store.position.last,
            )
            for part in parts
        ]
        columns = zip(
            *((*before, *_values(part.after)) for before, part in zip(befores, parts, strict=True)), strict=True
        )
        done = await connection.execute(
            statement("advance_positions"), self.owner.sink_id, self.owner.ledger_id, *columns
        )
        if done != f"UPDATE {len(parts)}":
            raise PositionMoved

    async def copy_rows(self, connection: Connection, batch: Batch) -> None:
        """Step 2."""
        new = batch.new_accounts
        await _copy(connection, "account_terms", [terms_row(key, terms) for key, terms in new.items()])
        await _copy(connection, "account_counters", [(key, 0, 0, 0, batch.deltas[key][2]) for key in new])
        await _copy(connection, "entries", batch.entries)
        await _copy(connection, "posting_rows", batch.postings)
        await _copy(connection, "decision_rows", batch.decisions)
        await _copy(connection, "config_pickups", batch.config_pickups)
        await _copy(connection, "skips", batch.skips)

    async def apply_deltas(self, connection: Connection, batch: Batch) -> None:
        """Step 3. Changed terms too; in the order of the keys. Every account must be there."""
        if batch.terms:
            rows = [terms_row(key, terms) for key, terms in sorted(batch.terms.items())]
            keys, _, _, _, _, status, tier, floor, ceiling, attributes = zip(*rows, strict=True)
            done = await connection.execute(statement("replace_terms"), keys, status, tier, floor, ceiling, attributes)
            _expect(done, len(keys), "account_terms")
        if batch.deltas:
            touched = sorted(batch.deltas)
            debited, credited, seqs = zip(*(batch.deltas[key] for key in touched), strict=True)
            done = await connection.execute(statement("apply_deltas"), touched, debited, credited, seqs)
            _expect(done, len(touched), "account_counters")

    async def commit(self, connection: Connection) -> None:
        """Step 4."""
        await connection.execute("COMMIT")

    # ---- account keys

    async def prepare(self, blocks: list[ValidBlock]) -> Batch:
        """The rows of *blocks*. Keys given to new accounts are forgotten by ``reread`` should they not be written.

        Raises: PostgresRefused, PostgresUnavailable.
        """
        new = await self._learn(mentioned(event for block in blocks for event in block.events))
        batch, breath_at = Batch(), BREATHE_EVERY
        for block in blocks:
            add_block(batch, self.owner.partition, block, self._keys)
            if batch.events >= breath_at:
                breath_at = batch.events + BREATHE_EVERY
                await asyncio.sleep(0)
        try:
            settle_new(batch, new)
        except KeyError as error:
            partition = self.owner.partition
            raise PostgresRefused(
                f"seq {blocks[0].headers.seq} to {blocks[-1].last_seq} of partition {partition}: expected an account "
                f"with key {error} in account_terms or opened here, found none: rows are missing"
            ) from error
        return batch

    async def _learn(self, accounts: Iterable[str]) -> dict[str, int]:
        """Make the keys of *accounts* known; return those that are new, numbered in the order of first mention."""
        if len(self._keys) > MAX_CACHED_ACCOUNTS:
            self._keys.clear()
        unknown = [account for account in accounts if account not in self._keys]
        if not unknown:
            return {}
        partition = self.owner.partition
        with failures(f"look up accounts of partition {partition}"):
            async with self.pool.acquire() as connection:
                for row in await connection.fetch(statement("find_accounts"), partition, unknown):
                    self._keys[row["account_id"]] = row["account_key"]
                if self._last_number is None:
                    self._last_number = await connection.fetchval(statement("last_account_number"), partition)
        new = [account for account in unknown if account not in self._keys]
        first = (partition << KEY_BITS) + self._last_number + 1
        self._last_number += len(new)
        keys = dict(zip(new, range(first, first + len(new)), strict=True))
        self._keys.update(keys)
        return keys


class Part(NamedTuple):
    """What one partition adds to a transaction: *batch* leads from its store's position to *after*."""

    store: PartitionStore
    batch: Batch
    after: Position


async def write_parts(parts: list[Part]) -> None:
    """Write *parts*, of different partitions of one sink, in one transaction.

    1. Advance the position rows by compare-and-set. One is not as expected: PositionMoved, roll back.
    2. COPY new accounts, entries, postings, decisions. The trigger refuses an entry that does not balance.
    3. Apply the balance deltas, one per account.
    4. COMMIT. The database checks that the rows behind each position are exactly the events it moved over.

    A crash before 4 leaves nothing. A lost answer to 4 leaves all or nothing: the position rows say which, and
    ``reread`` asks them. Nothing is ever written twice, because 1 finds the position moved.
    Raises: PositionMoved, PostgresRefused, PostgresUnavailable. The session of a failed transaction is ended.
    """
    parts = sorted(parts, key=lambda part: part.store.owner.partition)  # rows are locked in one order
    one, batch = parts[0].store, joined([part.batch for part in parts])
    with failures("write " + ", ".join(map(_described, parts))):
        async with one.pool.acquire() as connection:
            try:
                await one.begin(connection)
                await one.advance_positions(connection, parts)
                await one.copy_rows(connection, batch)
                await one.apply_deltas(connection, batch)
                await one.commit(connection)
            except BaseException:
                connection.terminate()
                raise
    for part in parts:
        part.store.position = part.after


def _described(part: Part) -> str:
    store = part.store
    return f"seq {store.position.seq + 1} to {part.after.seq} of partition {store.owner.partition}"


def _values(position: Position) -> tuple[object, ...]:
    """In the order of the statements: next_offset, epoch, token, lease_seq, seq, chain, at, last."""
    p = position
    return p.next_offset, p.epoch, p.token, p.lease_seq, p.seq, p.chain, p.at, p.last


async def _copy(connection: Connection, table: str, rows: list[Row]) -> None:
    if rows:
        await connection.copy_records_to_table(table, records=rows, columns=COLUMNS[table])


def _expect(done: str, rows: int, table: str) -> None:
    if done != f"UPDATE {rows}":
        raise PostgresRefused(
            f"{table}: expected {rows} rows to update, got {done}: accounts of the journal are missing"
        )
