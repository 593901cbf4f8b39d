"""A kill between every two steps of ``init``: the next one goes on with the ledger that the first one began."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledgerline.verify import Report, verify
from schemas.events import Genesis, decode_genesis
from streams.kafka import Admin, Consumer, Isolation, Partition, read_to_end
from streams.topics import Topics
from tests.kills.inits import GAPS, PARTITIONS, TOPICS, InitGap, init, init_until_killed
from tests.kills.processes import Ended, Running
from tests.ledgerline.verify.topics import delete_topics

pytestmark = pytest.mark.integration


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What there is of a ledger."""

    topics: int
    geneses: dict[int, Genesis]
    bundles: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What happened to one ledger."""

    killed: Ended
    behind: Found
    successor: Ended
    done: dict[str, Any]
    """What the successor says that it did; empty if it failed."""
    third: Ended
    repeated: dict[str, Any]
    """The same of a third one."""
    after: Found
    report: Report


@pytest.fixture(scope="module")
def stories(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> dict[InitGap, Story]:
    async def tell() -> dict[InitGap, Story]:
        folder = tmp_path_factory.mktemp("kills")
        return dict(zip(GAPS, await asyncio.gather(*(kill_in(kafka, folder, gap) for gap in GAPS)), strict=True))

    return asyncio.run(tell())


async def kill_in(kafka: str, folder: Path, gap: InitGap) -> Story:
    prefix = f"kills-{secrets.token_hex(4)}."
    try:
        killed = await Running(folder, f"{prefix}killed", init_until_killed, kafka, prefix, gap).ended()
        behind = await look(kafka, prefix)
        successor, done = await go_on(kafka, prefix, folder, "successor")
        third, repeated = await go_on(kafka, prefix, folder, "third")
        return Story(
            killed=killed,
            behind=behind,
            successor=successor,
            done=done,
            third=third,
            repeated=repeated,
            after=await look(kafka, prefix),
            report=await verify(kafka, prefix, None, rebuild=False),
        )
    finally:
        await delete_topics(kafka, prefix)


async def go_on(kafka: str, prefix: str, folder: Path, name: str) -> tuple[Ended, dict[str, Any]]:
    answer = folder / f"{prefix}{name}.json"
    ended = await Running(folder, f"{prefix}{name}", init, kafka, prefix, answer).ended()
    return ended, orjson.loads(answer.read_bytes()) if answer.exists() else {}


async def look(kafka: str, prefix: str) -> Found:
    topics = Topics(prefix)
    admin = await Admin.start(kafka, "kills")
    consumer = await Consumer.start(kafka, "kills", Isolation.COMMITTED)
    try:
        there = await admin.describe_topics(topics.names)
        journals = [Partition(topics.journal, p) for p in range(PARTITIONS) if topics.journal in there]
        records = [record for journal in journals for record in await read_to_end(consumer, journal, 0)]
        config = [Partition(topics.config, 0)] if topics.config in there else []
        bundles = [record for place in config for record in await read_to_end(consumer, place, 0)]
    finally:
        await consumer.close()
        await admin.close()
    geneses = {record.partition: decode_genesis(record.value or b"") for record in records}
    assert len(geneses) == len(records), "one record in a journal"
    return Found(topics=len(there), geneses=geneses, bundles=len(bundles))


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.name)
def test_an_init_killed_between_two_steps_is_completed_by_the_next(gap: InitGap, stories: dict[InitGap, Story]) -> None:
    story = stories[gap]
    assert story.killed.was_killed, f"it ended otherwise: {story.killed}"
    behind, after = story.behind, story.after
    assert (behind.topics, len(behind.geneses), behind.bundles) == (gap.topics, gap.geneses, gap.bundles)
    assert story.successor.pid != story.killed.pid
    assert (story.successor.code, story.third.code) == (0, 0), story.successor.log + story.third.log

    assert (after.topics, sorted(after.geneses), after.bundles) == (TOPICS, list(range(PARTITIONS)), 1)
    assert behind.geneses.items() <= after.geneses.items()
    same = {genesis.model_copy(update={"partition": 0}).model_dump_json() for genesis in after.geneses.values()}
    assert len(same) == 1, "one ledger_id, one at"
    assert story.done["written_genesis"] == [p for p in range(PARTITIONS) if p not in behind.geneses]
    assert {genesis.ledger_id for genesis in after.geneses.values()} == {story.done["ledger_id"]}
    assert story.repeated == story.done | {
        "created_topics": [],
        "written_genesis": [],
        "default_bundle_offset": None,
    }
    assert story.report.ok, story.report.to_plain()
