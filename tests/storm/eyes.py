"""What the storm sees of the logs while it rages: who owns what, what is journaled, what is published, what waits.

It reads with the checker's reading rule, so nothing of what is judged here judges itself.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from ledgerline.verify.reading import Meaning, Rule, split
from schemas.events import Answer, decode_events
from schemas.records import header_values
from streams.kafka import Consumer, Isolation, KafkaFailure, Partition, Record
from tests.storm.servers import Ledger

POLL_MS: Final = 50
RECONNECT_S: Final = 0.2
CATCH_UP_S: Final = 3.0
SETTLE_S: Final = 0.02
"""What a process had handed to its sockets before it was stopped is in the log after this time."""
LOOK_EVERY_S: Final = 0.005
CLIENT: Final = "storm-eyes"


@dataclass(slots=True)
class Sight:
    """One partition as its logs show it. Mutable."""

    rule: Rule
    owner: str = ""
    """Named by the lease in force: ``<host>-<pid>`` of the worker."""
    blocks: int = 0
    events: int = 0
    leases: int = 0
    stale_leases: int = 0
    stale_blocks: int = 0
    duplicates: int = 0
    answered_to: int = 0
    """The next offset of ``requests`` to answer."""
    asked_to: int = 0
    """The end of ``requests``."""
    published: int = 0
    """The highest seq on ``outcomes``."""
    outcome_bearing: int = 0
    """The highest seq in the journal that has an outcome."""
    publications: int = 0
    answered: int = 0
    """Events that have an outcome."""

    @property
    def seq(self) -> int:
        """Of the last valid event."""
        return self.rule.seq

    @property
    def in_flight(self) -> bool:
        """Whether a block is in the journal whose outcomes are not all published."""
        return self.outcome_bearing > self.published

    @property
    def waiting(self) -> int:
        """Requests that no event answers."""
        return self.asked_to - self.answered_to


class Eyes:
    """Follows journal, outcomes and requests of every partition. ``follow`` is its only task; others look."""

    def __init__(self, ledger: Ledger) -> None:
        self.sights = {p: Sight(Rule()) for p in range(ledger.partitions)}
        self.correlations: set[bytes] = set()
        """Of every outcome that was published."""
        self._ledger = ledger
        topics = ledger.topics
        self._topics = (topics.journal, topics.outcomes, topics.requests)
        self._positions = {Partition(topic, p): 0 for topic in self._topics for p in self.sights}

    @property
    def events(self) -> int:
        """Valid events of all partitions."""
        return sum(sight.events for sight in self.sights.values())

    def owned_by(self, pid: int) -> set[int]:
        """The partitions whose lease in force names the process *pid*."""
        return {p for p, sight in self.sights.items() if sight.owner.endswith(f"-{pid}")}

    async def follow(self) -> None:
        """Read on, without end; after a failure with a new client, at the same places."""
        while True:
            try:
                consumer = await Consumer.start(self._ledger.kafka, CLIENT, Isolation.UNCOMMITTED, 5_000)
                try:
                    consumer.assign(self._positions)
                    for partition, offset in self._positions.items():
                        consumer.seek(partition, offset)
                    while True:
                        for partition, records in (await consumer.poll(timeout_ms=POLL_MS)).items():
                            self._take(partition, records)
                finally:
                    await consumer.close()
            except KafkaFailure:
                await asyncio.sleep(RECONNECT_S)

    async def catch_up(self) -> bool:
        """Return True once everything has been read that the logs held when this was called; False if that fails."""
        await asyncio.sleep(SETTLE_S)
        try:
            ends = await self._ends()
        except KafkaFailure:
            return False
        deadline = time.monotonic() + CATCH_UP_S
        while any(self._positions[partition] < end for partition, end in ends.items()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    async def _ends(self) -> dict[Partition, int]:
        """A question waits for the fetch under way of its client, so the asker is another one than the reader."""
        asker = await Consumer.start(self._ledger.kafka, CLIENT, Isolation.UNCOMMITTED)
        try:
            return await asker.end_offsets(self._positions)
        finally:
            await asker.close()

    def _take(self, partition: Partition, records: list[Record]) -> None:
        sight = self.sights[partition.number]
        for record in records:
            if record.offset < self._positions[partition]:
                continue
            self._positions[partition] = record.offset + 1
            if partition.topic == self._ledger.topics.journal:
                self._journal(sight, record)
            elif partition.topic == self._ledger.topics.outcomes:
                sight.publications += 1
                sight.published = max(sight.published, int(next(header_values(record.headers, "seq"))))
                self.correlations.update(header_values(record.headers, "correlation-id"))
            else:
                sight.asked_to = record.offset + 1

    @staticmethod
    def _journal(sight: Sight, record: Record) -> None:
        meaning, says = sight.rule.read(record.key, record.headers, record.value)
        match meaning:
            case Meaning.LEASE:
                sight.leases += 1
                sight.owner = (record.value or b"").decode()
            case Meaning.BLOCK:
                sight.blocks += 1
                sight.events += says.count
                for seq, event in enumerate(decode_events(split(record.value)[0]), says.seq):
                    if isinstance(event, Answer):
                        sight.answered_to, sight.outcome_bearing = event.offset + 1, seq
                        sight.answered += 1
            case Meaning.STALE:
                if says.kind == b"lease":
                    sight.stale_leases += 1
                else:
                    sight.stale_blocks += 1
            case Meaning.DUPLICATE:
                sight.duplicates += 1
            case Meaning.GENESIS:
                pass
