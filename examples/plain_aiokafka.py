"""The same as any Kafka client does it: produce a request, read its outcome. Only aiokafka, nothing of Ledgerline.

python examples/plain_aiokafka.py localhost:9092 [PREFIX]      (`ledgerline status` shows the local stack's address)

What it leaves out, and ledgerline.client does: sending the same bytes again when no outcome comes, new connections
after errors, many requests at once.
"""

import asyncio
import datetime as dt
import json
import sys
import uuid
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def main(kafka: str, prefix: str) -> None:
    account = f"demo-{uuid.uuid4().hex[:8]}"
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    outcomes = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await producer.start()
    await outcomes.start()
    try:
        # Stand at the end of outcomes before anything is sent: then no answer can be missed.
        topic = f"{prefix}outcomes"
        partitions = [TopicPartition(topic, number) for number in await producer.partitions_for(topic)]
        outcomes.assign(partitions)
        await outcomes.seek_to_end(*partitions)

        for request in (
            {"type": "open_account", "currency": "EUR"},
            {"type": "deposit", "amount_minor": 10_000, "currency": "EUR", "rail": "sepa"},
            {"type": "withdraw", "amount_minor": 1_250, "currency": "EUR", "rail": "sepa"},
        ):
            now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            whole = {"v": 1, "request_id": str(uuid.uuid4()), "account_id": account, "requested_at": now, **request}
            correlation = uuid.uuid4().hex.encode()
            # The key is the account, the partitioner Kafka's default one (murmur2): there the account's worker reads.
            sent = await producer.send_and_wait(
                f"{prefix}requests",
                json.dumps(whole).encode(),
                key=account.encode(),
                headers=[("correlation-id", correlation)],
            )
            outcome = await answer(outcomes, correlation, sent.partition)
            print(outcome["transaction"], outcome["type"], outcome["status"], outcome["balance_minor"], "cents")
    finally:
        await outcomes.stop()
        await producer.stop()


async def answer(outcomes: AIOKafkaConsumer, correlation: bytes, partition: int) -> dict[str, Any]:
    """The outcome with our correlation id, from the partition that the request went to: no other can be its answer."""
    async with asyncio.timeout(30):
        async for record in outcomes:
            if record.partition == partition and ("correlation-id", correlation) in record.headers:
                found: dict[str, Any] = json.loads(record.value)
                return found
    raise AssertionError  # a consumer never ends by itself


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ledgerline."))
