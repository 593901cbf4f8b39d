"""Every planted error is found by the invariant that it breaks, where it is; a right ledger is proved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledgerline.verify import Invariant
from tests.ledgerline.verify.ledgers import report_on
from tests.ledgerline.verify.planted import EVERYWHERE, PLANTS, Planted, ledger, time_that_is_not_the_brokers


async def test_a_right_ledger_is_proved_with_every_invariant_checked() -> None:
    report = await report_on(ledger().records())
    assert report.ok, [str(f) for line in report.lines.values() for f in line.failures]
    not_here = {Invariant.I10, Invariant.I11, Invariant.I12}  # other processes, Postgres, and there was no stale record
    assert {i for i, line in report.lines.items() if not line.checked} == not_here


@pytest.mark.parametrize("plant", [*PLANTS, time_that_is_not_the_brokers], ids=lambda plant: plant.__name__)
async def test_a_planted_error_is_named_where_it_is(plant: Callable[[], Planted]) -> None:
    planted = plant()
    report = await report_on(planted.records)
    failures = report.failed(planted.invariant)
    places = [(f.place.partition, f.place.seq) for f in failures]
    everything = "\n".join(f"{f.invariant}: {f}" for line in report.lines.values() for f in line.failures)
    assert (planted.partition, planted.seq) in places, everything
    for failure in failures:
        assert failure.expected != failure.found


@pytest.mark.parametrize("plant", [p for p in PLANTS if p not in EVERYWHERE], ids=lambda plant: plant.__name__)
async def test_a_problem_in_one_partition_is_not_blamed_on_another(plant: Callable[[], Planted]) -> None:
    planted = plant()
    report = await report_on(planted.records)
    blamed = {f.place.partition for line in report.lines.values() for f in line.failures}
    assert blamed == {planted.partition}
