"""Partitions that share transactions, on a real PostgreSQL: what one does to the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from sinks.postgres import partition as partition_module
from sinks.postgres.errors import PostgresRefused, PostgresUnavailable
from sinks.postgres.metrics import SinkMetrics
from sinks.postgres.rows import Batch
from sinks.postgres.session import session
from sinks.postgres.store import Part, PartitionStore, PositionMoved
from sinks.postgres.together import Together
from tests.sinks.following import Direct, broker_with, follow, sink_of, writers
from tests.sinks.journals import Journal, payments

if TYPE_CHECKING:
    from sinks.postgres.session import Connection, Pool

pytestmark = pytest.mark.integration
LONG_S = 60.0


class Shared:
    """Partitions 0 to 2, each with a part to write."""

    def __init__(self, pool: Pool, gather_s: float = LONG_S) -> None:
        self.pool = pool
        self.registry = CollectorRegistry()
        self.together = Together(SinkMetrics(self.registry), gather_s)
        self.journals = [Journal(p) for p in range(3)]
        self.directs = [Direct(journal) for journal in self.journals]

    async def parts(self, store: type[PartitionStore] = PartitionStore) -> list[Part]:
        found = []
        for journal, direct in zip(self.journals, self.directs, strict=True):
            blocks, after = direct.read(*payments(journal, blocks=2, per_block=10))
            taken = await direct.take(self.pool, store)
            found.append(Part(taken, await taken.prepare(blocks), after))
        return found

    async def more(self, parts: list[Part]) -> list[Part]:
        """The next part of each partition."""
        found = []
        for part, journal, direct in zip(parts, self.journals, self.directs, strict=True):
            journal.deposit(f"acc-{journal.partition}-1", 5)
            blocks, after = direct.read(journal.block())
            found.append(Part(part.store, await part.store.prepare(blocks), after))
        return found

    async def write(self, *parts: Part) -> list[BaseException | None]:
        """Give the parts in this order, at once."""
        return await asyncio.gather(*map(self.together.shared, parts), return_exceptions=True)

    @property
    def transactions(self) -> float | None:
        return self.registry.get_sample_value("ledgerline_sink_commit_seconds_count")


async def seqs(dsn: str) -> list[int]:
    async with session(dsn) as connection:
        assert await connection.fetch("SELECT * FROM unproved_balances") == []
        rows = await connection.fetch(
            "SELECT p.seq, (SELECT count(*) FROM decisions AS d WHERE d.partition = p.partition)"
            " + (SELECT count(*) FROM config_pickups AS c WHERE c.partition = p.partition) AS rows"
            " FROM sink_positions AS p ORDER BY p.partition"
        )
    assert all(row["seq"] == row["rows"] for row in rows)
    return [row["seq"] for row in rows]


async def test_parts_that_come_together_share_one_transaction(database: str) -> None:
    async with writers(database) as pool:
        shared = Shared(pool)
        parts = await shared.parts()
        assert await shared.write(*reversed(parts)) == [None] * 3
        assert shared.transactions == 1
    assert await seqs(database) == [journal.seq for journal in shared.journals]
    assert [part.store.position for part in parts] == [part.after for part in parts]


async def test_nobody_is_waited_for_where_only_one_writes(database: str) -> None:
    async with writers(database) as pool, asyncio.timeout(LONG_S / 2):
        shared = Shared(pool)
        first, *_ = await shared.parts()
        await shared.together.shared(first)
    assert await seqs(database) == [shared.journals[0].seq, 0, 0]


async def test_a_partition_that_wrote_recently_is_waited_for(database: str) -> None:
    async with writers(database) as pool:
        shared = Shared(pool)
        parts = await shared.parts()
        assert await shared.write(*parts) == [None] * 3
        writing = []
        for part in await shared.more(parts):
            await asyncio.sleep(0.02)
            writing.append(asyncio.create_task(shared.together.shared(part)))
        await asyncio.gather(*writing)
        assert shared.transactions == 2
    assert await seqs(database) == [journal.seq for journal in shared.journals]


async def test_a_partition_that_has_been_quiet_is_not_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.postgres.together.RECENT_S", 0.1)
    async with writers(database) as pool, asyncio.timeout(LONG_S / 2):
        shared = Shared(pool)
        parts = await shared.parts()
        assert await shared.write(*parts) == [None] * 3
        await asyncio.sleep(0.2)  # as long as that is quiet
        await shared.together.shared((await shared.more(parts))[0])


async def test_a_partition_that_wrote_recently_is_waited_for_no_longer_than_it_takes_to_gather(database: str) -> None:
    async with writers(database) as pool, asyncio.timeout(LONG_S / 2):
        shared = Shared(pool, gather_s=0.05)
        first, second, _ = await shared.parts()
        await shared.together.shared(first)
        await shared.together.shared(second)
        assert shared.transactions == 2
    assert await seqs(database) == [shared.journals[0].seq, shared.journals[1].seq, 0]


async def test_what_is_refused_fails_for_all_and_alone_only_for_the_one_it_belongs_to(database: str) -> None:
    async with writers(database) as pool:
        shared = Shared(pool)
        parts = await shared.parts()
        parts[1].batch.postings.pop()
        failed = await shared.write(*parts)
        assert [type(one) for one in failed] == [PostgresUnavailable] * 3
        assert all("in a transaction of 3 partitions: PostgreSQL: write seq 1 to " in str(one) for one in failed)
        assert await seqs(database) == [0, 0, 0]
        await shared.together.alone(parts[0])
        with pytest.raises(PostgresRefused, match="entry 1-"):
            await shared.together.alone(parts[1])
        await shared.together.alone(parts[2])
    assert await seqs(database) == [shared.journals[0].seq, 0, shared.journals[2].seq]


async def test_a_partition_that_another_sink_has_taken_is_not_written_with_the_others(database: str) -> None:
    async with writers(database) as pool:
        shared = Shared(pool)
        parts = await shared.parts()
        await shared.directs[1].take(pool)
        failed = await shared.write(*parts)
        assert [type(one.__cause__) for one in failed if one is not None] == [PositionMoved] * 3
        assert all(str(one).endswith("one of the position rows is not where this sink left it") for one in failed)
    assert await seqs(database) == [0, 0, 0]


class NeverShared(Together):
    """Something is wrong with another partition, always."""

    async def shared(self, part: Part) -> None:
        raise PostgresUnavailable(f"partition {part.store.owner.partition} and another")


async def test_behind_a_failure_a_partition_writes_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "FIRST_PAUSE_S", 0.01)
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=3, per_block=10))
    broker.max_fetch_records = 1
    together = NeverShared(SinkMetrics(CollectorRegistry()))
    async with writers(database) as pool, asyncio.timeout(30):
        await follow(database, sink_of(pool, broker, together=together), journal.seq)


class LostAnswer(PartitionStore):
    """Commits, and never hears of it."""

    async def commit(self, connection: Connection) -> None:
        await super().commit(connection)
        raise ConnectionResetError("the answer to COMMIT is lost")


async def test_a_lost_answer_to_a_shared_commit_is_found_in_every_row(database: str) -> None:
    async with writers(database) as pool:
        shared = Shared(pool)
        parts = await shared.parts(LostAnswer)
        assert [type(one) for one in await shared.write(*parts)] == [PostgresUnavailable] * 3
        for part in parts:
            with pytest.raises(PositionMoved):  # sent again without asking: the position is the guard
                await shared.together.alone(part)
            await part.store.reread()
            assert part.store.position == part.after
    assert await seqs(database) == [journal.seq for journal in shared.journals]


async def test_a_part_that_nobody_waits_for_any_more_is_not_written(database: str) -> None:
    async with writers(database) as pool:
        shared = Shared(pool)
        parts = await shared.parts()
        writing = [asyncio.create_task(shared.together.shared(part)) for part in parts]
        await asyncio.sleep(0)
        writing[0].cancel()
        await asyncio.wait(writing)
    assert await seqs(database) == [0, shared.journals[1].seq, shared.journals[2].seq]


class Held(PartitionStore):
    """Stops in front of COMMIT until it is let go."""

    there, go = asyncio.Event(), asyncio.Event()

    async def commit(self, connection: Connection) -> None:
        Held.there.set()
        await Held.go.wait()
        await super().commit(connection)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> type[Held]:
    monkeypatch.setattr(Held, "there", asyncio.Event())
    monkeypatch.setattr(Held, "go", asyncio.Event())
    return Held


async def test_a_part_that_is_left_while_it_is_written_is_there_for_whoever_takes_the_partition(
    database: str, held: type[Held]
) -> None:
    async with writers(database) as pool, asyncio.timeout(LONG_S / 2):
        shared = Shared(pool)
        parts = await shared.parts(held)
        writing = [asyncio.create_task(shared.together.shared(part)) for part in parts]
        await held.there.wait()
        writing[0].cancel()
        taking = asyncio.create_task(shared.directs[0].take(pool))
        held.go.set()
        assert (await taking).position == parts[0].after
        assert await asyncio.gather(*writing[1:]) == [None, None]
        assert writing[0].cancelled()
    assert await seqs(database) == [journal.seq for journal in shared.journals]


async def test_nobody_waits_for_ever_when_it_is_closed_in_the_middle_of_a_transaction(
    database: str, held: type[Held]
) -> None:
    async with writers(database) as pool, asyncio.timeout(LONG_S / 2):
        shared = Shared(pool)
        parts = await shared.parts(held)
        writing = [asyncio.create_task(shared.together.shared(part)) for part in parts[:2]]
        await held.there.wait()
        writing.append(asyncio.create_task(shared.together.shared(parts[2])))
        await asyncio.sleep(0)
        await shared.together.close()
        await asyncio.wait(writing)
        assert all(one.cancelled() for one in writing)
        assert await seqs(database) == [0, 0, 0]
        held.go.set()
        for part in parts:
            await part.store.reread()
            await shared.together.alone(part)
    assert await seqs(database) == [journal.seq for journal in shared.journals]


async def test_nobody_waits_for_ever_when_it_is_closed_before_it_begins(database: str) -> None:
    async with writers(database) as pool, asyncio.timeout(LONG_S / 2):
        shared = Shared(pool, gather_s=0.05)
        first, second, _ = await shared.parts()
        writing = asyncio.create_task(shared.together.shared(first))
        await asyncio.sleep(0)
        await shared.together.close()
        await asyncio.wait({writing})
        assert writing.cancelled()
        await shared.together.shared(second)
    assert await seqs(database) == [0, shared.journals[1].seq, 0]


class Flaky(PartitionStore):
    """Loses the session at some step, or the answer to COMMIT, in turn."""

    turn = 0

    async def _perhaps_lost(self, connection: Connection, step: int) -> None:
        Flaky.turn += 1
        if Flaky.turn % 5 == 0:
            if step != 4:
                connection.terminate()
            raise ConnectionResetError(f"lost at step {step}")

    async def advance_positions(self, connection: Connection, parts: list[Part]) -> None:
        await super().advance_positions(connection, parts)
        await self._perhaps_lost(connection, 1)

    async def copy_rows(self, connection: Connection, batch: Batch) -> None:
        await super().copy_rows(connection, batch)
        await self._perhaps_lost(connection, 2)

    async def apply_deltas(self, connection: Connection, batch: Batch) -> None:
        await super().apply_deltas(connection, batch)
        await self._perhaps_lost(connection, 3)

    async def commit(self, connection: Connection) -> None:
        await super().commit(connection)
        await self._perhaps_lost(connection, 4)


async def test_partitions_that_share_sessions_lost_at_every_step_are_written_once_each(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_module, "FIRST_PAUSE_S", 0.01)
    journals = [Journal(p) for p in range(3)]
    async with writers(database) as pool:
        together = Together(SinkMetrics(CollectorRegistry()))
        following = []
        for journal in journals:
            broker = broker_with(journal.start(), *payments(journal, blocks=12, per_block=10))
            broker.max_fetch_records = 1
            sink = sink_of(pool, broker, partition=journal.partition, store=Flaky, together=together)
            following.append(follow(database, sink, journal.seq))
        await asyncio.gather(*following)
    assert Flaky.turn > 50
    assert await seqs(database) == [journal.seq for journal in journals]
