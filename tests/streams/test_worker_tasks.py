"""A worker's own tasks: what happens when one of them ends though nobody asked it to."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from streams.metrics import WorkerMetrics
from streams.owner import Owner
from streams.publisher import KafkaPublisher
from streams.replies import Replies
from streams.services import Services
from streams.worker import DRAINED, Worker, WorkerOptions
from tests.streams.world import LEDGER, World, until


class InMemory(Worker):
    """A worker of one partition in memory."""

    def __init__(self, world: World) -> None:
        options = WorkerOptions(kafka="nowhere", prefix="t.", dev=True, partitions=frozenset({0}))
        super().__init__(options, WorkerMetrics(CollectorRegistry()))
        self.world = world

    async def _examine(self) -> str:
        return LEDGER

    def _wire(self, ledger_id: str, publisher: KafkaPublisher, replies: Replies) -> Services:  # noqa: ARG002
        return self.world.services()

    async def _follow_config(self) -> None:
        await asyncio.Event().wait()


class Vanishing(InMemory):
    """Its owners end silently, as when a library cancels what awaits it."""

    def new_owner(self, partition: int, services: Services) -> Owner:
        class Vanished(Owner):
            async def _own(self) -> None:
                raise asyncio.CancelledError

        return Vanished(partition, services)


async def test_an_owner_that_ends_by_itself_ends_the_worker_instead_of_leaving_its_partition_to_nobody() -> None:
    with pytest.raises(RuntimeError, match="owner-0"):
        await asyncio.wait_for(Vanishing(World()).run(), 10)


async def test_what_is_assigned_while_a_worker_drains_is_not_taken() -> None:
    world = World()
    await world.publish_config()
    worker = InMemory(world)
    running = asyncio.create_task(worker.run())
    await until(lambda: worker.readiness().ready, "ready")
    worker.stop()
    worker._changed(frozenset({0, 1}))
    assert list(worker._owners) == [0]
    assert await asyncio.wait_for(running, 10) == DRAINED
