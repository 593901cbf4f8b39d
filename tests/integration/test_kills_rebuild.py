"""A kill between every two steps of a rebuild (``sinks.postgres.rebuild``), while requests are decided and written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sinks.postgres.errors import PostgresUnavailable
from sinks.postgres.rebuild import REBUILT, Rebuild
from sinks.postgres.switch import Switch
from tests.kills.ledger import Ledger, ledger
from tests.kills.processes import Running
from tests.kills.rebuilds import GAPS, RebuildGap, Target, rebuild_until_killed
from tests.kills.stream import beside, proved, rebuild, schemas, streaming

pytestmark = pytest.mark.integration


@pytest.fixture
async def here(kafka: str, postgres: str) -> AsyncIterator[Ledger]:
    async with ledger(kafka, postgres, 2) as found:
        yield found


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.name)
async def test_a_rebuild_killed_between_two_steps_changes_nothing_and_can_be_run_again(
    here: Ledger, tmp_path: Path, gap: RebuildGap
) -> None:
    target = Target(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn)
    async with streaming(here, tmp_path) as stream:
        async with beside(stream.flow):
            killed = await Running(tmp_path, "rebuild", rebuild_until_killed, target, gap).ended()
            assert killed.was_killed, killed
            assert (await schemas(here))[-1].startswith("ledgerline_retired_" if gap.switched else REBUILT)
            await asyncio.sleep(1.1)  # the dated names tell seconds apart
            done = await rebuild(here).run()
            assert done.differences == ()
            assert done.retired is not None
            assert REBUILT not in await schemas(here)
        await stream.ask(3)
        await stream.written()
    await proved(here)


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
