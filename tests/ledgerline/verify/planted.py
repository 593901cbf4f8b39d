"""Errors to plant in a ledger's topics, each with what the checker has to say about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from msgspec.structs import replace

from ledgerline.verify import Invariant
from schemas.events import AccountTerms, ConfigPickup
from schemas.times import format_time
from streams.config_log import version_of
from streams.kafka import Partition, Record
from streams.topics import Topics
from tests.ledgerline.verify.ledgers import PREFIX, Block, Ledger, payments

Records = dict[Partition, list[Record]]
TOPICS = Topics(PREFIX)
JOURNAL = Partition(TOPICS.journal, 0)
OUTCOMES = Partition(TOPICS.outcomes, 0)


class Planted(NamedTuple):
    """Topics with one error. The failure named has this place; other invariants may be broken by it too."""

    records: Records
    invariant: Invariant
    partition: int
    seq: int | None


def ledger(partitions: int = 2) -> Ledger:
    """A ledger in which every kind of answer occurs in every partition."""
    made = Ledger(partitions)
    payments(made)
    return made


def altered(records: Mapping[Partition, list[Record]], where: Partition, offset: int, **changes: Any) -> Records:
    """*records*, with one of them changed."""
    log = [Record(**{**r._asdict(), **changes}) if r.offset == offset else r for r in records[where]]
    return {**records, where: log}


def flipped(data: bytes, position: int) -> bytes:
    """*data* with one byte changed."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def changed_byte_in_a_block() -> Planted:
    records = ledger().records()
    journal = Partition(TOPICS.journal, 1)
    first = next(r for r in records[journal] if dict(r.headers)["kind"] == b"block")
    assert first.value is not None
    return Planted(
        altered(records, journal, first.offset, value=flipped(first.value, len(first.value) - 5)), Invariant.I7, 1, 1
    )


def changed_byte_in_a_request() -> Planted:
    made = ledger()
    found = made.find(0, "pay-1")
    requests = Partition(TOPICS.requests, 0)
    records = made.records()
    value = records[requests][found.event.offset].value
    assert value is not None
    planted = altered(records, requests, found.event.offset, value=flipped(value, len(value) - 3))
    return Planted(planted, Invariant.I8, 0, found.seq)


def changed_byte_in_an_outcome() -> Planted:
    made = ledger()
    records, outcomes = made.records(), OUTCOMES
    record = records[outcomes][7]
    assert record.value is not None
    seq = orjson.loads(record.value)["seq"]
    value = record.value.replace(b'"status":"accepted"', b'"status":"acceptee"')
    assert value != record.value
    return Planted(altered(records, outcomes, 7, value=value), Invariant.I16, 0, seq)


def changed_byte_in_config() -> Planted:
    records, config = ledger().records(), Partition(TOPICS.config, 0)
    value = records[config][0].value
    assert value is not None
    changed = value.replace(b"5000000", b"5000001", 1)
    return Planted(altered(records, config, 0, value=changed), Invariant.I14, 0, 1)


def changed_byte_in_the_genesis() -> Planted:
    records, journal = ledger(3).records(), JOURNAL
    value = records[journal][0].value
    assert value is not None
    changed = value.replace(b'"retry_window_s":86400', b'"retry_window_s":86401')
    assert changed != value
    return Planted(altered(records, journal, 0, value=changed), Invariant.I7, 0, 1)


def genesis_of_another_ledger() -> Planted:
    made = ledger(3)
    other = "00000000-0000-4000-8000-0000000000bb"
    made.parts[1].genesis = made.parts[1].genesis.model_copy(update={"ledger_id": other})
    return Planted(made.records(), Invariant.I7, 1, None)


def changed_token_of_a_lease() -> Planted:
    records, journal = ledger().records(), JOURNAL
    headers = tuple((name, b"00" * 16 if name == "token" else value) for name, value in records[journal][1].headers)
    return Planted(altered(records, journal, 1, headers=headers), Invariant.I7, 0, 1)


def lost_block() -> Planted:
    records, journal = ledger().records(), JOURNAL
    blocks = [r for r in records[journal] if dict(r.headers)["kind"] == b"block"]
    seq = int(dict(blocks[1].headers)["seq"] or b"")
    log = [r for r in records[journal] if r is not blocks[1]]
    return Planted({**records, journal: _renumbered(log)}, Invariant.I7, 0, seq)


def answers_in_another_order() -> Planted:
    made = ledger()
    found = made.find(0, "pay-1")
    events = list(found.block.events)
    first, second = events[found.at : found.at + 2]
    events[found.at] = replace(second, at=first.at)
    events[found.at + 1] = replace(first, at=second.at)
    made.change(0, found.block, found.block.copy(events=events))
    return Planted(made.records(), Invariant.I7, 0, found.seq + 1)


def answer_without_an_event() -> Planted:
    made = ledger()
    last = made.parts[1].book.seq
    body = orjson.dumps({**orjson.loads(made.parts[1].outcomes[-1][1]), "seq": last + 1})
    made.parts[1].outcomes.append((last + 1, body, "pay-1"))
    return Planted(made.records(), Invariant.I16, 1, last + 1)


def event_without_an_input() -> Planted:
    made = ledger()
    records, requests = made.records(), Partition(TOPICS.requests, 0)
    last = made.parts[0].requests[-1].offset
    log = [r for r in records[requests] if r.offset != last]
    return Planted({**records, requests: log}, Invariant.I8, 0, made.parts[0].book.seq)


def input_without_an_answer() -> Planted:
    """An aborted transaction's record needs no answer; this one was committed, and none was given."""
    made = ledger()
    found = made.find(0, "late-1")
    events = [e for e in found.block.events if e is not found.event]
    made.change(0, found.block, found.block.copy(events=events))
    return Planted(made.records(), Invariant.I9, 0, None)


def two_answers_to_one_input() -> Planted:
    made = ledger()
    found = made.find(0, "late-1")
    events = list(found.block.events)
    events.insert(found.at, found.event)
    made.change(0, found.block, found.block.copy(events=events))
    return Planted(made.records(), Invariant.I9, 0, found.seq + 1)


def unbalanced_entry() -> Planted:
    made = ledger()
    found = made.find(0, "pay-4")
    account, side, amount, currency = found.event.legs[-1]
    legs = (*found.event.legs[:-1], (account, side, amount + 1, currency))
    made.change(0, found.block, found.block.with_event(found.at, legs=legs))
    return Planted(made.records(), Invariant.I2, 0, found.seq)


def sum_that_is_not_zero() -> Planted:
    return unbalanced_entry()._replace(invariant=Invariant.I1)


def entry_to_another_account() -> Planted:
    """Balanced, but not what the request says."""
    made = ledger()
    found = made.find(0, "pay-4")
    payer, payee = found.event.legs
    other = made.find(0, "late-4").event.account_id or ""
    legs = (payer, (other, *payee[1:]))
    made.change(0, found.block, found.block.with_event(found.at, legs=legs))
    return Planted(made.records(), Invariant.I3, 0, found.seq)


def acceptance_that_should_be_a_decline() -> Planted:
    """``late-0`` asks for more than there is. The journal books it all the same."""
    made = ledger()
    found = made.find(0, "late-0")
    like = made.find(0, "pay-4").event
    assert found.event.account_id is not None
    amount = 10_000_000
    legs = tuple((account, side, amount, currency) for account, side, _, currency in like.legs)
    assert like.usage is not None
    assert like.payment is not None
    block = found.block.with_event(
        found.at,
        status="accepted",
        reason=None,
        legs=legs,
        usage=replace(like.usage, amount_minor=amount),
        payment=replace(like.payment, amount_minor=amount),
        profile=like.profile,
    )
    block = block.with_outcome(found.at, status="accepted", reason=None, detail=None)
    made.change(0, found.block, block)
    return Planted(made.records(), Invariant.I3, 0, found.seq)


def overdraft() -> Planted:
    return acceptance_that_should_be_a_decline()._replace(invariant=Invariant.I6)


def decline_with_an_entry() -> Planted:
    made = ledger()
    found = made.find(0, "late-0")
    legs = made.find(0, "pay-4").event.legs
    made.change(0, found.block, found.block.with_event(found.at, legs=legs))
    return Planted(made.records(), Invariant.I3, 0, found.seq)


def terms_that_nobody_asked_for() -> Planted:
    made = ledger()
    found = made.find(0, f"open-{made.find(0, 'late-4').event.account_id}")
    assert isinstance(found.event.account, AccountTerms)
    terms = replace(found.event.account, floor_minor=-1_000)
    made.change(0, found.block, found.block.with_event(found.at, account=terms))
    return Planted(made.records(), Invariant.I3, 0, found.seq)


def balance_in_an_outcome() -> Planted:
    made = ledger()
    found = made.find(1, "pay-3")
    balance = orjson.loads(found.block.outcome(found.at))["balance_minor"]
    made.change(1, found.block, found.block.with_outcome(found.at, balance_minor=balance + 1))
    return Planted(made.records(), Invariant.I5, 1, found.seq)


def outcome_that_its_event_does_not_say() -> Planted:
    made = ledger()
    found = made.find(1, "late-0")
    made.change(1, found.block, found.block.with_outcome(found.at, reason="currency_mismatch"))
    return Planted(made.records(), Invariant.I16, 1, found.seq)


def replay_that_differs() -> Planted:
    made = ledger()
    found = made.find(0, "pay-2", replayed=True)
    made.change(0, found.block, found.block.with_outcome(found.at, amount_minor=1_003))
    return Planted(made.records(), Invariant.I4, 0, found.seq)


def second_decision_of_an_id() -> Planted:
    """The id was decided; the journal decides it once more."""
    made = ledger()
    again, first = made.find(0, "pay-2", replayed=True), made.find(0, "pay-2")
    names = ("at", "offset", "sha256", "record", "explanation")
    twice = replace(first.event, **{name: getattr(again.event, name) for name in names})
    events = list(again.block.events)
    events[again.at] = twice
    block = again.block.copy(events=events).with_outcome(
        again.at, seq=again.seq, transaction=f"0-{again.seq}", replayed=False
    )
    made.change(0, again.block, block)
    return Planted(made.records(), Invariant.I4, 0, again.seq)


def other_content_at_the_same_seq() -> Planted:
    made = ledger()
    seq, body, request_id = made.parts[0].outcomes[5]
    other = orjson.dumps({**orjson.loads(body), "at": "2025-11-21T00:00:00.000Z"})
    made.parts[0].outcomes.append((seq, other, request_id))
    return Planted(made.records(), Invariant.I4, 0, seq)


def outcomes_out_of_order() -> Planted:
    made = ledger()
    outcomes = made.parts[0].outcomes
    outcomes[3], outcomes[4] = outcomes[4], outcomes[3]
    return Planted(made.records(), Invariant.I4, 0, outcomes[3][0])


def outcome_that_was_never_published() -> Planted:
    """The next block says that everything before it was published."""
    made = ledger()
    gone = made.parts[0].outcomes.pop(4)
    del made.parts[0].outcomes[4:]
    return Planted(made.records(), Invariant.I16, 0, gone[0])


def reply_that_differs() -> Planted:
    made = ledger()
    found = made.find(0, "pay-5")
    body = orjson.dumps({**orjson.loads(found.block.outcome(found.at)), "status": "declined"})
    made.replies.append(body)
    return Planted(made.records(), Invariant.I16, 0, found.seq)


def published_stale_block() -> Planted:
    """A zombie's late block is in the log, where it does not count; but its outcomes were published."""
    made = ledger()
    part = made.parts[0]
    seq = part.book.seq + 1
    last = part.blocks[-1]
    index = len(last.events) - 1
    late = last.copy(events=[last.events[index]], epoch=1, token=part.blocks[0].token)
    late = late.with_outcome(0, seq=seq, transaction=f"0-{seq}", reason="payee_closed")
    records = made.records()
    records[JOURNAL].append(stale(records[JOURNAL], late, seq))
    body = late.outcome(0)
    records[OUTCOMES].append(records[OUTCOMES][-1]._replace(offset=len(records[OUTCOMES]), value=body))
    return Planted(records, Invariant.I12, 0, seq)


def stale(journal: list[Record], block: Block, seq: int) -> Record:
    """A record that says it is *block* at *seq*, of an epoch that is over: its chain does not matter."""
    headers = {
        "kind": b"block",
        "format": b"1",
        "epoch": b"%d" % block.epoch,
        "token": block.token.hex().encode(),
        "seq": b"%d" % seq,
        "count": b"%d" % len(block.events),
        "chain": b"00" * 32,
        "published_through": b"0",
    }
    return journal[-1]._replace(offset=len(journal), key=None, headers=tuple(headers.items()), value=block.value())


def limit_exceeded() -> Planted:
    """The bundle that the pick-up names allows less than was accepted under it."""
    made = ledger()
    tight = orjson.loads(made.config[0])
    tight["tiers"]["standard"]["limits"] = [{"type": "transfer", "currency": "EUR", "daily_count": 3}]
    value = orjson.dumps(tight)
    made.config[0] = value
    for p, part in enumerate(made.parts):
        first = part.blocks[0]
        assert isinstance(first.events[0], ConfigPickup)
        made.change(p, first, first.with_event(0, sha256=version_of(0, value).sha256))
    return Planted(made.records(), Invariant.I14, 0, made.find(0, "pay-3").seq)


def headroom_in_an_outcome() -> Planted:
    made = ledger()
    found = made.find(0, "pay-3")
    limits = orjson.loads(found.block.outcome(found.at))["limits"]
    limits[1]["used_minor"] += 1
    made.change(0, found.block, found.block.with_outcome(found.at, limits=limits))
    return Planted(made.records(), Invariant.I14, 0, found.seq)


def unjustified_too_old() -> Planted:
    made = ledger()
    found = made.find(0, "late-1")
    block = found.block.with_event(found.at, status="rejected", reason="too_old", binding=False)
    block = block.with_outcome(found.at, status="rejected", reason="too_old", binding=False, final=False)
    made.change(0, found.block, block)
    return Planted(made.records(), Invariant.I14, 0, found.seq)


def time_that_is_not_the_brokers() -> Planted:
    made = ledger()
    found = made.find(0, "late-5")
    records, requests = made.records(), Partition(TOPICS.requests, 0)
    late = altered(records, requests, found.event.offset, timestamp_ms=found.event.at + 1)
    return Planted(late, Invariant.I8, 0, found.seq)


def day_that_counts_elsewhere() -> Planted:
    made = ledger()
    found = made.find(1, "pay-3")
    assert found.event.usage is not None
    usage = replace(found.event.usage, day=found.event.usage.day - 1)
    made.change(1, found.block, found.block.with_event(found.at, usage=usage))
    return Planted(made.records(), Invariant.I14, 1, found.seq)


def payment_to_somebody_else() -> Planted:
    made = ledger()
    found = made.find(1, "pay-3")
    assert found.event.payment is not None
    payment = replace(found.event.payment, payee="somebody")
    made.change(1, found.block, found.block.with_event(found.at, payment=payment))
    return Planted(made.records(), Invariant.I3, 1, found.seq)


def near_duplicate_that_nobody_tagged() -> Planted:
    made = ledger()
    found = made.find(1, "late-5")
    assert orjson.loads(found.block.outcome(found.at))["rules"] == ["near_duplicate"]
    made.change(1, found.block, found.block.with_outcome(found.at, rules=[]))
    return Planted(made.records(), Invariant.I3, 1, found.seq)


def other_fingerprint() -> Planted:
    made = ledger()
    found = made.find(1, "late-1")
    made.change(1, found.block, found.block.with_event(found.at, fingerprint="00" * 16))
    return Planted(made.records(), Invariant.I3, 1, found.seq)


def answer_that_does_not_bind() -> Planted:
    made = ledger()
    found = made.find(1, "late-1")
    block = found.block.with_event(found.at, binding=False)
    block = block.with_outcome(found.at, binding=False, final=False, balance_minor=None, available_minor=None)
    made.change(1, found.block, block)
    return Planted(made.records(), Invariant.I4, 1, found.seq)


def time_that_goes_back() -> Planted:
    made = ledger()
    found = made.find(1, "late-1")
    before = made.find(1, "late-0").event
    block = found.block.with_event(found.at, at=before.at - 1)
    made.change(1, found.block, block.with_outcome(found.at, at=format_time(before.at - 1)))
    return Planted(made.records(), Invariant.I7, 1, found.seq)


def pick_up_of_another_cause() -> Planted:
    made = ledger()
    first = made.parts[1].blocks[0]
    made.change(1, first, first.with_event(0, cause_offset=1))
    return Planted(made.records(), Invariant.I7, 1, 1)


def config_version_left_out() -> Planted:
    """A refused record of ``config`` lies in front of the one that was picked up."""
    made = ledger()
    made.config.insert(0, b"{}")
    for p in range(2):
        first = made.parts[p].blocks[0]
        made.change(p, first, first.with_event(0, offset=1))
    return Planted(made.records(), Invariant.I14, 0, 1)


def ruleset_that_was_not_in_force() -> Planted:
    made = ledger()
    found = made.find(1, "late-1")
    block = found.block.with_event(found.at, ruleset="other").with_outcome(found.at, ruleset="other")
    made.change(1, found.block, block)
    return Planted(made.records(), Invariant.I14, 1, found.seq)


def publication_claimed_too_early() -> Planted:
    made = ledger()
    last = made.parts[1].blocks[-1]
    made.change(1, last, last.copy(published_through=made.parts[1].book.seq))
    return Planted(made.records(), Invariant.I7, 1, made.parts[1].book.seq - len(last.events) + 1)


def headers_of_another_outcome() -> Planted:
    made = ledger()
    outcomes = made.parts[0].outcomes
    seq, body, _ = outcomes[8]
    outcomes[8] = (seq, body, "somebody-elses")
    return Planted(made.records(), Invariant.I16, 0, seq)


def request_that_was_not_kept() -> Planted:
    made = ledger()
    found = made.find(1, "late-1")
    made.change(1, found.block, found.block.with_event(found.at, record=(None, found.event.record[1])))
    return Planted(made.records(), Invariant.I8, 1, found.seq)


def other_request_in_the_block() -> Planted:
    """The block holds other bytes than those that the event's hash is over."""
    made = ledger()
    found = made.find(1, "late-1")
    other = made.find(1, "late-0").event.record
    made.change(1, found.block, found.block.with_event(found.at, record=other))
    return Planted(made.records(), Invariant.I8, 1, found.seq)


def _renumbered(log: list[Record]) -> list[Record]:
    return [record._replace(offset=offset) for offset, record in enumerate(log)]


PLANTS: list[Callable[[], Planted]] = [
    changed_byte_in_a_block,
    changed_byte_in_a_request,
    changed_byte_in_an_outcome,
    changed_byte_in_config,
    changed_byte_in_the_genesis,
    genesis_of_another_ledger,
    changed_token_of_a_lease,
    lost_block,
    answers_in_another_order,
    answer_without_an_event,
    event_without_an_input,
    input_without_an_answer,
    two_answers_to_one_input,
    unbalanced_entry,
    sum_that_is_not_zero,
    entry_to_another_account,
    acceptance_that_should_be_a_decline,
    overdraft,
    decline_with_an_entry,
    terms_that_nobody_asked_for,
    balance_in_an_outcome,
    outcome_that_its_event_does_not_say,
    replay_that_differs,
    second_decision_of_an_id,
    other_content_at_the_same_seq,
    outcomes_out_of_order,
    outcome_that_was_never_published,
    reply_that_differs,
    published_stale_block,
    limit_exceeded,
    headroom_in_an_outcome,
    unjustified_too_old,
    day_that_counts_elsewhere,
    payment_to_somebody_else,
    near_duplicate_that_nobody_tagged,
    other_fingerprint,
    answer_that_does_not_bind,
    time_that_goes_back,
    pick_up_of_another_cause,
    config_version_left_out,
    ruleset_that_was_not_in_force,
    publication_claimed_too_early,
    headers_of_another_outcome,
    request_that_was_not_kept,
    other_request_in_the_block,
]
"""Those that a copy of the topics can hold; the time of the broker cannot be copied."""

EVERYWHERE = {changed_byte_in_config, limit_exceeded, config_version_left_out}
"""These break every partition: all follow one config."""
