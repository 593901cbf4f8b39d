"""Logarithms and decay in integers are close to the real ones, and monotone."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from engine.fixed import ONE, decayed, log2


@given(st.integers(1, 2**70))
@example(1)
@example(2**62 - 1)
def test_log2_is_exact_to_three_units_and_never_above(value: int) -> None:
    exact = math.log2(value) * ONE
    assert exact - 3 <= log2(value) <= exact + 1e-6


@given(st.integers(1, 2**62))
def test_log2_never_falls(value: int) -> None:
    assert log2(value) <= log2(value + 1)


def test_log2_of_powers_of_two_is_exact() -> None:
    assert [log2(2**n) for n in range(63)] == [n * ONE for n in range(63)]


@given(st.integers(0, 2**62 - 1), st.integers(0, 10**12), st.sampled_from([1, 1000, 172_800_000]))
def test_decay_is_close_to_the_real_one_and_never_grows(value: int, elapsed_ms: int, half_life_ms: int) -> None:
    found = decayed(value, elapsed_ms, half_life_ms)
    exact = value * 2.0 ** (-min(elapsed_ms / half_life_ms, 1000))
    assert exact * 0.999 - 1 <= found <= exact * 1.001 + 1
    assert decayed(value, elapsed_ms + 1, half_life_ms) <= found <= value


def test_a_half_life_halves_and_no_time_changes_nothing() -> None:
    assert decayed(1000, 0, 5) == 1000
    assert decayed(1000, 5, 5) == 500
    assert decayed(1000, 5 * 10, 5) == 0
    assert decayed(2**61, 5 * 61, 5) == 1
    assert decayed(10**15, 10**18, 5) == 0
