"""An upstream service for the worker's tests: a ledger of its own on the shared brokers, requests in, outcomes out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from schemas.outcomes import Outcome, decode_outcome
from schemas.records import header_values, partition_of
from schemas.times import format_time
from streams.init import init_ledger
from streams.kafka import Admin, Consumer, Isolation, Outgoing, Partition, Producer, Record
from streams.metrics import WorkerMetrics
from streams.topics import Topics
from streams.worker import Worker, WorkerOptions

PARTITIONS = 4
DEADLINE_S = 60.0


class Upstream:
    """Sends requests to one ledger and reads everything that is answered, from the first record on."""

    def __init__(self, kafka: str, prefix: str, producer: Producer, consumer: Consumer) -> None:
        self.kafka, self.prefix, self.topics = kafka, prefix, Topics(prefix)
        self._producer, self._consumer = producer, consumer
        self._numbers = 0
        self.sent: dict[int, int] = {}  # how many records per partition
        self.records: list[Record] = []  # of outcomes, all partitions

    def account(self, partition: int, number: int = 0) -> str:
        """An account id that belongs to *partition*."""
        found = (f"a-{n}" for n in range(100_000) if partition_of(b"a-%d" % n, PARTITIONS) == partition)
        for _ in range(number):
            next(found)
        return next(found)

    def request(self, account: str, kind: str, request_id: str | None = None, **fields: Any) -> Outgoing:
        self._numbers += 1
        headers = fields.pop("headers", ())
        body = {
            "v": 1,
            "type": kind,
            "request_id": request_id or f"r-{self._numbers}",
            "account_id": account,
            "requested_at": format_time(int(time.time() * 1000)),
            **fields,
        }
        return Outgoing(account.encode(), orjson.dumps(body), headers)

    def funding(self, account: str) -> list[Outgoing]:
        return [
            self.request(account, "open_account", currency="EUR", tier="unlimited"),
            self.request(account, "deposit", amount_minor=10**9, currency="EUR", rail="sepa"),
        ]

    async def send(self, requests: Sequence[Outgoing], partition: int | None = None) -> None:
        """To the partition of each key, or to *partition*."""
        by_partition: dict[int, list[Outgoing]] = {}
        for request in requests:
            number = partition_of(request.key or b"", PARTITIONS) if partition is None else partition
            by_partition.setdefault(number, []).append(request)
        for number, those in by_partition.items():
            for start in range(0, len(those), 100):
                to = Partition(self.topics.requests, number)
                await self._producer.send_all(to, those[start : start + 100], 20.0)
            self.sent[number] = self.sent.get(number, 0) + len(those)

    async def read(self) -> None:
        """What has been published since the last call."""
        for records in (await self._consumer.poll(timeout_ms=100)).values():
            self.records += records

    async def answers(self, count: int, within_s: float = DEADLINE_S) -> list[Outcome]:
        """The first occurrences of outcomes, once there are *count* of them."""
        deadline = time.monotonic() + within_s
        while len(found := self.first_occurrences()) < count:
            assert time.monotonic() < deadline, f"expected {count} outcomes within {within_s} s, got {len(found)}"
            await self.read()
        assert len(found) == count, f"expected {count} outcomes, got {len(found)}"
        return [decode_outcome(record.value or b"") for record in found]

    def first_occurrences(self) -> list[Record]:
        """In the order in which they were published; later copies, a zombie's included, count for nothing."""
        first: dict[tuple[int, int], Record] = {}
        for record in self.records:
            first.setdefault((record.partition, seq_of(record)), record)
        return list(first.values())

    def check(self) -> None:
        """Every request was answered once; first occurrences are in the order of seq; one content per seq."""
        contents: dict[tuple[int, int], bytes | None] = {}
        for record in self.records:
            assert contents.setdefault((record.partition, seq_of(record)), record.value) == record.value
        for partition, count in self.sent.items():
            first = [r for r in self.first_occurrences() if r.partition == partition]
            assert [seq_of(r) for r in first] == sorted(seq_of(r) for r in first)
            inputs = [int((next(header_values(r.headers, "input")) or b"").rsplit(b"-", 1)[1]) for r in first]
            assert inputs == list(range(count))


def seq_of(record: Record) -> int:
    return int(next(header_values(record.headers, "seq")) or b"")


@asynccontextmanager
async def upstream(kafka: str) -> AsyncIterator[Upstream]:
    """A fresh ledger of 4 partitions; its topics are deleted at the end."""
    prefix = f"worker-{secrets.token_hex(4)}."
    await init_ledger(kafka, prefix, partitions=PARTITIONS, dev=True)
    producer = await Producer.start(kafka, "test")
    consumer = await Consumer.start(kafka, "test", Isolation.UNCOMMITTED)
    places = [Partition(Topics(prefix).outcomes, p) for p in range(PARTITIONS)]
    consumer.assign(places)
    for place in places:
        consumer.seek(place, 0)
    try:
        yield Upstream(kafka, prefix, producer, consumer)
    finally:
        await producer.close()
        await consumer.close()
        admin = await Admin.start(kafka, "test")
        for name in Topics(prefix).names:
            await admin.delete_topic(name)
        await admin.close()


def worker(ledger: Upstream, name: str = "w", partitions: Sequence[int] | None = None, **more: Any) -> Worker:
    """A worker of *ledger*, with metrics of its own."""
    static = None if partitions is None else frozenset(partitions)
    options = WorkerOptions(kafka=ledger.kafka, prefix=ledger.prefix, dev=True, name=name, partitions=static, **more)
    return Worker(options, WorkerMetrics(CollectorRegistry()))


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """Workers at work; drained at the end, which must give exit code 0 unless they were stopped before."""
    tasks = [asyncio.create_task(one.run()) for one in workers]
    try:
        yield
        for one in workers:
            one.stop()
        for task in tasks:
            assert await asyncio.wait_for(task, DEADLINE_S) == 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"within {within_s} s: expected {what}"
        await asyncio.sleep(0.05)


def owned(one: Worker) -> set[int]:
    """The partitions that it decides now."""
    return {number for number, owner in one._owners.items() if owner.well}
