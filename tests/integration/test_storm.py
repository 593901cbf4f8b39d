"""A short storm with one seed: every kind of fault once. ``make storm`` has longer ones; see docs/testing.md."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.storm.course import Options, run
from tests.storm.schedule import Kind, schedule

SEED = 1
SECONDS = 45.0
MIN_HITS = 3
"""Of the faults; fewer show too little. How many there are is up to the machine: `make storm` asks for half."""


def test_a_seed_decides_the_faults_and_every_kind_comes() -> None:
    assert schedule(SEED, SECONDS) == schedule(SEED, SECONDS)
    assert schedule(SEED, 600.0) != schedule(SEED + 1, 600.0)
    assert {fault.kind for fault in schedule(SEED, SECONDS)} == set(Kind)


@pytest.mark.integration
async def test_killed_and_frozen_processes_and_servers_leave_a_proved_ledger_and_every_sender_with_its_answer() -> None:
    told = io.StringIO()
    result = await run(Options(seed=SEED, seconds=SECONDS, keep=False), Console(file=told, width=200))
    assert not result.wrong, told.getvalue()
    assert sum(1 for hit in result.hits if hit.work) >= MIN_HITS, told.getvalue()
