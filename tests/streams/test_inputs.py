"""Which record is next: the order of two inputs, and how many wait."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.feed import Feed, Heard
from streams.halts import Halt
from streams.inputs import MAX_BUFFERED, Heads, InputName, KafkaInputs
from streams.kafka import LOG_APPEND_TIME, KafkaFailure, OffsetOutOfRange, Partition, Record
from streams.topics import Topics


def records(name: InputName, *times_ms: int, offset: int = 0) -> list[Record]:
    return [Record(name, 0, offset + n, None, b"", (), at, LOG_APPEND_TIME) for n, at in enumerate(times_ms)]


def taken(heads: Heads, limit: int = 100) -> list[tuple[InputName, int]]:
    return [(name, record.timestamp_ms) for name, record in heads.take(limit)]


def test_the_earlier_head_goes_first_and_transfers_win_a_tie() -> None:
    heads = Heads()
    heads.add("requests", records("requests", 1, 5, 5))
    heads.add("transfers", records("transfers", 2, 5))
    assert taken(heads, 4) == [("requests", 1), ("transfers", 2), ("transfers", 5)]


def test_nothing_overtakes_an_input_whose_end_is_not_known() -> None:
    heads = Heads()
    heads.add("requests", records("requests", 1))
    assert taken(heads) == []
    heads.ended("transfers", at_end=True)
    assert taken(heads) == [("requests", 1)]
    heads.add("transfers", records("transfers", 2))
    assert taken(heads) == []
    heads.ended("requests", at_end=True)
    assert taken(heads) == [("transfers", 2)]


def test_an_end_counts_only_until_more_is_fetched() -> None:
    heads = Heads()
    heads.ended("transfers", at_end=True)
    heads.add("transfers", records("transfers", 1))
    heads.add("requests", records("requests", 2))
    assert taken(heads) == [("transfers", 1)]
    assert heads.waiting() == 1


def test_a_limit_leaves_the_rest_for_the_next_call() -> None:
    heads = Heads()
    heads.ended("transfers", at_end=True)
    heads.add("requests", records("requests", 1, 2, 3))
    assert taken(heads, 2) == [("requests", 1), ("requests", 2)]
    assert taken(heads, 2) == [("requests", 3)]
    assert heads.empty("requests")


@given(
    st.lists(st.integers(0, 5), max_size=12).map(sorted),
    st.lists(st.integers(0, 5), max_size=12).map(sorted),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
)
def test_the_order_is_that_of_a_merge_by_time_and_rank_however_it_is_cut(
    requests: list[int], transfers: list[int], limits: list[int]
) -> None:
    heads = Heads()
    heads.add("requests", records("requests", *requests))
    heads.add("transfers", records("transfers", *transfers))
    heads.ended("requests", at_end=True)
    heads.ended("transfers", at_end=True)
    found: list[tuple[InputName, int]] = []
    while heads.waiting():
        for limit in limits:
            some = taken(heads, limit)
            assert len(some) <= limit
            found += some
    ranked = sorted([(at, 1, "requests") for at in requests] + [(at, 0, "transfers") for at in transfers])
    assert found == [(name, at) for at, _, name in ranked]


REQUESTS, TRANSFERS = Partition("t.requests", 0), Partition("t.transfers", 0)


def reader() -> KafkaInputs:
    """As it is behind ``start``, with a feed that nothing was added to."""
    return KafkaInputs(Topics("t."), 0, Feed("nowhere"))


def heard(*found: Record, stable_end: int | None = 0, answered_ms: int | None = None) -> Heard:
    position = found[-1].offset + 1 if found else 0
    return Heard(list(found), position, stable_end, stable_end, answered_ms)


async def test_an_input_that_cannot_be_reached_lets_only_so_many_records_of_the_other_wait() -> None:
    inputs, offset = reader(), 0
    while inputs.room(REQUESTS):
        inputs.hear(REQUESTS, heard(*records("requests", *[1] * 1_500, offset=offset)))
        inputs.hear(TRANSFERS, heard(stable_end=None))
        assert await inputs.take(2_000, wait_ms=0) == []
        offset += 1_500
    assert MAX_BUFFERED <= offset < MAX_BUFFERED + 1_500
    assert inputs.room(TRANSFERS)


async def test_an_input_of_which_nothing_is_heard_is_in_trouble_until_it_answers() -> None:
    now_ms = int(time.time() * 1000)

    def trouble(*, started_ms: int = now_ms, answered_ms: int | None = None) -> str:
        inputs._started_ms = started_ms
        inputs.hear(TRANSFERS, heard(answered_ms=answered_ms))
        return inputs.trouble or ""

    inputs = reader()
    assert trouble() == ""
    assert trouble(started_ms=now_ms - 11_000).startswith("t.transfers[0]: ")
    assert trouble(answered_ms=now_ms - 11_000).startswith("t.transfers[0]: ")
    assert trouble(started_ms=now_ms - 60_000, answered_ms=now_ms) == ""


async def test_a_look_that_is_not_answered_takes_nothing_back() -> None:
    inputs, unanswered = reader(), Heard([], 0, stable_end=None, end=None, answered_ms=None)
    inputs._started_ms = int(time.time() * 1000) - 60_000
    inputs.hear(TRANSFERS, heard(answered_ms=int(time.time() * 1000)))
    inputs.hear(REQUESTS, Heard([], 0, stable_end=0, end=7, answered_ms=int(time.time() * 1000)))
    inputs.hear(TRANSFERS, unanswered)
    inputs.hear(REQUESTS, unanswered)
    assert inputs.trouble is None
    assert inputs.lag().records == 7
    inputs.hear(REQUESTS, heard(*records("requests", 1)))
    assert len(await inputs.take(10, wait_ms=0)) == 1  # transfers were at their end, and nothing says otherwise


async def test_records_end_the_waiting_of_whoever_wants_some() -> None:
    inputs = reader()
    assert await asyncio.wait_for(inputs.take(10, wait_ms=20), 5) == []
    waiting = asyncio.create_task(inputs.take(10, wait_ms=60_000))
    await asyncio.sleep(0)
    inputs.hear(TRANSFERS, heard())
    assert not waiting.done()
    inputs.hear(REQUESTS, heard(*records("requests", 1)))
    assert [name for name, _ in await asyncio.wait_for(waiting, 5)] == ["requests"]


async def test_the_feed_knows_whether_it_waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the feed would look again while a block is under way, and most requests would have one of their own."""
    inputs = reader()
    waited: list[object] = []
    monkeypatch.setattr(inputs._feed, "waits", waited.append)
    inputs.hear(TRANSFERS, heard())
    inputs.hear(REQUESTS, heard(*records("requests", 1, 2)))
    assert len(await inputs.take(1, wait_ms=0)) == 1
    assert len(await inputs.take(1, wait_ms=0)) == 1
    assert waited == [], "something was left to work on"
    assert await inputs.take(1, wait_ms=0) == []
    assert waited == [inputs]


async def test_a_failed_reader_says_so_and_a_lost_position_halts() -> None:
    inputs = reader()
    waiting = asyncio.create_task(inputs.take(10, wait_ms=60_000))
    await asyncio.sleep(0)
    inputs.fail(KafkaFailure("no broker"))
    with pytest.raises(KafkaFailure, match="no broker"):
        await asyncio.wait_for(waiting, 5)
    inputs.fail(OffsetOutOfRange("7 is gone", frozenset({REQUESTS})))
    with pytest.raises(Halt, match="7 is gone") as halted:
        await inputs.take(10, wait_ms=0)
    assert halted.value.topic == "t.requests[0]"
    inputs.fail(OffsetOutOfRange("8 is gone", frozenset({TRANSFERS})))
    with pytest.raises(Halt) as halted:
        await inputs.take(10, wait_ms=0)
    assert halted.value.topic == "t.transfers[0]"


async def test_behind_the_last_transfer_requests_go_on_at_once() -> None:
    """A look that brought records, and came to the end, tells the end too; else they wait for one that brings none."""
    inputs = reader()
    inputs.hear(TRANSFERS, heard(*records("transfers", 1), stable_end=1))
    inputs.hear(REQUESTS, heard(*records("requests", 2), stable_end=1))
    assert [name for name, _ in await inputs.take(10, wait_ms=0)] == ["transfers", "requests"]
    inputs.hear(TRANSFERS, heard(*records("transfers", 3), stable_end=2))
    inputs.hear(REQUESTS, heard(*records("requests", 4), stable_end=1))
    assert [name for name, _ in await inputs.take(10, wait_ms=0)] == ["transfers"], "one more transfer is known of"
