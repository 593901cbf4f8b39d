"""One partition's sink on a simulated log and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sinks.postgres import partition as partition_module
from sinks.postgres.errors import Deposed, ForeignLedger, PostgresRefused
from sinks.postgres.readers import sink_position
from sinks.postgres.rows import Batch
from sinks.postgres.session import session
from sinks.postgres.store import Part, PartitionStore
from streams.journal.errors import Corruption, JournalHalt, JournalLoss, TooOld
from streams.journal.simulated import SimulatedBroker
from tests.sinks.following import broker_with, follow, sink_of, writers
from tests.sinks.journals import LEDGER, Journal, Message, payments, wrong

if TYPE_CHECKING:
    from sinks.postgres.session import Connection, Pool

pytestmark = pytest.mark.integration


async def stored(dsn: str) -> dict[str, object]:
    """What the ledger holds, in a form that can be compared."""
    tables = "entries", "posting_rows", "decision_rows", "config_pickups", "skips", "account_terms", "account_counters"
    async with session(dsn) as connection:
        found: dict[str, object] = {}
        for table in tables:
            found[table] = await connection.fetch(f"SELECT t::text AS line FROM {table} AS t ORDER BY 1")
        found["position"] = await connection.fetch("SELECT next_offset, epoch, seq, chain, last FROM sink_positions")
        assert await connection.fetch("SELECT * FROM unproved_balances") == []
    return found


async def test_a_sink_goes_on_where_it_stopped(database: str) -> None:
    journal = Journal()
    messages = payments(journal, blocks=6, per_block=20)
    broker = broker_with(journal.start(), *messages[:3])
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker), 61)
        half = await stored(database)
        for message in messages[3:]:
            broker.append(*message)
        await follow(database, sink_of(pool, broker), journal.seq)
    assert half != await stored(database)
    position = await sink_position(database, ledger_id=LEDGER, partition=3)
    assert position is not None
    assert (position.chain, position.next_offset) == (journal.chain, broker.end)


async def test_a_sink_that_stopped_inside_a_stale_run_skips_the_rest_of_it(database: str) -> None:
    journal = Journal()
    messages = payments(journal, blocks=1, per_block=20)
    broker = broker_with(journal.start(), *messages, journal.lease("b"), journal.stale_block(1, "a"))
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker), journal.seq)
        before = await sink_position(database, ledger_id=LEDGER, partition=3)
        assert before is not None
        assert before.next_offset == broker.end, "the position covers records without effect too"
        broker.append(*journal.stale_block(1, "a"))
        broker.append(*journal.lost_lease(1, "c"))
        broker.append(*messages[-1])  # a whole block of the first lease, late
        journal.skip()
        broker.append(*journal.block())
        await follow(database, sink_of(pool, broker), journal.seq)
    position = await sink_position(database, ledger_id=LEDGER, partition=3)
    assert position is not None
    assert (position.seq, position.epoch) == (before.seq + 1, 2)


async def test_an_unreliable_kafka_delays_and_changes_nothing(database: str) -> None:
    journal = Journal()
    messages = payments(journal, blocks=10, per_block=20)
    broker = broker_with(journal.start(), *messages, seed=11, unavailable=0.1)
    broker.max_fetch_records = 2
    async with writers(database) as pool:
        sink = sink_of(pool, broker)
        await follow(database, sink, journal.seq)
        assert sink.metrics.retries.labels("kafka")._value.get() > 0
    position = await sink_position(database, ledger_id=LEDGER, partition=3)
    assert position is not None
    assert position.chain == journal.chain


def lost_tail(broker: SimulatedBroker, journal: Journal) -> None:
    broker.cut(broker.end - 1)


def replaced_tail(broker: SimulatedBroker, journal: Journal) -> None:
    broker.cut(broker.end - 1)
    broker.append(*journal.lease("z"))


def recreated(broker: SimulatedBroker, journal: Journal) -> None:
    broker.recreate()
    broker.append(*journal.start())


def expired(broker: SimulatedBroker, journal: Journal) -> None:
    broker.expire(2)


@pytest.mark.parametrize("damage", [lost_tail, replaced_tail, recreated, expired])
async def test_journal_loss_halts_the_partition_and_writes_nothing(
    database: str, damage: Callable[[SimulatedBroker, Journal], None]
) -> None:
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=3, per_block=20))
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker), journal.seq)
        before = await stored(database)
        damage(broker, journal)
        with pytest.raises(JournalLoss):
            await follow(database, sink_of(pool, broker), journal.seq + 1)
    assert await stored(database) == before


def broken_chain(journal: Journal) -> Message:
    journal.skip()
    return wrong(journal.block())


def foreign_token(journal: Journal) -> Message:
    journal.skip()
    journal.token = b"z" * 16
    return journal.block()


def newer_format(journal: Journal) -> Message:
    headers, value = journal.lost_lease(99, "z")
    return tuple((n, b"2" if n == "format" else v) for n, v in headers), value


@pytest.mark.parametrize(
    ("message", "halt"), [(broken_chain, Corruption), (foreign_token, JournalLoss), (newer_format, TooOld)]
)
async def test_what_is_valid_in_front_of_a_halt_is_written(
    database: str, message: Callable[[Journal], Message], halt: type[JournalHalt]
) -> None:
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=3, per_block=20))
    seq = journal.seq
    broker.append(*message(journal))
    async with writers(database) as pool:
        with pytest.raises(halt, match="offset 6"):
            await follow(database, sink_of(pool, broker), seq + 1)
    position = await sink_position(database, ledger_id=LEDGER, partition=3)
    assert position is not None
    assert position.seq == seq


async def test_an_unbalanced_entry_in_the_journal_halts_the_partition(database: str) -> None:
    journal = Journal()
    messages = payments(journal, blocks=1, per_block=20)
    seq = journal.seq
    journal.legs(("acc-3-1", "debit", 5, "EUR"), ("acc-3-2", "credit", 4, "EUR"))
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker_with(journal.start(), *messages)), seq)
        broker = broker_with(journal.start(), *messages, journal.block())
        with pytest.raises(PostgresRefused, match=f"entry 3-{seq + 1}:"):
            await follow(database, sink_of(pool, broker), seq + 1)


async def test_a_journal_of_another_ledger_is_refused(database: str) -> None:
    mine, other = Journal(), Journal(2, ledger_id="00000000-0000-4000-8000-000000000002")
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker_with(mine.start(), *payments(mine, 1, 5))), mine.seq)
        broker = broker_with(other.start(), *payments(other, 1, 5))
        with pytest.raises(ForeignLedger, match="a database of its own"):
            await follow(database, sink_of(pool, broker, partition=2), other.seq)


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


async def test_sessions_and_commit_answers_lost_at_every_step_leave_the_same_rows(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_module, "FIRST_PAUSE_S", 0.01)
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=24, per_block=10))
    broker.max_fetch_records = 1
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker, store=Flaky), journal.seq)
        through_trouble = await stored(database)
        async with session(database) as connection:
            await connection.execute(
                "TRUNCATE sink_positions, entries, posting_rows, decision_rows, config_pickups, skips, account_terms, "
                "account_counters"
            )
        await follow(database, sink_of(pool, broker), journal.seq)
    assert Flaky.turn > 50
    assert through_trouble == await stored(database)


async def test_sinks_that_fight_for_a_partition_write_every_event_once(database: str) -> None:
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=60, per_block=10))
    broker.max_fetch_records = 1
    deposed = 0

    async def fight(pool: Pool) -> None:
        nonlocal deposed
        stop = asyncio.Event()
        while not stop.is_set():
            sink = sink_of(
                pool,
                broker,
                written=lambda _p, seq: stop.set() if seq == journal.seq else None,
            )
            try:
                await sink.run(stop)
            except Deposed:
                deposed += 1
                await asyncio.sleep(0.01)  # less than it takes to write it all

    async with writers(database, connections=4) as pool, asyncio.timeout(60):
        await asyncio.gather(*(fight(pool) for _ in range(3)))
    assert deposed > 3
    found = await stored(database)
    assert isinstance(found["decision_rows"], list)
    assert len(found["decision_rows"]) == journal.seq - 1
    position = await sink_position(database, ledger_id=LEDGER, partition=3)
    assert position is not None
    assert (position.seq, position.chain) == (journal.seq, journal.chain)


async def test_a_batch_holds_no_more_than_its_limit_and_the_rest_follows(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_module, "MAX_BATCH_EVENTS", 25)
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=10, per_block=10))
    seqs: list[int] = []
    async with writers(database) as pool:
        await follow(database, sink_of(pool, broker, written=lambda _p, seq: seqs.append(seq)), journal.seq)
    assert seqs == [0, 41, 71, 101, 131, 141]
