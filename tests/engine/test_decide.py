"""The contract of ``decide`` with its callers; what it decides stands in tests/scenarios."""

import json
from typing import Any

import orjson
import pytest
from msgspec.structs import asdict

from engine.book import Book
from engine.decide import Decision, MissingEvidence, decide, needs
from engine.digest import state_hash
from engine.evidence import NO_EVIDENCE, Evidence
from engine.intake import read_intake
from engine.refusals import FAILED_CHECK
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import canonical
from schemas.events import Answer, ConfigPickup, Skip
from schemas.outcomes import decode_outcome
from schemas.plain import PlainTransfer
from schemas.reasons import NEVER_BINDING, Reason
from schemas.records import RawRecord, frame
from schemas.requests import Transfer, Unreadable
from schemas.times import format_time
from tests.engine.desk import NOON, Desk, bundle_bytes, genesis, make_bundle

RECORD = {"sha256", "record", "outcome", "explanation"}
"""The fields of an answer that depend on how its record is written."""


def opened(**options: Any) -> Desk:
    desk = Desk(make_bundle(**options))
    desk.send("open_account", "alice", "o", currency="EUR")
    desk.send("open_account", "bob", "o", currency="EUR")
    desk.send("deposit", "alice", "d", amount_minor=10_000, currency="EUR", rail="cash")
    return desk


def explained(decision: Decision) -> dict[str, Any]:
    return dict(json.loads(decision.explanation))


def transfer(request_id: str, amount_minor: int, **fields: Any) -> bytes:
    value = {"v": 1, "type": "transfer", "account_id": "alice", "request_id": request_id, "payee": "bob"}
    return canonical(
        {**value, "requested_at": format_time(NOON), "amount_minor": amount_minor, "currency": "EUR", **fields}
    )


def request_of(desk: Desk, value: bytes) -> object:
    content = desk.intake(value, b"alice").content
    return None if isinstance(content, Unreadable) else content.request


def test_the_spans_follow_each_other_from_the_given_start() -> None:
    desk = opened()
    intake = desk.intake(transfer("t", 5), b"alice")
    decision = decide(desk.book, intake, NO_EVIDENCE, desk.at, desk.bundle, 1000)
    event, framed = decision.event, intake.framed
    assert event.record == (1000, len(framed))
    assert event.outcome == (1000 + len(framed), len(decision.outcome))
    assert event.explanation == (1000 + len(framed) + len(decision.outcome), len(decision.explanation))


@pytest.mark.parametrize("amount_minor", [1_000, 20_000])
def test_however_a_transfer_is_written_it_is_decided_alike(amount_minor: int) -> None:
    fields = {"metadata": {"order": "A1"}, "merchant": "m-1", "fees": [{"code": "svc", "amount_minor": 10}]}
    plain = transfer("t", amount_minor, **fields)
    escaped = plain.replace(b'"bob"', b'"\\u0062ob"')
    one, other = opened(), opened()
    first, second = one.receive(plain, b"alice"), other.receive(escaped, b"alice")
    assert [type(request_of(desk, body)) for desk, body in ((one, plain), (other, escaped))] == [
        PlainTransfer,
        Transfer,
    ]
    assert (first.outcome, first.explanation) == (second.outcome, second.explanation)
    fields_of_both = [
        {name: value for name, value in asdict(decision.event).items() if name not in RECORD}
        for decision in (first, second)
    ]
    assert fields_of_both[0] == fields_of_both[1]
    assert decode_outcome(one.receive(escaped, b"alice").outcome).replayed
    assert decode_outcome(other.receive(plain, b"alice").outcome).replayed


def test_a_record_above_64_kib_is_kept_by_length_and_hash_only() -> None:
    desk = opened()
    framing = len(desk.intake(b"", b"alice").framed)
    for size, kept in ((MAX_REQUEST_BYTES - framing, True), (MAX_REQUEST_BYTES - framing + 1, False)):
        intake = desk.intake(b"x" * size, b"alice")
        event = decide(desk.book, intake, NO_EVIDENCE, desk.at, desk.bundle, 7).event
        assert event.record == (7 if kept else None, len(intake.framed))
        assert event.outcome[0] == 7 + (len(intake.framed) if kept else 0)


def test_what_the_journal_does_not_keep_takes_no_effect() -> None:
    """A request that fills its 64 KiB fits as a value; with its key and headers it is more than a block keeps."""
    desk = opened()
    body = transfer("t", 5)
    framing = len(desk.intake(b"", b"alice").framed)
    longest = body.ljust(MAX_REQUEST_BYTES - framing)
    outcome = decode_outcome(desk.receive(longest + b" ", b"alice").outcome)
    assert (outcome.status, outcome.reason, outcome.binding) == ("rejected", "too_large", False)
    assert (outcome.request_id, outcome.account_id, outcome.type) == ("t", "alice", "transfer")
    decision = desk.receive(longest, b"alice")
    assert (decision.event.status, decision.event.record[1]) == ("accepted", MAX_REQUEST_BYTES)
    assert desk.receive(body, b"alice").event.replayed
    headers = (("x", b"y" * MAX_REQUEST_BYTES),)
    record = RawRecord(b"alice", headers, transfer("t2", 5))
    assert isinstance(read_intake(record, frame(record), 9).content, Unreadable)


def test_deciding_twice_gives_the_same_bytes_and_changes_nothing() -> None:
    desk = opened()
    before = state_hash(desk.book)
    intake = desk.intake(transfer("t", 5), b"alice")
    first = decide(desk.book, intake, NO_EVIDENCE, desk.at, desk.bundle, 0)
    assert decide(desk.book, intake, NO_EVIDENCE, desk.at, desk.bundle, 0) == first
    assert state_hash(desk.book) == before


def test_a_replay_needs_the_outcome_of_the_original_and_differs_in_seq_and_replayed_only() -> None:
    desk = opened()
    body = transfer("t", 5)
    original = desk.receive(body, b"alice")
    seq = desk.book.seq
    intake = desk.intake(body, b"alice")
    assert needs(desk.book, intake) == seq
    with pytest.raises(MissingEvidence, match=f"event {seq}"):
        decide(desk.book, intake, NO_EVIDENCE, desk.at, desk.bundle, 0)
    desk.wait(5)
    again = desk.receive(body, b"alice")
    assert orjson.loads(again.outcome) == {**orjson.loads(original.outcome), "seq": seq + 1, "replayed": True}
    assert list(orjson.loads(again.outcome)) == list(orjson.loads(original.outcome))
    assert (again.event.original, again.event.replayed, again.event.binding) == (seq, True, True)
    effects = (again.event.legs, again.event.usage, again.event.payment, again.event.profile, again.event.account)
    assert effects == ((), None, None, None, None)
    assert explained(again)["original"] == f"0-{seq}"


def test_nothing_is_needed_for_new_conflicting_or_unreadable_records() -> None:
    desk = opened()
    desk.receive(transfer("t", 5), b"alice")
    for value in (transfer("t2", 5), transfer("t", 6), b"{", None):
        assert needs(desk.book, desk.intake(value, b"alice")) is None


def test_time_does_not_go_back() -> None:
    desk = opened()
    intake = desk.intake(transfer("t", 5), b"alice")
    with pytest.raises(AssertionError, match="expected at >="):
        decide(desk.book, intake, NO_EVIDENCE, desk.at - 1, desk.bundle, 0)


def test_only_the_bundle_in_force_decides() -> None:
    desk = opened()
    intake = desk.intake(transfer("t", 5), b"alice")
    with pytest.raises(AssertionError, match="expected bundle v1, got other"):
        decide(desk.book, intake, NO_EVIDENCE, desk.at, make_bundle("other"), 0)
    with pytest.raises(AssertionError, match="no bundle was picked up"):
        decide(Book.from_genesis(genesis()), intake, NO_EVIDENCE, desk.at, desk.bundle, 0)


def test_a_defect_is_answered_and_handed_on_and_the_partition_goes_on() -> None:
    desk = opened()
    desk.checked = False
    for book in (desk.book, desk.folded):
        book.accounts["alice"].floor_minor = "broken"  # type: ignore[assignment]
    decision = desk.receive(transfer("t", 5), b"alice")
    assert isinstance(decision.defect, TypeError)
    assert (decision.event.status, decision.event.reason, decision.event.binding) == (
        "rejected",
        "internal_error",
        True,
    )
    assert "TypeError" in explained(decision)["defect"]
    assert b"TypeError" not in decision.outcome
    assert desk.receive(transfer("t", 5), b"alice").event.replayed
    assert desk.send("deposit", "bob", "d2", amount_minor=1, currency="EUR", rail="cash").status == "accepted"


def test_a_defect_before_check_4_is_passed_does_not_bind() -> None:
    desk = opened()
    desk.checked = False
    desk.receive(transfer("t", 5), b"alice")
    intake = desk.intake(transfer("t", 5), b"alice")
    decision = decide(desk.book, intake, Evidence(original=b"not an outcome"), desk.at, desk.bundle, 0)
    assert (decision.event.reason, decision.event.binding) == ("internal_error", False)
    assert decision.defect is not None


@pytest.mark.parametrize("reason", sorted(NEVER_BINDING))
def test_what_never_binds_belongs_to_the_first_four_checks(reason: Reason) -> None:
    assert FAILED_CHECK[reason] <= 4


def test_every_reason_but_internal_error_names_its_check() -> None:
    assert set(Reason) - set(FAILED_CHECK) == {Reason.INTERNAL_ERROR}
    assert {reason for reason, number in FAILED_CHECK.items() if number <= 4} == NEVER_BINDING


def test_an_explanation_tells_everything_that_decided() -> None:
    limits = [{"type": "transfer", "currency": "EUR", "daily_sum_minor": 1_000}]
    desk = opened(limits=limits, near_duplicates=("tag", 60), decline_at=900)
    desk.receive(transfer("t1", 400), b"alice")
    first = desk.book.seq
    desk.wait(10)
    told = explained(desk.receive(transfer("t2", 400), b"alice"))
    assert told["decision"] == "accepted"
    assert (told["ruleset"], told["tier"]) == ("v1", "standard")
    assert told["funds"] == {"needed_minor": 400, "available_minor": 9_600}
    assert told["near_duplicate"] == {"of": f"0-{first}", "age_ms": 10, "window_s": 60, "action": "tag"}
    (limit,) = told["limits"]
    assert limit == {"name": "daily_sum", "used_minor": 800, "limit_minor": 1_000, "remaining_minor": 200}
    score = told["score"]
    assert score["total"] == sum(score["parts"].values())
    assert score["decline_at"] == 900
    assert score["values"]["payments"] == 1
    told = explained(desk.receive(transfer("t3", 201), b"alice"))
    assert told["check"] == {"number": 9, "name": "limits"}
    assert told["reason"] == "daily_sum_limit"
    assert "8.00 are used" in told["detail"]
    assert "score" not in told


def test_a_score_at_the_threshold_declines_and_one_below_does_not() -> None:
    desk = opened()
    for number in range(16):
        desk.receive(transfer(f"t{number}", 100), b"alice")
    found = desk.send("transfer", "alice", "big", amount_minor=5_000, currency="EUR", payee="bob").score
    assert found is not None
    assert found > 0
    for threshold, reason in ((found + 1, None), (found, "score_too_high")):
        again = opened(decline_at=threshold)
        for number in range(16):
            again.receive(transfer(f"t{number}", 100), b"alice")
        outcome = again.send("transfer", "alice", "big", amount_minor=5_000, currency="EUR", payee="bob")
        assert (outcome.score, outcome.reason) == (found, reason)


def test_what_a_sender_writes_can_be_stored_as_json_in_postgres() -> None:
    desk = opened()
    for value in (
        b'{"a\\u0000b": 1}',
        b'{"v": 1, "type": "' + b"y" * 60_000 + b'"}',
        '{"é\\u0000": "\\ud83d"}'.encode(),
    ):
        decision = desk.receive(value, b"\x00\xff")
        for body in (decision.outcome, decision.explanation):
            assert b"\\u0000" not in body.replace(b"\\\\", b"")
            assert "\0" not in str(orjson.loads(body))
            assert len(body) < 2_000


def test_a_wrong_key_of_any_bytes_is_named_readably() -> None:
    desk = opened()
    outcome = orjson.loads(desk.receive(transfer("t", 5), b"\xff\x00bob").outcome)
    assert outcome["reason"] == "wrong_key"
    assert "\\xff\\0bob" in outcome["detail"]


def test_a_bundle_is_active_or_refused_with_its_reason() -> None:
    desk = opened()
    assert desk.publish_bytes(None).reason == "malformed: value: expected a bundle, found null"
    refused = desk.publish_bytes(b'{"v": 1}')
    assert refused.verdict == "refused"
    assert refused.reason is not None
    assert refused.reason.startswith("malformed: ")
    assert desk.book.ruleset is not None
    assert desk.book.ruleset.version == "v1"
    assert desk.book.config_offset == 3
    event = desk.publish(make_bundle("v2"))
    assert (desk.book.ruleset.version, desk.book.ruleset.offset, desk.book.ruleset.sha256) == ("v2", 3, event.sha256)


def test_a_version_never_names_two_bundles_but_may_come_back() -> None:
    desk = opened()
    desk.publish(make_bundle("v2"))
    taken = desk.publish_bytes(bundle_bytes(make_bundle("v1", decline_at=5)))
    assert (taken.verdict, taken.version) == ("refused", "v1")
    assert taken.reason is not None
    assert taken.reason.startswith("version_taken: ")
    assert desk.publish(make_bundle("v1")).verdict == "active"  # a rollback


def test_every_input_record_has_one_event_and_only_that_moves_its_position() -> None:
    desk = opened()
    assert desk.book.next_offset == {"requests": 3, "transfers": 0}
    desk.skip()
    assert desk.book.next_offset == {"requests": 3, "transfers": 1}
    desk.publish(make_bundle("v2"))
    assert desk.book.next_offset == {"requests": 3, "transfers": 1}
    desk.receive(b"nonsense", None)
    assert desk.book.next_offset == {"requests": 4, "transfers": 1}
    assert [type(event) for event in desk.events] == [ConfigPickup, Answer, Answer, Answer, Skip, ConfigPickup, Answer]
    assert desk.book.seq == len(desk.events)


def test_control_markers_in_the_input_leave_gaps_that_need_no_event() -> None:
    desk = opened()
    desk.offset += 5
    desk.receive(transfer("t", 5), b"alice")
    assert desk.book.next_offset["requests"] == 9
