"""Accepted transfers are remembered for a day at least, whatever rules are in force."""

from engine.duplicates import Lookalike, RecentPayments, payment_digest

DAY = 86_400_000


def test_the_latest_within_the_window_is_found() -> None:
    payments = RecentPayments()
    digest = payment_digest("alice", "bob", 500)
    payments.remember(digest, 10 * DAY + 5, 1)
    payments.remember(digest, 10 * DAY + 9, 2)
    assert payments.find(digest, 10 * DAY + 9 + 60, 60) == Lookalike(10 * DAY + 9, 2)
    assert payments.find(digest, 10 * DAY + 9 + 61, 60) is None
    assert payments.find(payment_digest("alice", "bob", 501), 10 * DAY + 9, 60) is None
    assert payments.find(payment_digest("bob", "alice", 500), 10 * DAY + 9, 60) is None


def test_yesterday_is_kept_and_the_day_before_is_dropped() -> None:
    payments = RecentPayments()
    digest = payment_digest("alice", "bob", 500)
    payments.remember(digest, 10 * DAY, 1)
    for day in (11, 12):
        payments.remember(payment_digest("alice", "bob", day), day * DAY, day)
        payments.forget(day * DAY)
    assert payments.generations.keys() == {11, 12}
    assert payments.find(digest, 11 * DAY, DAY) is None
    assert payments.find(payment_digest("alice", "bob", 11), 12 * DAY, DAY) == Lookalike(11 * DAY, 11)


def test_parts_of_the_digest_cannot_flow_into_each_other() -> None:
    assert payment_digest("a", "b1", 1) != payment_digest("a", "b", 11)
    assert payment_digest("ab", "c", 1) != payment_digest("a", "bc", 1)
