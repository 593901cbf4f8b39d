"""The journal port on Kafka: what the contract tests cannot bring about."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from streams.journal.kafka_log import KafkaLog
from streams.journal.log import LogUnavailable, OffsetOutOfRange
from streams.kafka import Fetched, KafkaFailure, Partition, Unreachable
from streams.kafka import OffsetOutOfRange as KafkaOffsetOutOfRange

HERE = Partition("t.journal", 0)


class Broker:
    """``streams.kafka.Fetcher`` with the next answer given; None: it does not answer."""

    def __init__(self) -> None:
        self.link: tuple[object, object] = (1, "a connection")
        self.failure: KafkaFailure | None = None
        self.silent = False

    async def fetch(self, offsets: Mapping[Partition, int], wait_ms: int) -> dict[Partition, Fetched | KafkaFailure]:  # noqa: ARG002
        if self.silent:
            return {}
        answer = self.failure or Fetched([], offsets[HERE] + 1, 9, 9, self.link)  # a control marker
        return {HERE: answer}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr("streams.journal.kafka_log.Fetcher", lambda *_: made)
    return made


@pytest.mark.parametrize("link", [(2, "a connection"), (1, "another")])
async def test_where_the_leader_or_the_connection_has_changed_reading_does_not_just_go_on(
    broker: Broker, link: tuple[object, object]
) -> None:
    """What was read may have been replaced: the reader must confirm its last record first."""
    log = KafkaLog("nowhere", HERE, "test")
    assert (await log.fetch(0, 1.0)).next_offset == 1
    assert (await log.fetch(1, 1.0)).next_offset == 2
    broker.link = link
    with pytest.raises(LogUnavailable, match="has changed"):
        await log.fetch(2, 1.0)
    assert (await log.fetch(1, 1.0)).next_offset == 2  # the reader begins anew, at what it confirms
    assert (await log.fetch(2, 1.0)).next_offset == 3


async def test_behind_a_failure_a_changed_connection_needs_no_other_failure(broker: Broker) -> None:
    log = KafkaLog("nowhere", HERE, "test")
    await log.fetch(0, 1.0)
    broker.failure = Unreachable("connection lost")
    with pytest.raises(LogUnavailable, match="connection lost"):
        await log.fetch(1, 1.0)
    broker.failure, broker.link = None, (1, "another")
    assert (await log.fetch(0, 1.0)).next_offset == 1


async def test_failures_have_the_names_of_the_port(broker: Broker) -> None:
    log = KafkaLog("nowhere", HERE, "test")
    broker.failure = KafkaOffsetOutOfRange("it is gone", frozenset({HERE}))
    with pytest.raises(OffsetOutOfRange, match=r"t\.journal\[0\].*it is gone"):
        await log.fetch(7, 1.0)
    broker.failure = KafkaFailure("a damaged batch")
    with pytest.raises(LogUnavailable, match="a damaged batch"):
        await log.fetch(7, 1.0)
    broker.silent = True
    with pytest.raises(LogUnavailable, match=r"expected an answer to a fetch within 1\.0 s, got none"):
        await log.fetch(7, 1.0)
