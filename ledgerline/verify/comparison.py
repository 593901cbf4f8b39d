"""Postgres against the walks: which rows to compare, and what to compare when a walk passes the stored position."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Self

from ledgerline.verify.accounts import Account
from ledgerline.verify.reading import framed
from ledgerline.verify.report import Invariant, Place, Report
from ledgerline.verify.tables import Stored, Tables
from ledgerline.verify.walk import Row, Walk
from streams.kafka import Partition, Record


class Comparison:
    """One snapshot, compared partition by partition while the journals are walked. Mutable, one owner."""

    def __init__(self, report: Report, tables: Tables) -> None:
        self._report = report
        self._tables = tables
        self._accounts: dict[int, dict[str, Account]] = {}  # as of the position, of the partitions that reached it

    @classmethod
    async def open(cls, report: Report, dsn: str | None, schema: str) -> Self | None:
        """Take the snapshot; None, and said so in the report, where there is nothing to compare."""
        if dsn is None:
            report.skip(Invariant.I11, "no Postgres")
            return None
        tables = await Tables.open(report, dsn, schema)
        if tables is None:
            report.skip(Invariant.I11, f"no tables in schema {schema}")
            return None
        return cls(report, tables)

    async def close(self) -> None:
        """End the snapshot."""
        await self._tables.close()

    def passed(self, walk: Walk, record: Record) -> None:
        """Compare the stored position if *record*, which *walk* has just read, is the last one in front of it."""
        stored = self._tables.positions.get(walk.partition)
        if stored is None or walk.halted or record.offset != stored.next_offset - 1:
            return
        rule = walk.rule
        here = Stored(
            partition=walk.partition,
            ledger_id=walk.genesis.ledger_id if walk.genesis else "",
            next_offset=record.offset + 1,
            epoch=rule.epoch,
            token=rule.token,
            lease_seq=rule.lease_seq,
            seq=rule.seq,
            chain=rule.chain,
            at=walk.at,
            last=hashlib.sha256(framed(record.key, record.headers, record.value)).digest(),
        )
        wrong = [name for name in Stored._fields if getattr(here, name) != getattr(stored, name)]
        expected, found = ({name: _shown(getattr(row, name)) for name in wrong} for row in (here, stored))
        place = Place(walk.partition, rule.seq, record.offset)
        self._report.check(Invariant.I11)
        self._report.compare(Invariant.I11, place, "row of sink_positions", expected, found)
        if walk.genesis is not None:
            self._accounts[walk.partition] = walk.answers.accounts.copy()

    async def compare(self, walk: Walk, rows: Sequence[Row]) -> None:
        """Compare those of *rows*, consecutive valid events, that the position says are in Postgres."""
        stored = self._tables.positions.get(walk.partition)
        covered = [row for row in rows if stored is not None and (row.place.seq or 0) <= stored.seq]
        if covered:
            await self._tables.compare(walk.partition, covered)

    async def finish(self, walks: Mapping[int, Walk], ends: Mapping[Partition, int]) -> str:
        """Compare balances and look for rows that no event explains; return how far Postgres lags, for people."""
        await self._tables.strangers(len(walks))
        lag = 0
        for journal, end in ends.items():
            walk = walks[journal.number]
            stored = self._tables.positions.get(walk.partition)
            last = 0 if stored is None else stored.seq
            await self._tables.foreign(walk.partition, last if walk.halted else min(last, walk.rule.seq))
            lag += end - (1 if stored is None else stored.next_offset)
            if stored is None:
                await self._tables.money(walk.partition, {}, 0)
            elif walk.partition in self._accounts:
                await self._tables.money(walk.partition, self._accounts[walk.partition], stored.seq)
            elif not walk.halted:
                place = Place(walk.partition, stored.seq, stored.next_offset)
                expected = f"a next_offset of 1 to {end}, behind a record"
                self._report.fail(Invariant.I11, place, "row of sink_positions", expected, stored.next_offset)
        return f"{lag:,} records to write"

    def strange(self, walks: Mapping[int, Walk]) -> None:
        """Name the rows that differ because they come from a block that does not count (I12); walks are finished."""
        for place, body in self._tables.strange:
            walk = walks.get(place.partition if place.partition is not None else -1)
            stale = None if walk is None else walk.stale.get(body)
            if stale is not None:
                found = f"that of the stale block at offset {stale}"
                self._report.fail(Invariant.I12, place, "row of decisions", "the outcome of a valid block", found)


def _shown(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
