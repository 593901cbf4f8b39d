"""The arithmetic of the bench. How fast anything is, is no test."""

from typing import NamedTuple

import pytest

from bench.figures import Sent, counted, joined, per_transaction_us, percentile, ratios, spread, undisturbed
from bench.usage import Machine


def test_a_spread_is_the_median_between_the_extremes() -> None:
    assert spread([30.0, 10.0, 20.0, 100.0]) == (25.0, 10.0, 100.0)


def test_a_ratio_is_that_of_the_medians_and_spreads_over_the_rounds() -> None:
    assert ratios([30.0, 40.0, 20.0], [10.0, 10.0, 10.0]) == (3.0, 2.0, 4.0)
    assert ratios([10.0, 40.0, 40.0], [10.0, 10.0, 20.0]) == (4.0, 1.0, 4.0)


def test_ratios_of_different_numbers_of_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        ratios([1.0, 2.0], [1.0])


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 0.999, 1.0)] == [1, 50, 99, 100, 100]
    assert percentile([7], 0.5) == 7


def test_latencies_join_by_place_and_the_first_outcome_counts() -> None:
    requests = {(0, 5): Sent(95, 100), (1, 5): Sent(200, 200), (0, 6): Sent(300, 301)}
    outcomes = [((0, 5), 104), ((1, 5), 209), ((0, 5), 900), ((7, 7), 1)]
    found = joined(requests, outcomes)
    assert found.from_broker == [4, 9]
    assert found.from_schedule == [9, 9]
    assert found.unanswered == 1


def test_cpu_is_spread_over_transactions_in_microseconds() -> None:
    assert per_transaction_us(1.5, 10_000) == 150.0


def test_what_the_host_took_away_is_told_in_percent_of_what_all_cores_could_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Times(NamedTuple):
        user: float
        idle: float
        steal: float
        guest: float = 5.0  # counted in user already

    times = [Times(10.0, 10.0, 1.0), Times(14.0, 12.0, 3.0)]
    monkeypatch.setattr("psutil.cpu_times", lambda: times.pop(0))
    assert Machine.now().stolen_percent() == 25.0


def test_runs_that_the_host_disturbed_do_not_count_where_others_are() -> None:
    calm, edge, stormy = ({"stolen_percent": stolen} for stolen in (0.0, 2.0, 2.1))
    assert undisturbed([stormy, calm, edge]) == [calm, edge]
    assert counted([stormy, calm, edge]) == [calm, edge]
    assert undisturbed([stormy, stormy]) == []
    assert counted([stormy, stormy]) == [stormy, stormy]
