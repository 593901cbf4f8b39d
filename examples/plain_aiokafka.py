"""Open an account, put money in, take some out: as any Kafka client does it. Only aiokafka, nothing of Ledgerline.

python examples/plain_aiokafka.py localhost:9092 [PREFIX [REPLY_TOPIC]]     (`ledgerline status` shows the address)

With REPLY_TOPIC the answers are read there instead of in `outcomes`.

What it leaves out, and ledgerline.client does: new connections after errors, many requests at once.
"""

import asyncio
import datetime as dt
import json
import sys
import uuid
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

RESEND_AFTER_S = 5
GIVE_UP_AFTER_S = 60


async def main(kafka: str, prefix: str = "ledgerline.", reply_topic: str | None = None) -> None:
    account = f"demo-{uuid.uuid4().hex[:8]}"
    if reply_topic is not None:
        await create_topic(kafka, reply_topic)
    # The partitioner is Kafka's default one (murmur2 of the key) unless another is set: there the worker reads.
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    answers = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await producer.start()
    await answers.start()
    try:
        # Stand at the end before anything is sent: then no answer can be missed.
        topic = reply_topic or f"{prefix}outcomes"
        partitions = [TopicPartition(topic, number) for number in await producer.partitions_for(topic)]
        answers.assign(partitions)
        await answers.seek_to_end(*partitions)

        for fields in (
            {"type": "open_account", "currency": "EUR"},
            {"type": "deposit", "amount_minor": 10_000, "currency": "EUR", "rail": "sepa"},
            {"type": "withdraw", "amount_minor": 1_250, "currency": "EUR", "rail": "sepa"},
        ):
            now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            request = {"v": 1, "request_id": str(uuid.uuid4()), "account_id": account, "requested_at": now, **fields}
            correlation = uuid.uuid4().hex.encode()
            headers = [("correlation-id", correlation)]
            if reply_topic is not None:
                headers.append(("reply-to", reply_topic.encode()))
            record = {"key": account.encode(), "value": json.dumps(request).encode(), "headers": headers}
            outcome = await ask(producer, f"{prefix}requests", record, answers, correlation)
            print(outcome["transaction"], outcome["type"], outcome["status"], outcome["balance_minor"], "cents")
    finally:
        await answers.stop()
        await producer.stop()


async def ask(
    producer: AIOKafkaProducer, requests: str, record: dict[str, Any], answers: AIOKafkaConsumer, correlation: bytes
) -> dict[str, Any]:
    """Send a request until its outcome comes; every copy has the same bytes, so it has its effect once."""
    for _ in range(GIVE_UP_AFTER_S // RESEND_AFTER_S):
        sent = await producer.send_and_wait(requests, **record)
        try:
            return await asyncio.wait_for(answer(answers, correlation, sent.partition), RESEND_AFTER_S)
        except TimeoutError:
            continue
    raise SystemExit("no outcome; it may have been decided: send the same bytes again later")


async def answer(answers: AIOKafkaConsumer, correlation: bytes, partition: int) -> dict[str, Any]:
    """The outcome with our correlation id, from the partition that the request went to: no other can be its answer."""
    async for record in answers:
        if ("correlation-id", correlation) in record.headers:
            outcome: dict[str, Any] = json.loads(record.value)
            if outcome["partition"] == partition:
                return outcome
    raise AssertionError  # a consumer never ends by itself


async def create_topic(kafka: str, name: str) -> None:
    """In production whoever owns the topics does this once; the ledger never does it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        if name not in await admin.list_topics():
            await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])  # 3 outside of a laptop
    finally:
        await admin.close()


asyncio.run(main(*sys.argv[1:]))
