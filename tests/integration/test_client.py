"""The client against a scripted engine on a real broker: it can be told to lose, double and forge answers."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest

from ledgerline.client import (
    Client,
    ClientClosed,
    ConfigurationError,
    Malformed,
    NoAnswer,
    Outcome,
    UnreachableError,
    answers,
)
from schemas.outcomes import encode_outcome, transaction_id
from schemas.records import header_values, partition_of
from streams.kafka import Admin, Consumer, Isolation, NewTopic, Outgoing, Partition, Producer, Record
from streams.topics import REQUESTS_MAX_BYTES

pytestmark = pytest.mark.integration

PARTITIONS = 4
DEPOSIT = {"type": "deposit", "amount_minor": 5000, "currency": "EUR", "rail": "sepa"}


class Engine:
    """Answers each record of ``requests`` like the worker: an outcome with the next seq, for a known id a replay."""

    def __init__(self, prefix: str, producer: Producer) -> None:
        self.prefix = prefix
        self.producer = producer
        self.copies: Counter[str] = Counter()
        self.seqs: Counter[int] = Counter()
        self.first: dict[tuple[str, str], Outcome] = {}
        self.values: list[bytes] = []
        self.answer: Callable[[Record, Outcome], Awaitable[None]] = self.publish

    async def decide(self, record: Record) -> None:
        request = orjson.loads(record.value or b"")
        self.values.append(record.value or b"")
        self.copies[request["request_id"]] += 1
        self.seqs[record.partition] += 1
        seq, key = self.seqs[record.partition], (request["account_id"], request["request_id"])
        original = self.first.get(key)
        if original is None:
            outcome = self.first[key] = accepted(request, record.partition, seq)
        else:
            outcome = original.model_copy(update={"seq": seq, "replayed": True})
        await self.answer(record, outcome)

    async def publish(self, record: Record, outcome: Outcome, *, topic: str = "", partition: int | None = None) -> None:
        to = Partition(topic or f"{self.prefix}outcomes", record.partition if partition is None else partition)
        correlation = next(header_values(record.headers, "correlation-id"))
        headers = [("request_id", str(outcome.request_id).encode()), ("correlation-id", correlation)]
        await self.producer.send(to, Outgoing(record.key, encode_outcome(outcome), headers), 10)


def accepted(request: dict[str, str], partition: int, seq: int) -> Outcome:
    return Outcome(
        request_id=request["request_id"],
        account_id=request["account_id"],
        type=request["type"],
        status="accepted",
        reason=None,
        detail=None,
        final=True,
        binding=True,
        replayed=False,
        transaction=transaction_id(partition, seq),
        partition=partition,
        seq=seq,
        at=request["requested_at"],
        amount_minor=5000,
        currency="EUR",
        balance_minor=5000,
        available_minor=5000,
        limits=(),
        score=None,
        rules=(),
        ruleset="7",
    )


async def create_topics(kafka: str, names: list[str]) -> None:
    admin = await Admin.start(kafka, "test")
    try:
        for name in names:
            configs = {"max.message.bytes": str(REQUESTS_MAX_BYTES)} if name.endswith("requests") else {}
            await admin.create_topic(NewTopic(name=name, partitions=PARTITIONS, replication_factor=1, configs=configs))
        async with asyncio.timeout(20):
            while len(await admin.describe_topics(names)) < len(names):  # noqa: ASYNC110 - the broker only tells by being asked
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


@asynccontextmanager
async def scripted(kafka: str) -> AsyncIterator[Engine]:
    """An engine on topics of its own."""
    prefix = f"t-client-{secrets.token_hex(4)}."
    topics = [f"{prefix}requests", f"{prefix}outcomes", f"{prefix}replies"]
    await create_topics(kafka, topics)
    engine = Engine(prefix, await Producer.start(kafka, "engine"))
    consumer = await Consumer.start(kafka, "engine", Isolation.COMMITTED)
    inputs = [Partition(f"{prefix}requests", number) for number in range(PARTITIONS)]
    consumer.assign(inputs)
    for partition in inputs:
        consumer.seek(partition, 0)

    async def run() -> None:
        while True:
            for records in (await consumer.poll(timeout_ms=50)).values():
                for record in records:
                    await engine.decide(record)

    running = asyncio.create_task(run())
    try:
        yield engine
        if running.done():
            running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await consumer.close()
        await engine.producer.close()
        admin = await Admin.start(kafka, "test")
        for topic in topics:
            await admin.delete_topic(topic)
        await admin.close()


async def test_a_request_is_answered_with_a_typed_outcome(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        outcome = await client.send({**DEPOSIT, "account_id": "alice", "request_id": "r-1"}, timeout=20)
        assert (outcome.status, outcome.request_id, outcome.balance_minor) == ("accepted", "r-1", 5000)
        assert outcome.partition == partition_of(b"alice", PARTITIONS)
        assert engine.copies == {"r-1": 1}


async def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix, resend_after_s=0.3) as client:
        lost: list[Outcome] = []

        async def lose_two(record: Record, outcome: Outcome) -> None:
            if len(lost) < 2:
                lost.append(outcome)
            else:
                await engine.publish(record, outcome)

        engine.answer = lose_two
        outcome = await client.send({**DEPOSIT, "account_id": "alice", "request_id": "r-1"}, timeout=20)
        assert (outcome.replayed, outcome.transaction) == (True, lost[0].transaction)
        assert engine.copies == {"r-1": 3}
        assert len(set(engine.values)) == 1


async def test_further_copies_of_an_answer_are_dropped(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:

        async def not_final_twice_then_final(record: Record, outcome: Outcome) -> None:
            held = outcome.model_copy(update={"final": False})
            await engine.publish(record, held)
            await engine.publish(record, held)
            await engine.publish(record, outcome.model_copy(update={"seq": outcome.seq + 1}))

        engine.answer = not_final_twice_then_final
        request = {**DEPOSIT, "account_id": "alice", "request_id": "r-1"}
        outcome = await client.send(request, timeout=20, final=True)
        assert (outcome.final, outcome.seq) == (True, 2)
        assert client.counters.duplicates == 1


async def test_the_first_binding_outcome_is_returned_unless_the_final_one_is_asked_for(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:

        async def never_final(record: Record, outcome: Outcome) -> None:
            await engine.publish(record, outcome.model_copy(update={"final": False}))

        engine.answer = never_final
        assert not (await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)).final
        with pytest.raises(NoAnswer, match=r"no final outcome .* its last stage is accepted \(transaction \d-2\)"):
            await client.send({**DEPOSIT, "account_id": "alice"}, timeout=1, final=True)


async def test_an_answer_from_another_partition_than_the_accounts_is_refused(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        home, other = partition_of(b"alice", PARTITIONS), partition_of(b"carol", PARTITIONS)
        assert home != other

        async def forge_then_answer(record: Record, outcome: Outcome) -> None:
            if record.partition == home:
                forged = outcome.model_copy(update={"status": "declined", "partition": other, "seq": 99})
                await engine.publish(record, forged, partition=other)
                await engine.publish(record, forged)
                await engine.publish(record, forged.model_copy(update={"partition": home}), partition=other)
                await until(lambda: client.counters.refused == 3)
            await engine.publish(record, outcome)

        engine.answer = forge_then_answer
        await client.send({**DEPOSIT, "account_id": "carol"}, timeout=20)  # so that carol's partition is read too
        outcome = await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        assert outcome.status == "accepted"


async def test_an_answer_to_another_senders_request_with_the_same_id_is_not_taken_for_ours(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        conflict: list[Outcome] = []

        async def conflict_second(record: Record, outcome: Outcome) -> None:
            if outcome.replayed:
                refused = {"status": "rejected", "reason": "idempotency_conflict", "binding": False, "replayed": False}
                outcome = outcome.model_copy(update=refused)
                conflict.append(outcome)
            await engine.publish(record, outcome)

        engine.answer = conflict_second
        async with Client(kafka=kafka, prefix=engine.prefix) as another:
            request = {**DEPOSIT, "account_id": "alice", "request_id": "r-1"}
            theirs, ours = await asyncio.gather(
                another.send(request, timeout=20), client.send({**request, "amount_minor": 1}, timeout=20)
            )
        assert {theirs.status, ours.status} == {"accepted", "rejected"}
        assert {theirs.seq, ours.seq} == {1, 2}


async def test_without_an_answer_the_error_tells_what_is_known_and_what_to_do(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix, resend_after_s=0.3) as client:

        async def silence(record: Record, outcome: Outcome) -> None:
            pass

        engine.answer = silence
        with pytest.raises(NoAnswer) as caught:
            await client.send({**DEPOSIT, "account_id": "alice", "request_id": "r-1"}, timeout=1.2)
        message = str(caught.value)
        home = partition_of(b"alice", PARTITIONS)
        assert "no outcome of request r-1 of account alice within 1." in message
        assert f"it lies 3 times in {engine.prefix}requests[{home}]" in message
        assert f"nothing on {engine.prefix}outcomes answered it; is a worker running?" in message
        assert "ledgerline outcome r-1" in message

        engine.answer = engine.publish
        outcome = await client.send(caught.value.request, timeout=20)
        assert (outcome.replayed, outcome.transaction) == (True, f"{home}-1")
        assert len(set(engine.values)) == 1


async def test_an_invalid_request_is_refused_before_anything_is_sent(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        with pytest.raises(Malformed, match=r"amount_minor: expected .*, found -5"):
            await client.send({**DEPOSIT, "account_id": "alice", "amount_minor": -5}, timeout=20)
        await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        assert len(engine.values) == 1


async def test_many_requests_are_answered_in_their_order_and_refusals_are_values(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix, resend_after_s=60) as client:
        requests = [{**DEPOSIT, "account_id": f"a-{n % 50}", "request_id": f"r-{n}"} for n in range(1_000)]
        requests[500] = {"type": "deposit"}
        results = [result async for result in client.send_many(requests, timeout=60)]
        assert isinstance(results.pop(500), Malformed)
        outcomes = [result for result in results if isinstance(result, Outcome)]
        assert [outcome.request_id for outcome in outcomes] == [f"r-{n}" for n in range(1_000) if n != 500]
        for account in range(50):
            seqs = [outcome.seq for outcome in outcomes if outcome.account_id == f"a-{account}"]
            assert seqs == sorted(seqs), "requests of one account are decided in the order of sending"
        assert set(engine.copies.values()) == {1}


async def test_many_large_requests_at_once_fit_into_the_batches_that_the_topic_takes(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix, resend_after_s=60) as client:
        metadata = {f"key-{n}": "x" * 200 for n in range(10)}
        requests = [{**DEPOSIT, "account_id": "a", "request_id": f"r-{n}", "metadata": metadata} for n in range(300)]
        results = [result async for result in client.send_many(requests, timeout=20)]
        assert all(isinstance(result, Outcome) for result in results), results[0]
        assert set(engine.copies.values()) == {1}


async def test_results_of_a_slow_stream_come_as_soon_as_they_are_known(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        answered = asyncio.Event()

        async def slowly() -> AsyncIterator[dict[str, object]]:
            yield {**DEPOSIT, "account_id": "alice", "request_id": "r-1"}
            await answered.wait()
            yield {**DEPOSIT, "account_id": "alice", "request_id": "r-2"}

        async with asyncio.timeout(20):
            async for result in client.send_many(slowly(), timeout=20):
                assert isinstance(result, Outcome)
                answered.set()
        assert engine.copies == {"r-1": 1, "r-2": 1}


async def test_answers_can_be_read_from_a_reply_topic_of_ones_own(kafka: str) -> None:
    async with scripted(kafka) as engine:
        replies = f"{engine.prefix}replies"
        named: list[bytes] = []

        async def reply(record: Record, outcome: Outcome) -> None:
            named.extend(header_values(record.headers, "reply-to"))
            await engine.publish(record, outcome, topic=replies, partition=0)

        engine.answer = reply
        async with Client(kafka=kafka, prefix=engine.prefix, reply_to=replies) as client:
            for account in ("alice", "bob", "carol"):
                outcome = await client.send({**DEPOSIT, "account_id": account}, timeout=20)
                assert outcome.account_id == account
        assert named == [replies.encode()] * 3


async def test_a_partition_that_is_not_used_is_not_read_until_it_is_used_again(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "IDLE_S", 0.05)
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        await until(lambda: not client._answers._positions)
        await client.send({**DEPOSIT, "account_id": "carol"}, timeout=20)
        await until(lambda: not client._answers._positions)
        outcome = await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        assert outcome.account_id == "alice"


async def test_answers_that_retention_has_deleted_come_back_by_asking_again(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix, resend_after_s=0.5) as client:
        await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        [place] = client._answers._positions
        consumer = client._answers._consumer
        assert consumer is not None
        client._answers._positions[place] = 1_000_000  # where nothing is any more, as far as the broker can tell
        consumer.seek(place, 1_000_000)
        outcome = await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        assert outcome.status == "accepted"


async def test_more_requests_than_may_be_under_way_wait_for_their_turn(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledgerline.client.client.MAX_UNDER_WAY", 2)
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix) as client:
        most = 0

        async def watch(record: Record, outcome: Outcome) -> None:
            nonlocal most
            most = max(most, len(client._under_way))
            await engine.publish(record, outcome)

        engine.answer = watch
        requests = [{**DEPOSIT, "account_id": f"a-{n}"} for n in range(20)]
        results = [result async for result in client.send_many(requests, timeout=20)]
        assert all(isinstance(result, Outcome) for result in results)
        assert most <= 2


async def test_closing_ends_what_still_waits_and_refuses_what_comes(kafka: str) -> None:
    async with scripted(kafka) as engine:

        async def silence(record: Record, outcome: Outcome) -> None:
            pass

        engine.answer = silence
        async with Client(kafka=kafka, prefix=engine.prefix) as client:
            waiting = asyncio.create_task(client.send({**DEPOSIT, "account_id": "alice"}, timeout=60))
            await until(lambda: bool(engine.values))
        with pytest.raises(ClientClosed, match="while a request waited for its answer"):
            await waiting
        with pytest.raises(ClientClosed, match="is not connected"):
            await client.send({**DEPOSIT, "account_id": "alice"}, timeout=60)


async def test_an_answer_that_cannot_be_read_is_refused_and_asked_for_again(kafka: str) -> None:
    async with scripted(kafka) as engine, Client(kafka=kafka, prefix=engine.prefix, resend_after_s=0.3) as client:
        seen: list[Outcome] = []

        async def garbled_then_right(record: Record, outcome: Outcome) -> None:
            seen.append(outcome)
            if len(seen) == 1:
                outcome = outcome.model_copy(update={"status": "perhaps"})
            if len(seen) == 2:
                outcome = outcome.model_copy(update={"account_id": "bob"})
            await engine.publish(record, outcome)

        engine.answer = garbled_then_right
        outcome = await client.send({**DEPOSIT, "account_id": "alice"}, timeout=20)
        assert (outcome.status, outcome.replayed, client.counters.refused) == ("accepted", True, 2)


async def test_starting_names_the_topic_that_is_missing(kafka: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no topic nobody\.requests and no topic nobody\.outcomes .* `ledgerline init`"
    ):
        async with Client(kafka=kafka, prefix="nobody."):
            pass


async def test_starting_without_a_broker_says_where_it_looked() -> None:
    with pytest.raises(UnreachableError, match=r"Kafka at 127\.0\.0\.1:9 does not answer"):
        async with Client(kafka="127.0.0.1:9"):
            pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
