"""The reading rule, case by case. That it equals the specification: tests/properties/test_journal_reading.py."""

from __future__ import annotations

import pytest

from streams.journal.errors import Corruption, JournalLoss, TooOld, WrongLedger
from streams.journal.framing import BlockHeaders, encode_headers, next_chain
from streams.journal.reading import Duplicate, Position, Reader, Stale, ValidBlock, WonLease
from tests.streams.journal.building import (
    AT,
    GENESIS,
    LEDGER,
    WHERE,
    Message,
    block,
    genesis,
    header,
    lease,
    numbers,
    reader,
    record,
    token,
)


def feed(at: Reader, *messages: Message) -> list[str]:
    """The verdicts' names."""
    return [type(at.read(record(at.position.next_offset, m))).__name__ for m in messages]


def chains(at: Reader, letter: str, *contents: int) -> list[Message]:
    """Blocks of one event each, the next ones of *at* under its lease."""
    made, previous, seq = [], at.position.chain, at.position.seq
    for number in contents:
        seq += 1
        made.append(block(at.position.epoch, letter, seq, previous, number))
        previous = bytes.fromhex(dict(made[-1][0])["chain"].decode())  # type: ignore[union-attr]  # never null
    return made


def owned(letter: str = "a", epoch: int = 1) -> Reader:
    at = reader()
    feed(at, lease(epoch, letter))
    return at


def test_a_journal_begins_behind_its_genesis() -> None:
    at = reader()
    assert (at.position.next_offset, at.position.epoch, at.position.seq, at.position.at) == (1, 0, 0, AT)
    assert at.genesis == GENESIS


def test_a_valid_block_moves_the_position_and_brings_its_events() -> None:
    at = owned()
    message = block(1, "a", 1, at.position.chain, 7, 8, raw=b"raw")
    verdict = at.read(record(2, message))
    assert isinstance(verdict, ValidBlock)
    assert (numbers(verdict), bytes(verdict.raw), verdict.last_seq) == ([7, 8], b"raw", 2)
    assert (at.position.seq, at.position.at, at.position.next_offset) == (2, AT + 8, 3)


def test_the_first_lease_of_an_epoch_wins_and_a_later_or_lower_one_is_stale() -> None:
    at = reader()
    assert feed(at, lease(1, "a"), lease(1, "b"), lease(3, "c"), lease(2, "d")) == [
        "WonLease",
        "Stale",
        "WonLease",
        "Stale",
    ]
    assert (at.position.epoch, at.position.token, at.stale) == (3, token("c"), 2)


def test_a_zombies_late_block_is_stale_even_if_it_would_be_the_next_one() -> None:
    at = owned("a")
    late = chains(at, "a", 1)
    assert feed(at, lease(2, "b"), *late) == ["WonLease", "Stale"]
    assert at.position.seq == 0


def test_a_block_delivered_twice_counts_once() -> None:
    at = owned()
    first, second = chains(at, "a", 1, 2)
    assert feed(at, first, first, second, first, second) == [
        "ValidBlock",
        "Duplicate",
        "ValidBlock",
        "Duplicate",
        "Duplicate",
    ]
    assert (at.position.seq, at.duplicates) == (2, 3)


def test_a_block_of_the_epoch_with_another_token_is_journal_loss() -> None:
    at = owned("a")
    message = block(1, "b", 1, at.position.chain, 1)
    with pytest.raises(JournalLoss, match="its lease is lost"):
        feed(at, message)


def test_a_block_below_the_seq_where_the_lease_began_is_journal_loss() -> None:
    at = owned("a")
    (first,) = chains(at, "a", 1)
    feed(at, first, lease(2, "b"))
    shorter = block(2, "b", 1, reader().position.chain, 9)
    with pytest.raises(JournalLoss, match="where the lease of epoch 2 began"):
        feed(at, shorter)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (lambda at: block(1, "a", 2, at.position.chain, 1), "seq 1"),
        (lambda _: block(1, "a", 1, bytes(32), 1), "the chain"),
        (lambda at: block(at.position.epoch + 1, "a", 1, at.position.chain, 1), "epoch 1 or lower"),
        (lambda at: header(block(1, "a", 1, at.position.chain, 1), count=b"2"), "the chain"),
        (lambda at: header(block(1, "a", 1, at.position.chain, 1), seq=b"x"), "decimal"),
        (lambda at: (block(1, "a", 1, at.position.chain, 1)[0], b"\0"), "the chain"),
        (lambda _: genesis(GENESIS.model_copy(update={"at": 1})), "a copy of the genesis"),
    ],
)
def test_what_no_writer_can_have_written_here_is_corruption_and_the_position_stays(
    broken: object, expected: str
) -> None:
    at = owned()
    before = at.position
    with pytest.raises(Corruption, match=expected):
        feed(at, broken(at))  # type: ignore[operator]  # pytest's parameters are objects
    assert at.position == before


def test_a_key_is_corruption() -> None:
    at = owned()
    with pytest.raises(Corruption, match="null key"):
        at.read(record(2, lease(2, "b"))._replace(key=b"k"))


def test_bytes_under_a_right_chain_that_are_no_block_are_corruption() -> None:
    at = owned()
    for value, expected in (
        (b"\0\0\0\x09", "bytes of events"),
        (b"\0\0\0\x02[]", "1 events"),
        (b"\0\0\0\x02{}", "events"),
    ):
        chain = next_chain(at.position.chain, 1, 1, 1, value)
        headers = BlockHeaders(format=1, epoch=1, token=token("a"), seq=1, count=1, chain=chain, published_through=0)
        with pytest.raises(Corruption, match=expected):
            feed(at, (encode_headers(headers), value))


def test_a_newer_format_is_too_old_and_not_corruption() -> None:
    with pytest.raises(TooOld, match="install a newer"):
        feed(owned(), header(lease(2, "b"), format=b"2"))


def test_any_changed_byte_of_a_valid_block_is_noticed() -> None:
    for at_byte in range(len(chains(owned(), "a", 1)[0][1])):
        at = owned()
        headers, value = chains(at, "a", 1)[0]
        changed = value[:at_byte] + bytes([value[at_byte] ^ 1]) + value[at_byte + 1 :]
        with pytest.raises(Corruption):
            feed(at, (headers, changed))


def test_a_reader_that_resumes_inside_a_run_of_stale_records_goes_on_as_if_it_had_never_stopped() -> None:
    at = owned("a")
    late = chains(at, "a", 1, 2)
    log = [lease(2, "b"), *late, lease(1, "c"), late[0]]
    assert feed(at, *log[:2]) == ["WonLease", "Stale"]
    resumed = reader(Position.from_plain(at.position.to_plain()))
    resumed.confirm(record(3, late[0]), 7)
    rest = [*log[2:], *chains(at, "b", 5)]
    assert feed(resumed, *rest) == feed(at, *rest) == ["Stale", "Stale", "Stale", "ValidBlock"]
    assert resumed.position == at.position


def test_another_record_where_the_last_one_was_read_is_journal_loss() -> None:
    at = owned("a")
    first, second = chains(at, "a", 1)[0], chains(at, "a", 2)[0]
    feed(at, first)
    at.confirm(record(2, first), 3)
    with pytest.raises(JournalLoss, match="that I have read there"):
        at.confirm(record(2, second), 3)
    with pytest.raises(JournalLoss):
        at.confirm(record(2, header(first, published_through=b"1")), 3)
    with pytest.raises(JournalLoss, match="the next one at offset 4"):
        at.confirm(record(4, first), 5)
    with pytest.raises(JournalLoss, match="log end 2"):
        at.confirm(None, 2)


def test_a_position_survives_storage_and_rejects_anything_else() -> None:
    position = owned().position
    plain = position.to_plain()
    assert plain["token"] == token("a").hex()
    assert Position.from_plain(plain) == position
    for broken in ({**plain, "more": 1}, {**plain, "chain": "x"}):
        with pytest.raises(ValueError, match=r"position|hex"):
            Position.from_plain(broken)


def test_a_lease_names_its_owner_for_people() -> None:
    verdict = reader().read(record(1, lease(1, "a", owner="worker-7")))
    assert isinstance(verdict, WonLease)
    assert verdict.owner == "worker-7"


def test_stale_and_duplicate_verdicts_carry_what_was_skipped() -> None:
    at = owned("b", 2)
    stale = at.read(record(2, lease(1, "a")))
    copy = at.read(record(3, genesis()))
    assert isinstance(stale, Stale)
    assert isinstance(copy, Duplicate)
    assert (stale.offset, copy.offset) == (2, 3)


def test_a_journal_of_another_ledger_or_partition_is_refused() -> None:
    reader().expect(ledger_id=LEDGER, partition=3)
    reader().expect(ledger_id=None, partition=3)
    with pytest.raises(WrongLedger):
        reader().expect(ledger_id="00000000-0000-4000-8000-000000000002", partition=3)
    with pytest.raises(WrongLedger):
        reader().expect(ledger_id=LEDGER, partition=4)


def test_offset_0_must_hold_a_genesis() -> None:
    with pytest.raises(JournalLoss):
        Reader(WHERE, record(1, genesis()))
    with pytest.raises(Corruption):
        Reader(WHERE, record(0, lease(1, "a")))
    with pytest.raises(Corruption):
        Reader(WHERE, record(0, (genesis()[0], b"{}")))
