"""The arithmetic of the bench. How fast anything is, is no test."""

import pytest

from bench.figures import Sent, joined, per_transaction_us, percentile, ratios, spread


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
