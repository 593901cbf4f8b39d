"""What an account's counters mean."""

import pytest

from engine.book import Account, available_minor
from schemas.events import AccountTerms
from schemas.requests import NormalSide
from tests.engine.desk import Desk, make_bundle


def account(normal_side: NormalSide, floor_minor: int, ceiling_minor: int | None) -> Account:
    terms = AccountTerms(
        account_id="alice",
        currency="EUR",
        normal_side=normal_side,
        status="open",
        tier="standard",
        floor_minor=floor_minor,
        ceiling_minor=ceiling_minor,
        attributes={},
    )
    found = Account(terms)
    assert found.terms() == terms
    found.debits_posted, found.credits_posted, found.held = 30, 100, 7
    return found


@pytest.mark.parametrize(
    ("normal_side", "floor_minor", "ceiling_minor", "balance_minor", "available"),
    [
        ("credit", 0, None, 70, 63),
        ("credit", -50, 10, 70, 113),
        ("debit", 0, None, -70, 63),
        ("debit", -50, 10, -70, 73),
    ],
)
def test_balance_and_available_of_both_normal_sides(
    normal_side: NormalSide, floor_minor: int, ceiling_minor: int | None, balance_minor: int, available: int
) -> None:
    found = account(normal_side, floor_minor, ceiling_minor)
    assert (found.balance_minor, found.available_minor) == (balance_minor, available)
    assert available_minor(found, balance_minor, floor_minor - 1, (ceiling_minor or 0) + 1) == available + 1


def test_what_is_held_keeps_an_account_open() -> None:
    desk = Desk(make_bundle())
    desk.send("open_account", "alice", "o", currency="EUR", floor_minor=-5)
    for book in (desk.book, desk.folded):
        book.accounts["alice"].held = 1
    assert (
        desk.send(
            "close_account",
            "alice",
            "c",
        ).reason
        == "balance_not_zero"
    )
