"""Entries balance, whatever they are built from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.entries import deposit_entry, transfer_entry, withdraw_entry

amounts = st.integers(1, 10**15)


@given(amounts, st.lists(amounts, max_size=8))
def test_a_transfer_balances_with_its_debits_first(amount_minor: int, fees_minor: list[int]) -> None:
    legs = transfer_entry("alice", "bob", amount_minor, fees_minor, "EUR")
    half = len(legs) // 2
    assert [leg[1] for leg in legs] == ["debit"] * half + ["credit"] * half
    assert sum(leg[2] for leg in legs[:half]) == sum(leg[2] for leg in legs[half:])
    assert {leg[0] for leg in legs[:half]} == {"alice"}
    assert [leg[0] for leg in legs[half:]] == ["bob", *["sys:fees:EUR"] * len(fees_minor)]


def test_money_from_and_to_the_outside_has_its_rail_and_currency_on_the_other_side() -> None:
    assert deposit_entry("alice", "sepa", 5, "EUR") == (
        ("sys:external:sepa:EUR", "debit", 5, "EUR"),
        ("alice", "credit", 5, "EUR"),
    )
    assert withdraw_entry("alice", "sepa", 5, "EUR") == (
        ("alice", "debit", 5, "EUR"),
        ("sys:external:sepa:EUR", "credit", 5, "EUR"),
    )


@pytest.mark.parametrize("amount_minor", [0, -1])
def test_an_entry_of_nothing_cannot_be_built(amount_minor: int) -> None:
    with pytest.raises(AssertionError, match="expected a positive amount"):
        deposit_entry("alice", "sepa", amount_minor, "EUR")
