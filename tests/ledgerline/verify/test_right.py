"""What looks odd and is right: late blocks, doubled records, outcomes published again, topics that were cut."""

from __future__ import annotations

from ledgerline.verify import Invariant, Report
from streams.kafka import Partition, Record
from tests.ledgerline.verify.ledgers import REPLIES, Ledger, report_on
from tests.ledgerline.verify.planted import JOURNAL, OUTCOMES, TOPICS, Records, ledger, stale


def explained(report: Report) -> str:
    return "\n".join(f"{f.invariant}: {f}" for line in report.lines.values() for f in line.failures)


def appended(log: list[Record], *others: Record) -> list[Record]:
    """*log* with copies of *others* behind it."""
    return [*log, *(other._replace(offset=len(log) + n) for n, other in enumerate(others))]


async def proved(records: Records) -> Report:
    report = await report_on(records)
    assert report.ok, explained(report)
    return report


async def test_a_late_block_of_an_earlier_owner_has_no_effect() -> None:
    made = ledger()
    records = made.records()
    first = made.parts[0].blocks[0]
    other = first.with_outcome(1, reason="late")
    records[JOURNAL] = appended(records[JOURNAL], stale(records[JOURNAL], other, 1))
    report = await proved(records)
    assert report.lines[Invariant.I12].checked == 1


async def test_copies_of_the_genesis_and_of_the_last_block_count_once() -> None:
    records = ledger().records()
    log = records[JOURNAL]
    records[JOURNAL] = appended(log, log[0], log[-1])
    report = await proved(records)
    assert report.lines[Invariant.I12].checked == 2


async def test_a_lease_that_lost_changes_nothing() -> None:
    records = ledger().records()
    lease = next(r for r in records[JOURNAL] if dict(r.headers)["kind"] == b"lease")
    records[JOURNAL] = appended(records[JOURNAL], lease)
    await proved(records)


async def test_outcomes_may_be_published_again() -> None:
    records = ledger().records()
    records[OUTCOMES] = appended(records[OUTCOMES], *records[OUTCOMES][3:9])
    await proved(records)


async def test_outcomes_of_the_last_block_may_still_be_on_their_way() -> None:
    made = ledger()
    del made.parts[0].outcomes[-1]
    await proved(made.records())


async def test_topics_that_retention_has_cut_are_compared_from_their_start() -> None:
    records = ledger().records()
    requests = Partition(TOPICS.requests, 0)
    records = {**records, requests: records[requests][5:], OUTCOMES: records[OUTCOMES][7:]}
    report = await proved(records)
    assert report.lines[Invariant.I9].checked == 48 - 5


async def test_gaps_in_offsets_need_no_answer() -> None:
    """Control markers, and records of transactions that were aborted, take offsets and are never delivered."""
    made = ledger()
    part = made.parts[0]
    last = part.requests[-1]
    part.requests[-1] = last._replace(offset=last.offset + 2)
    block = part.blocks[-1]
    made.change(0, block, block.with_event(len(block.events) - 1, offset=last.offset + 2))
    await proved(made.records())


async def test_reply_topics_may_hold_what_is_not_ours() -> None:
    records = ledger().records()
    replies = Partition(REPLIES, 0)
    example = records[replies][0]
    foreign = [example._replace(value=value) for value in (None, b"", b"[]", b'{"partition":0,"seq":3}', b"\xff")]
    records[replies] = appended(records[replies], *foreign)
    await proved(records)


async def test_a_ledger_without_any_request_is_right() -> None:
    made = ledger()
    for part in made.parts:
        part.journal, part.requests, part.outcomes = [], [], []
    made.replies = []
    report = await proved(made.records())
    assert report.events == 0


async def test_a_defect_and_another_currency_tell_no_balance() -> None:
    made = Ledger(1)
    made.send(made.request("open_account", "alice", "o", currency="EUR"))
    made.send(made.request("deposit", "alice", "d1", currency="EUR", amount_minor=500, rail="cash"))
    made.send(made.request("withdraw", "alice", "w1", currency="JPY", amount_minor=5, rail="cash"))
    made.send(made.request("withdraw", "alice", "w2", currency="EUR", amount_minor=501, rail="cash"))
    block = made.decide(0)
    assert block is not None
    defect = {"status": "rejected", "reason": "internal_error"}
    nothing: dict[str, object] = {"balance_minor": None, "available_minor": None, "limits": []}
    last = len(block.events) - 1
    made.change(0, block, block.with_outcome(last, **defect, **nothing).with_event(last, **defect))
    await proved(made.records())
