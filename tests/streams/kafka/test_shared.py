"""A producer that several users share: what one user's error does to the others."""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka
import aiokafka.errors
import pytest
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from aiokafka.producer.transaction_manager import TransactionManager

from streams.kafka import KafkaFailure, Outgoing, Partition, Producer, SharedProducer
from tests.streams.world import until

HERE = Partition("t.journal", 0)


class Silent:
    """An aiokafka producer whose broker never answers."""

    def __init__(self) -> None:
        self.waiting = 0
        self._closed = False
        self._sender = self
        self.sender_task = asyncio.create_task(asyncio.Event().wait())
        self.client = self
        self._conns: dict[str, object] = {}

    async def send_and_wait(self, *_: object, **__: object) -> None:
        self.waiting += 1
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Its connections are gone."""


class Unconnected:
    """An aiokafka producer, its sender real, with a broker for each partition; connecting to them takes long."""

    def __init__(self) -> None:
        self.client = self.cluster = self
        self.connected, self.connecting, self.sent = asyncio.Event(), 0, 0
        self._closed = False
        self._conns: dict[str, object] = {}
        ids = TransactionManager(None, 1_000)
        ids.set_pid_and_epoch(1, 0)
        self._waiting = MessageAccumulator(self, 1_000_000, 0, 15, txn_manager=ids)
        self._sender = Sender(
            self,
            acks=-1,
            txn_manager=ids,
            message_accumulator=self._waiting,
            retry_backoff_ms=10,
            request_timeout_ms=15_000,
        )

    async def send_and_wait(self, topic: str, value: bytes, *, partition: int, **_: object) -> None:
        place = aiokafka.TopicPartition(topic, partition)
        await (await self._waiting.add_message(place, None, value, 15))

    @staticmethod
    def leader_for_partition(place: aiokafka.TopicPartition) -> int:
        return int(place.partition)

    async def send(self, *_: object) -> None:
        self.connecting += 1
        await self.connected.wait()
        self.sent += 1
        raise aiokafka.errors.KafkaConnectionError

    def force_metadata_update(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """There are no connections yet."""


async def test_a_killed_producer_sends_nothing_to_brokers_that_it_was_still_connecting_to() -> None:
    """aiokafka's sender, cancelled, waits for its requests in turn; cancelled again, it leaves all but one running."""
    unconnected: Any = Unconnected()
    producer = Producer(unconnected)
    producer._note_requests()
    await unconnected._sender.start()
    sends = [
        asyncio.create_task(producer.send(Partition("t.journal", n), Outgoing(None, b"block"), timeout_s=600))
        for n in range(3)
    ]
    await until(lambda: unconnected.connecting == 3, "all three brokers are being connected to")
    await producer.kill()
    unconnected.connected.set()
    ended = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 5)
    assert [type(error) for error in ended] == [KafkaFailure] * 3
    assert unconnected.sent == 0


async def test_killing_a_producer_fails_what_others_have_under_way_at_once() -> None:
    """aiokafka forgets them: each would wait for its whole time limit, and its partition with it."""
    silent: Any = Silent()
    producer = Producer(silent)
    sends = [asyncio.create_task(producer.send(HERE, Outgoing(None, b"block"), timeout_s=600)) for _ in range(2)]
    await until(lambda: silent.waiting == 2, "both are under way")
    await producer.kill()
    for send in sends:
        with pytest.raises(KafkaFailure, match="closed meanwhile"):
            await asyncio.wait_for(send, 5)


async def test_a_send_that_runs_out_of_time_while_its_producer_is_killed_fails_like_the_others() -> None:
    silent: Any = Silent()
    producer = Producer(silent)
    send = asyncio.create_task(producer.send(HERE, Outgoing(None, b"block"), timeout_s=0))
    await asyncio.sleep(0)  # it waits
    await asyncio.sleep(0)  # its time has run out, and it has not been told yet
    await producer.kill()
    with pytest.raises(KafkaFailure):
        await asyncio.wait_for(send, 5)


async def test_the_first_user_who_sees_an_error_replaces_the_producer_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Producer] = []

    async def idempotent(*_: object) -> Producer:
        silent: Any = Silent()
        made.append(Producer(silent))
        return made[-1]

    monkeypatch.setattr("streams.kafka.shared.Producer.idempotent", idempotent)
    shared = SharedProducer("nowhere", "test")
    first = await shared.usable()
    assert await shared.usable() is first
    await shared.replace(first)
    second = await shared.usable()
    assert (second is not first, first.dead, second.dead) == (True, True, False)
    await shared.replace(first)  # somebody else saw the same error
    assert await shared.usable() is second
    assert not second.dead
    await shared.replace(second)
    assert len(made) == 2


async def test_a_producer_is_ended_also_when_whoever_replaces_it_is_cancelled() -> None:
    """Else it stays, with its task and its connections, and may still append."""
    ending, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class SlowToEnd(Silent):
        async def close(self) -> None:
            ending.set()
            await may_end.wait()
            ended.set()

    slow: Any = SlowToEnd()
    shared, failed = SharedProducer("nowhere", "test"), Producer(slow)
    shared._producer = failed
    replacing = asyncio.create_task(shared.replace(failed))
    await asyncio.wait_for(ending.wait(), 5)
    replacing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replacing
    may_end.set()
    await until(ended.is_set, "the producer has ended", within_s=2)
