"""One consumer for many places: who hears what, and what happens to the others when one comes, goes or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from streams.feed import Feed, Heard
from streams.inputs import KafkaInputs
from streams.kafka import LOG_APPEND_TIME, KafkaFailure, OffsetOutOfRange, Partition, Record
from streams.topics import Topics
from tests.streams.world import until

A, B = Partition("t.requests", 0), Partition("t.requests", 1)


class Broker:
    """``streams.kafka.Consumer`` over lists of records; tests may make it fail or hold a marker behind the records."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[Record]] = {A: [], B: [], **{Partition("t.transfers", n): [] for n in (0, 1)}}
        self.markers = dict.fromkeys(self.logs, 0)  # control markers behind the records
        self.failure: BaseException | None = None
        self.opened = self.closed = self.assigned = 0
        self.at: dict[Partition, int] = {}
        self.paused: set[Partition] = set()
        self.more = asyncio.Event()

    async def start(self, *_: object, **__: object) -> Broker:
        self.opened += 1
        return self

    def append(self, place: Partition, count: int = 1) -> None:
        log = self.logs[place]
        for _ in range(count):
            log.append(Record(place.topic, place.number, len(log), None, b"", (), 1, LOG_APPEND_TIME))
        self.more.set()

    def fail(self, failure: BaseException) -> None:
        self.failure = failure
        self.more.set()

    def assign(self, places: Iterable[Partition]) -> None:
        self.at, self.paused = dict.fromkeys(places, -1), set()
        self.assigned += 1

    def seek(self, place: Partition, offset: int) -> None:
        self.at[place] = offset

    def pause(self, *places: Partition) -> None:
        self.paused |= {*places}

    def resume(self, *places: Partition) -> None:
        self.paused -= {*places}

    async def poll(self, *places: Partition, timeout_ms: int) -> dict[Partition, list[Record]]:
        assert places, "nothing named would mean everything"
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        found = {place: self.logs[place][self.at[place] :] for place in places if place not in self.paused}
        if not any(found.values()):
            self.more.clear()
            try:
                await asyncio.wait_for(self.more.wait(), min(timeout_ms, 5) / 1000)
            except TimeoutError:
                for place in places:
                    self.at[place] = await self._end(place)
            return {}
        self.at |= {place: self.at[place] + len(records) for place, records in found.items()}
        return found

    async def _end(self, place: Partition) -> int:
        return len(self.logs[place]) + self.markers[place]

    async def position(self, place: Partition) -> int:
        return self.at[place]

    def last_stable_offset(self, place: Partition) -> int:
        return len(self.logs[place]) + self.markers[place]

    high_water = last_stable_offset

    def last_answer_ms(self, place: Partition) -> int | None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        self.closed += 1


class Listener:
    """A taker that remembers."""

    def __init__(self, most: int = 1_000) -> None:
        self.offsets: list[int] = []
        self.position, self.most = -1, most
        self.failure: Exception | None = None

    def room(self, place: Partition) -> bool:  # noqa: ARG002
        return len(self.offsets) < self.most

    def hear(self, place: Partition, heard: Heard) -> None:  # noqa: ARG002
        self.offsets += [record.offset for record in heard.records]
        self.position = heard.position

    def fail(self, error: Exception) -> None:
        self.failure = error


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr("streams.feed.Consumer", made)
    return made


async def test_each_taker_hears_its_own_place_from_its_own_offset(broker: Broker) -> None:
    feed, one, other = Feed("nowhere"), Listener(), Listener()
    broker.append(A, 3)
    broker.append(B, 3)
    await feed.add(one, {A: 1})
    await feed.add(other, {B: 2})
    await until(lambda: (one.offsets, other.offsets) == ([1, 2], [2]), "both heard")
    broker.append(A)
    await until(lambda: one.offsets == [1, 2, 3], "more of A")
    assert other.offsets == [2]
    assert broker.opened == 1
    await feed.remove([A, B])


async def test_nothing_is_lost_or_heard_twice_when_others_come_and_go(broker: Broker) -> None:
    feed, one, other = Feed("nowhere"), Listener(), Listener()
    await feed.add(one, {A: 0})
    for turn in range(20):
        broker.append(A, 2)
        if turn % 2:
            await feed.remove([B])
        else:
            await feed.add(other, {B: 0})
    await until(lambda: len(one.offsets) >= 40, "all of A")
    assert one.offsets == list(range(40))
    await feed.remove([A, B])


async def test_the_last_place_that_is_removed_closes_the_consumer_and_the_next_opens_another(broker: Broker) -> None:
    feed, one = Feed("nowhere"), Listener()
    await feed.add(one, {A: 0})
    await feed.remove([A])
    assert (broker.opened, broker.closed) == (1, 1)
    await feed.remove([A])
    assert broker.closed == 1
    await feed.add(one, {A: 0})
    assert broker.opened == 2
    await feed.remove([A])


async def test_removing_what_is_not_read_does_not_disturb_the_others(broker: Broker) -> None:
    """Whoever starts removes first: a partition that cannot start would interrupt all others again and again."""
    feed, one = Feed("nowhere"), Listener()
    await feed.remove([B])
    await feed.add(one, {A: 0})
    await feed.remove([B])
    assert broker.assigned == 1
    await feed.remove([A])
    assert broker.closed == 1


async def test_a_taker_that_failed_leaves_the_consumer_when_it_is_removed(broker: Broker) -> None:
    feed, one = Feed("nowhere"), Listener()
    await feed.add(one, {A: 0})
    broker.fail(OffsetOutOfRange("below the log start", frozenset({A})))
    await until(lambda: one.failure is not None, "A was told")
    await feed.remove([A])
    assert broker.closed == 1


async def test_a_failure_drops_every_taker_and_whoever_is_added_again_goes_on(broker: Broker) -> None:
    feed, one, other = Feed("nowhere"), Listener(), Listener()
    await feed.add(one, {A: 0})
    await feed.add(other, {B: 0})
    broker.fail(KafkaFailure("gone"))
    await until(lambda: one.failure is not None and other.failure is not None, "both were told")
    broker.append(A, 2)
    await feed.add(one, {A: 0})
    await until(lambda: one.offsets == [0, 1], "A is read again")
    assert (broker.opened, broker.closed) == (2, 1)
    await feed.remove([A])


async def test_a_defect_is_told_too(broker: Broker) -> None:
    """Else the partitions of the process would look owned while nobody reads their requests."""
    feed, one = Feed("nowhere"), Listener()
    await feed.add(one, {A: 0})
    broker.fail(RuntimeError("a defect"))
    await until(lambda: isinstance(one.failure, RuntimeError), "it was told")
    await feed.remove([A])


async def test_a_cancellation_that_comes_out_of_the_client_is_told_as_a_failure(broker: Broker) -> None:
    """As aiokafka's ``stop`` shows, it cancels what it awaits itself; here that would end the reading silently."""
    feed, one = Feed("nowhere"), Listener()
    await feed.add(one, {A: 0})
    broker.fail(asyncio.CancelledError())
    await until(lambda: isinstance(one.failure, KafkaFailure), "it was told")
    broker.append(A)
    await feed.add(one, {A: 0})
    await until(lambda: one.offsets == [0], "A is read again")
    await feed.remove([A])


async def test_a_lost_position_fails_its_own_taker_only(broker: Broker) -> None:
    feed, one, other = Feed("nowhere"), Listener(), Listener()
    await feed.add(one, {A: 0})
    await feed.add(other, {B: 0})
    broker.fail(OffsetOutOfRange("below the log start", frozenset({A})))
    await until(lambda: one.failure is not None, "A was told")
    broker.append(B)
    await until(lambda: other.offsets == [0], "B goes on")
    assert other.failure is None
    await feed.remove([A, B])


async def test_a_place_without_room_is_paused_and_does_not_hold_up_the_others(broker: Broker) -> None:
    feed, full, other = Feed("nowhere"), Listener(most=2), Listener()
    await feed.add(full, {A: 0})
    await feed.add(other, {B: 0})
    broker.append(A, 2)
    await until(lambda: full.offsets == [0, 1], "A is full")
    await until(lambda: broker.paused == {A}, "A is paused")
    broker.append(A)
    broker.append(B)
    await until(lambda: other.offsets == [0], "B goes on")
    assert full.offsets == [0, 1]
    full.most = 10
    feed.made_room()
    await until(lambda: full.offsets == [0, 1, 2], "A goes on")
    await feed.remove([A, B])


async def test_where_nobody_has_room_nothing_is_read_until_somebody_says_so(broker: Broker) -> None:
    feed, full = Feed("nowhere"), Listener(most=1)
    await feed.add(full, {A: 0})
    broker.append(A)
    await until(lambda: full.offsets == [0], "A is full")
    await until(lambda: broker.paused == {A}, "A is paused")
    broker.append(A)
    full.most = 2
    feed.made_room()
    await until(lambda: full.offsets == [0, 1], "A goes on")
    await feed.remove([A])


async def test_a_marker_behind_the_last_record_is_passed_when_it_is_fetched_later(broker: Broker) -> None:
    """Else the end of the input would never be known, and records of the other input could not overtake it."""
    feed, one = Feed("nowhere"), Listener()
    broker.append(A)
    broker.markers[A] = 1
    await feed.add(one, {A: 0})
    await until(lambda: one.position == 2, "the position is behind the marker")
    await feed.remove([A])


async def test_an_add_that_is_cancelled_leaves_the_others_reading(broker: Broker) -> None:
    feed, one = Feed("nowhere"), Listener()
    await feed.add(one, {A: 0})
    adding = asyncio.create_task(feed.add(Listener(), {B: 0}))
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await feed.remove([B])
    broker.append(A)
    await until(lambda: one.offsets == [0], "A goes on")
    await feed.remove([A])


async def test_a_partition_that_cannot_be_read_troubles_the_others_once(monkeypatch: pytest.MonkeyPatch) -> None:
    brokers: list[Broker] = []

    class Brokers:
        """Each start is a client of its own; their logs are one."""

        @staticmethod
        async def start(*_: object, **__: object) -> Broker:
            brokers.append(Broker())
            if len(brokers) > 1:
                brokers[-1].logs = brokers[0].logs
            return brokers[-1]

    async def retained(*_: object) -> None:
        """The broker of this test keeps everything."""

    monkeypatch.setattr("streams.feed.Consumer", Brokers)
    monkeypatch.setattr(KafkaInputs, "_check_retained", retained)
    shared, topics, start = Feed("nowhere"), Topics("t."), {"requests": 0, "transfers": 0}
    well, broken = KafkaInputs("nowhere", topics, 0, shared), KafkaInputs("nowhere", topics, 1, shared)
    await well.start(start)
    await broken.start(start)
    for failures in range(1, 4):
        brokers[-1].fail(KafkaFailure("a batch with a wrong checksum"))
        with pytest.raises(KafkaFailure):
            await broken.take(1, wait_ms=5_000)
        if failures == 1:
            with pytest.raises(KafkaFailure):
                await well.take(1, wait_ms=5_000)
            await well.start(start)
        await broken.start(start)
    assert len(brokers) == 1 + 1 + 3
    brokers[0].append(A)
    brokers[1].more.set()
    assert await until_taken(well) == [0]
    await well.close()  # without a failure: it is read with the others again
    await well.start(start)
    await broken.close()
    assert await until_taken(well) == [0]
    assert shared._takers
    await well.close()


async def until_taken(inputs: KafkaInputs) -> list[int]:
    taken: list[int] = []
    async with asyncio.timeout(10):
        while not taken:
            taken = [record.offset for _, record in await inputs.take(10, wait_ms=50)]
    return taken
