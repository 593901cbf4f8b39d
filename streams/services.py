"""What a partition's owner needs of the world: ports, so that it runs on real brokers and in memory alike."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.config_log import ConfigLog
from streams.inputs import Inputs
from streams.journal.log import Log
from streams.journal.reading import Position
from streams.metrics import WorkerMetrics
from streams.publisher import Publisher
from streams.replies import ReplySink
from streams.topics import Topics


class PositionSource(Protocol):
    """Who else has seen the journal: a sink's rows."""

    async def positions(self, ledger_id: str, partition: int) -> Sequence[tuple[str, Position]]:
        """What was stored, each with a name for messages. Never raises: an unreachable source knows nothing."""


class NoSinks:
    """Nobody else."""

    async def positions(self, ledger_id: str, partition: int) -> Sequence[tuple[str, Position]]:  # noqa: ARG002
        """See ``PositionSource``."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Services:
    """Shared by all partitions of a worker."""

    topics: Topics
    name: str
    """Of this worker, in its leases: for people."""
    ledger_id: str
    open_log: Callable[[int], Log]
    """The journal of a partition, with a reading client of its own."""
    open_inputs: Callable[[int], Inputs]
    publisher: Publisher
    replies: ReplySink
    config: ConfigLog
    config_end: Callable[[], Awaitable[int]]
    """The end of ``config`` as of now. Raises KafkaFailure."""
    metrics: WorkerMetrics
    sinks: PositionSource
    max_remembered: int
    """Idempotency entries that a partition may hold; at 90 % it stops consuming."""
    clock_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
