"""Reading starts, and starts again, at the last record that was read: what is lost or replaced is noticed."""

from __future__ import annotations

import pytest

from streams.journal.errors import JournalLoss, NoGenesis, WrongLedger
from streams.journal.follower import Follower
from streams.journal.log import LogUnavailable
from streams.journal.reading import ValidBlock
from streams.journal.simulated import SimulatedBroker, SimulatedLog
from tests.streams.journal.building import (
    LEDGER,
    WHERE,
    Message,
    block,
    broker_with,
    follower,
    lease,
    numbers,
    reader,
    record,
)


def blocks(epoch: int, letter: str, *contents: int) -> list[Message]:
    """The first blocks of a journal behind one lease, one event each."""
    at, made = reader(), list[Message]()
    at.read(record(1, lease(epoch, letter)))
    for n, number in enumerate(contents, 1):
        made.append(block(epoch, letter, n, at.position.chain, number))
        at.read(record(n + 1, made[-1]))
    return made


async def read_below(f: Follower, end: int) -> None:
    async for r in f.below(end):
        f.reader.read(r)


async def read_all(f: Follower) -> list[int]:
    found: list[int] = []
    while got := await f.records(0.0):
        for r in got:
            verdict = f.reader.read(r)
            found += numbers(verdict) if isinstance(verdict, ValidBlock) else []
    return found


def log_of(broker: SimulatedBroker) -> SimulatedLog:
    return SimulatedLog(broker, where=WHERE)


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_follower_reads_everything_once_and_goes_on_when_more_comes(size: int) -> None:
    first, second, third = blocks(1, "a", 1, 2, 3)
    broker = broker_with(lease(1, "a"), first, second)
    broker.max_fetch_records = size
    f = await follower(log_of(broker))
    assert await read_all(f) == [1, 2]
    broker.mark()
    assert await f.records(0.0) == []
    assert f.at_end(broker.end)
    broker.append(*third)
    assert await read_all(f) == [3]


async def test_a_follower_may_stop_between_two_records() -> None:
    broker = broker_with(lease(1, "a"), *blocks(1, "a", 1, 2, 3))
    f = await follower(log_of(broker))
    for r in (await f.records(0.0))[:2]:
        f.reader.read(r)
    assert not f.at_end(broker.end)
    assert await read_all(f) == [2, 3]


async def test_a_stored_position_is_resumed_anywhere() -> None:
    broker = broker_with(lease(1, "a"), *blocks(1, "a", 1, 2, 3))
    f = await follower(log_of(broker))
    rest = [1, 2, 3]
    for r in await f.records(0.0):
        verdict = f.reader.read(r)
        rest = rest[1:] if isinstance(verdict, ValidBlock) else rest
        resumed = await follower(log_of(broker), f.reader.position)
        assert await read_all(resumed) == rest
        assert resumed.reader.position.next_offset == broker.end


async def test_reading_goes_on_after_io_trouble() -> None:
    broker = broker_with(lease(1, "a"), *blocks(1, "a", 1))
    f = await follower(log_of(broker))
    broker.unavailable = 1.0
    with pytest.raises(LogUnavailable):
        await f.records(0.0)
    broker.unavailable = 0.0
    assert await read_all(f) == [1]


async def test_a_lost_tail_replaced_by_another_record_at_the_same_offset_is_journal_loss() -> None:
    broker = broker_with(lease(1, "a"), *blocks(1, "a", 1, 2))
    f = await follower(log_of(broker))
    await read_all(f)
    broker.cut(3)
    broker.append(*blocks(1, "a", 1, 7)[1])  # valid in this journal, and not what was read
    with pytest.raises(JournalLoss, match="that I have read there"):
        await read_all(await follower(log_of(broker), f.reader.position))
    f.interrupt()
    with pytest.raises(JournalLoss, match="that I have read there"):
        await f.records(0.0)


async def test_a_log_cut_below_a_reader_is_journal_loss() -> None:
    broker = broker_with(lease(1, "a"), *blocks(1, "a", 1, 2))
    f = await follower(log_of(broker))
    await read_all(f)
    broker.cut(3)
    with pytest.raises(LogUnavailable):  # the offset is out of range: ask again
        await f.records(0.0)
    with pytest.raises(JournalLoss, match="log end 3"):
        await f.records(0.0)
    with pytest.raises(JournalLoss, match="log end 3"):
        await follower(log_of(broker), f.reader.position)


async def test_a_journal_recreated_empty_is_journal_loss_for_those_who_have_read_it() -> None:
    broker = broker_with(lease(1, "a"))
    f = await follower(log_of(broker))
    await read_all(f)
    broker.recreate()
    with pytest.raises(JournalLoss, match="log end 0"):
        await follower(log_of(broker), f.reader.position)
    with pytest.raises(NoGenesis, match="ledgerline init"):
        await follower(log_of(broker))


async def test_a_log_start_above_0_is_journal_loss() -> None:
    broker = broker_with(lease(1, "a"), *blocks(1, "a", 1, 2))
    f = await follower(log_of(broker))
    await read_all(f)
    broker.expire(2)
    for position in (None, f.reader.position):
        with pytest.raises(JournalLoss, match="log start 2"):
            await follower(log_of(broker), position)
    f.interrupt()
    with pytest.raises(JournalLoss, match="log start 2"):
        await f.records(0.0)


async def test_a_log_that_ends_below_what_it_acknowledged_is_not_waited_for_for_ever() -> None:
    broker = broker_with(lease(1, "a"))
    f = await follower(log_of(broker))
    with pytest.raises(LogUnavailable, match="got none within"):
        await read_below(f, 9)


async def test_another_ledger_is_refused() -> None:
    with pytest.raises(WrongLedger):
        await Follower.begin(log_of(broker_with()), ledger_id=LEDGER[:-1] + "9", partition=3)
    with pytest.raises(WrongLedger):
        await Follower.begin(log_of(broker_with()), ledger_id=None, partition=0)
