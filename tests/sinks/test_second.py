"""A second sink on simulated logs and a real PostgreSQL: it goes exactly as far as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from sinks.postgres.compare import Comparison, positions_in, snapshot
from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.migrations import migrate
from sinks.postgres.second import LimitedLog, SecondSink
from sinks.postgres.session import SCHEMA, session, writer_pool
from streams.journal.errors import Corruption, JournalLoss
from streams.journal.framing import decode_headers
from streams.journal.log import LogRecord
from streams.journal.reading import Position, Reader
from streams.journal.simulated import SimulatedBroker, SimulatedLog
from tests.sinks.following import broker_with, follow, sink_of, turn, writers
from tests.sinks.journals import Journal, Message, payments, wrong

pytestmark = pytest.mark.integration
REBUILT = "rebuilt"


@contextlib.asynccontextmanager
async def second(dsn: str, broker: SimulatedBroker) -> AsyncIterator[SecondSink]:
    await migrate(dsn, REBUILT)
    pool = await writer_pool(dsn, REBUILT, 2)
    found = SecondSink(log_of=lambda _p: SimulatedLog(broker, turn), pool=pool, sink_id="second", schema=REBUILT)
    try:
        yield found
    finally:
        await found.close()
        pool.terminate()


def positions(journal: Journal, *messages: Message) -> list[Position]:
    """Behind the genesis, and behind each of *messages*."""
    reader = Reader("journal[3]", LogRecord(0, None, *journal.start()))
    found = [reader.position]
    for number, message in enumerate(messages, 1):
        reader.read(LogRecord(number, None, *message))
        found.append(reader.position)
    return found


async def position(dsn: str) -> Position:
    async with session(dsn, REBUILT) as connection:
        return (await positions_in(connection))[3]


@pytest.mark.parametrize("unavailable", [0.0, 0.2])
async def test_it_stops_at_each_position_that_it_is_told_and_goes_on_from_there(
    database: str, unavailable: float
) -> None:
    journal = Journal()
    messages = payments(journal, blocks=5, per_block=7)
    targets = positions(journal, *messages)
    broker = broker_with(journal.start(), *messages, seed=5, unavailable=unavailable)
    async with second(database, broker) as sink:
        for target in (targets[0], targets[1], targets[4], targets[4], targets[6]):
            await sink.reach({3: target}, 30.0)
            assert await position(database) == target
            assert sink.seqs[3] == target.seq
        await asyncio.sleep(0.1)
        assert await position(database) == targets[6]


async def test_a_log_that_ends_below_what_the_live_sink_has_read_is_journal_loss(database: str) -> None:
    journal = Journal()
    messages = payments(journal, blocks=3, per_block=7)
    broker = broker_with(journal.start(), *messages[:3])
    async with second(database, broker) as sink:
        with pytest.raises(JournalLoss, match="a log end of at least 6, up to which the live sink has read"):
            await sink.reach({3: positions(journal, *messages)[-1]}, 30.0)


async def test_what_halts_a_sink_ends_it_and_an_absent_log_ends_its_patience(database: str) -> None:
    journal = Journal()
    messages = payments(journal, blocks=3, per_block=7)
    target = positions(journal, *messages)[-1]
    broker = broker_with(journal.start(), *messages[:3], wrong(messages[3]), messages[4])
    async with second(database, broker) as sink:
        with pytest.raises(Corruption):
            await sink.reach({3: target}, 30.0)
    absent = broker_with(journal.start(), *messages, unavailable=1.0)
    async with second(database, absent) as sink:
        with pytest.raises(PostgresUnavailable, match=r"partition 3: expected offset 6 .* nothing written for 0.3 s"):
            await sink.reach({3: target}, 0.3)


async def test_a_limited_log_hides_what_lies_behind_its_limit_and_wakes_who_waits_for_more() -> None:
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=3, per_block=7))
    log = LimitedLog(SimulatedLog(broker, turn))
    assert (await log.start_offset(), await log.end_offset()) == (0, 0)
    log.allow(3)
    assert await log.end_offset() == 3
    records, behind = await log.fetch(1, 1.0)
    assert ([one.offset for one in records], behind) == ([1, 2], 3)
    assert decode_headers(records[0].headers) == decode_headers(broker.records[1].headers)
    assert await log.fetch(3, 0.01) == ([], 3)
    waiting = asyncio.create_task(log.fetch(3, 30.0))
    await asyncio.sleep(0)
    log.allow(4)
    log.allow(2)
    assert [one.offset for one in (await waiting).records] == [3]


async def test_two_schemas_that_were_written_in_other_batches_are_equal_row_for_row_at_each_position(
    database: str,
) -> None:
    journal = Journal()
    messages = payments(journal, blocks=5, per_block=7)
    broker = broker_with(journal.start(), *messages[:4])
    comparison = Comparison(4)
    async with second(database, broker) as sink, writers(database) as pool:
        for upto in (4, len(messages)):
            for message in messages[len(broker.records) - 1 : upto]:
                broker.append(*message)
            await follow(database, sink_of(pool, broker), journal.seq if upto > 4 else 40 + 1 + 14)
            async with snapshot(database, SCHEMA) as (live, targets), session(database, REBUILT) as rebuilt:
                await sink.reach(targets, 30.0)
                done = [events async for events in comparison.advance(live, rebuilt, targets)]
                assert done[-1] == comparison.events == targets[3].seq
                assert comparison.differences == []
