"""When a partition's sink begins a transaction, by a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from sinks.postgres.pace import FULL_BYTES, FULL_EVENTS, INTERVAL_S, Pace, pause_unless
from tests.sinks.following import broker_with, sink_of, writers
from tests.sinks.journals import Journal, payments


class Clock:
    """Stands still but for the rests; what happens during each is in *meanwhile*."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.now = 1_000.0
        self.rests: list[float] = []
        self.meanwhile = meanwhile

    def __call__(self) -> float:
        return self.now

    async def pause(self, _stop: asyncio.Event, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds
        self.meanwhile()


def paced(clock: Clock) -> Pace:
    return Pace(clock=clock, pause=clock.pause)


async def test_the_first_transaction_and_one_behind_a_quiet_time_begin_at_once() -> None:
    clock, stop = Clock(), asyncio.Event()
    pace = paced(clock)
    await pace.rest(stop)
    pace.begins(1, 1)
    clock.now += 2 * INTERVAL_S
    await pace.rest(stop)
    assert clock.rests == []


async def test_the_next_transaction_begins_at_the_next_moment_which_is_the_same_for_all_partitions() -> None:
    clock, stop = Clock(), asyncio.Event()
    for late in (-INTERVAL_S / 4, INTERVAL_S / 4):  # partitions that began at different times
        clock.now = 1_000.0 + late
        pace = paced(clock)
        assert not pace.begins(FULL_EVENTS - 1, FULL_BYTES - 1)
        clock.now += INTERVAL_S / 8  # so long did it take
        await pace.rest(stop)
        assert clock.now == pytest.approx(1_000.0 + INTERVAL_S)


@pytest.mark.parametrize(("events", "size"), [(FULL_EVENTS, 1), (1, FULL_BYTES)])
async def test_nothing_rests_behind_a_full_transaction(events: int, size: int) -> None:
    clock = Clock()
    pace = paced(clock)
    assert pace.begins(events, size)
    await pace.rest(asyncio.Event())
    assert clock.rests == []


async def test_a_rest_ends_as_soon_as_it_is_to_stop() -> None:
    stop = asyncio.Event()
    resting = asyncio.create_task(pause_unless(stop, 3_600.0))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(5):
        await resting


@pytest.mark.integration
async def test_blocks_that_come_during_a_rest_are_written_in_one_transaction(database: str) -> None:
    journal = Journal()
    opening = payments(journal, blocks=0, per_block=0)
    broker = broker_with(journal.start(), *opening)
    written: list[int] = []

    def three_more() -> None:
        for _ in range(3 if len(clock.rests) <= 4 else 0):
            journal.deposit("acc-3-1", 5)
            broker.append(*journal.block())

    clock, stop = Clock(three_more), asyncio.Event()
    began: list[float] = []

    def note(_partition: int, seq: int) -> None:
        written.append(seq)
        began.append(clock.now)
        if seq == 41 + 4 * 3:
            stop.set()

    async with writers(database) as pool, asyncio.timeout(30):
        await sink_of(pool, broker, written=note, pace=paced(clock)).run(stop)
    assert written == [0, 41, 44, 47, 50, 53], "the start, the first block at once, then three at a time"
    apart = [later - earlier for earlier, later in pairwise(began[1:])]
    assert apart == [pytest.approx(INTERVAL_S)] * 4


@pytest.mark.integration
async def test_a_backlog_is_written_without_a_rest(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.postgres.pace.FULL_EVENTS", 20)
    journal = Journal()
    broker = broker_with(journal.start(), *payments(journal, blocks=10, per_block=20))
    broker.max_fetch_records = 3  # a lease alone is no full transaction
    clock, stop = Clock(), asyncio.Event()

    def note(_partition: int, seq: int) -> None:
        if seq == journal.seq:
            stop.set()

    async with writers(database) as pool, asyncio.timeout(30):
        await sink_of(pool, broker, written=note, pace=paced(clock)).run(stop)
    assert clock.rests == []
