"""Sinks that die between two steps of docs/design.md §10, and the list of those gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import orjson

from ledgerline.processes import stopping
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.rows import KEY_BITS
from sinks.postgres.sink import Sink
from sinks.postgres.store import PartitionStore
from sinks.postgres.together import Together
from streams.membership import StaticMembership
from tests.kills.dying import Kill, dying

if TYPE_CHECKING:
    from sinks.postgres.session import Connection


class Stored(NamedTuple):
    """One partition's rows as a transaction sees them."""

    sink_epoch: int | None  # None: there is no position row
    seq: int
    entries: int
    credited: int  # over all its accounts


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkGap:
    """Two steps of taking or writing, the kill between them, and the traces that it must leave."""

    name: str
    kill: Kill
    earlier: Literal["schema not bound", "partition not taken", "written before"] = "written before"
    sink_epoch: int | None = 2
    """In the position row behind the kill."""
    inside: str | None = None
    """What the dying process saw changed in its own transaction: p(osition), e(ntries), c(ounters)."""
    committed: bool = False
    commit: Literal["answered", "answer lost", "never arrived"] = "answered"
    partitions: int = 1
    """In the transaction. What the dying process saw is that of the first."""


ALONE: Final[Sequence[SinkGap]] = (
    SinkGap(
        name="1-2 schema bound to the ledger, partition not taken",
        kill=Kill(step="take", side="front"),
        earlier="schema not bound",
        sink_epoch=None,
    ),
    SinkGap(
        name="take: in front of the row",
        kill=Kill(step="take", side="front"),
        earlier="partition not taken",
        sink_epoch=None,
    ),
    SinkGap(
        name="take: row created, not counted up",
        kill=Kill(step="create_row"),
        earlier="partition not taken",
        sink_epoch=0,
    ),
    SinkGap(
        name="take: row counted up, nothing read",
        kill=Kill(step="take"),
        earlier="partition not taken",
        sink_epoch=1,
    ),
    SinkGap(
        name="write: first batch ever, not committed",
        kill=Kill(step="commit", side="front"),
        earlier="partition not taken",
        sink_epoch=1,
        inside="pec",
    ),
    SinkGap(name="take: row counted up again, nothing read", kill=Kill(step="take")),
    SinkGap(name="write: rows made, no transaction", kill=Kill(step="begin", side="front"), inside=""),
    SinkGap(name="write: transaction begun, position as it was", kill=Kill(step="begin"), inside=""),
    SinkGap(name="write 1-2: position advanced, no rows", kill=Kill(step="advance_positions"), inside="p"),
    SinkGap(name="write 2-3: rows copied, no deltas", kill=Kill(step="copy_rows"), inside="pe"),
    SinkGap(name="write 3-4: deltas applied, not committed", kill=Kill(step="apply_deltas"), inside="pec"),
    SinkGap(name="write 4: committed, not known", kill=Kill(step="commit"), inside="pec", committed=True),
    SinkGap(
        name="4: answer to COMMIT lost, position not read again",
        kill=Kill(step="reread", side="front"),
        committed=True,
        commit="answer lost",
    ),
    SinkGap(
        name="4: answer to COMMIT lost, position read again",
        kill=Kill(step="reread"),
        committed=True,
        commit="answer lost",
    ),
    SinkGap(name="4: COMMIT never arrived, position read again", kill=Kill(step="reread"), commit="never arrived"),
    SinkGap(
        name="4: COMMIT never arrived, rows copied again",
        kill=Kill(step="copy_rows", call=2),
        inside="pe",
        commit="never arrived",
    ),
)

GAPS: Final[Sequence[SinkGap]] = (
    *ALONE,
    *(
        # Behind a failure each writes alone again, in no certain order: whose rows are copied then is not asked.
        replace(gap, name=f"shared, {gap.name}", partitions=2, inside=gap.inside if gap.kill.call == 1 else None)
        for gap in ALONE
        if gap.earlier == "written before" and gap.kill.step != "take"
    ),
)
"""And again those of a transaction, where two partitions share it."""

PLACES: Final[Mapping[SinkGap, tuple[int, ...]]] = {
    gap: tuple(range(sum(other.partitions for other in GAPS[:number]), sum(g.partitions for g in GAPS[: number + 1])))
    for number, gap in enumerate(GAPS)
}
"""The partitions of each gap."""

_STORED: Final = f"""
SELECT (SELECT sink_epoch FROM sink_positions WHERE partition = $1),
       coalesce((SELECT seq FROM sink_positions WHERE partition = $1), 0),
       (SELECT count(*) FROM entries WHERE partition = $1),
       (SELECT coalesce(sum(credits_posted), 0)::bigint FROM account_counters WHERE account_key >> {KEY_BITS} = $1)
"""


async def stored(connection: Connection, partition: int) -> Stored:
    """What *connection* sees of the partition."""
    row = await connection.fetchrow(_STORED, partition)
    assert row is not None
    return Stored(*row)


async def _look(*arguments: Any) -> str:
    """A step of ``PartitionStore.write`` is asked what its own transaction sees; the others cannot be."""
    match arguments:
        case (PartitionStore() as store, connection, *_):
            return orjson.dumps([*await stored(connection, store.owner.partition)]).decode()
        case _:
            return ""


def seen(note: str) -> Stored:
    """What ``_look`` noted."""
    return Stored(*orjson.loads(note))


class _CommitAnswerLost(PartitionStore):
    """The answer to its first COMMIT is lost."""

    arrives = True
    lost = False

    async def commit(self, connection: Connection) -> None:
        if self.lost or self.arrives:
            await super().commit(connection)
        if not self.lost:
            self.lost = True
            raise ConnectionResetError("the test lost the answer to COMMIT")


class _CommitNeverArrived(_CommitAnswerLost):
    """Its first COMMIT is lost."""

    arrives = False


class _AllTogether(Together):
    """Its transactions wait until *parts* partitions have given a part."""

    def __init__(self, metrics: SinkMetrics, parts: int) -> None:
        super().__init__(metrics)
        self._parts = parts

    async def _gather(self) -> None:
        while len(self._waiting) < self._parts:
            self._arrived.clear()
            await self._arrived.wait()


_STORES: Final[dict[str, type[PartitionStore]]] = {
    "answered": PartitionStore,
    "answer lost": _CommitAnswerLost,
    "never arrived": _CommitNeverArrived,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Booking:
    """Which partitions of which ledger a sink writes."""

    kafka: str
    prefix: str
    dsn: str
    partitions: frozenset[int]

    def sink(self, store: type[PartitionStore] = PartitionStore) -> Sink:
        membership = StaticMembership(self.partitions)
        return Sink(kafka=self.kafka, prefix=self.prefix, dsn=self.dsn, membership=membership, store=store)


def book_until_killed(here: Booking, gap: SinkGap, marker: Path) -> int:
    """Run a sink that dies in *gap*."""
    sink = here.sink(dying(_STORES[gap.commit], gap.kill, marker, _look))
    sink._together = _AllTogether(sink.metrics, gap.partitions)
    return asyncio.run(_run(sink))


def book(here: Booking, _marker: Path) -> int:
    """Run a sink as it is in production, until SIGTERM."""
    return asyncio.run(_run(here.sink()))


async def _run(sink: Sink) -> int:
    stop = asyncio.Event()
    with stopping(stop.set):
        await sink.run(stop)
    return 4 if sink.halted else 0
