"""When a sink says that it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from sinks.postgres.sink import Sink
from streams.membership import Changed
from tests.streams.world import until


class Unreached:
    """A group whose coordinator does not answer, until a test answers in its place."""

    changed: Changed | None = None

    async def run(self, changed: Changed, positions: Callable[[], Mapping[int, int]]) -> None:  # noqa: ARG002
        self.changed = changed
        await asyncio.Event().wait()


class WithSchema(Sink):
    """A sink that has found its schema; its pool connects when it is used, which it is not."""

    async def _await_schema(self, stop: asyncio.Event) -> None:
        pass


async def test_a_sink_is_not_ready_before_its_group_has_answered() -> None:
    group, stop = Unreached(), asyncio.Event()
    sink = WithSchema(kafka="nowhere", prefix="t.", dsn="postgresql://nowhere/x", membership=group)
    running = asyncio.create_task(sink.run(stop))
    await until(lambda: group.changed is not None, "the group was asked")
    assert not sink.ready().ready
    assert "consumer group" in str(sink.ready().detail["cause"])
    assert group.changed is not None
    group.changed(frozenset())  # a spare
    assert sink.ready().ready
    stop.set()
    await asyncio.wait_for(running, 10)
