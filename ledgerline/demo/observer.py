"""What the demo sees: requests and outcomes as the brokers have them, joined by the ``input`` header of outcomes."""

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Final

import orjson

from ledgerline.demo.timeline import Timeline
from schemas.records import header_values
from streams.kafka import Consumer, Isolation, Partition, Record

TOP_SCORES: Final = 5
POLL_MS: Final = 50
POLL_RECORDS: Final = 5_000


@dataclass(slots=True)
class Seen:
    """Running totals. Latencies are in ms, from the broker's time of the request to that of its outcome."""

    answered: int = 0
    repeated_publications: int = 0
    replayed: int = 0
    by_result: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    latencies_ms: list[int] = field(default_factory=list)
    top_scores: list[tuple[int, str]] = field(default_factory=list)
    a_decline: str | None = None
    seqs: dict[int, int] = field(default_factory=dict)


class Observer:
    """Follows ``requests`` and ``outcomes`` from their ends at :meth:`start`; mutable, one task polls it."""

    def __init__(self, consumer: Consumer, requests: str, outcomes: str) -> None:
        self._consumer = consumer
        self._requests = requests
        self._outcomes = outcomes
        self._sent_at: dict[tuple[int, int], int] = {}
        self._answered_at: dict[tuple[int, int], int] = {}
        self._watched_from_ms = 0
        self._watched: set[int] = set()
        self.resumed_ms: dict[int, int] = {}
        self.seen = Seen()
        self.timeline = Timeline()

    @classmethod
    async def start(cls, bootstrap: str, requests: str, outcomes: str, partitions: int) -> "Observer":
        """Connect and stand at the ends of both topics."""
        consumer = await Consumer.start(bootstrap, "ledgerline-demo", Isolation.COMMITTED, POLL_RECORDS)
        assigned = [Partition(topic, number) for topic in (requests, outcomes) for number in range(partitions)]
        consumer.assign(assigned)
        for partition, end in (await consumer.end_offsets(assigned)).items():
            consumer.seek(partition, end)
        return cls(consumer, requests, outcomes)

    async def poll(self) -> None:
        """Take in what has come; waits at most 50 ms."""
        for partition, records in (await self._consumer.poll(timeout_ms=POLL_MS)).items():
            if partition.topic == self._requests:
                for record in records:
                    self._request(record)
            else:
                for record in records:
                    self._outcome(record)

    @property
    def unmatched(self) -> int:
        """Requests and outcomes whose counterpart has not been seen yet."""
        return len(self._sent_at) + len(self._answered_at)

    def forget_times(self) -> None:
        """Forget when requests were sent and answered so far; what is counted otherwise stays."""
        self.seen.latencies_ms.clear()
        self.timeline.forget()

    def watch(self, partitions: set[int], from_ms: int) -> None:
        """From now on note in :attr:`resumed_ms` when each of *partitions* first answers after *from_ms*."""
        self._watched, self._watched_from_ms = set(partitions), from_ms

    async def close(self) -> None:
        """Leave the brokers."""
        await self._consumer.close()

    def _request(self, record: Record) -> None:
        at = (record.partition, record.offset)
        answered_ms = self._answered_at.pop(at, None)
        if answered_ms is None:
            self._sent_at[at] = record.timestamp_ms
        else:
            self._matched(record.partition, record.timestamp_ms, answered_ms)

    def _outcome(self, record: Record) -> None:
        body = orjson.loads(record.value or b"")
        seen, partition, seq = self.seen, record.partition, body["seq"]
        if seq <= seen.seqs.get(partition, 0):
            seen.repeated_publications += 1
            return
        seen.seqs[partition] = seq
        seen.answered += 1
        if partition in self._watched and record.timestamp_ms > self._watched_from_ms:
            self._watched.discard(partition)
            self.resumed_ms[partition] = record.timestamp_ms
        source = next(header_values(record.headers, "input")).decode()
        at = (partition, int(source.rpartition("-")[2]))
        sent_ms = self._sent_at.pop(at, None)
        if sent_ms is None:
            self._answered_at[at] = record.timestamp_ms
        else:
            self._matched(partition, sent_ms, record.timestamp_ms)
        self._count(body)

    def _matched(self, partition: int, sent_ms: int, answered_ms: int) -> None:
        self.seen.latencies_ms.append(answered_ms - sent_ms)
        self.timeline.answered(partition, sent_ms, answered_ms)

    def _count(self, body: dict[str, object]) -> None:
        seen = self.seen
        if body["replayed"]:
            seen.replayed += 1
        status, reason, transaction = str(body["status"]), str(body["reason"] or ""), str(body["transaction"])
        seen.by_result[str(body["type"] or "unreadable"), "replayed" if body["replayed"] else status, reason] += 1
        if status == "declined" and seen.a_decline is None:
            seen.a_decline = transaction
        score = body["score"]
        if isinstance(score, int) and not body["replayed"]:
            scored = (score, transaction)
            if len(seen.top_scores) < TOP_SCORES:
                heappush(seen.top_scores, scored)
            else:
                heappushpop(seen.top_scores, scored)
