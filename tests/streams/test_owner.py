"""The owner of a partition, on the simulated broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from schemas.bounds import HOUR_MS
from schemas.events import Answer, Skip, decode_events
from schemas.records import header_values
from streams.batch import Block
from streams.fold import fold_log
from streams.held import Held
from streams.inputs import Input
from streams.journal.framing import LeaseHeaders, decode_headers, encode_headers, open_block
from streams.journal.reading import Position
from streams.journal.simulated import STORM, Fate, SimulatedBroker, SimulatedLog
from streams.kafka import LOG_APPEND_TIME, Record
from streams.owner import Owner
from streams.status import Phase
from tests.streams.world import START_MS, TOPICS, MemoryInputs, Running, World, until


async def world_with(*accounts: str) -> World:
    world = World()
    await world.publish_config()
    world.fund(*accounts)
    return world


def leases(world: World) -> int:
    return sum(isinstance(decode_headers(r.headers), LeaseHeaders) for r in world.broker.records)


def events(world: World) -> list[object]:
    blocks = [r for r in world.broker.records if r.headers[0][1] == b"block"]
    return [event for r in blocks for event in decode_events(open_block(r.value).events_json)]


async def test_a_request_is_journaled_then_answered_on_outcomes_and_its_reply_topic() -> None:
    world = await world_with("alice")
    world.send(
        "alice",
        "withdraw",
        "w-1",
        amount_minor=500,
        currency="EUR",
        rail="sepa",
        headers=[("reply-to", b"answers"), ("correlation-id", b"c-9")],
    )
    async with Running(world):
        await until(lambda: len(world.replies.sent) == 1, "a reply")
    reply, record = world.replies.sent[0], world.publisher.outcomes[-1]
    assert reply.topic == b"answers"
    assert reply.record.value == record.value
    assert record.key == b"alice"
    assert dict(record.headers) == {
        "request_id": b"w-1",
        "correlation-id": b"c-9",
        "seq": b"4",
        "input": b"t.requests-0-2",
    }
    outcome = world.outcomes()[-1]
    assert (outcome.status, outcome.balance_minor, outcome.transaction) == ("accepted", 99_500, "0-4")


async def test_everything_that_waits_goes_into_one_block_and_the_next_names_its_publication() -> None:
    world = await world_with("alice", "bob")
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 4, "4 outcomes")
        world.send("alice", "transfer", amount_minor=5, currency="EUR", payee="bob")
        await until(lambda: len(world.publisher.outcomes) == 5, "5 outcomes")
    headers = [dict(r.headers) for r in world.broker.records if r.headers[0][1] == b"block"]
    assert [(h["seq"], h["count"], h["published_through"]) for h in headers] == [
        (b"1", b"5", b"0"),
        (b"6", b"1", b"5"),
    ]


async def test_the_config_pick_up_stands_in_front_of_the_first_answer_and_a_new_bundle_is_picked_up_mid_stream() -> (
    None
):
    world = await world_with("alice")
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        await world.publish_config(
            world.bundle(
                "strict-2",
                tiers={"standard": {"limits": [{"type": "withdraw", "currency": "EUR", "per_transaction_minor": 100}]}},
            )
        )
        world.send("alice", "withdraw", amount_minor=101, currency="EUR", rail="sepa")
        await until(lambda: len(world.publisher.outcomes) == 3, "3 outcomes")
    last = world.outcomes()[-1]
    assert (last.status, last.reason, last.ruleset) == ("declined", "per_transaction_limit", "strict-2")
    kinds = [type(e).__name__ for e in events(world)]
    assert kinds == ["ConfigPickup", "Answer", "Answer", "ConfigPickup", "Answer"]


async def test_without_a_ruleset_nothing_is_decided_and_the_partition_says_so() -> None:
    world = World()
    world.fund("alice")
    async with Running(world) as owner:
        await until(lambda: owner.status.held == "no_ruleset" and not owner.well, "no_ruleset")
        assert not events(world)
        await world.publish_config(b"not a bundle")
        await world.publish_config()
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        assert owner.well
    assert [getattr(e, "verdict", None) for e in events(world)] == ["refused", "active", None, None]


async def test_malformed_null_and_oversized_records_are_answered() -> None:
    world = await world_with()
    world.send_raw(b"k", b"{", (("correlation-id", b"c"),))
    world.send_raw(None, None)
    world.send_raw(b"big", b"x" * 70_000)
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 3, "3 outcomes")
    assert [(o.status, o.reason, o.request_id) for o in world.outcomes()] == [
        ("rejected", "malformed", None),
        ("rejected", "malformed", None),
        ("rejected", "too_large", None),
    ]
    assert [r.key for r in world.publisher.outcomes] == [b"k", None, b"big"]
    assert [e.record[0] is None for e in events(world) if isinstance(e, Answer)] == [False, False, True]


async def test_a_foreign_record_on_transfers_gets_a_skip_and_no_outcome() -> None:
    world = await world_with("alice")
    world.transfers.append(Record(TOPICS.transfers, 0, 0, None, b"who am I", (), START_MS, LOG_APPEND_TIME))
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
    found = events(world)
    assert [type(e).__name__ for e in found] == ["ConfigPickup", "Skip", "Answer", "Answer"]
    assert isinstance(found[1], Skip)
    assert world.metrics.skips._value.get() == 1


async def test_a_given_back_partition_stays_warm_and_is_taken_again_without_a_restore() -> None:
    world = await world_with("alice")
    async with Running(world) as owner:
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        owner.revoke()
        await until(lambda: owner.status.phase is Phase.IDLE, "given back")
        world.send("alice", "withdraw", amount_minor=1, currency="EUR", rail="sepa")
        owner.assign()
        await until(lambda: len(world.publisher.outcomes) == 3, "3 outcomes")
    assert world.metrics.restores._value.get() == 1
    assert leases(world) == 2


async def test_a_partition_that_was_given_back_tells_no_lag_any_more() -> None:
    """What it told last would stand there for ever, while another worker decides the partition."""
    world = await world_with("alice")
    async with Running(world) as owner:
        await until(lambda: bool(world.metrics.input_lag_records._metrics), "a lag")
        owner.revoke()
        await until(lambda: owner.status.phase is Phase.IDLE, "given back")
        assert not world.metrics.input_lag_records._metrics
        assert not world.metrics.input_lag_seconds._metrics


async def test_the_age_of_undecided_requests_is_not_told_before_it_is_known() -> None:
    world = World()
    world.send("alice", "open_account", currency="EUR")
    async with Running(world) as owner:
        await until(lambda: owner.status.held == "no_ruleset", "it is paused")
        assert world.metrics.input_lag_records.labels("0")._value.get() == 1
        assert not world.metrics.input_lag_seconds._metrics


async def test_a_warm_owner_folds_what_another_appended_meanwhile_without_a_restore() -> None:
    world = await world_with("alice")
    async with Running(world) as first:
        await until(lambda: len(world.first_outcomes()) == 2, "2 outcomes")
        first.revoke()
        await until(lambda: first.status.phase is Phase.IDLE, "given back")
        world.send("alice", "withdraw", "w", amount_minor=1, currency="EUR", rail="sepa")
        async with Running(world, name="other"):
            await until(lambda: len(world.first_outcomes()) == 3, "3 outcomes")
        world.send("alice", "withdraw", amount_minor=2, currency="EUR", rail="sepa")
        world.send("alice", "withdraw", "w", amount_minor=1, currency="EUR", rail="sepa")
        first.assign()
        await until(lambda: len(world.first_outcomes()) == 5, "5 outcomes")
    assert world.metrics.restores._value.get() == 2  # one each
    assert [o.balance_minor for o in world.first_outcomes()[-3:]] == [99_999, 99_997, 99_999]
    assert world.first_outcomes()[-1].replayed


async def test_an_owner_that_was_fenced_drops_what_it_decided_and_restores() -> None:
    world = await world_with("alice")
    async with Running(world) as owner:
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        lease = LeaseHeaders(format=1, epoch=7, token=b"z" * 16)
        world.broker.append(encode_headers(lease), b"a ghost")
        world.send("alice", "withdraw", amount_minor=1, currency="EUR", rail="sepa")
        await until(lambda: len(world.first_outcomes()) == 3, "3 outcomes")
        assert owner.well
    assert world.metrics.fenced._value.get() == 1
    assert world.metrics.restores._value.get() == 2
    assert world.outcomes()[-1].balance_minor == 99_999
    assert world.answered() == [0, 1, 2]


async def test_a_new_owner_publishes_again_what_the_old_one_did_not_before_anything_new() -> None:
    world = await world_with("alice")

    class Crash(BaseException):
        pass

    async def crash() -> None:
        raise Crash

    world.publisher.before = crash
    owner = Owner(0, world.services())
    owner.assign()
    with pytest.raises(Crash):
        await owner.run()
    assert len(events(world)) == 3
    assert world.publisher.outcomes == []

    async def fine() -> None:
        pass

    world.publisher.before = fine
    world.send("alice", "withdraw", amount_minor=1, currency="EUR", rail="sepa")
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 3, "3 outcomes")
    assert [o.seq for o in world.outcomes()] == [2, 3, 4]
    assert [dict(r.headers)["input"] for r in world.publisher.outcomes] == [b"t.requests-0-%d" % n for n in range(3)]


async def test_a_replay_after_a_restart_repeats_the_body_of_the_journal() -> None:
    world = await world_with("alice")
    world.send("alice", "withdraw", "w", amount_minor=7, currency="EUR", rail="sepa")
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 3, "3 outcomes")
    world.send("alice", "withdraw", "w", amount_minor=7, currency="EUR", rail="sepa")
    owner = Owner(0, world.services())
    async with Running(world, owner):
        await until(lambda: owner.status.phase is Phase.OWNER, "owned")
        await until(lambda: len(world.first_outcomes()) == 4, "4 outcomes")
    original, replay = world.first_outcomes()[2:]
    assert world.metrics.replay_lookups._value.get() == 0  # folding has put it into the cache
    assert replay == original.model_copy(update={"seq": 5, "replayed": True})


async def test_a_replay_of_what_no_cache_holds_reads_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.restore.CACHED_BODIES", 1)
    world = await world_with("alice", "bob")
    world.batch = 1
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 4, "4 outcomes")
        world.requests.append(world.requests[1]._replace(offset=4, timestamp_ms=START_MS + 9))
        await until(lambda: len(world.publisher.outcomes) == 5, "5 outcomes")
    assert world.outcomes()[-1].replayed
    assert world.metrics.replay_lookups._value.get() == 1


async def test_while_an_original_cannot_be_read_the_partition_is_not_well_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.restore.CACHED_BODIES", 1)
    world = await world_with("alice", "bob")
    world.batch = 1
    async with Running(world) as owner:
        await until(lambda: len(world.publisher.outcomes) == 4, "4 outcomes")
        world.broker.unavailable = 1.0
        world.requests.append(world.requests[1]._replace(offset=4, timestamp_ms=START_MS + 9))
        await until(lambda: "originals" in owner.plain() and not owner.well, "trouble")
        world.broker.unavailable = 0.0
        await until(lambda: len(world.publisher.outcomes) == 5, "5 outcomes")
        await until(lambda: owner.well, "well again")


async def test_an_outcome_that_the_journal_does_not_hold_halts_the_partition() -> None:
    world = await world_with("alice")
    async with Running(world):
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
    last = world.publisher.outcomes[-1]
    world.publisher.outcomes[-1] = last._replace(value=(last.value or b"").replace(b"accepted", b"declined"))
    async with Running(world) as owner:
        await until(lambda: owner.status.halted is not None, "a halt")
    assert owner.status.halted is not None
    assert "JournalLoss" in owner.status.halted.cause
    assert "t.outcomes[0] offset 1" in owner.status.halted.cause


async def test_a_sink_that_is_ahead_of_the_journal_halts_the_partition() -> None:
    world = await world_with("alice")

    class Ahead:
        async def positions(self, ledger_id: str, partition: int) -> tuple[tuple[str, Position], ...]:  # noqa: ARG002
            position = (await fold_log(SimulatedLog(world.broker), 0)).position
            return (("the sink's row", replace(position, seq=99)),)

    world.sinks = Ahead()
    async with Running(world) as owner:
        await until(lambda: owner.status.halted is not None, "a halt")
    assert owner.status.halted is not None
    assert "the sink's row" in owner.status.halted.cause


async def test_requests_that_were_deleted_before_they_were_decided_halt_the_partition() -> None:
    world = await world_with("alice")
    world.requests_start = 1
    async with Running(world) as owner:
        await until(lambda: owner.status.phase is Phase.HALTED, "a halt")
    assert owner.status.halted is not None
    assert (owner.status.halted.topic, owner.status.halted.offset) == ("t.requests[0]", 0)
    assert world.metrics.halted.labels("0")._value.get() == 1
    assert not events(world)


async def test_a_record_from_the_future_is_not_decided_until_the_clock_gets_there() -> None:
    world = await world_with("alice")
    future_ms = world.clock_ms + 60_001
    world.requests[-1] = world.requests[-1]._replace(timestamp_ms=future_ms)
    async with Running(world) as owner:
        await until(lambda: owner.status.held == "clock", "held by the clock")
        assert [o.type for o in world.outcomes()] == ["open_account"]
        world.clock_ms += 1
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        assert owner.well


async def test_a_partition_near_its_idempotency_budget_stops_consuming() -> None:
    world = await world_with("alice")
    world.max_remembered = 3
    world.batch = 1
    world.send("alice", "withdraw", amount_minor=1, currency="EUR", rail="sepa")
    world.send("alice", "withdraw", amount_minor=1, currency="EUR", rail="sepa")
    async with Running(world) as owner:
        await until(lambda: owner.status.held == "idempotency_budget", "held by the budget")
        assert len(world.publisher.outcomes) == 3


async def test_what_the_next_record_lets_go_does_not_count_towards_the_budget() -> None:
    """Else a partition whose clients were silent for longer than the retry window could never go on."""
    world = await world_with("alice")
    world.max_remembered = 2
    async with Running(world) as owner:
        await until(lambda: owner.status.held == "idempotency_budget", "held by the budget")
        world.clock_ms += 26 * HOUR_MS
        world.send_raw(b"k", b"{", at=world.clock_ms)
        await until(lambda: len(world.publisher.outcomes) == 3, "the next outcome")
        await until(lambda: owner.well, "well again")


async def test_a_defect_on_one_request_is_answered_and_a_burst_halts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    world = await world_with("alice")
    monkeypatch.setattr("engine.decide._business", broken)
    async with Running(world) as owner:
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        assert {o.reason for o in world.outcomes()} == {"internal_error"}
        assert owner.well
        for _ in range(18):
            world.send("alice", "withdraw", amount_minor=1, currency="EUR", rail="sepa")
        await until(lambda: owner.status.halted is not None, "a halt")
    assert owner.status.halted is not None
    assert "ZeroDivisionError" in owner.status.halted.cause
    assert len(world.publisher.outcomes) == 20


async def test_an_event_that_cannot_be_applied_halts_and_names_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("alice")

    world = await world_with("alice")
    monkeypatch.setattr("streams.batch.evolve", broken)
    async with Running(world) as owner:
        await until(lambda: owner.status.halted is not None, "a halt")
    assert owner.status.halted is not None
    assert (owner.status.halted.topic, owner.status.halted.offset) == ("t.requests[0]", 0)
    assert owner.status.halted.sha256 is not None
    assert not events(world)


async def test_an_owner_that_hears_nothing_of_its_inputs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await world_with("alice")
    async with Running(world) as owner:
        await until(lambda: owner.well, "well")
        monkeypatch.setattr(MemoryInputs, "trouble", "t.requests[0]: no answer")
        assert not owner.well
        assert owner.plain()["inputs"] == "t.requests[0]: no answer"


async def test_trouble_with_the_brokers_is_waited_out_and_said() -> None:
    world = await world_with("alice")
    world.publisher.unreachable = True
    async with Running(world) as owner:
        await until(lambda: owner.status.trouble is not None and not owner.well, "trouble")
        world.publisher.unreachable = False
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
        assert owner.well


@pytest.mark.parametrize("seed", range(6))
async def test_in_a_storm_every_request_is_answered_once_and_in_order(seed: int) -> None:
    """Lost, late and doubled appends, failing reads, two owners that fight for the partition."""
    world = World(broker=SimulatedBroker(seed, fates=STORM, markers=0.1, unavailable=0.05), batch=3)
    world.turn = lambda: asyncio.sleep(0)
    await world.publish_config()
    world.fund("alice", "bob")
    for n in range(60):
        world.send("alice", "transfer", f"t-{n % 50}", amount_minor=1, currency="EUR", payee="bob")
    async with Running(world, name="one"), Running(world, name="two"):
        for _ in range(5):
            world.broker.deliver()
            await asyncio.sleep(0.01)
        await until(lambda: len(world.first_outcomes()) == 64, "64 answers", within_s=30)
    world.broker.fates, world.broker.unavailable = {Fate.NORMAL: 1.0}, 0.0
    assert world.answered() == list(range(64))
    first = world.first_outcomes()
    assert [o.seq for o in first] == sorted(o.seq for o in first)
    by_seq: dict[bytes, set[bytes | None]] = {}
    for record in world.publisher.outcomes:
        by_seq.setdefault(next(header_values(record.headers, "seq")) or b"", set()).add(record.value)
    assert all(len(bodies) == 1 for bodies in by_seq.values())
    assert sum(o.replayed for o in first) == 10
    assert (await fold_log(SimulatedLog(world.broker), 0)).seq == first[-1].seq


class Impatient(Owner):
    """Ends like a killed process between two steps."""

    after = ""

    async def _decide(self, held: Held, inputs: list[Input]) -> tuple[Block, int]:
        result = await super()._decide(held, inputs)
        self._die("decide")
        return result

    async def _append(self, held: Held, block: Block) -> Position:
        position = await super()._append(held, block)
        self._die("append")
        return position

    async def _publish(self, block: Block, position: Position) -> None:
        await super()._publish(block, position)
        self._die("publish")

    def _die(self, here: str) -> None:
        if self.after == here:
            raise KilledError


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("step", ["decide", "append", "publish"])
async def test_a_death_between_two_steps_loses_and_doubles_nothing(step: str) -> None:
    world = await world_with("alice", "bob")
    dying = Impatient(0, world.services())
    dying.after = step
    dying.assign()
    with pytest.raises(KilledError):
        await dying.run()
    async with Running(world):
        await until(lambda: len(world.first_outcomes()) == 4, "4 outcomes")
    assert world.answered() == [0, 1, 2, 3]
    assert [o.balance_minor for o in world.first_outcomes()] == [0, 100_000, 0, 100_000]
    assert len([e for e in events(world) if isinstance(e, Answer)]) == 4


async def test_a_partition_that_is_revoked_while_it_cannot_be_taken_is_not_taken_later() -> None:
    world = await world_with("alice")
    world.broker.unavailable = 1.0
    async with Running(world) as owner:
        await until(lambda: owner.status.phase is Phase.WAITING or bool(owner.plain().get("journal")), "trouble")
        owner.revoke()
        await until(lambda: owner.status.phase in {Phase.IDLE, Phase.WAITING}, "left")
        world.broker.unavailable = 0.0
        await asyncio.sleep(0.05)
        assert leases(world) == 0
        owner.assign()
        await until(lambda: len(world.publisher.outcomes) == 2, "2 outcomes")
