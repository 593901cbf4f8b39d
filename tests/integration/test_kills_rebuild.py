"""A kill between every two steps of a rebuild (``sinks.postgres.rebuild``), while requests are decided and written.

One ledger. In each gap a process kills itself, then the rebuild is run again, which begins and ends well whatever was
left behind; its comparison shows each time that the live rows are those of the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledgerline.verify import Report, verify
from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.rebuild import REBUILT, Rebuild, Rebuilt
from sinks.postgres.switch import Switch
from tests.kills.ledger import Ledger, ledger
from tests.kills.processes import Ended, Running
from tests.kills.rebuilds import GAPS, RebuildGap, Target, rebuild_until_killed
from tests.kills.stream import beside, proved, rebuild, schemas, streaming

pytestmark = pytest.mark.integration
PARTITIONS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What happened in one gap."""

    killed: Ended
    before: list[str]
    """The schemas in front of the kill."""
    behind: list[str]
    """And behind it."""
    again: Rebuilt


@dataclass(frozen=True, kw_only=True, slots=True)
class Stories:
    """What happened in all of them, and what there is in the end."""

    of: dict[RebuildGap, Story]
    schemas: list[str]
    report: Report


@pytest.fixture(scope="module")
def stories(kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Stories:
    return asyncio.run(tell(kafka, postgres, tmp_path_factory.mktemp("kills")))


async def tell(kafka: str, postgres: str, folder: Path) -> Stories:
    async with ledger(kafka, postgres, PARTITIONS) as here:
        target = Target(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn)
        of: dict[RebuildGap, Story] = {}
        async with streaming(here, folder) as stream:
            async with beside(stream.flow):
                for number, gap in enumerate(GAPS):
                    before = await schemas(here)
                    killed = await Running(folder, str(number), rebuild_until_killed, target, gap).ended()
                    behind = await schemas(here)
                    await asyncio.sleep(1.1)  # the dated names tell seconds apart
                    again = await rebuild(here).run()
                    of[gap] = Story(killed=killed, before=before, behind=behind, again=again)
            await stream.ask(3)
            await stream.written()
        report = await verify(here.kafka, here.prefix, here.dsn, rebuild=False)
        return Stories(of=of, schemas=await schemas(here), report=report)


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.name)
def test_a_rebuild_killed_between_two_steps_changes_nothing_and_can_be_run_again(
    gap: RebuildGap, stories: Stories
) -> None:
    story = stories.of[gap]
    assert story.killed.was_killed, story.killed
    (new,) = set(story.behind) - set(story.before)
    assert new.startswith("ledgerline_retired_" if gap.switched else REBUILT)
    assert story.again.differences == ()
    assert story.again.retired in stories.schemas


def test_the_ledger_is_proved_right_and_only_what_was_switched_is_left(stories: Stories) -> None:
    assert stories.report.ok, stories.report.to_plain()
    switched = len(GAPS) + sum(gap.switched for gap in GAPS)
    assert len(stories.schemas) == 1 + switched
    assert REBUILT not in stories.schemas


@pytest.fixture
async def here(kafka: str, postgres: str) -> AsyncIterator[Ledger]:
    async with ledger(kafka, postgres, PARTITIONS) as found:
        yield found


async def test_a_lost_answer_to_the_commit_is_asked_for(here: Ledger, tmp_path: Path) -> None:
    class AnswerLost(Rebuild):
        async def commit(self, switch: Switch) -> None:
            await super().commit(switch)
            raise PostgresUnavailable("the test lost the answer")

    class NeverArrived(Rebuild):
        async def commit(self, switch: Switch) -> None:  # noqa: ARG002
            raise PostgresUnavailable("the test lost the question")

    async with streaming(here, tmp_path) as stream:
        with pytest.raises(PostgresUnavailable, match="lost the question"):
            await NeverArrived(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn).run()
        assert await schemas(here) == ["ledgerline", REBUILT]
        done = await AnswerLost(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn).run()
        assert await schemas(here) == ["ledgerline", done.retired]
        await stream.ask(2)
        await stream.written()
    await proved(here)
