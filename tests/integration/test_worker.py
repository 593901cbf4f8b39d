"""The worker on a real Kafka: what upstream services see."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import orjson
import pytest

from schemas.config import DEFAULT_BUNDLE
from schemas.outcomes import decode_outcome
from streams.config_log import publish_bundle
from streams.kafka import (
    Admin,
    Consumer,
    Isolation,
    NewTopic,
    Outgoing,
    Partition,
    Producer,
    TopicExists,
    read_to_end,
)
from tests.integration.upstream import PARTITIONS, Upstream, owned, running, until, upstream, worker

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka: str) -> AsyncIterator[Upstream]:
    async with upstream(kafka) as found:
        yield found


async def test_a_request_is_answered_on_outcomes_and_with_the_same_bytes_on_its_reply_topic(ledger: Upstream) -> None:
    topic = f"answers-{secrets.token_hex(4)}"
    admin = await Admin.start(ledger.kafka, "test")
    await admin.create_topic(NewTopic(name=topic, partitions=2, replication_factor=1, configs={}))
    alice = ledger.account(0)
    opening = ledger.request(
        alice, "open_account", currency="EUR", headers=[("reply-to", topic.encode()), ("correlation-id", b"c-1")]
    )
    consumer = await Consumer.start(ledger.kafka, "test", Isolation.UNCOMMITTED)
    try:
        async with running(worker(ledger)):
            await ledger.send([opening])
            (outcome,) = await ledger.answers(1)
        assert (outcome.status, outcome.account_id) == ("accepted", alice)
        replies = [r for p in range(2) for r in await read_to_end(consumer, Partition(topic, p), 0)]
        (published,) = ledger.records
        assert [(r.key, r.value, r.headers) for r in replies] == [(published.key, published.value, published.headers)]
    finally:
        await consumer.close()
        await admin.delete_topic(topic)
        await admin.close()


async def test_unknown_and_forbidden_reply_topics_hold_nobody_up(ledger: Upstream) -> None:
    names = (b"no-such-topic", ledger.topics.journal.encode(), b"__consumer_offsets", b"not a name", b"")
    alice = ledger.account(0)
    requests = ledger.funding(alice) + [
        ledger.request(alice, "withdraw", amount_minor=1, currency="EUR", rail="sepa", headers=[("reply-to", name)])
        for name in names
    ]
    one = worker(ledger)
    async with running(one):
        await ledger.send(requests)
        outcomes = await ledger.answers(len(requests), within_s=20)
        failed = one._metrics.replies_failed
        await until(lambda: failed.labels("refused_topic")._value.get() == 3, "3 refused topics")
        await until(lambda: failed.labels("unknown_topic")._value.get() == 1, "1 unknown topic")
        await ledger.send([ledger.request(alice, "withdraw", amount_minor=1, currency="EUR", rail="sepa")])
        outcomes = await ledger.answers(len(requests) + 1)
    assert {o.status for o in outcomes} == {"accepted"}
    ledger.check()


async def test_malformed_oversized_and_misplaced_records_are_answered(ledger: Upstream) -> None:
    alice = ledger.account(0)
    async with running(worker(ledger)):
        await ledger.send([Outgoing(b"k", b"{"), Outgoing(None, None), Outgoing(b"k", b"x" * 70_000)], 0)
        await ledger.send(ledger.funding(alice)[:1], 1)
        await ledger.send([ledger.request(alice, "open_account", currency="EUR")._replace(key=b"other")], 0)
        outcomes = await ledger.answers(5)
    assert sorted(str(o.reason) for o in outcomes) == [
        "malformed", "malformed", "too_large", "wrong_key", "wrong_partition",
    ]  # fmt: skip
    assert not any(o.binding for o in outcomes)


async def test_records_of_aborted_transactions_and_control_markers_are_passed_over(ledger: Upstream) -> None:
    alice = ledger.account(2)
    async with running(worker(ledger)):
        await ledger.send(ledger.funding(alice))
        await ledger.answers(2)
        for end in ("abort", "commit"):
            await _transaction(ledger, alice, end)
        await ledger.send([ledger.request(alice, "withdraw", "after", amount_minor=1, currency="EUR", rail="sepa")])
        outcomes = await ledger.answers(4)
    assert [o.request_id for o in outcomes[2:]] == ["in-commit", "after"]


async def _transaction(ledger: Upstream, account: str, end: str) -> None:
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415  # only upstreams have them

    producer = AIOKafkaProducer(bootstrap_servers=ledger.kafka, transactional_id=f"{ledger.prefix}{end}")
    await producer.start()
    try:
        await producer.begin_transaction()
        request = ledger.request(account, "withdraw", f"in-{end}", amount_minor=1, currency="EUR", rail="sepa")
        await producer.send_and_wait(ledger.topics.requests, request.value, key=request.key, partition=2)
        await (producer.abort_transaction() if end == "abort" else producer.commit_transaction())
    finally:
        await producer.stop()


async def test_a_published_bundle_is_picked_up_while_requests_flow(ledger: Upstream) -> None:
    alice = ledger.account(0)
    strict = DEFAULT_BUNDLE.model_dump(mode="json", exclude_none=True) | {"version": "strict-2"}
    strict["tiers"]["unlimited"] = {"limits": [{"type": "withdraw", "currency": "EUR", "per_transaction_minor": 100}]}
    async with running(worker(ledger)):
        await ledger.send(ledger.funding(alice))
        count = 2
        await publish_bundle(ledger.kafka, ledger.prefix, orjson.dumps(strict))
        while not (outcomes := await ledger.answers(count))[-1].reason:
            await ledger.send([ledger.request(alice, "withdraw", amount_minor=101, currency="EUR", rail="sepa")])
            count += 1
            await ledger.answers(count)
            assert count < 2_000
    assert (outcomes[-1].reason, outcomes[-1].ruleset) == ("per_transaction_limit", "strict-2")
    ledger.check()


async def test_workers_share_the_partitions_and_rebalance_while_requests_flow(ledger: Upstream) -> None:
    accounts = [ledger.account(p) for p in range(PARTITIONS)]
    first, second = worker(ledger, "first"), worker(ledger, "second")
    total = 0

    async def flow(stop: asyncio.Event) -> None:
        nonlocal total
        while not stop.is_set():
            requests = [ledger.request(a, "withdraw", amount_minor=1, currency="EUR", rail="sepa") for a in accounts]
            await ledger.send(requests)
            total += len(requests)
            await asyncio.sleep(0.01)

    await ledger.send([request for a in accounts for request in ledger.funding(a)])
    total += 2 * PARTITIONS
    async with running(first):
        await until(lambda: owned(first) == set(range(PARTITIONS)), "the first owns all")
        enough = asyncio.Event()
        flowing = asyncio.create_task(flow(enough))
        async with running(second):
            await until(lambda: len(owned(second)) == 2, "the second owns half")
            await until(lambda: len(owned(first)) == 2, "the first gave half back")
            assert owned(first) | owned(second) == set(range(PARTITIONS))
        await until(lambda: owned(first) == set(range(PARTITIONS)), "the first owns all again")
        enough.set()
        await flowing
        outcomes = await ledger.answers(total)
    assert {o.status for o in outcomes} == {"accepted"}
    assert total > 100
    ledger.check()
    assert second._metrics.restores._value.get() == 2
    assert first._metrics.restores._value.get() <= PARTITIONS + first._metrics.fenced._value.get()


async def test_a_given_back_partition_is_resumed_without_a_restore(ledger: Upstream) -> None:
    alice = ledger.account(1)
    one = worker(ledger, partitions=[1])
    async with running(one):
        await ledger.send(ledger.funding(alice))
        await ledger.answers(2)
        one._changed(frozenset())
        await until(lambda: not owned(one), "given back")
        await ledger.send([ledger.request(alice, "withdraw", amount_minor=1, currency="EUR", rail="sepa")])
        one._changed(frozenset({1}))
        outcomes = await ledger.answers(3)
    assert outcomes[-1].balance_minor == 10**9 - 1
    assert one._metrics.restores._value.get() == 1


async def test_a_corrupt_journal_halts_its_partition_while_the_others_go_on(ledger: Upstream) -> None:
    accounts = [ledger.account(p) for p in range(PARTITIONS)]
    producer = await Producer.start(ledger.kafka, "test")
    await producer.send(Partition(ledger.topics.journal, 1), Outgoing(None, b"graffiti"), 10)
    await producer.close()
    one = worker(ledger)
    task = asyncio.create_task(one.run())
    await ledger.send([request for a in accounts for request in ledger.funding(a)])
    outcomes = await ledger.answers(2 * (PARTITIONS - 1))
    assert {o.partition for o in outcomes} == {0, 2, 3}
    await until(lambda: one._owners[1].status.halted is not None, "a halt")
    said = one.readiness()
    assert not said.ready
    halted = orjson.loads(orjson.dumps(said.detail))["partitions"]["1"]["halted"]
    assert (halted["topic"], halted["offset"]) == (f"{ledger.topics.journal}[1]", 1)
    assert "Corruption" in halted["cause"]
    assert one._metrics.halted.labels("1")._value.get() == 1
    one.stop()
    assert await asyncio.wait_for(task, 30) == 4


async def test_a_recreated_requests_topic_halts_what_was_decided_beyond_its_end(ledger: Upstream) -> None:
    async with running(worker(ledger)):
        await ledger.send(ledger.funding(ledger.account(0)))
        await ledger.answers(2)
    admin = await Admin.start(ledger.kafka, "test")
    await admin.delete_topic(ledger.topics.requests)
    spec = next(s for s in ledger.topics.specs(PARTITIONS) if s.name == ledger.topics.requests)
    new = NewTopic(
        name=spec.name,
        partitions=spec.partitions,
        replication_factor=1,
        configs=spec.configs(min_insync_replicas=1),
    )
    while True:
        try:
            await admin.create_topic(new)
            break
        except TopicExists:  # it is being deleted
            await asyncio.sleep(0.1)
    await admin.close()
    one = worker(ledger, partitions=range(PARTITIONS))
    task = asyncio.create_task(one.run())
    await until(lambda: 0 in one._owners and one._owners[0].status.halted is not None, "a halt")
    halted = one._owners[0].status.halted
    assert halted is not None
    assert (halted.topic, halted.offset) == (f"{ledger.topics.requests}[0]", 2)
    await until(lambda: owned(one) == {1, 2, 3}, "the others are owned")
    one.stop()
    assert await asyncio.wait_for(task, 30) == 4


async def test_a_foreign_record_on_transfers_is_skipped(ledger: Upstream) -> None:
    producer = await Producer.start(ledger.kafka, "test")
    await producer.send(Partition(ledger.topics.transfers, 0), Outgoing(None, b"graffiti"), 10)
    await producer.close()
    one = worker(ledger)
    async with running(one):
        await until(lambda: one._metrics.skips._value.get() == 1, "a skip")
        await ledger.send(ledger.funding(ledger.account(0)))
        outcomes = await ledger.answers(2)
    assert [o.seq for o in outcomes] == [3, 4]


async def test_a_replay_after_a_restart_has_the_body_of_the_first_answer(ledger: Upstream) -> None:
    alice = ledger.account(3)
    once = ledger.request(alice, "withdraw", "once", amount_minor=5, currency="EUR", rail="sepa")
    async with running(worker(ledger)):
        await ledger.send([*ledger.funding(alice), once])
        await ledger.answers(3)
    async with running(worker(ledger)):
        await ledger.send([once])
        outcomes = await ledger.answers(4)
    assert outcomes[3] == outcomes[2].model_copy(update={"seq": outcomes[2].seq + 1, "replayed": True})
    assert [decode_outcome(r.value or b"").seq for r in ledger.records][-1] == outcomes[3].seq
    ledger.check()
