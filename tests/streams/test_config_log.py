"""What a worker knows of ``config``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from schemas.codec import Malformed
from streams.config_log import ConfigLog, follow_config, publish_bundle, version_of
from streams.init import default_bundle_value
from streams.kafka import Fetched, KafkaFailure, OffsetOutOfRange, Partition, Record, Unreachable


async def test_versions_are_found_by_offset_and_bundles_by_hash() -> None:
    log = ConfigLog("config")
    broken, fine = version_of(0, b"{"), version_of(2, default_bundle_value())
    await log.add([broken, fine], 3)
    assert log.since(0) == [broken, fine]
    assert log.since(1) == [fine]
    assert log.since(3) == []
    assert log.bundle(fine.sha256) == fine.bundle
    assert fine.bundle is not None
    assert log.bundle(broken.sha256) is None


async def test_a_reader_waits_for_the_end_that_it_names() -> None:
    log = ConfigLog("config")
    waiting = asyncio.create_task(log.read_through(2))
    await log.add([version_of(0, b"{")], 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    await log.add([], 2)  # a control marker
    await asyncio.wait_for(waiting, 5)


async def test_a_bundle_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(Malformed, match="tiers"):
        await publish_bundle("nowhere:1", "x.", default_bundle_value().replace(b'"tiers"', b'"tires"'))


HERE = Partition("config", 0)


class Fetches:
    """``streams.kafka.Fetcher``: gives the answers that it was made with, and nothing when it has no more."""

    def __init__(self, *answers: Fetched | KafkaFailure | None) -> None:
        self.answers, self.asked, self.closed = [*answers], list[int](), False

    async def fetch(self, offsets: Mapping[Partition, int], _wait_ms: int) -> dict[Partition, Fetched | KafkaFailure]:
        self.asked.append(offsets[HERE])
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if self.answers else None
        return {} if answer is None else {HERE: answer}

    async def close(self) -> None:
        self.closed = True


async def test_following_goes_on_behind_what_passes_and_ends_with_what_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = default_bundle_value()
    found = Fetched([Record("config", 0, 0, None, value, (), 1, 1)], 2, 2, 2, (1, 1))
    fetches = Fetches(None, Unreachable("no leader"), found, Fetched([], 2, 2, 2, (1, 1)), OffsetOutOfRange("gone"))
    monkeypatch.setattr("streams.config_log.Fetcher", lambda *_: fetches)
    log = ConfigLog("config")
    with pytest.raises(OffsetOutOfRange, match="gone"):
        await asyncio.wait_for(follow_config("nowhere", log), 5)
    assert log.since(0) == [version_of(0, value)]
    assert (log.next_offset, fetches.asked, fetches.closed) == (2, [0, 0, 0, 2, 2], True)
