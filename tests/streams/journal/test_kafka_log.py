"""The journal port on a real broker: what the contract tests cannot time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.journal.framing import LeaseHeaders, encode_headers
from streams.journal.kafka_log import KafkaLog
from streams.kafka import KafkaFailure, Outgoing, Partition
from tests.streams.world import until

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


async def test_a_producer_that_failed_is_ended_also_when_its_append_is_cancelled_meanwhile() -> None:
    """Else it stays, with its task and its connections, and may still append."""
    log, producer = KafkaLog("nowhere", Partition("t.journal", 0), "test"), SlowToEnd()
    given: Any = producer
    log._producer._producer = given
    appending = asyncio.create_task(log.append(LEASE, b"me"))
    await until(lambda: producer.ending, "the producer is being ended")
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    producer.may_end.set()
    await until(lambda: producer.ended, "the producer has ended", within_s=2)
