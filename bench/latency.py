"""Latency at a steady rate: what an open loop sent is read back from the topics afterwards and joined.

From the broker's timestamp of the request to the broker's timestamp of its outcome, which the broker takes when it
appends (LogAppendTime, whole ms). Besides, from the moment a request was due, so that no late send hides anything.
"""

from collections.abc import Iterator
from typing import Final

import orjson

from bench.figures import Latencies, Sent, joined
from bench.parts import Ledger, ends, upstream
from bench.upstream import Sending
from bench.usage import since, snapshot
from schemas.records import header_values
from schemas.times import parse_time
from streams.kafka import Consumer, Isolation, Partition, Record

READ_MS: Final = 200
SETTLE_POLLS: Final = 50


async def paced(
    ledger: Ledger, pids: dict[str, int], rate: int, seconds: float, run: str
) -> tuple[Sending, dict[str, float], Latencies]:
    """Send for *seconds* at *rate*, wait for the outcomes; what was sent, CPU seconds by process, the latencies."""
    topics = [ledger.topics.requests, ledger.topics.outcomes]
    before, used = await ends(ledger.stage.kafka, topics), snapshot(pids)
    sending = await upstream(ledger.order(mode="paced", rate=rate, seconds=seconds, run=run))
    after = await ends(ledger.stage.kafka, topics)
    wanted = _new(before, after, ledger.topics.requests)
    for _ in range(SETTLE_POLLS):
        if _new(before, after, ledger.topics.outcomes) >= wanted:
            break
        after = await ends(ledger.stage.kafka, topics)
    cpu = since(used, snapshot(pids)) | {"upstream": sending.cpu_s}
    records = await _read(ledger.stage.kafka, before, after)
    requests = dict(_request(r) for r in records if r.topic == ledger.topics.requests)
    return sending, cpu, joined(requests, _outcomes(records, ledger.topics.outcomes))


def _new(before: dict[Partition, int], after: dict[Partition, int], topic: str) -> int:
    return sum(end - before[partition] for partition, end in after.items() if partition.topic == topic)


async def _read(kafka: str, start: dict[Partition, int], end: dict[Partition, int]) -> list[Record]:
    consumer = await Consumer.start(kafka, "bench", Isolation.UNCOMMITTED, max_poll_records=10_000)
    found: list[Record] = []
    try:
        consumer.assign(start)
        for partition, offset in start.items():
            consumer.seek(partition, offset)
        missing = sum(end[partition] - offset for partition, offset in start.items())
        while missing > 0:
            for partition, records in (await consumer.poll(timeout_ms=READ_MS)).items():
                fresh = [record for record in records if record.offset < end[partition]]
                found += fresh
                missing -= len(fresh)
    finally:
        await consumer.close()
    return found


def _request(record: Record) -> tuple[tuple[int, int], Sent]:
    due = parse_time(orjson.loads(record.value or b"")["requested_at"])
    return (record.partition, record.offset), Sent(due, record.timestamp_ms)


def _outcomes(records: list[Record], topic: str) -> Iterator[tuple[tuple[int, int], int]]:
    for record in records:
        if record.topic == topic:
            source = next(header_values(record.headers, "input")).decode()
            yield (record.partition, int(source.rpartition("-")[2])), record.timestamp_ms
