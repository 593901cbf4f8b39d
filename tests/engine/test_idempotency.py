"""What was answered is remembered to its boundary and not a millisecond less."""

import hashlib

from engine.idempotency import Memory, Remembered, key_digest

HOUR = 3_600_000
FIELDS = (b"f" * 16, 7)
ENTRY = Remembered(*FIELDS)


def test_the_key_is_the_documented_digest() -> None:
    assert key_digest("alice", "r-1") == hashlib.sha256(b"alice\x00r-1").digest()[:16]
    assert key_digest("alice", "r-1") != key_digest("alicer", "-1")


def test_an_entry_is_found_until_w_after_the_end_of_its_hour() -> None:
    memory = Memory(retry_window_s=7200)
    memory.remember(b"k" * 16, 10 * HOUR + 5, *FIELDS)
    last = 11 * HOUR + 2 * HOUR
    assert memory.find(b"k" * 16, last) == ENTRY
    assert memory.find(b"k" * 16, last + 1) is None
    assert (memory.count(last), memory.count(last + 1)) == (1, 0)
    memory.forget(last)
    assert memory.count(last) == 1
    memory.forget(last + 1)
    assert memory.generations == {}


def test_generations_are_dropped_by_their_hour_and_not_by_their_age() -> None:
    memory = Memory(retry_window_s=3600)
    memory.remember(b"a" * 16, 5 * HOUR, *FIELDS)
    memory.remember(b"b" * 16, 3 * HOUR, *FIELDS)  # came later, was requested earlier
    memory.remember(b"c" * 16, 3 * HOUR + 1, *FIELDS)
    memory.forget(5 * HOUR + 1)
    assert memory.generations.keys() == {5}
    memory.forget(7 * HOUR + 1)
    assert memory.generations == {}
    memory.remember(b"d" * 16, 9 * HOUR, *FIELDS)
    memory.forget(11 * HOUR)
    assert memory.count(11 * HOUR) == 1


def test_an_id_that_was_forgotten_in_one_hour_may_live_in_another() -> None:
    memory = Memory(retry_window_s=3600)
    memory.remember(b"k" * 16, 3 * HOUR, *FIELDS)
    memory.remember(b"k" * 16, 5 * HOUR, b"g" * 16, 9)
    assert memory.find(b"k" * 16, 5 * HOUR + 1) == Remembered(b"g" * 16, 9)
