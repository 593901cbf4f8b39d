"""Writers, sinks and a faulty broker in one thread: a seed decides who acts next, so every history can be repeated."""

from __future__ import annotations

import random
import types
from collections.abc import Coroutine, Generator
from typing import Any

from schemas.events import Skip, encode_events
from streams.journal.errors import Diverged, Fenced
from streams.journal.follower import Follower
from streams.journal.framing import BlockBody
from streams.journal.log import LogUnavailable
from streams.journal.reading import Position, ValidBlock
from streams.journal.simulated import STORM, WELL, SimulatedBroker, SimulatedLog
from streams.journal.writer import Writer
from tests.streams.journal.building import AT, LEDGER, WHERE, genesis, numbers

MAX_STEPS = 60_000


@types.coroutine
def turn() -> Generator[None, None, None]:
    yield


def decide(events: list[int], fact: int) -> int:
    """Answer the next input: a number that names the input, the writer's evidence, and everything decided before."""
    return len(events) * 1_000_000 + fact * 1_000 + sum(events) % 997


class World:
    """*inputs* records to be answered by *workers* that fight for one partition, and sinks that follow it."""

    def __init__(self, seed: int, *, inputs: int = 50, workers: int = 3, writer: type[Writer] = Writer) -> None:
        self.chance = random.Random(seed)
        self.inputs = inputs
        self.writer = writer
        self.broker = SimulatedBroker(seed, fates=STORM, markers=0.05, unavailable=0.03)
        self.broker.max_fetch_records = self.chance.choice([1, 2, 100])
        self.broker.append(*genesis())
        self.outcomes: list[tuple[int, int]] = []  # (seq, content), as they arrive in the topic
        self.rows: list[int] = []  # what a sink has stored, in one transaction with its position
        self.stored: Position | None = None
        self.fenced = self.diverged = self.crashes = self.retakes = 0
        self.actors: list[Coroutine[Any, Any, None]] = [self.worker() for _ in range(workers)]
        self.actors.append(self.sink())

    def run(self) -> None:
        """A storm until half of the steps are used or everything is answered, then calm: it must end."""
        for step in range(MAX_STEPS):
            if step == MAX_STEPS // 2:
                self.broker.fates, self.broker.unavailable = dict(WELL), 0.0
            if len(self.rows) == self.inputs and len(dict(self.outcomes)) == self.inputs:
                break
            if self.chance.random() < 0.02:
                self.broker.deliver()
            n = min(int(self.chance.expovariate(0.4)), len(self.actors) - 1)  # some are slow: zombies
            if self.chance.random() < 0.003 and step < MAX_STEPS // 2:
                self.crash(n)
            if self.chance.random() < 0.05:
                self.chance.shuffle(self.actors)
            try:
                self.actors[n].send(None)
            except StopIteration:
                self.actors[n] = self.worker()
        for actor in self.actors:
            actor.close()
        assert len(self.rows) == self.inputs, f"not finished: {len(self.rows)} of {self.inputs} inputs in the sink"

    def crash(self, n: int) -> None:
        self.crashes += 1
        is_sink = self.actors[n].cr_code is World.sink.__code__  # type: ignore[attr-defined]  # ours are coroutines
        self.actors[n].close()
        self.actors[n] = self.sink() if is_sink else self.worker()

    async def worker(self) -> None:
        log = SimulatedLog(self.broker, turn, WHERE)
        while True:
            events: list[int] = []

            def fold(block: ValidBlock, events: list[int] = events) -> None:
                events += numbers(block)

            follower = await self.begin(log, None)
            writer = self.writer(
                follower,
                owner="worker",  # every one has the same name
                fold=fold,
                token=lambda: self.chance.randbytes(16),
                chance=self.chance.random,
                sleep=lambda _: turn(),
            )
            try:
                await self.own(writer, events)
            except (Fenced, Diverged) as error:
                self.fenced += isinstance(error, Fenced)
                self.diverged += isinstance(error, Diverged)
            else:
                return
            self.retakes += writer.retakes
            for _ in range(self.chance.randrange(30)):
                await turn()

    async def own(self, writer: Writer, events: list[int]) -> None:
        owned = await writer.take()
        for block in owned.unpublished:
            await self.publish(block.headers.seq, numbers(block))
        writer.published(owned.position.seq)
        assert len(events) == owned.position.seq, "the state is not at the position"
        while len(events) < self.inputs:
            new = []
            for _ in range(min(self.chance.randint(1, 4), self.inputs - len(events))):
                new.append(decide(events, self.chance.randrange(3)))
                events.append(new[-1])
            array = [Skip(at=AT + n, offset=n, sha256="00" * 32, record=(0, 0), reason="unsupported") for n in new]
            await turn()
            position = await writer.append(BlockBody(encode_events([*array]), b""), count=len(new), at=array[-1].at)
            assert position.seq == len(events)
            await self.publish(position.seq - len(new) + 1, new)
            writer.published(position.seq)
            if self.chance.random() < 0.05:  # revoked, and assigned again: the state stays warm
                writer.release()
                await turn()
                for block in (await writer.take()).unpublished:
                    await self.publish(block.headers.seq, numbers(block))
                writer.published(writer.position.seq)

    async def publish(self, seq: int, content: list[int]) -> None:
        for n, number in enumerate(content, seq):
            await turn()  # a crash may leave a part of it
            self.outcomes.append((n, number))

    async def sink(self) -> None:
        log = SimulatedLog(self.broker, turn, WHERE)
        while True:
            follower, rows = await self.begin(log, self.stored), self.rows
            while True:
                new: list[int] = []
                try:
                    for record in await follower.records(1.0):
                        verdict = follower.reader.read(record)
                        new += numbers(verdict) if isinstance(verdict, ValidBlock) else []
                        if self.chance.random() < 0.3:
                            break
                except LogUnavailable:
                    pass  # what was read before stays read
                await turn()
                if rows is not self.rows:
                    break  # another sink has stored meanwhile: its row wins, resume from it
                rows = self.rows = [*rows, *new]
                self.stored = follower.reader.position

    async def begin(self, log: SimulatedLog, position: Position | None) -> Follower:
        while True:
            try:
                return await Follower.begin(log, ledger_id=LEDGER, partition=3, position=position)
            except LogUnavailable:
                await turn()
