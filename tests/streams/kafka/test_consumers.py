"""A consumer over a client that fails inside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.kafka import Consumer, KafkaFailure, Partition

HERE = Partition("t.requests", 0)


class Empty:
    """An aiokafka consumer that finds nothing; *fetching* is its background task."""

    def __init__(self, fetching: asyncio.Task[None]) -> None:
        self._fetcher = self
        self.error_future = fetching

    async def getmany(self, *_: object, **__: object) -> dict[object, object]:
        return {}


async def test_a_client_that_stopped_fetching_is_a_failure_not_an_idle_one() -> None:
    """aiokafka says nothing when its background task dies: whoever polls would wait for ever."""

    async def fetch() -> None:
        raise KeyError("a node")

    fetching = asyncio.create_task(fetch())
    client: Any = Empty(fetching)
    assert await Consumer(client).poll(HERE, timeout_ms=0) == {}
    await asyncio.wait({fetching})
    with pytest.raises(KafkaFailure, match=r"t\.requests\[0\].*stopped fetching.*a node"):
        await Consumer(client).poll(HERE, timeout_ms=0)
