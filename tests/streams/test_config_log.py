"""What a worker knows of ``config``."""

from __future__ import annotations

import asyncio

import pytest

from schemas.codec import Malformed
from streams.config_log import ConfigLog, publish_bundle, version_of
from streams.init import default_bundle_value


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
