"""Postgres, row for row, against the journal up to the stored position (I11, I5), in one REPEATABLE READ snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Self

import asyncpg
import orjson

from ledgerline.verify.accounts import SYSTEM, Account
from ledgerline.verify.report import Invariant, Place, Report
from ledgerline.verify.walk import Row, digest
from schemas.events import Answer, ConfigPickup, Skip

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FOREIGN_SHOWN: Final = 5

Key = tuple[object, ...]
Table = dict[Key, tuple[object, ...]]

# Every table has (partition, seq); {key} is what tells its rows apart within a partition.
TABLES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "decisions": (
        "seq",
        ("at", "binding", "replayed", "request_id", "account_id", "type", "status", "reason", "outcome", "explanation"),
    ),
    "entries": ("seq", ("at", "leg_count", "type", "request_id")),
    "postings": ("seq, leg", ("account_id", "side", "amount_minor", "currency")),
    "config_pickups": ("seq", ("at", "config_offset", "sha256", "version", "verdict", "reason")),
    "skips": ("seq", ("at", "input_offset", "reason")),
}


class Stored(NamedTuple):
    """A row of ``sink_positions``: how far Postgres is in a partition, and where that reader stood."""

    partition: int
    ledger_id: str
    next_offset: int
    epoch: int
    token: bytes
    lease_seq: int
    seq: int
    chain: bytes
    at: int
    last: bytes


class Tables:
    """One snapshot of the ledger's schema. The connection sees nothing that was committed after ``open``."""

    def __init__(self, report: Report, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._report = report
        self._connection = connection
        self.positions: dict[int, Stored] = {}
        self.strange: list[tuple[Place, bytes]] = []
        """Outcomes of rows that differ from the journal, for I12: digests by place."""

    @classmethod
    async def open(cls, report: Report, dsn: str, schema: str) -> Self | None:
        """Take the snapshot and read the positions; None where *schema* has no ledger's tables yet.

        Raises OSError or asyncpg.PostgresError where the server does not answer.
        """
        connection = await asyncpg.connect(dsn, server_settings={"search_path": schema}, timeout=30)
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if not await connection.fetchval("SELECT to_regclass('sink_positions') IS NOT NULL"):
            await connection.close()
            return None
        self = cls(report, connection)
        names = ", ".join(Stored._fields).replace("ledger_id", "ledger_id::text")
        for row in await connection.fetch(f"SELECT {names} FROM sink_positions ORDER BY partition, sink_id"):  # noqa: S608 - constants
            stored = Stored(*row.values())
            if stored.partition in self.positions:
                self._fail(Place(stored.partition), "positions of this partition", "one", "several")
            self.positions[stored.partition] = stored
        return self

    async def close(self) -> None:
        """End the snapshot."""
        await self._connection.close()

    async def compare(self, partition: int, rows: Sequence[Row]) -> None:
        """Compare the rows of the events *rows*, which are consecutive, in both directions."""
        first, last = rows[0].place.seq, rows[-1].place.seq
        expected = _expected(rows)
        offsets = {row.place.seq: row.place.offset for row in rows}
        for table, (key, columns) in TABLES.items():
            names = ", ".join((key, *columns)).replace("explanation", "explanation::text")
            found = await self._connection.fetch(
                f"SELECT {names} FROM {table} WHERE partition = $1 AND seq BETWEEN $2 AND $3 ORDER BY {key}",  # noqa: S608 - constants
                partition,
                first,
                last,
            )
            self._report.check(Invariant.I11, len(found))
            width = key.count(",") + 1
            actual = [_comparable(table, tuple(row.values())) for row in found]
            if actual != [(*k, *v) for k, v in expected[table].items()]:
                self._differences(table, partition, expected[table], [(r[:width], r[width:]) for r in actual], offsets)

    def _differences(
        self,
        table: str,
        partition: int,
        expected: Table,
        actual: Iterable[tuple[Key, tuple[object, ...]]],
        offsets: Mapping[int | None, int | None],
    ) -> None:
        """Name every row that is missing, foreign, doubled, or different."""
        columns = TABLES[table][1]
        seen: set[Key] = set()
        for key, values in actual:
            place = self._place(partition, key, offsets)
            wanted = expected.get(key)
            if key in seen:
                self._fail(place, f"{table} {_text(key)}", "one row", "another row with this key")
            elif wanted is None:
                self._fail(place, f"{table} {_text(key)}", "no such row", dict(zip(columns, values, strict=True)))
                self._strange(table, place, values)
            elif wanted != values:
                wrong = [i for i in range(len(columns)) if wanted[i] != values[i]]
                named = ", ".join(columns[i] for i in wrong)
                self._fail(
                    place, f"{table} {_text(key)}, {named}", [wanted[i] for i in wrong], [values[i] for i in wrong]
                )
                self._strange(table, place, values)
            seen.add(key)
        for key in expected.keys() - seen:
            self._fail(self._place(partition, key, offsets), f"{table} {_text(key)}", "a row", "none")

    def _strange(self, table: str, place: Place, values: Sequence[object]) -> None:
        if table == "decisions":
            outcome = values[TABLES[table][1].index("outcome")]
            self.strange.append((place, digest(str(outcome).encode())))

    async def foreign(self, partition: int, last: int) -> None:
        """No table has rows of *partition* outside of seq 1 to *last*."""
        for table, (_, columns) in TABLES.items():
            names = ", ".join(("seq", *columns))
            found = await self._connection.fetch(
                f"SELECT {names} FROM {table} WHERE partition = $1 AND NOT seq BETWEEN 1 AND $2 ORDER BY seq LIMIT $3",  # noqa: S608 - constants
                partition,
                last,
                _FOREIGN_SHOWN,
            )
            for seq, *values in (tuple(row.values()) for row in found):
                place = Place(partition, seq)
                self._fail(place, f"{table} beyond the position", f"no row above seq {last}", f"one of seq {seq}")
                self._strange(table, place, values)

    async def strangers(self, partitions: int) -> None:
        """No table has rows of partitions that the ledger does not have."""
        for table in (*TABLES, "sink_positions", "accounts"):
            found = await self._connection.fetch(
                f"SELECT DISTINCT partition FROM {table} WHERE NOT partition BETWEEN 0 AND $1",  # noqa: S608 - constants
                partitions - 1,
            )
            for row in found:
                self._fail(Place(row["partition"]), f"{table} of a partition", f"below {partitions}", row["partition"])

    async def money(self, partition: int, accounts: Mapping[str, Account], seq: int) -> None:
        """Compare accounts and balances as of the position, and the balances with the sums of the postings (I5)."""
        await self._compare_accounts(partition, accounts, seq)
        found = await self._connection.fetch(
            "SELECT account_id, currency, debits_posted, credits_posted, held, balance_minor, available_minor, seq"
            " FROM balances WHERE partition = $1",
            partition,
        )
        expected = {name: _balance_row(name, account) for name, account in accounts.items()}
        self._compare_named("balances", Place(partition, seq), expected, found)
        sums = await self._connection.fetch(
            "SELECT account_id, coalesce(sum(amount_minor) FILTER (WHERE side = 'debit'), 0)::bigint AS debits,"
            " coalesce(sum(amount_minor) FILTER (WHERE side = 'credit'), 0)::bigint AS credits"
            " FROM postings WHERE partition = $1 GROUP BY account_id",
            partition,
        )
        posted = {row["account_id"]: (row["debits"], row["credits"]) for row in sums}
        self._report.check(Invariant.I5, len(found))
        for row in found:
            what = f"debits and credits of {row['account_id']} in balances"
            counted = posted.get(row["account_id"], (0, 0))
            if (row["debits_posted"], row["credits_posted"]) != counted:
                stated = (row["debits_posted"], row["credits_posted"])
                self._report.fail(
                    Invariant.I5, Place(partition, seq), what, f"the sum of its postings, {counted}", stated
                )

    async def _compare_accounts(self, partition: int, accounts: Mapping[str, Account], seq: int) -> None:
        found = await self._connection.fetch(
            "SELECT account_id, currency, status, tier, normal_side, floor_minor, ceiling_minor, attributes::text"
            " FROM accounts WHERE partition = $1",
            partition,
        )
        expected = {name: _account_row(account) for name, account in accounts.items() if account.terms is not None}
        rows = [row for row in found if not row["account_id"].startswith(SYSTEM)]
        self._compare_named("accounts", Place(partition, seq), expected, rows)

    def _compare_named(
        self, table: str, place: Place, expected: Mapping[str, tuple[object, ...]], found: Sequence[asyncpg.Record]
    ) -> None:
        """Compare rows whose first column is the account."""
        self._report.check(Invariant.I11, len(found))
        seen: set[str] = set()
        for row in found:
            name, *rest = row.values()
            values = tuple(rest) if table == "balances" else (*rest[:-1], orjson.loads(rest[-1]))
            wanted = expected.get(name)
            if name in seen:
                self._fail(place, f"{table} of {name}", "one row", "another row of this account")
            elif wanted is None:
                self._fail(place, f"{table} of {name}", "no such row", values)
            elif wanted != values:
                columns = list(row.keys())[1:]
                wrong = [i for i in range(len(columns)) if wanted[i] != values[i]]
                named = ", ".join(columns[i] for i in wrong)
                self._fail(place, f"{table} of {name}, {named}", [wanted[i] for i in wrong], [values[i] for i in wrong])
            seen.add(name)
        for name in expected.keys() - seen:
            self._fail(place, f"{table} of {name}", "a row", "none")

    def _fail(self, place: Place, what: str, expected: object, found: object) -> None:
        self._report.fail(Invariant.I11, place, what, expected, found)

    @staticmethod
    def _place(partition: int, key: Key, offsets: Mapping[int | None, int | None]) -> Place:
        seq = key[0]
        assert isinstance(seq, int), "every key begins with seq"
        return Place(partition, seq, offsets.get(seq))


def _expected(rows: Sequence[Row]) -> dict[str, Table]:
    """Return what each table has to hold of *rows*, in the order of its key."""
    tables: dict[str, Table] = {name: {} for name in TABLES}
    for place, event, outcome, explanation in rows:
        seq, at = place.seq, _EPOCH + timedelta(milliseconds=event.at)
        match event:
            case Answer():
                tables["decisions"][seq,] = (
                    at,
                    event.binding,
                    event.replayed,
                    event.request_id,
                    event.account_id,
                    event.type,
                    event.status,
                    event.reason,
                    (outcome or b"").decode("utf-8", "replace"),
                    _json(explanation),
                )
                if event.legs:
                    tables["entries"][seq,] = (at, len(event.legs), event.type, event.request_id)
                for leg, posting in enumerate(event.legs, 1):
                    tables["postings"][seq, leg] = posting
            case ConfigPickup():
                sha256 = bytes.fromhex(event.sha256)
                tables["config_pickups"][seq,] = (
                    at,
                    event.offset,
                    sha256,
                    event.version,
                    event.verdict,
                    event.reason,
                )
            case Skip():
                tables["skips"][seq,] = (at, event.offset, event.reason)
    return tables


def _comparable(table: str, row: tuple[Any, ...]) -> tuple[object, ...]:
    """``explanation`` is jsonb, which keeps the value and not the bytes."""
    return (*row[:-1], _json(row[-1])) if table == "decisions" else row


def _json(text: bytes | str | None) -> object:
    try:
        return orjson.loads(text or b"null")
    except orjson.JSONDecodeError:
        return text


def _balance_row(name: str, account: Account) -> tuple[object, ...]:
    available = None if name.startswith(SYSTEM) else account.available
    return (
        account.currency,
        account.debits,
        account.credits,
        account.held,
        account.balance,
        available,
        account.seq,
    )


def _account_row(account: Account) -> tuple[object, ...]:
    terms = account.terms
    assert terms is not None, "only accounts with terms are compared"
    bounds = (terms.floor_minor, terms.ceiling_minor)
    return (terms.currency, terms.status, terms.tier, terms.normal_side, *bounds, dict(terms.attributes))


def _text(key: Key) -> str:
    return "-".join(str(part) for part in key)
