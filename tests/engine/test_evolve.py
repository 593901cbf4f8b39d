"""Applying events: what changes, what does not fit, and what two books have in common."""

import pytest
from msgspec.structs import replace

from engine.book import Book
from engine.digest import state_hash
from engine.evolve import CannotApply, evolve
from schemas.events import Answer, ConfigPickup, Skip
from tests.engine.desk import Desk, genesis, make_bundle

DAY = 86_400_000


def paid(desk: Desk, times: int = 1) -> None:
    for number in range(times):
        desk.send("transfer", "alice", f"t{desk.at}-{number}", amount_minor=5, currency="EUR", payee="bob")


def opened() -> Desk:
    desk = Desk(make_bundle())
    for name in ("alice", "bob"):
        desk.send("open_account", name, "o", currency="EUR")
    desk.send("deposit", "alice", "d", amount_minor=10_000, currency="EUR", rail="cash")
    return desk


def test_an_event_of_the_past_does_not_fit() -> None:
    desk = opened()
    desk.wait(10)
    paid(desk)
    with pytest.raises(CannotApply, match="expected at >="):
        evolve(desk.book, desk.events[1])


def test_an_input_that_was_answered_is_not_answered_again() -> None:
    desk = opened()
    with pytest.raises(CannotApply, match="offset of requests >= 3, got 2"):
        evolve(desk.book, desk.events[-1])
    desk.skip()
    with pytest.raises(CannotApply, match="offset of transfers >= 1, got 0"):
        evolve(desk.book, desk.events[-1])
    with pytest.raises(CannotApply, match="offset of config >= 1, got 0"):
        evolve(desk.book, desk.events[0])


def test_usage_is_kept_for_the_horizon_of_the_genesis_and_not_longer() -> None:
    desk = opened()
    for _ in range(40):
        paid(desk, 2)
        desk.wait(DAY)
    used = desk.book.accounts["alice"].usage["transfer"]
    assert len(used.days) == 36
    assert used.days == sorted(used.days)
    assert set(used.sums_minor) == {10}
    assert set(used.counts) == {2}


def test_memories_forget_as_time_goes_by() -> None:
    desk = opened()
    for _ in range(6):
        paid(desk)
        desk.wait(DAY)
    desk.skip()  # whatever the event is, time moves
    assert len(desk.book.payments.generations) <= 2
    assert [len(entries) for entries in desk.book.memory.generations.values()] == [1]


def test_the_hours_of_the_last_64_payments_are_kept() -> None:
    desk = opened()
    for _ in range(70):
        desk.wait(3_600_000)
        paid(desk)
    hours = desk.book.accounts["alice"].hours
    assert len(hours) == 64
    assert hours[-1] == desk.at // 3_600_000 % 24


def test_equal_states_have_equal_hashes_whatever_the_order_of_their_dicts() -> None:
    desk, other = opened(), opened()
    paid(desk)
    paid(other)
    for name in ("accounts", "system_accounts"):
        setattr(other.book, name, dict(reversed(getattr(other.book, name).items())))
    other.book.memory.generations = dict(reversed(other.book.memory.generations.items()))
    for hour, entries in other.book.memory.generations.items():
        other.book.memory.generations[hour] = dict(reversed(entries.items()))
    assert state_hash(other.book) == state_hash(desk.book)


@pytest.mark.parametrize(
    "change",
    [
        "book.seq += 1",
        "book.at += 1",
        "book.next_offset['transfers'] += 1",
        "book.config_offset += 1",
        "book.ruleset = None",
        "book.versions['x'] = 'y'",
        "book.accounts['alice'].held = 1",
        "book.accounts['alice'].debits_posted += 1",
        "book.accounts['bob'].credits_posted += 1",
        "book.accounts['alice'].status = 'frozen'",
        "book.accounts['alice'].attributes = {'a': 1}",
        "book.accounts['alice'].usage['transfer'].counts[0] += 1",
        "book.accounts['alice'].habits = None",
        "book.accounts['alice'].paid_at += 1",
        "book.accounts['alice'].hours += b'x'",
        "book.system_accounts['sys:external:cash:EUR'].debits_posted += 1",
        "book.memory.generations.clear()",
        "book.payments.generations.clear()",
        "del book.accounts['bob']",
    ],
)
def test_any_difference_of_state_shows_in_the_hash(change: str) -> None:
    desk = opened()
    paid(desk)
    before = state_hash(desk.book)
    exec(change, {"book": desk.book})
    assert state_hash(desk.book) != before


def test_a_binding_answer_without_its_request_does_not_fit() -> None:
    desk = opened()
    answer = desk.events[-1]
    assert isinstance(answer, Answer)
    broken = replace(answer, offset=3, request_id=None)
    with pytest.raises(CannotApply, match="to name its request"):
        evolve(desk.book, broken)


def test_a_book_begins_where_its_genesis_says() -> None:
    start = genesis(2, 4).model_copy(update={"inputs": {"requests": 7, "transfers": 8, "config": 9}})
    book = Book.from_genesis(start)
    assert (book.seq, book.at, book.config_offset) == (0, start.at, 9)
    assert book.next_offset == {"requests": 7, "transfers": 8}
    assert (book.partition, book.ruleset, book.accounts) == (2, None, {})


def test_refused_config_and_skips_change_nothing_but_positions() -> None:
    desk = opened()
    accounts = {name: account.terms() for name, account in desk.book.accounts.items()}
    desk.publish_bytes(b"nonsense")
    desk.skip()
    assert isinstance(desk.events[-2], ConfigPickup)
    assert isinstance(desk.events[-1], Skip)
    assert {name: account.terms() for name, account in desk.book.accounts.items()} == accounts
    assert desk.book.ruleset is not None
    assert desk.book.ruleset.version == "v1"
