"""Writers that fight for one partition on a faulty broker: whatever happens, the promises of the journal hold."""

from __future__ import annotations

import asyncio

import pytest

from streams.journal.follower import Follower
from streams.journal.reading import ValidBlock
from streams.journal.simulated import SimulatedLog
from tests.properties.journal_world import World, decide
from tests.streams.journal.building import LEDGER, WHERE, numbers


@pytest.mark.parametrize("seed", range(40))
def test_writers_fighting_for_a_partition_on_a_faulty_broker_keep_every_promise(seed: int) -> None:
    world = World(seed)
    world.run()
    journal = asyncio.run(fold_from_the_start(world))
    for n, number in enumerate(journal):  # each input once, in order, decided on the state of the journal
        assert number == decide(journal[:n], number // 1_000 % 1_000)
    assert world.rows == journal[: len(world.rows)]
    first = list(dict.fromkeys(world.outcomes))  # first occurrences, in order
    assert first == list(enumerate(journal, 1))[: len(first)]


async def fold_from_the_start(world: World) -> list[int]:
    world.broker.unavailable = 0.0
    follower = await Follower.begin(SimulatedLog(world.broker, where=WHERE), ledger_id=LEDGER, partition=3)
    found: list[int] = []
    async for record in follower.below(world.broker.end):
        verdict = follower.reader.read(record)
        found += numbers(verdict) if isinstance(verdict, ValidBlock) else []
    return found
