"""Publishing with a producer that fails for one partition only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streams.kafka import KafkaFailure, Outgoing, Partition
from streams.publisher import KafkaPublisher
from tests.streams.world import until

LEADERLESS, WELL = Partition("t.outcomes", 3), Partition("t.outcomes", 4)


class OneLeaderDown:
    """``streams.kafka.Producer`` while one partition has no leader."""

    def __init__(self, *_: object) -> None:
        """Connects to nothing."""

    async def send_all(self, to: Partition, records: Sequence[Outgoing], timeout_s: float) -> None:  # noqa: ARG002
        if to == LEADERLESS:
            raise KafkaFailure("no leader")


async def test_a_partition_that_cannot_be_published_to_stays_in_trouble_while_others_are_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.publisher.Producer", OneLeaderDown)
    publisher = KafkaPublisher("nowhere")
    record = Outgoing(b"alice", b"{}")
    waiting = asyncio.create_task(publisher.publish(LEADERLESS, [record]))
    await until(lambda: publisher.trouble(LEADERLESS) is not None, "trouble")
    await publisher.publish(WELL, [record])
    assert publisher.trouble(LEADERLESS) == "no leader"
    assert publisher.trouble(WELL) is None
    waiting.cancel()
    await asyncio.wait({waiting})
