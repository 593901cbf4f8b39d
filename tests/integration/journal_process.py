"""A writer process of the storm: takes the partition, decides, appends, publishes, until all inputs are answered.

Now and then it kills itself between two steps of the protocol, so that every gap is hit.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from functools import partial

from schemas.events import Skip, encode_events
from streams.journal.errors import Diverged, Fenced
from streams.journal.follower import Follower
from streams.journal.framing import BlockBody, LeaseHeaders
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import Log, LogUnavailable
from streams.journal.reading import Reader, ValidBlock
from streams.journal.writer import Writer, _Pending
from streams.kafka import KafkaFailure, Outgoing, Partition, Producer

INPUTS = 2_000


def decided(events: list[int], fact: int) -> int:
    """Answer the next input: a number that names the input, the writer's evidence, and everything decided before."""
    return len(events) * 1_000_000 + fact * 1_000 + sum(events) % 997


def numbers(block: ValidBlock) -> list[int]:
    return [int(e.offset) for e in block.events]


def fold(events: list[int], block: ValidBlock) -> None:
    events += numbers(block)


async def replay(log: Log, ledger_id: str) -> tuple[list[int], Reader]:
    """What a reader from the start finds."""
    follower, found = await Follower.begin(log, ledger_id=ledger_id, partition=0), list[int]()
    async for record in follower.below(await log.end_offset()):
        verdict = follower.reader.read(record)
        found += numbers(verdict) if isinstance(verdict, ValidBlock) else []
    return found, follower.reader


class Mortal(Writer):
    """Dies now and then, in front of a step or behind it."""

    chance: random.Random

    def perhaps(self) -> None:
        if self.chance.random() < 0.004:
            os.kill(os.getpid(), signal.SIGKILL)

    async def _send_lease(self, lease: LeaseHeaders) -> int:
        self.perhaps()  # 1 | 2
        offset = await super()._send_lease(lease)
        self.perhaps()  # in the middle of 2
        return offset

    async def _fold_lease(self, lease: LeaseHeaders, offset: int) -> None:
        await super()._fold_lease(lease, offset)
        self.perhaps()  # 2 | 3

    async def _send_block(self, pending: _Pending) -> int:
        self.perhaps()  # before 3
        offset = await super()._send_block(pending)
        self.perhaps()  # 3 | 4
        return offset

    async def _fold_block(self, pending: _Pending, offset: int) -> None:
        await super()._fold_block(pending, offset)
        self.perhaps()  # 4 | 5

    def published(self, seq: int) -> None:
        self.perhaps()  # behind 5
        super().published(seq)


class Publisher:
    """Publishes until it is acknowledged, with a new client after each failure."""

    def __init__(self, bootstrap: str, to: Partition) -> None:
        self.bootstrap, self.to = bootstrap, to
        self.producer: Producer | None = None

    async def publish(self, seq: int, content: list[int]) -> None:
        records = [Outgoing(None, b"%d:%d" % pair) for pair in enumerate(content, seq)]
        while True:
            try:
                self.producer = self.producer or await Producer.start(self.bootstrap, "outcomes")
                await self.producer.send_all(self.to, records, 10.0)
            except KafkaFailure:
                if self.producer is not None:
                    await self.producer.kill()
                self.producer = None
                await asyncio.sleep(0.1)
            else:
                return


async def own(writer: Writer, publisher: Publisher, events: list[int], chance: random.Random) -> None:
    owned = await writer.take()
    for block in owned.unpublished:
        await publisher.publish(block.headers.seq, numbers(block))
    writer.published(owned.position.seq)
    assert len(events) == owned.position.seq
    while len(events) < INPUTS:
        new = []
        for _ in range(min(chance.choice([1, 2, 20]), INPUTS - len(events))):
            new.append(decided(events, chance.randrange(3)))
            events.append(new[-1])
        array = [Skip(at=n, offset=n, sha256="00" * 32, record=(0, 0), reason="unsupported") for n in new]
        raw = bytes(300_000 if chance.random() < 0.03 else 1_000)
        position = await writer.append(BlockBody(encode_events([*array]), raw), count=len(new), at=new[-1])
        await publisher.publish(position.seq - len(new) + 1, new)
        writer.published(position.seq)
        if chance.random() < 0.02:
            raise Fenced("by chance", 0, 0, 0, "nobody")  # leaves, so that others have a turn


async def main(bootstrap: str, journal: str, outcomes: str, ledger_id: str, seed: int) -> None:
    chance = random.Random(seed)
    publisher = Publisher(bootstrap, Partition(outcomes, 0))
    while True:
        log, events = KafkaLog(bootstrap, Partition(journal, 0), f"writer-{seed}"), list[int]()
        try:
            follower = await Follower.begin(log, ledger_id=ledger_id, partition=0)
            writer = Mortal(follower, owner="writer", fold=partial(fold, events))
            writer.chance = chance
            await own(writer, publisher, events, chance)
        except (Fenced, Diverged, LogUnavailable):
            await log.close()
            await asyncio.sleep(chance.random())  # or they would fence each other all the time
        else:
            await log.close()
            if publisher.producer is not None:
                await publisher.producer.close()
            return


if __name__ == "__main__":
    _, address, journal_topic, outcomes_topic, ledger, seed_text = sys.argv
    asyncio.run(main(address, journal_topic, outcomes_topic, ledger, int(seed_text)))
