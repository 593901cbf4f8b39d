"""Checks that the scenarios do not reach: counters that are nearly full."""

import pytest

from engine.book import Book, SystemAccount
from engine.checks import representable
from engine.entries import deposit_entry, transfer_entry
from schemas.bounds import MAX_COUNTER
from tests.engine.desk import Desk, make_bundle

FEES = "sys:fees:EUR"


@pytest.fixture
def book() -> Book:
    desk = Desk(make_bundle())
    desk.send("open_account", "alice", "o", currency="EUR")
    desk.send("open_account", "bob", "o", currency="EUR")
    return desk.book


@pytest.mark.parametrize("account_id", ["alice", "bob"])
def test_a_counter_stays_below_its_bound(book: Book, account_id: str) -> None:
    counters = book.accounts[account_id]
    legs = transfer_entry("alice", "bob", 10, [], "EUR")
    counters.debits_posted = counters.credits_posted = MAX_COUNTER - 11
    assert representable(book, legs) is None
    counters.debits_posted = counters.credits_posted = MAX_COUNTER - 10
    refusal = representable(book, legs)
    side = "debits" if account_id == "alice" else "credits"
    assert refusal is not None
    assert refusal.detail == f"amount_minor: the {side} of {account_id} would reach 2^62"


@pytest.mark.parametrize("counter", ["payer", "fees"])
def test_a_counter_that_an_entry_adds_to_several_times_stays_below_its_bound(book: Book, counter: str) -> None:
    legs = transfer_entry("alice", "bob", 10, [20, 30], "EUR")
    book.system_accounts[FEES] = SystemAccount()
    total = 60 if counter == "payer" else 50
    for room, fits in ((total + 1, True), (total, False)):
        if counter == "payer":
            book.accounts["alice"].debits_posted = MAX_COUNTER - room
        else:
            book.system_accounts[FEES].credits_posted = MAX_COUNTER - room
        assert (representable(book, legs) is None) == fits


def test_the_counters_of_a_system_account_that_nothing_was_posted_to_are_zero(book: Book) -> None:
    assert representable(book, deposit_entry("alice", "cash", 10, "EUR")) is None
