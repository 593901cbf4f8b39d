"""The journal port on a real broker: what the contract tests cannot time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.journal.framing import LeaseHeaders, encode_headers
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import AppendUnknown
from streams.kafka import LOG_APPEND_TIME, Acknowledged, KafkaFailure, Outgoing, Partition, SharedProducer
from tests.streams.world import until

LEADERLESS = Partition("t.journal", 3)
LEASE = encode_headers(LeaseHeaders(format=1, epoch=1, token=b"t" * 16))


class SlowToEnd:
    """A producer whose append fails and that takes a moment to end."""

    def __init__(self) -> None:
        self.ending, self.ended, self.may_end = False, False, asyncio.Event()

    async def send(self, to: Partition, record: Outgoing, timeout_s: float) -> None:  # noqa: ARG002
        raise KafkaFailure("no leader")

    async def kill(self) -> None:
        self.ending = True
        await self.may_end.wait()
        self.ended = True


class OneLeaderDown:
    """Producers while one partition has no leader; counts how many are opened and killed."""

    opened = killed = 0
    down = True

    @classmethod
    async def idempotent(cls, *_: object) -> OneLeaderDown:
        cls.opened += 1
        return cls()

    async def send(self, to: Partition, *_: object) -> Acknowledged:
        if to == LEADERLESS and self.down:
            raise KafkaFailure("no leader")
        return Acknowledged(7, 1, LOG_APPEND_TIME)

    async def kill(self) -> None:
        type(self).killed += 1

    close = kill


async def test_a_partition_without_a_leader_troubles_those_that_share_its_producer_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Producers(OneLeaderDown):
        """Of this test."""

    monkeypatch.setattr("streams.kafka.shared.Producer", Producers)
    shared = SharedProducer("nowhere", "test")
    well = KafkaLog("nowhere", Partition("t.journal", 4), "test", shared)
    leaderless = KafkaLog("nowhere", LEADERLESS, "test", shared)
    with pytest.raises(AppendUnknown, match="no leader"):
        await leaderless.append(LEASE, b"me")
    assert await well.append(LEASE, b"me") == 7
    used = await shared.usable()
    for _ in range(3):
        with pytest.raises(AppendUnknown, match="no leader"):
            await leaderless.append(LEASE, b"me")
    assert await shared.usable() is used
    assert (Producers.opened, Producers.killed) == (1 + 1 + 3, 1 + 3)
    Producers.down = False
    await leaderless.append(LEASE, b"me")  # it works: back to the shared one
    await leaderless.append(LEASE, b"me")
    assert (Producers.opened, Producers.killed) == (6, 5)
    assert await shared.usable() is used


async def test_a_producer_that_failed_is_ended_also_when_its_append_is_cancelled_meanwhile() -> None:
    """Else it stays, with its task and its connections, and may still append."""
    log, producer = KafkaLog("nowhere", Partition("t.journal", 0), "test"), SlowToEnd()
    given: Any = producer
    log._own._producer = given
    appending = asyncio.create_task(log.append(LEASE, b"me"))
    await until(lambda: producer.ending, "the producer is being ended")
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    producer.may_end.set()
    await until(lambda: producer.ended, "the producer has ended", within_s=2)
