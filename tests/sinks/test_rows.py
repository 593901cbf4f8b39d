from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Event
from sinks.postgres.rows import KEY_BITS, Batch, add_block, instant, mentioned, settle_new, terms_row, without_nul
from tests.sinks.following import Direct
from tests.sinks.journals import AT, Journal


def project(journal: Journal, keys: dict[str, int] | None = None) -> Batch:
    """The rows of the events that *journal* has collected; accounts are numbered by first mention unless given."""
    blocks, _ = Direct(journal).read(journal.lease(), journal.block())
    events: list[Event] = [event for block in blocks for event in block.events]
    known = keys or {}
    new = {account: (3 << KEY_BITS) + n for n, account in enumerate(mentioned(events), 1) if account not in known}
    batch = Batch()
    for block in blocks:
        add_block(batch, 3, block, {**known, **new})
    settle_new(batch, new)
    return batch


def test_a_thousand_touches_of_an_account_are_one_delta() -> None:
    journal = Journal()
    journal.open("payer")
    journal.open("payee")
    for _ in range(1_000):
        journal.transfer("payer", "payee", 7, 1)
    batch = project(journal)
    payer, payee, fees = (3 << KEY_BITS) + 1, (3 << KEY_BITS) + 2, (3 << KEY_BITS) + 3
    assert batch.deltas == {payer: [8_000, 0, 1_002], payee: [0, 7_000, 1_002], fees: [0, 1_000, 1_002]}
    assert len(batch.postings) == 4_000
    assert len(batch.entries) == 1_000


def test_every_event_has_exactly_one_row_that_says_what_became_of_it() -> None:
    journal = Journal()
    journal.config()
    journal.open("a")
    journal.deposit("a", 5)
    journal.declined("a")
    journal.unreadable()
    journal.replay("a", 3)
    journal.skip()
    journal.config(refused=True)
    batch = project(journal)
    seqs = [row[0] for row in (*batch.decisions, *batch.config_pickups, *batch.skips)]
    assert sorted(map(int, map(str, seqs))) == list(range(1, 9))
    assert batch.events == 8


def test_a_replay_and_a_refusal_touch_no_account() -> None:
    journal = Journal()
    journal.declined("a")
    journal.replay("a", 1)
    batch = project(journal)
    assert batch.deltas == {}
    assert batch.entries == []


def test_the_last_terms_of_a_batch_count_and_a_new_account_is_inserted_once() -> None:
    journal = Journal()
    journal.open("a")
    journal.terms("a", floor=-7)
    journal.terms("a", floor=-9, frozen=True)
    batch = project(journal)
    key = (3 << KEY_BITS) + 1
    assert [terms_row(key, terms)[5:8] for terms in batch.new_accounts.values()] == [("frozen", "standard", -9)]
    assert batch.terms == {}
    assert batch.deltas == {key: [0, 0, 3]}


def test_changed_terms_of_an_account_that_is_there_are_an_update() -> None:
    journal = Journal()
    journal.terms("a", floor=-9)
    batch = project(journal, {"a": 77})
    assert batch.new_accounts == {}
    assert list(batch.terms) == [77]


def test_a_system_account_has_neither_tier_nor_floor() -> None:
    journal = Journal()
    journal.open("a")
    journal.deposit("a", 5)
    batch = project(journal)
    rows = {row[2]: row for row in (terms_row(key, terms) for key, terms in batch.new_accounts.items())}
    assert rows["sys:external:sepa:EUR"][3:9] == ("EUR", "credit", "open", None, None, None)


def test_an_account_that_no_event_opened_is_an_error_and_not_an_account() -> None:
    journal = Journal()
    journal.transfer("nobody", "a", 5)
    with pytest.raises(KeyError):
        project(journal)


def test_instants_are_exact_to_the_millisecond() -> None:
    for ms in (0, 1, 999, AT + 1, 253_402_300_799_999):
        found = instant(ms)
        assert round(found.timestamp() * 1000) == ms
        assert found.microsecond == ms % 1000 * 1000


@given(st.text(st.sampled_from('\0\\u0"a')))
def test_a_nul_becomes_the_replacement_character_and_nothing_else_changes(text: str) -> None:
    assert orjson.loads(without_nul(orjson.dumps(text))) == text.replace("\0", "\ufffd")
