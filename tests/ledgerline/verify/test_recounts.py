"""The recounts at their boundaries: accounts, limits of a day, ids of an hour."""

from __future__ import annotations

import pytest

from ledgerline.verify import Invariant, Place, Report
from ledgerline.verify.accounts import Account, Accounts
from ledgerline.verify.limits import Spent, Used, exceeded, headroom
from ledgerline.verify.remembered import FUTURE_MS, HOUR_MS, Remembered, Stage
from schemas.config import Limit
from schemas.events import AccountTerms

HERE = Place(0, 1, 1)
DAY = 24 * HOUR_MS
LIMIT = Limit(type="transfer", currency="EUR", per_transaction_minor=100, daily_sum_minor=150, daily_count=3)


def terms(
    account_id: str = "alice", *, floor: int = 0, ceiling: int | None = None, debit: bool = False
) -> AccountTerms:
    return AccountTerms(
        account_id=account_id,
        currency="EUR",
        normal_side="debit" if debit else "credit",
        status="open",
        tier="standard",
        floor_minor=floor,
        ceiling_minor=ceiling,
        attributes={},
    )


# ---- accounts


def test_available_is_what_lies_above_the_floor_or_below_the_ceiling_of_a_loan() -> None:
    saver = Account("EUR", terms(floor=-20), debits=30, credits=100, held=5)
    assert (saver.balance, saver.available) == (70, 85)
    borrower = Account("EUR", terms(ceiling=500, debit=True), debits=300, credits=100, held=5)
    assert (borrower.balance, borrower.available) == (200, 295)
    assert Account("EUR", terms(debit=True), debits=1).available == -1  # no ceiling is a ceiling of 0
    assert Account("EUR", None, debits=7).balance == -7


def test_an_entry_needs_two_legs_in_the_currency_of_their_accounts() -> None:
    report = Report()
    accounts = Accounts(report)
    accounts.set_terms(HERE, terms())
    accounts.post(HERE, [("alice", "credit", 5, "EUR")])
    accounts.post(HERE, [("sys:external:sepa:USD", "debit", 5, "USD"), ("alice", "credit", 5, "USD")])
    said = [f"{f.what}: {f.expected}, {f.found}" for f in report.failed(Invariant.I2)]
    assert said == [
        "legs of the entry: at least 2, 1",
        "entry in EUR, debits - credits: 0, -5",
        "leg of alice: a positive amount in EUR, 5 USD",
    ]


def test_one_bad_entry_is_one_failure_of_the_sum_and_not_one_for_every_later_prefix() -> None:
    report = Report()
    accounts = Accounts(report)
    accounts.set_terms(HERE, terms())
    accounts.post(HERE, [("sys:external:sepa:EUR", "debit", 4, "EUR"), ("alice", "credit", 5, "EUR")])
    accounts.post(HERE, [("sys:external:sepa:EUR", "debit", 5, "EUR"), ("alice", "credit", 5, "EUR")])
    assert len(report.failed(Invariant.I1)) == 1


def test_money_of_an_account_that_was_never_opened_is_named() -> None:
    report = Report()
    Accounts(report).post(HERE, [("sys:external:sepa:EUR", "debit", 5, "EUR"), ("bob", "credit", 5, "EUR")])
    assert [f.what for f in report.failed(Invariant.I3)] == ["leg of bob"]


# ---- limits


@pytest.mark.parametrize(
    ("before", "amount", "reason"),
    [
        (Used(0, 0), 100, None),
        (Used(0, 0), 101, "per_transaction_limit"),
        (Used(1, 50), 100, None),
        (Used(1, 51), 100, "daily_sum_limit"),
        (Used(2, 10), 1, None),
        (Used(3, 10), 1, "daily_count_limit"),
        (Used(3, 150), 101, "per_transaction_limit"),
    ],
)
def test_a_limit_may_be_reached_and_not_exceeded(before: Used, amount: int, reason: str | None) -> None:
    assert exceeded(LIMIT, before, amount) == reason


def test_usage_is_that_of_the_utc_day_of_the_account_and_the_type() -> None:
    spent = Spent()
    spent.add("alice", "transfer", DAY - 1, 10)
    spent.add("alice", "transfer", DAY - 1, 5)
    assert spent.on("alice", "transfer", DAY - 1) == Used(2, 15)
    assert spent.on("alice", "withdraw", DAY - 1) == Used(0, 0)
    assert spent.on("bob", "transfer", DAY - 1) == Used(0, 0)
    assert spent.on("alice", "transfer", DAY) == Used(0, 0)
    spent.add("alice", "transfer", DAY, 1)
    assert spent.on("alice", "transfer", DAY) == Used(1, 1)


def test_headroom_is_behind_the_decision_and_never_negative() -> None:
    assert headroom(LIMIT, Used(1, 50), 40) == [
        {"name": "per_transaction", "used_minor": 40, "limit_minor": 100, "remaining_minor": 60},
        {"name": "daily_sum", "used_minor": 90, "limit_minor": 150, "remaining_minor": 60},
        {"name": "daily_count", "used": 2, "limit": 3, "remaining": 1},
    ]
    remaining = [row.get("remaining_minor", row.get("remaining")) for row in headroom(LIMIT, Used(5, 400), None)]
    assert remaining == [100, 0, 0]


# ---- ids

KEY = ("alice", "r-1")
MADE_AT = 100 * HOUR_MS + 1_234
KEPT_UNTIL = 101 * HOUR_MS + DAY


def remembered() -> Remembered:
    ids = Remembered(86_400)
    ids.remember(KEY, MADE_AT, Stage("ab", 7, b"content"))
    return ids


def test_an_id_is_kept_until_its_hour_ended_more_than_the_window_ago() -> None:
    assert remembered().look_up(KEY, "ab", MADE_AT, KEPT_UNTIL).finding == "replay"
    assert remembered().look_up(KEY, "ab", MADE_AT, KEPT_UNTIL + 1).finding == "too_old"


def test_another_body_under_a_remembered_id_is_a_conflict_however_old_it_says_it_is() -> None:
    found = remembered().look_up(KEY, "cd", MADE_AT - DAY, MADE_AT)
    assert (found.finding, found.stage and found.stage.seq) == ("conflict", 7)


def test_an_id_is_an_accounts_own() -> None:
    assert remembered().look_up(("bob", "r-1"), "ab", MADE_AT, MADE_AT).finding == "fresh"


def test_a_new_id_may_be_as_old_as_the_window_and_a_minute_ahead() -> None:
    ids = Remembered(86_400)
    assert ids.look_up(KEY, "ab", MADE_AT, MADE_AT + DAY).finding == "fresh"
    assert ids.look_up(KEY, "ab", MADE_AT, MADE_AT + DAY + 1).finding == "too_old"
    assert ids.look_up(KEY, "ab", MADE_AT + FUTURE_MS, MADE_AT).finding == "fresh"
    assert ids.look_up(KEY, "ab", MADE_AT + FUTURE_MS + 1, MADE_AT).finding == "from_the_future"
