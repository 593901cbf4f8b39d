"""The typed clients on a real broker."""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections.abc import AsyncIterator

import aiokafka
import pytest
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.record.util import calc_crc32c

from streams.kafka import (
    LOG_APPEND_TIME,
    Admin,
    Consumer,
    Fetched,
    Fetcher,
    Isolation,
    KafkaFailure,
    Member,
    NewTopic,
    OffsetOutOfRange,
    Outgoing,
    Partition,
    Producer,
    RecordTooLarge,
    TopicExists,
    UnknownTopic,
    Unreachable,
    read_to_end,
)

pytestmark = pytest.mark.integration
CONFIGS = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1000000"}


@pytest.fixture
async def admin(kafka: str) -> AsyncIterator[Admin]:
    opened = await Admin.start(kafka, "test")
    yield opened
    await opened.close()


@pytest.fixture
async def topic(admin: Admin) -> AsyncIterator[str]:
    name = f"clients.{uuid.uuid4().hex[:8]}"
    await admin.create_topic(NewTopic(name=name, partitions=2, replication_factor=1, configs=CONFIGS))
    yield name
    await admin.delete_topic(name)


@pytest.fixture
async def producer(kafka: str) -> AsyncIterator[Producer]:
    opened = await Producer.start(kafka, "test")
    yield opened
    await opened.close()


@pytest.fixture
async def consumer(kafka: str) -> AsyncIterator[Consumer]:
    opened = await Consumer.start(kafka, "test", Isolation.COMMITTED)
    yield opened
    await opened.close()


async def test_a_record_arrives_as_it_was_sent_with_the_brokers_time(
    topic: str, producer: Producer, consumer: Consumer
) -> None:
    to, headers = Partition(topic, 1), (("a", b"1"), ("ü", None), ("a", b""))
    before_ms = int(time.time() * 1000) - 1
    acknowledged = await producer.send(to, Outgoing(b"key", b"value", headers), 10.0)
    await producer.send(to, Outgoing(b"tombstone", None), 10.0)
    first, second = await read_to_end(consumer, to, 0)
    assert (first.topic, first.partition, first.offset) == (topic, 1, acknowledged.offset)
    assert (first.key, first.value, first.headers) == (b"key", b"value", headers)
    assert (second.key, second.value, second.headers) == (b"tombstone", None, ())
    assert first.timestamp_ms == acknowledged.timestamp_ms >= before_ms
    assert first.timestamp_type == acknowledged.timestamp_type == LOG_APPEND_TIME


async def test_many_records_are_appended_in_order_whatever_their_size(
    topic: str, producer: Producer, consumer: Consumer
) -> None:
    sizes = [10, 500_000, 500_000, 0, 990_000, 3, *([100] * 3_000)]
    records = [Outgoing(b"%d" % n, bytes(size)) for n, size in enumerate(sizes)]
    await producer.send_all(Partition(topic, 0), records, 20.0)
    await producer.send_all(Partition(topic, 0), [], 20.0)
    found = await read_to_end(consumer, Partition(topic, 0), 0)
    assert [(r.key, len(r.value or b"")) for r in found] == [(b"%d" % n, size) for n, size in enumerate(sizes)]


async def test_failures_say_what_was_done_and_have_a_class_of_their_own(
    kafka: str, topic: str, producer: Producer, consumer: Consumer, admin: Admin
) -> None:
    with pytest.raises(RecordTooLarge, match=r"append a record of 9,000,000 bytes"):
        await producer.send(Partition(topic, 0), Outgoing(None, bytes(9_000_000)), 10.0)
    with pytest.raises(RecordTooLarge):
        await producer.send_all(Partition(topic, 0), [Outgoing(None, bytes(9_000_000))], 10.0)
    with pytest.raises(RecordTooLarge):  # the topic's limit
        await producer.send(Partition(topic, 0), Outgoing(None, bytes(2_000_000)), 10.0)
    consumer.assign([Partition(topic, 0)])
    consumer.seek(Partition(topic, 0), 7)
    with pytest.raises(OffsetOutOfRange, match="read the assigned partitions"):
        await consumer.poll(timeout_ms=5_000)
    with pytest.raises(TopicExists):
        await admin.create_topic(NewTopic(name=topic, partitions=1, replication_factor=1, configs={}))
    with pytest.raises(UnknownTopic):
        await admin.delete_topic(f"{topic}.nope")
    bad = NewTopic(name=f"{topic}.bad", partitions=1, replication_factor=1, configs={"max.message.bytes": "x"})
    with pytest.raises(KafkaFailure, match=r"create topic .*InvalidConfig"):
        await admin.create_topic(bad)
    with pytest.raises(KafkaFailure, match=r"connect to 127\.0\.0\.1:1"):
        await Producer.start("127.0.0.1:1", "test")


async def test_a_consumer_knows_both_ends(topic: str, producer: Producer, consumer: Consumer) -> None:
    here, other = Partition(topic, 0), Partition(topic, 1)
    for _ in range(3):
        await producer.send(here, Outgoing(None, b"x"), 10.0)
    assert await consumer.start_offsets([here, other]) == {here: 0, other: 0}
    assert await consumer.end_offsets([here, other]) == {here: 3, other: 0}


async def test_an_open_transaction_holds_committed_readers_back_and_an_aborted_one_leaves_a_gap(
    kafka: str, topic: str, producer: Producer, consumer: Consumer
) -> None:
    here = Partition(topic, 0)
    await producer.send(here, Outgoing(None, b"before"), 10.0)
    upstream = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    await upstream.start()
    await upstream.begin_transaction()
    await upstream.send_and_wait(topic, b"aborted", partition=0)
    await producer.send(here, Outgoing(None, b"behind"), 10.0)
    assert [r.value for r in await read_to_end(consumer, here, 0)] == [b"before"]
    await upstream.abort_transaction()
    await upstream.stop()
    found: list[bytes | None] = []
    async with asyncio.timeout(20):
        while await consumer.position(here) < 4:  # the marker is at 3
            found += [r.value for r in (await consumer.poll(timeout_ms=100)).get(here, [])]
    assert found == [b"behind"]


async def test_header_names_that_are_not_utf8_are_delivered_byte_for_byte_among_transactions(
    kafka: str, topic: str, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Partition(topic, 0)
    upstream = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    await upstream.start()
    encoded = MessageBatch.get_data_buffer

    def not_utf8(batch: object) -> bytearray:
        data = bytearray(encoded(batch)).replace(b"XX", b"\xff\xfe")
        data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
        return data

    monkeypatch.setattr(MessageBatch, "get_data_buffer", not_utf8)
    for value, ending in ((b"0", "abort"), (b"2", "commit"), (b"4", "abort"), (b"6", "commit")):
        await upstream.begin_transaction()
        for name in ("fine", "XX", "fine"):
            await upstream.send(topic, value, partition=0, headers=[(name, b"v")])
        await upstream.flush()
        await (upstream.commit_transaction() if ending == "commit" else upstream.abort_transaction())
    await upstream.stop()
    found: list[tuple[bytes | None, bytes]] = []
    consumer.assign([here])
    consumer.seek(here, 0)
    async with asyncio.timeout(20):
        while await consumer.position(here) < 16:
            records = (await consumer.poll(timeout_ms=100, max_records=2)).get(here, [])
            found += [(r.value, r.headers[0][0].encode("utf-8", "surrogateescape")) for r in records]
    expected = [(value, name) for value in (b"2", b"6") for name in (b"fine", b"\xff\xfe", b"fine")]
    assert found == expected


async def test_paused_partitions_give_nothing(topic: str, producer: Producer, consumer: Consumer) -> None:
    one, two = Partition(topic, 0), Partition(topic, 1)
    for p in (one, two):
        await producer.send(p, Outgoing(None, b"x"), 10.0)
    consumer.assign([one, two])
    consumer.seek(one, 0)
    consumer.seek(two, 0)
    consumer.pause(one)
    async with asyncio.timeout(20):
        while two not in (found := await consumer.poll(timeout_ms=200)):
            assert one not in found
    assert await consumer.poll(timeout_ms=300) == {}


async def test_members_share_the_partitions_and_the_one_that_stays_gets_them_all(
    kafka: str, topic: str, producer: Producer
) -> None:
    seen: dict[str, frozenset[Partition]] = {}
    members = {
        name: await Member.join(kafka, name, f"group.{topic}", topic, lambda now, name=name: seen.update({name: now}))  # type: ignore[misc]
        for name in ("a", "b")
    }
    everything = frozenset(Partition(topic, n) for n in range(2))

    async def until_assigned(*shares: int) -> None:
        async with asyncio.timeout(40):
            while sorted(len(part) for part in seen.values()) != sorted(shares):
                for member in members.values():
                    await member.poll(50)

    await until_assigned(1, 1)
    assert frozenset().union(*seen.values()) == everything
    await producer.send(Partition(topic, 0), Outgoing(None, b"never read by a member"), 10.0)
    await members["a"].commit(dict.fromkeys(seen["a"], 0))
    await members.pop("a").close()
    del seen["a"]
    await until_assigned(2)
    assert seen["b"] == everything
    await members["b"].close()


async def test_topics_and_their_settings_are_told(topic: str, admin: Admin) -> None:
    assert topic in await admin.topics()
    info = (await admin.describe_topics([topic, f"{topic}.nope"]))[topic]
    assert (info.name, info.partitions, info.replication_factor) == (topic, 2, 1)
    configs = (await admin.topic_configs([topic]))[topic]
    assert configs["message.timestamp.type"] == "LogAppendTime"
    assert configs["cleanup.policy"] == "delete"
    assert await admin.broker_count() == 1


async def test_a_closed_producer_refuses_and_an_open_one_survives_a_bad_record(kafka: str, topic: str) -> None:
    producer = await Producer.start(kafka, "test")
    with pytest.raises(RecordTooLarge):
        await producer.send(Partition(topic, 0), Outgoing(None, bytes(2_000_000)), 10.0)
    assert (await producer.send(Partition(topic, 0), Outgoing(None, b"x"), 10.0)).offset == 0
    await producer.close()
    await producer.close()
    with pytest.raises(KafkaFailure, match="was closed"):
        await producer.send(Partition(topic, 0), Outgoing(None, b"x"), 10.0)


async def test_many_calls_at_the_same_time_are_appended_in_their_order(
    topic: str, producer: Producer, consumer: Consumer
) -> None:
    places = [Partition(topic, n) for n in (0, 1)]
    calls = [producer.send(places[n % 2], Outgoing(None, b"%d" % n), 20.0) for n in range(200)]
    acknowledged = await asyncio.gather(*calls)
    for number, place in enumerate(places):
        found = await read_to_end(consumer, place, 0)
        assert [r.value for r in found] == [b"%d" % n for n in range(number, 200, 2)]
        assert [r.offset for r in found] == [a.offset for a in acknowledged[number::2]]


async def test_a_fetcher_reads_as_a_consumer_does_and_waits_for_what_comes(
    kafka: str, topic: str, producer: Producer
) -> None:
    one, two = Partition(topic, 0), Partition(topic, 1)
    headers = (("a", b"1"), ("ü", None))
    await producer.send_all(one, [Outgoing(b"k", b"0", headers), Outgoing(None, None)], 10.0)
    fetcher = Fetcher(kafka, "test", Isolation.COMMITTED)
    try:
        assert (await fetcher.start_offset(one), await fetcher.end_offset(one), await fetcher.end_offset(two)) == (
            0,
            2,
            0,
        )
        found = await until_fetched(fetcher, {one: 0, two: 0}, one)
        assert [(r.offset, r.key, r.value, r.headers) for r in found.records] == [
            (0, b"k", b"0", headers),
            (1, None, None, ()),
        ]
        assert (found.next_offset, found.stable_end, found.end) == (2, 2, 2)
        waiting = asyncio.create_task(until_fetched(fetcher, {one: 2, two: 0}, two, wait_ms=5_000))
        await producer.send(two, Outgoing(None, b"new"), 10.0)
        assert [r.value for r in (await asyncio.wait_for(waiting, 20)).records] == [b"new"]
        gone = (await fetcher.fetch({one: 7}, 5_000))[one]
        assert isinstance(gone, OffsetOutOfRange)
    finally:
        await fetcher.close()


async def until_fetched(
    fetcher: Fetcher, offsets: dict[Partition, int], wanted: Partition, wait_ms: int = 200
) -> Fetched:
    async with asyncio.timeout(20):
        while True:
            match (await fetcher.fetch(offsets, wait_ms)).get(wanted):
                case Fetched(records=[_, *_]) as found:
                    return found
                case KafkaFailure() as failure if not isinstance(failure, Unreachable):
                    raise failure


async def test_a_fetcher_passes_aborted_records_and_stops_at_an_open_transaction(
    kafka: str, topic: str, producer: Producer
) -> None:
    here = Partition(topic, 0)
    await producer.send(here, Outgoing(None, b"before"), 10.0)
    upstream = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    await upstream.start()
    await upstream.begin_transaction()
    await upstream.send_and_wait(topic, b"aborted", partition=0)
    await producer.send(here, Outgoing(None, b"behind"), 10.0)
    fetcher = Fetcher(kafka, "test", Isolation.COMMITTED)
    found = await until_fetched(fetcher, {here: 0}, here)
    assert ([r.value for r in found.records], found.next_offset, found.stable_end, found.end) == ([b"before"], 1, 1, 3)
    assert await fetcher.end_offset(here) == 1
    await upstream.abort_transaction()
    await upstream.stop()
    position, values = 1, list[bytes | None]()
    async with asyncio.timeout(20):
        while position < 4:  # the marker is at 3
            got = (await fetcher.fetch({here: position}, 200)).get(here)
            if isinstance(got, Fetched):
                position, values = got.next_offset, values + [r.value for r in got.records]
    assert (values, position) == ([b"behind"], 4)
    await fetcher.close()
