"""Which answers a fetch gives, and what it makes of errors: over a cluster in memory."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest_v4
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.kafka import Fetched, Fetcher, Isolation, KafkaFailure, OffsetOutOfRange, Partition, Unreachable
from streams.kafka import fetcher as module
from streams.kafka.wire import FetchedBytes, Request

OUT_OF_RANGE, CORRUPT, NOT_LEADER = 1, 2, 6
ONE, TWO, OTHER = Partition("t", 0), Partition("t", 1), Partition("t", 2)


def batch(*values: bytes, first: int = 0, compression: int = 0) -> bytes:
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp=1, key=None, value=value, headers=[])
    return struct.pack(">q", first) + bytes(builder.build())[8:]  # the broker writes the offset


class Brokers:
    """``streams.kafka.cluster.Cluster``: two brokers, of which the second leads OTHER. They answer when told to."""

    def __init__(self) -> None:
        self.leaders: dict[Partition, int] = {ONE: 1, TWO: 1, OTHER: 2}
        self.asked: list[tuple[int, asyncio.Future[dict[Partition, FetchedBytes]]]] = []
        self.named: list[set[Partition]] = []  # of each request
        self.looked_for: list[Partition] = []
        self.down = False
        self.refreshed = 0
        self.links: dict[int, object] = {1: "first", 2: "second"}

    def known_leader(self, place: Partition) -> int | None:
        return self.leaders.get(place)

    async def leader(self, place: Partition) -> int:
        self.looked_for.append(place)
        if self.down:
            raise KafkaFailure("cannot connect")
        if place not in self.leaders:
            raise Unreachable("no leader")
        return self.leaders[place]

    async def ask(self, node: int, request: Request[dict[Partition, FetchedBytes]]) -> dict[Partition, FetchedBytes]:
        if isinstance(request, Request):  # else it asks for the ends
            topics = FetchRequest_v4.decode(BytesIO(request.encode())).topics
            self.named.append({Partition(topic, number) for topic, those in topics for number, *_ in those})
        answer: asyncio.Future[dict[Partition, FetchedBytes]] = asyncio.get_running_loop().create_future()
        self.asked.append((node, answer))
        return await answer

    def connection(self, node: int) -> object:
        return self.links[node]

    def refresh_soon(self) -> None:
        self.refreshed += 1

    async def close(self) -> None:
        """Nothing is open."""

    async def answer(self, number: int, **answers: FetchedBytes) -> None:
        async with asyncio.timeout(5):
            while len(self.asked) <= number:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        self.asked[number][1].set_result({Partition("t", int(name[1:])): answer for name, answer in answers.items()})

    async def reply(self, answer: Any) -> None:
        """Answer the request that nobody has answered yet."""
        async with asyncio.timeout(5):
            while not self.asked or self.asked[-1][1].done():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        self.asked[-1][1].set_result(answer)


NOTHING = FetchedBytes(0, 7, 6, [], b"")


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers()
    monkeypatch.setattr("streams.kafka.fetcher.Cluster", lambda *_: made)
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    return made


@pytest.fixture
async def fetcher(brokers: Brokers) -> AsyncIterator[Fetcher]:
    made = Fetcher("nowhere", "test", Isolation.COMMITTED)
    yield made
    await made.close()


def values(answer: Fetched | KafkaFailure) -> list[bytes | None]:
    assert isinstance(answer, Fetched)
    return [record.value for record in answer.records]


async def test_records_come_from_the_offset_on_and_the_ends_with_them(brokers: Brokers, fetcher: Fetcher) -> None:
    fetching = asyncio.create_task(fetcher.fetch({ONE: 5, TWO: 0}, 100))
    await brokers.answer(0, p0=FetchedBytes(0, 9, 8, [], batch(b"4", b"5", b"6", first=4)), p1=NOTHING)
    found = await fetching
    one = found[ONE]
    assert values(one) == [b"5", b"6"]
    assert isinstance(one, Fetched)
    assert [(r.topic, r.partition, r.offset) for r in one.records] == [("t", 0, 5), ("t", 0, 6)]
    assert one[1:] == (7, 8, 9, (1, "first"))
    assert found[TWO] == Fetched([], 0, 6, 7, (1, "first"))


async def test_a_broker_that_is_slow_does_not_hold_up_the_others_and_is_answered_later(
    brokers: Brokers, fetcher: Fetcher
) -> None:
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0, OTHER: 0}, 60_000))
    await brokers.answer(0, p0=FetchedBytes(0, 1, 1, [], batch(b"a")))
    assert [*(await asyncio.wait_for(fetching, 5))] == [ONE]
    fetching = asyncio.create_task(fetcher.fetch({ONE: 1, OTHER: 0}, 60_000))
    await brokers.answer(1, p2=FetchedBytes(0, 1, 1, [], batch(b"b")))
    assert {place: values(answer) for place, answer in (await fetching).items()} == {OTHER: [b"b"]}
    assert [node for node, _ in brokers.asked] == [1, 2, 1]  # never two at a time to one broker


async def test_brokers_that_answer_soon_after_each_other_come_together(
    brokers: Brokers, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their partitions would take turns, and each request would wait for blocks of the others."""
    monkeypatch.setattr(module, "TOGETHER_S", 600)
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0, OTHER: 0}, 60_000))
    await brokers.answer(0, p0=FetchedBytes(0, 1, 1, [], batch(b"a")))
    await asyncio.sleep(0.01)
    await brokers.answer(1, p2=FetchedBytes(0, 1, 1, [], batch(b"b")))
    assert {*(await asyncio.wait_for(fetching, 5))} == {ONE, OTHER}


async def test_an_answer_for_another_offset_than_is_wanted_now_is_dropped(brokers: Brokers, fetcher: Fetcher) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fetcher.fetch({ONE: 0}, 60_000), 0.01)
    fetching = asyncio.create_task(fetcher.fetch({ONE: 3}, 60_000))
    await brokers.answer(0, p0=FetchedBytes(0, 1, 1, [], batch(b"a")))
    await brokers.answer(1, p0=FetchedBytes(0, 4, 4, [], batch(b"d", first=3)))
    assert values((await fetching)[ONE]) == [b"d"]


async def test_without_an_answer_in_time_nothing_is_said(brokers: Brokers, fetcher: Fetcher) -> None:
    assert await fetcher.fetch({ONE: 0}, 1) == {}
    assert len(brokers.asked) == 1


async def test_errors_are_told_for_the_partition_that_has_them(brokers: Brokers, fetcher: Fetcher) -> None:
    fetching = asyncio.create_task(fetcher.fetch({ONE: 9, TWO: 0}, 100))
    gone, moved = FetchedBytes(OUT_OF_RANGE, -1, -1, [], b""), FetchedBytes(NOT_LEADER, -1, -1, [], b"")
    await brokers.answer(0, p0=gone, p1=moved)
    found = await fetching
    lost = found[ONE]
    assert isinstance(lost, OffsetOutOfRange)
    assert lost.places == {ONE}
    assert isinstance(found[TWO], Unreachable)
    assert brokers.refreshed == 1


async def test_a_damaged_batch_is_a_failure_that_does_not_pass_behind_what_is_whole(
    brokers: Brokers, fetcher: Fetcher
) -> None:
    damaged = batch(b"good") + batch(b"damaged", first=1)[:-1] + b"\xff"
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0}, 100))
    await brokers.answer(0, p0=FetchedBytes(0, 2, 2, [], damaged))
    one = (await fetching)[ONE]
    assert values(one) == [b"good"]
    assert isinstance(one, Fetched)
    assert one.next_offset == 1
    fetching = asyncio.create_task(fetcher.fetch({ONE: 1}, 100))
    await brokers.answer(1, p0=FetchedBytes(0, 2, 2, [], damaged))
    found = (await fetching)[ONE]
    assert isinstance(found, KafkaFailure)
    assert not isinstance(found, Unreachable)
    assert "read t[0] from offset 1" in str(found)


async def test_a_lost_connection_is_unreachable_and_the_leaders_are_asked_for(
    brokers: Brokers, fetcher: Fetcher
) -> None:
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0}, 100))
    async with asyncio.timeout(5):
        while not brokers.asked:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    brokers.asked[0][1].set_exception(KafkaFailure("connection lost"))
    found = (await fetching)[ONE]
    assert isinstance(found, Unreachable)
    assert "connection lost" in str(found)
    assert brokers.refreshed == 1


async def test_a_partition_without_a_leader_is_unreachable_until_it_has_one(brokers: Brokers, fetcher: Fetcher) -> None:
    del brokers.leaders[ONE]
    assert isinstance((await fetcher.fetch({ONE: 0}, 100))[ONE], Unreachable)
    brokers.leaders[ONE] = 2
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0}, 100))
    await brokers.answer(0, p0=NOTHING)
    assert [*(await fetching)] == [ONE]


async def test_a_partition_that_was_refused_is_left_out_for_a_while_and_the_others_are_not_held_up(
    brokers: Brokers, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brokers refuse at once: asked again and again they would get hundreds of requests a second."""
    monkeypatch.setattr(module, "RETRY_S", 0.2)
    refused = FetchedBytes(NOT_LEADER, -1, -1, [], b"")
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0, TWO: 0}, 60_000))
    await brokers.answer(0, p0=refused, p1=NOTHING)
    assert {place: type(answer) for place, answer in (await fetching).items()} == {ONE: Unreachable, TWO: Fetched}
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0, TWO: 0}, 60_000))
    await brokers.answer(1, p1=NOTHING)
    assert [*(await fetching)] == [TWO]
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0}, 60_000))
    await brokers.answer(2, p0=NOTHING)
    assert isinstance((await fetching)[ONE], Fetched)
    assert brokers.named == [{ONE, TWO}, {TWO}, {ONE}]


async def test_a_broker_that_says_nothing_of_a_partition_is_asked_again(brokers: Brokers, fetcher: Fetcher) -> None:
    """So it answers while a quota is exceeded."""
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0, TWO: 0}, 60_000))
    await brokers.answer(0)
    await brokers.answer(1, p1=NOTHING)
    assert [*(await fetching)] == [TWO]


async def test_what_cannot_be_decoded_is_a_failure_of_its_own_partition(brokers: Brokers, fetcher: Fetcher) -> None:
    broken = bytearray(batch(b"a" * 200, compression=1))
    broken[70:80] = bytes(10)
    broken[17:21] = struct.pack(">I", calc_crc32c(bytes(broken[21:])))
    fetching = asyncio.create_task(fetcher.fetch({ONE: 0, TWO: 0}, 60_000))
    await brokers.answer(
        0, p0=FetchedBytes(0, 1, 1, [], bytes(broken)), p1=FetchedBytes(0, 1, 1, [], batch(b"good", compression=1))
    )
    found = await fetching
    assert values(found[TWO]) == [b"good"]
    assert isinstance(found[ONE], KafkaFailure)
    assert "read t[0] from offset 0" in str(found[ONE])


async def test_leaders_are_looked_for_once_a_topic_and_not_where_nobody_can_be_reached(
    brokers: Brokers, fetcher: Fetcher
) -> None:
    brokers.leaders.clear()
    lost = {Partition(topic, number): 0 for topic in ("t", "u") for number in range(9)}
    assert {*(await fetcher.fetch(lost, 100))} == {*lost}
    assert sorted(place.topic for place in brokers.looked_for) == ["t", "u"]
    brokers.down = True
    assert all(isinstance(answer, Unreachable) for answer in (await fetcher.fetch(lost, 100)).values())
    assert len(brokers.looked_for) == 3


async def test_without_a_connection_two_answers_have_not_the_same_link(brokers: Brokers, fetcher: Fetcher) -> None:
    links = []
    for number in range(2):
        fetching = asyncio.create_task(fetcher.fetch({ONE: 0}, 60_000))
        brokers.links[1] = None
        await brokers.answer(number, p0=NOTHING)
        answer = (await fetching)[ONE]
        assert isinstance(answer, Fetched)
        links.append(answer.link)
    assert links[0] != links[1]


async def test_the_ends_of_a_partition_that_is_just_being_led_are_asked_for_again(
    brokers: Brokers, fetcher: Fetcher
) -> None:
    """A broker that does not know yet that it leads a new partition says so."""
    asking = asyncio.create_task(fetcher.end_offset(ONE))
    for error, offset in ((NOT_LEADER, -1), (0, 7)):
        await brokers.reply(SimpleNamespace(topics=[("t", [(0, error, -1, offset)])]))
    assert await asyncio.wait_for(asking, 5) == 7
    assert brokers.refreshed == 1
    asking = asyncio.create_task(fetcher.start_offset(ONE))
    await brokers.reply(SimpleNamespace(topics=[("t", [(0, CORRUPT, -1, -1)])]))
    with pytest.raises(KafkaFailure, match=r"ask for the start of t\[0\].*CorruptRecord"):
        await asyncio.wait_for(asking, 5)
