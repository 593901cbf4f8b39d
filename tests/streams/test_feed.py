"""One reader for many places: who hears what, and what happens to the others when one comes, goes or fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from streams.feed import Feed, Heard
from streams.kafka import LOG_APPEND_TIME, Fetched, KafkaFailure, OffsetOutOfRange, Partition, Record, Unreachable
from tests.streams.world import until

A, B = Partition("t.requests", 0), Partition("t.requests", 1)


class Broker:
    """``streams.kafka.Fetcher`` over lists of records; tests may make it fail or hold a marker behind the records."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[Record]] = {A: [], B: []}
        self.markers = dict.fromkeys(self.logs, 0)  # control markers behind the records
        self.failures: dict[Partition, KafkaFailure] = {}
        self.most = 1_000  # records of one answer
        self.defect: Exception | None = None
        self.asked: frozenset[Partition] = frozenset()
        self.wanted: Mapping[Partition, int] = {}
        self.closed = False
        self.more = asyncio.Event()

    def append(self, place: Partition, count: int = 1) -> None:
        log = self.logs[place]
        for _ in range(count):
            log.append(Record(place.topic, place.number, len(log), None, b"", (), 1, LOG_APPEND_TIME))
        self.more.set()

    def fail(self, place: Partition, failure: KafkaFailure) -> None:
        self.failures[place] = failure
        self.more.set()

    async def fetch(self, offsets: Mapping[Partition, int], wait_ms: int) -> dict[Partition, Fetched | KafkaFailure]:
        if self.defect is not None:
            raise self.defect
        self.asked, self.wanted = frozenset(offsets), offsets
        if not any(self._behind(place, offset) for place, offset in offsets.items()):
            self.more.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.more.wait(), min(wait_ms, 5) / 1000)
        return {place: self._answer(place, offset) for place, offset in offsets.items()}

    def _behind(self, place: Partition, offset: int) -> bool:
        return place in self.failures or offset < len(self.logs[place]) + self.markers[place]

    def _answer(self, place: Partition, offset: int) -> Fetched | KafkaFailure:
        if place in self.failures:
            return self.failures[place]
        end = len(self.logs[place]) + self.markers[place]
        found = self.logs[place][offset : offset + self.most]
        behind = end if offset + len(found) >= len(self.logs[place]) else offset + len(found)
        return Fetched(found, behind, end, end, (1, None))

    async def close(self) -> None:
        self.closed = True


class Listener:
    """A taker that remembers."""

    def __init__(self, most: int = 1_000) -> None:
        self.offsets: list[int] = []
        self.position, self.stable_end, self.most = -1, -1, most
        self.failure: Exception | None = None
        self.unanswered = self.heard = 0

    def room(self, place: Partition) -> bool:  # noqa: ARG002
        return len(self.offsets) < self.most

    def hear(self, place: Partition, heard: Heard) -> None:  # noqa: ARG002
        self.offsets += [record.offset for record in heard.records]
        self.position = heard.position
        self.stable_end = self.stable_end if heard.stable_end is None else heard.stable_end
        self.heard += 1
        self.unanswered += heard.answered_ms is None

    def fail(self, error: Exception) -> None:
        self.failure = error


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr("streams.feed.Fetcher", lambda *_: made)
    return made


@pytest.fixture
async def feed(broker: Broker) -> AsyncIterator[Feed]:
    made = Feed("nowhere")
    yield made
    await made.close()
    assert broker.closed


async def test_each_taker_hears_its_own_place_from_its_own_offset(broker: Broker, feed: Feed) -> None:
    one, other = Listener(), Listener()
    broker.append(A, 3)
    broker.append(B, 3)
    feed.add(one, {A: 1})
    feed.add(other, {B: 2})
    await until(lambda: (one.offsets, other.offsets) == ([1, 2], [2]), "both heard")
    broker.append(A)
    await until(lambda: one.offsets == [1, 2, 3], "more of A")
    assert other.offsets == [2]


async def test_nothing_is_lost_or_heard_twice_when_others_come_and_go(broker: Broker, feed: Feed) -> None:
    one, other = Listener(), Listener()
    feed.add(one, {A: 0})
    for turn in range(20):
        broker.append(A, 2)
        if turn % 2:
            feed.remove([B])
        else:
            feed.add(other, {B: 0})
        await asyncio.sleep(0.002)
    await until(lambda: len(one.offsets) >= 40, "all of A")
    assert one.offsets == list(range(40))


async def test_what_is_under_way_for_a_place_that_was_removed_is_not_heard(broker: Broker, feed: Feed) -> None:
    """Else a partition that was given back and taken again would get records of before, or get some twice."""
    one, again = Listener(), Listener()
    feed.add(one, {A: 0})
    await until(lambda: broker.asked == {A}, "it is asked for")
    feed.remove([A])
    broker.append(A, 3)
    feed.add(again, {A: 2})
    await until(lambda: again.offsets == [2], "from where the second wants it")
    assert one.offsets == []


async def test_without_takers_nothing_is_asked_for_until_one_comes(broker: Broker, feed: Feed) -> None:
    one = Listener()
    feed.add(one, {A: 0})
    await until(lambda: broker.asked == {A}, "it is asked for")
    feed.remove([A])
    feed.remove([A, B])
    broker.more.set()
    await asyncio.sleep(0.02)  # several looks would fit
    broker.asked = frozenset()
    await asyncio.sleep(0.02)
    assert broker.asked == frozenset()
    broker.append(A)
    feed.add(one, {A: 0})
    await until(lambda: one.offsets == [0], "A is read again")


async def test_what_cannot_be_read_fails_its_own_taker_only(broker: Broker, feed: Feed) -> None:
    one, other = Listener(), Listener()
    feed.add(one, {A: 0})
    feed.add(other, {B: 0})
    broker.fail(A, OffsetOutOfRange("below the log start", frozenset({A})))
    await until(lambda: one.failure is not None, "A was told")
    broker.append(B)
    await until(lambda: other.offsets == [0], "B goes on")
    assert other.failure is None
    assert broker.asked == {B}
    del broker.failures[A]
    broker.append(A)
    feed.add(one, {A: 0})
    await until(lambda: one.offsets == [0], "A is read again")


async def test_a_place_without_a_leader_is_asked_for_again_and_its_taker_knows_of_no_answer(
    broker: Broker, feed: Feed
) -> None:
    one, other = Listener(), Listener()
    feed.add(one, {A: 0})
    feed.add(other, {B: 0})
    broker.fail(A, Unreachable("no leader"))
    await until(lambda: one.unanswered > 0, "A is not answered")
    broker.append(B)
    await until(lambda: other.offsets == [0], "B goes on")
    assert other.unanswered == 0
    del broker.failures[A]
    broker.append(A)
    await until(lambda: one.offsets == [0], "A goes on")
    assert one.failure is None


async def test_a_defect_is_told_to_everybody(broker: Broker, feed: Feed) -> None:
    """Else the partitions of the process would look owned while nobody reads their requests."""
    one, other = Listener(), Listener()
    feed.add(one, {A: 0})
    feed.add(other, {B: 0})
    broker.defect = RuntimeError("a defect")
    broker.more.set()
    await until(lambda: one.failure is other.failure is broker.defect, "it was told")
    broker.defect = None
    broker.append(A)
    feed.add(one, {A: 0})
    await until(lambda: one.offsets == [0], "A is read again")


async def test_a_place_without_room_is_not_asked_for_and_does_not_hold_up_the_others(
    broker: Broker, feed: Feed
) -> None:
    full, other = Listener(most=2), Listener()
    feed.add(full, {A: 0})
    feed.add(other, {B: 0})
    broker.append(A, 2)
    await until(lambda: full.offsets == [0, 1], "A is full")
    await until(lambda: broker.asked == {B}, "A is not asked for")
    broker.append(A)
    broker.append(B)
    await until(lambda: other.offsets == [0], "B goes on")
    assert full.offsets == [0, 1]
    full.most = 10
    feed.made_room()
    await until(lambda: full.offsets == [0, 1, 2], "A goes on")


async def test_where_nobody_has_room_nothing_is_read_until_somebody_says_so(broker: Broker, feed: Feed) -> None:
    full = Listener(most=1)
    feed.add(full, {A: 0})
    broker.append(A)
    await until(lambda: full.offsets == [0], "A is full")
    broker.append(A)
    await asyncio.sleep(0.02)  # several looks would fit
    assert full.offsets == [0]
    full.most = 2
    feed.made_room()
    await until(lambda: full.offsets == [0, 1], "A goes on")


async def test_a_marker_behind_the_last_record_is_passed(broker: Broker, feed: Feed) -> None:
    """Else the end of the input would never be known, and records of the other input could not overtake it."""
    one = Listener()
    broker.append(A)
    feed.add(one, {A: 0})
    await until(lambda: one.position == 1, "the record is heard")
    broker.markers[A] = 1
    broker.more.set()
    await until(lambda: one.position == 2, "the position is behind the marker")
    await until(lambda: broker.wanted == {A: 2}, "reading goes on behind it")


async def test_a_taker_hears_of_a_place_where_nothing_comes_too(broker: Broker, feed: Feed) -> None:
    """Else it would not know that it is at the end, and silence would not be told from an idle place."""
    one = Listener()
    feed.add(one, {A: 0})
    await until(lambda: one.heard >= 3, "it hears that there is nothing")
    assert (one.position, one.offsets) == (0, [])


async def test_it_is_told_at_once_that_there_is_more_than_an_answer_had_room_for(
    broker: Broker, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the input would count as empty, and the other one would overtake what waits there."""
    one = Listener()
    feed.add(one, {A: 0})
    await until(lambda: one.position == 0, "nothing is there")
    monkeypatch.setattr("streams.feed.FETCH_WAIT_MS", 600_000)  # from here on nobody is told without a reason
    broker.most = 0
    broker.append(A)
    await until(lambda: one.stable_end == 1, "the record is known to be there")
    assert (one.offsets, one.position) == ([], 0)
    broker.most = 1
    await until(lambda: one.offsets == [0], "it is read")


async def at_work(broker: Broker, feed: Feed) -> tuple[Listener, Listener]:
    """A taker of A that waited and got a record, and one of B that has none yet."""
    one, other = Listener(), Listener()
    feed.waits(one)
    feed.add(one, {A: 0})
    feed.add(other, {B: 0})
    broker.append(A)
    await until(lambda: one.offsets == [0], "A is heard")
    return one, other


async def test_the_next_look_waits_for_whoever_got_something_to_work_on(
    broker: Broker, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes meanwhile then comes together, for all."""
    monkeypatch.setattr("streams.feed.AT_WORK_S", 600)
    one, other = Listener(), Listener()
    feed.waits(one)
    feed.waits(other)
    feed.add(one, {A: 0})
    feed.add(other, {B: 0})
    broker.append(A)
    await until(lambda: one.offsets == [0], "A is heard")
    broker.append(A, 2)
    broker.append(B)
    await asyncio.sleep(0.05)  # many looks would fit
    assert (one.offsets, other.offsets) == ([0], [])
    feed.waits(one)
    await until(lambda: (one.offsets, other.offsets) == ([0, 1, 2], [0]), "all that came meanwhile")
    broker.append(A)
    await asyncio.sleep(0.05)
    feed.waits(one)
    await asyncio.sleep(0.05)
    assert one.offsets == [0, 1, 2], "the other one is still at work"
    feed.waits(other)
    await until(lambda: one.offsets == [0, 1, 2, 3], "both have done")


async def test_who_takes_too_long_holds_up_the_others_once(
    broker: Broker, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await at_work(broker, feed)
    broker.append(B)
    await until(lambda: other.offsets == [0], "B is heard though A has not done")
    monkeypatch.setattr("streams.feed.AT_WORK_S", 600)
    broker.append(A)
    await until(lambda: one.offsets == [0, 1], "more of A is heard")
    broker.append(B)
    await until(lambda: other.offsets == [0, 1], "nobody waits for A any more")


async def test_who_goes_away_is_not_waited_for(broker: Broker, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.feed.AT_WORK_S", 600)
    _, other = await at_work(broker, feed)
    assert len(feed._at_work) == 1
    feed.remove([A])
    broker.append(B)
    await until(lambda: other.offsets == [0], "B is heard")


async def test_however_little_comes_with_each_there_are_not_many_looks(
    broker: Broker, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.feed.PACE_S", 600)
    one = Listener()
    feed.add(one, {A: 0})
    await until(lambda: one.heard == 1, "the first look")
    broker.append(A)
    await asyncio.sleep(0.05)  # many looks would fit
    assert one.offsets == []


async def test_who_comes_again_is_not_waited_for_before_it_waits(
    broker: Broker, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that is taken again must not hold up the others while it starts."""
    monkeypatch.setattr("streams.feed.AT_WORK_S", 600)
    one, other = Listener(), Listener()
    feed.add(one, {A: 0})
    feed.waits(one)
    feed.remove([A])
    feed.add(one, {A: 0})
    feed.add(other, {B: 0})
    broker.append(A)
    await until(lambda: one.offsets == [0], "A is heard")
    broker.append(B)
    await until(lambda: other.offsets == [0], "B is heard though A does not wait yet")
