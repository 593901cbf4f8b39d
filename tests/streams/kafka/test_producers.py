"""What a producer sends when, and who hears of which failure: over a cluster in memory."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka import KafkaFailure, Outgoing, Partition, Producer, Unreachable
from streams.kafka.wire import Produced, Request
from tests.streams.world import until

NOT_LEADER, NO_REPLICAS = 6, 19
ONE, TWO, OTHER = Partition("t.journal", 0), Partition("t.journal", 1), Partition("t.journal", 2)

Values = dict[Partition, list[bytes | None]]


class Brokers:
    """``streams.kafka.cluster.Cluster``: two brokers, of which the second leads OTHER. They answer when told to."""

    def __init__(self, *_: object) -> None:
        self.leaders: dict[Partition, int] = {ONE: 1, TWO: 1, OTHER: 2}
        self.requests: list[tuple[int, Values, asyncio.Future[dict[Partition, Produced]]]] = []
        self.refreshed = 0
        self.closed = False
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.reached: KafkaFailure | None = None

    async def reach(self, _node: int) -> None:
        await self.reachable.wait()
        if self.reached is not None:
            raise self.reached

    def known_leader(self, place: Partition) -> int | None:
        return self.leaders.get(place)

    async def leader(self, place: Partition) -> int:
        if place not in self.leaders:
            raise Unreachable("no leader")
        return self.leaders[place]

    async def ask(self, node: int, request: Request[dict[Partition, Produced]]) -> dict[Partition, Produced]:
        answer: asyncio.Future[dict[Partition, Produced]] = asyncio.get_running_loop().create_future()
        self.requests.append((node, _written(request.encode()), answer))
        return await answer

    def refresh_soon(self) -> None:
        self.refreshed += 1

    async def close(self) -> None:
        self.closed = True

    def sent(self) -> list[tuple[int, Values]]:
        return [(node, written) for node, written, _ in self.requests]

    def answer(self, number: int, **errors: int) -> None:
        """Acknowledge request *number*; *errors* by topic and partition, as ``journal_1``."""
        _, written, answer = self.requests[number]
        wrong = {Partition("t.journal", int(name.rpartition("_")[2])): error for name, error in errors.items()}
        answer.set_result({place: Produced(wrong.get(place, 0), 40 + number, 5) for place in written})


def _written(body: bytes) -> Values:
    """The values that a produce request holds."""
    (topics,), at, found = struct.unpack_from(">8xi", body), 12, Values()
    for _ in range(topics):
        (size,) = struct.unpack_from(">h", body, at)
        topic, at = body[at + 2 : at + 2 + size].decode(), at + 2 + size
        (places,), at = struct.unpack_from(">i", body, at), at + 4
        for _ in range(places):
            number, size = struct.unpack_from(">ii", body, at)
            records: Any = MemoryRecords(body[at + 8 : at + 8 + size])
            found[Partition(topic, number)] = [record.value for record in records.next_batch()]
            at += 8 + size
    return found


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers()
    monkeypatch.setattr("streams.kafka.producers.Cluster", lambda *_: made)
    return made


def sending(producer: Producer, to: Partition, *values: bytes, timeout_s: float = 60) -> asyncio.Task[None]:
    return asyncio.create_task(producer.send_all(to, [Outgoing(None, value) for value in values], timeout_s))


async def test_what_is_sent_at_the_same_time_travels_in_one_request_for_each_broker(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    sends = [sending(producer, ONE, b"a", b"b"), sending(producer, OTHER, b"c"), sending(producer, TWO, b"d")]
    await until(lambda: len(brokers.requests) == 2, "one request for each broker")
    assert brokers.sent() == [(1, {ONE: [b"a", b"b"], TWO: [b"d"]}), (2, {OTHER: [b"c"]})]
    brokers.answer(0)
    brokers.answer(1)
    await asyncio.gather(*sends)
    await producer.close()
    assert brokers.closed


async def test_while_a_request_is_under_way_the_next_one_fills_and_batches_of_a_partition_stay_in_order(
    brokers: Brokers,
) -> None:
    producer = Producer("nowhere", "test")
    sends = [sending(producer, ONE, b"1")]
    await until(lambda: len(brokers.requests) == 1, "the first is under way")
    sends += [sending(producer, ONE, b"2"), sending(producer, TWO, b"x"), sending(producer, ONE, b"3")]
    for number in range(3):
        await until(lambda number=number: len(brokers.requests) > number, "the next request")  # type: ignore[misc]
        await asyncio.sleep(0)
        assert len(brokers.requests) == number + 1  # never two at a time
        brokers.answer(number)
    await asyncio.gather(*sends)
    assert brokers.sent() == [(1, {ONE: [b"1"]}), (1, {ONE: [b"2"], TWO: [b"x"]}), (1, {ONE: [b"3"]})]


async def test_a_request_holds_no_more_than_the_broker_takes(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many partitions their blocks of behind an outage would be too large together, again and again."""
    monkeypatch.setattr("streams.kafka.producers.REQUEST_BYTES", 1_000)
    producer = Producer("nowhere", "test")
    sends = [sending(producer, ONE, b"a" * 800), sending(producer, TWO, b"b" * 800)]
    for number, place in enumerate((ONE, TWO)):
        await until(lambda number=number: len(brokers.requests) > number, "the next request")  # type: ignore[misc]
        assert [*brokers.sent()[number][1]] == [place]
        brokers.answer(number)
    await asyncio.gather(*sends)


async def test_the_acknowledgement_says_where_the_record_lies(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    send = asyncio.create_task(producer.send(ONE, Outgoing(b"key", b"value"), 60))
    await until(lambda: bool(brokers.requests), "it is under way")
    brokers.answer(0)
    assert tuple(await send) == (40, 5, 1)


async def test_an_error_of_one_partition_is_not_told_to_others_and_nothing_is_sent_twice(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    bad, good = sending(producer, ONE, b"a"), sending(producer, TWO, b"b")
    await until(lambda: len(brokers.requests) == 1, "they are under way")
    brokers.answer(0, journal_0=NO_REPLICAS)
    await good
    with pytest.raises(KafkaFailure, match=r"append 1 record\(s\) to t\.journal\[0\].*NotEnoughReplicas"):
        await bad
    assert brokers.refreshed == 1
    again = sending(producer, ONE, b"a")  # it is up to the caller
    await until(lambda: len(brokers.requests) == 2, "it is sent again")
    brokers.answer(1)
    await again


async def test_a_lost_connection_fails_what_was_under_way_to_that_broker_and_no_more(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    first, elsewhere = sending(producer, ONE, b"a"), sending(producer, OTHER, b"c")
    await until(lambda: len(brokers.requests) == 2, "both are under way")
    waiting = sending(producer, ONE, b"b")
    await asyncio.sleep(0)
    brokers.requests[0][2].set_exception(KafkaFailure("connection lost"))
    with pytest.raises(KafkaFailure, match="connection lost"):
        await first
    await until(lambda: len(brokers.requests) == 3, "what waited is sent")
    brokers.answer(1)
    brokers.answer(2)
    await asyncio.gather(elsewhere, waiting)


async def test_a_batch_behind_one_that_failed_is_not_sent(brokers: Brokers) -> None:
    """Else its records would come first when both are sent again: outcomes would not be in the order of seq."""
    producer = Producer("nowhere", "test")
    send = sending(producer, ONE, b"a" * 600_000, b"b" * 600_000)
    await until(lambda: len(brokers.requests) == 1, "the first batch is under way")
    brokers.answer(0, journal_0=NO_REPLICAS)
    with pytest.raises(KafkaFailure):
        await send
    await producer.close()
    assert len(brokers.requests) == 1


async def test_what_nobody_waits_for_any_more_is_not_sent(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    first = sending(producer, ONE, b"1")
    await until(lambda: len(brokers.requests) == 1, "the first is under way")
    late, cancelled, wanted = (
        sending(producer, ONE, b"late", timeout_s=0.01),
        sending(producer, TWO, b"cancelled"),
        sending(producer, ONE, b"2"),
    )
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(KafkaFailure, match="TimeoutError"):
        await late
    brokers.answer(0)
    await first
    await until(lambda: len(brokers.requests) == 2, "what is still wanted")
    brokers.answer(1)
    await wanted
    assert brokers.sent()[1] == (1, {ONE: [b"2"]})


async def test_what_is_given_up_while_a_connection_is_made_is_not_sent(brokers: Brokers) -> None:
    """Nothing of a block that was given up may be written later: a new lease is taken on that."""
    producer = Producer("nowhere", "test")
    brokers.reachable.clear()
    late, cancelled = sending(producer, ONE, b"late", timeout_s=0.01), sending(producer, TWO, b"cancelled")
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(KafkaFailure, match="TimeoutError"):
        await late
    wanted = sending(producer, ONE, b"wanted")
    await asyncio.sleep(0)
    brokers.reachable.set()
    await until(lambda: bool(brokers.requests), "what is still wanted")
    brokers.answer(0)
    await wanted
    assert brokers.sent() == [(1, {ONE: [b"wanted"]})]


async def test_a_broker_that_cannot_be_reached_fails_what_waits_for_it(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    brokers.reached = KafkaFailure("no connection")
    sends = [sending(producer, ONE, b"a"), sending(producer, TWO, b"b")]
    for send in sends:
        with pytest.raises(KafkaFailure, match="no connection"):
            await asyncio.wait_for(send, 5)
    assert (brokers.requests, brokers.refreshed) == ([], 1)
    brokers.reached = None
    again = sending(producer, ONE, b"a")
    await until(lambda: bool(brokers.requests), "it is reached")
    brokers.answer(0)
    await again


async def test_nothing_is_sent_again_when_the_time_is_up(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka.producers.LEADER_PAUSE_S", 60.0)
    producer = Producer("nowhere", "test")
    send = sending(producer, ONE, b"a", timeout_s=0.2)
    await until(lambda: bool(brokers.requests), "it is under way")
    brokers.answer(0, journal_0=NOT_LEADER)
    with pytest.raises(KafkaFailure, match="TimeoutError"):
        await asyncio.wait_for(send, 5)
    await producer.close()
    assert len(brokers.requests) == 1


async def test_a_partition_without_a_leader_waits_for_one_until_its_time_is_up(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    del brokers.leaders[ONE]
    with pytest.raises(KafkaFailure, match="TimeoutError"):
        await producer.send(ONE, Outgoing(None, b"a"), 0.05)
    send = sending(producer, ONE, b"b")
    await asyncio.sleep(0)
    brokers.leaders[ONE] = 2
    await until(lambda: len(brokers.requests) == 1, "it has a leader")
    assert brokers.sent() == [(2, {ONE: [b"b"]})]
    brokers.answer(0)
    await send


async def test_what_a_broker_refuses_that_does_not_lead_the_partition_is_sent_to_the_one_that_does(
    brokers: Brokers,
) -> None:
    producer = Producer("nowhere", "test")
    send = sending(producer, ONE, b"a")
    await until(lambda: len(brokers.requests) == 1, "it is under way")
    brokers.leaders[ONE] = 2
    brokers.answer(0, journal_0=NOT_LEADER)
    await until(lambda: len(brokers.requests) == 2, "it is sent again")
    brokers.answer(1)
    await send
    assert brokers.sent() == [(1, {ONE: [b"a"]}), (2, {ONE: [b"a"]})]
    assert brokers.refreshed == 1


async def test_killing_fails_what_is_under_way_at_once_and_sends_nothing_of_what_waits(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    sends = [sending(producer, ONE, b"1"), sending(producer, OTHER, b"2")]
    await until(lambda: len(brokers.requests) == 2, "both are under way")
    sends.append(sending(producer, ONE, b"3"))
    await asyncio.sleep(0)
    await producer.kill()
    for ended in await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 5):
        assert isinstance(ended, KafkaFailure)
    assert (len(brokers.requests), brokers.closed) == (2, True)
    with pytest.raises(KafkaFailure, match="was closed"):
        await producer.send(ONE, Outgoing(None, b"4"), 60)


async def test_closing_waits_for_what_is_under_way(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    send = sending(producer, ONE, b"1")
    await until(lambda: len(brokers.requests) == 1, "it is under way")
    closing = asyncio.create_task(producer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    brokers.answer(0)
    await send
    await closing


async def test_a_defect_is_told_to_whoever_waits(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    send = sending(producer, ONE, b"1")
    await until(lambda: len(brokers.requests) == 1, "it is under way")
    brokers.requests[0][2].set_exception(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(send, 5)


async def test_an_answer_that_leaves_a_partition_out_is_a_failure_of_that_one(brokers: Brokers) -> None:
    producer = Producer("nowhere", "test")
    told, untold = sending(producer, ONE, b"1"), sending(producer, TWO, b"2")
    await until(lambda: len(brokers.requests) == 1, "both are under way")
    brokers.requests[0][2].set_result({ONE: Produced(0, 40, 5)})
    await told
    with pytest.raises(KafkaFailure, match=r"expected an answer for t\.journal\[1\]"):
        await asyncio.wait_for(untold, 5)
