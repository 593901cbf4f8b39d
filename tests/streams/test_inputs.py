"""Which record is next: the order of two inputs, and how many wait."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.inputs import MAX_BUFFERED, Heads, InputName, KafkaInputs
from streams.kafka import LOG_APPEND_TIME, Partition, Record
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


class OneLeaderDown:
    """A consumer of which the leader of ``transfers`` does not answer, while ``requests`` never ends."""

    def __init__(self) -> None:
        self.position_in_requests = 0
        self.answered_ms: int | None = None

    async def poll(self, *partitions: Partition, timeout_ms: int) -> dict[Partition, list[Record]]:  # noqa: ARG002
        requests = Partition("t.requests", 0)
        if partitions and requests not in partitions:
            return {}
        found = records("requests", *[1] * 1_500, offset=self.position_in_requests)
        self.position_in_requests += len(found)
        return {requests: found}

    async def position(self, partition: Partition) -> int:
        return self.position_in_requests if partition.topic == "t.requests" else 0

    def last_stable_offset(self, partition: Partition) -> int | None:
        return self.position_in_requests + 1_500 if partition.topic == "t.requests" else None

    def high_water(self, partition: Partition) -> int | None:
        return self.last_stable_offset(partition)

    def last_answer_ms(self, partition: Partition) -> int | None:
        assert partition.topic == "t.transfers"
        return self.answered_ms


async def test_an_input_that_cannot_be_reached_lets_only_so_many_records_of_the_other_wait() -> None:
    inputs = KafkaInputs("nowhere", Topics("t."), 0)
    consumer: Any = OneLeaderDown()
    inputs._consumer, inputs._started_ms = consumer, int(time.time() * 1000)
    for _ in range(10):
        assert await inputs.take(2_000, wait_ms=0) == []
    assert MAX_BUFFERED <= consumer.position_in_requests < MAX_BUFFERED + 1_500


async def test_an_input_of_which_nothing_is_heard_is_in_trouble_until_it_answers() -> None:
    inputs, consumer = KafkaInputs("nowhere", Topics("t."), 0), OneLeaderDown()
    now_ms = int(time.time() * 1000)
    inputs._consumer = consumer  # type: ignore[assignment]

    async def trouble(*, started_ms: int = now_ms, answered_ms: int | None = None) -> str:
        inputs._started_ms, consumer.answered_ms = started_ms, answered_ms
        await inputs.take(2_000, wait_ms=0)
        return inputs.trouble or ""

    assert await trouble() == ""
    assert (await trouble(started_ms=now_ms - 11_000)).startswith("t.transfers[0]: ")
    assert (await trouble(answered_ms=now_ms - 11_000)).startswith("t.transfers[0]: ")
    assert await trouble(started_ms=now_ms - 60_000, answered_ms=now_ms) == ""
