"""A producer that several users share: what one user's error does to the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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
