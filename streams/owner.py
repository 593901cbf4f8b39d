"""The owner of one partition: takes it, decides its requests, and gives it back (docs/design.md §3)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import structlog

from streams.admission import DefectWatch, allowed
from streams.batch import Block
from streams.halts import Halted
from streams.held import Held
from streams.inputs import Input, Inputs
from streams.journal.errors import Diverged, Fenced
from streams.journal.log import LogUnavailable
from streams.journal.reading import Position
from streams.journal.writer import Owned, Witness, chain_witness
from streams.kafka import KafkaFailure, Partition
from streams.republish import outcome_witness, publications
from streams.services import Services
from streams.status import Phase, Status

MAX_BATCH: Final = 2_000
IDLE_WAIT_MS: Final = 250
"""How long one read waits for requests; afterwards the owner looks whether it is still wanted."""

PAUSE_S: Final = 0.5
"""Between two looks at what a paused partition waits for."""

MIN_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
FENCED_BACKOFF_S: Final = 1.0

T = TypeVar("T")


class NotWanted(Exception):
    """The partition was revoked, or the process is ending, before it was owned."""


class Owner:
    """One partition of this process, for as long as the process lives. ``run`` is its only task.

    Owning is this numbered protocol; a crash between two steps leaves what is said there.

    1. ``_witnesses``: read what others have seen of the journal. Nothing is left behind.
    2. ``_take``: read the journal to its end and fold it, then lease it. A lease nobody uses.
    3. ``_read_config``: to its end as of now, before the first decision. As 2.
    4. ``_publish_again``: what lies behind the hint of the last block. The next owner does it again: duplicates.
    5. ``_read``: the next records of the inputs. Nothing.
    6. ``_decide``: the block, on the book, which is now ahead of the journal. Nothing: the book dies with the process.
    7. ``_append``: the block becomes true. The next owner finds it and publishes it (4), or never finds it: as 6.
    8. ``_publish``: its outcomes, acknowledged; then its replies are offered. The next owner publishes them again.
    9. ``_done``: the writer may append the next block. As 8. Go on with 5.

    Giving back happens between 9 and 5 only. The state stays *warm*: the next take folds what others have appended.
    """

    def __init__(self, partition: int, services: Services) -> None:
        self.partition = partition
        self.status = Status()
        self._services, self._topics, self._metrics = services, services.topics, services.metrics
        self._label = str(partition)
        self._log = structlog.get_logger(__name__).bind(partition=partition)
        self._defects = DefectWatch(f"{services.topics.requests}[{partition}]", partition)
        self._outcomes = Partition(services.topics.outcomes, partition)
        self._wanted = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._held: Held | None = None
        self._inputs: Inputs | None = None
        self._unread: list[Input] = []
        self._backoff_s = MIN_BACKOFF_S

    # ---- what the worker sees

    def assign(self) -> None:
        """Try to own the partition from now on."""
        self._wanted = True
        self._changed.set()

    def revoke(self) -> None:
        """Give the partition back after the block in flight; stay warm."""
        self._wanted = False
        self._changed.set()

    def stop(self) -> None:
        """As ``revoke``, and then end ``run``."""
        self._stopping = True
        self._changed.set()

    @property
    def position(self) -> int | None:
        """The next offset of ``requests`` to decide, while the partition is owned."""
        if self.status.phase is not Phase.OWNER or self._held is None:
            return None
        return self._held.book.next_offset["requests"]

    @property
    def well(self) -> bool:
        """Whether requests are being decided: owned, not held up, and nothing in flight is in trouble."""
        return self.status.well and not self._troubles()

    def plain(self) -> dict[str, object]:
        """What ``/readyz`` says about the partition."""
        return self.status.plain() | self._troubles()

    def _troubles(self) -> dict[str, object]:
        """Failures that are being retried right now."""
        held = self._held
        found = {
            "journal": held.writer.trouble if held is not None else None,
            "originals": held.originals.trouble if held is not None else None,
            "outcomes": self._services.publisher.trouble(self._outcomes),
            "inputs": self._inputs.trouble if self._inputs is not None else None,
        }
        return {name: trouble for name, trouble in found.items() if trouble is not None}

    async def run(self) -> None:
        """Own the partition whenever it is assigned, until ``stop``. Returns early when it halts."""
        try:
            while not self._stopping and self.status.halted is None:
                if self._wanted:
                    await self._own_guarded()
                else:
                    await self._wait_for_change(None)
        finally:
            if self._inputs is not None:
                self._inputs.close()
            await self._drop()

    # ---- the loop around the protocol

    async def _own_guarded(self) -> None:
        """Own once; every way in which that ends leads to exactly one of: give back, wait and try again, halt."""
        try:
            await self._own()
        except NotWanted:
            self._rest(Phase.IDLE)
        except Fenced as fenced:
            self._metrics.fenced.inc()
            self._log.warning("fenced", winner_epoch=fenced.winner, winner=fenced.owner, reason=str(fenced))
            await self._step_down(str(fenced), FENCED_BACKOFF_S * (0.5 + self._services.chance()))
        except Diverged as diverged:
            self._log.warning("diverged", reason=str(diverged))
            await self._step_down(str(diverged), MIN_BACKOFF_S)
        except (KafkaFailure, LogUnavailable) as error:
            self._log.warning("trouble with the brokers; trying again", error=str(error))
            delay_s, self._backoff_s = self._backoff_s, min(2 * self._backoff_s, MAX_BACKOFF_S)
            await self._step_down(str(error), delay_s * (0.5 + self._services.chance() / 2))
        except Exception as error:  # noqa: BLE001 - a broken invariant or a defect: this partition stops, others go on
            self._halt(error)

    async def _own(self) -> None:
        began = time.monotonic()
        self.status.phase = Phase.TAKING
        witnesses = await self._while_wanted(self._witnesses())
        if self._held is None:
            self._held = await self._while_wanted(Held.begin(self.partition, self._services))
        held = self._held
        owned = await self._while_wanted(self._take(held, witnesses))
        await self._while_wanted(self._read_config())
        await self._publish_again(held, owned)
        inputs = await self._open_inputs(held)
        gc.freeze()  # the state lives long: without this every full collection walks it
        self._metrics.restore_seconds.observe(time.monotonic() - began)
        self._metrics.owned.labels(self._label).set(1)
        self.status.phase, self.status.trouble, self._backoff_s = Phase.OWNER, None, MIN_BACKOFF_S
        self._log.info("owned", epoch=owned.position.epoch, seq=owned.position.seq, offset=owned.position.next_offset)
        while self._wanted and not self._stopping:
            await self._step(held, inputs)
        held.writer.release()
        self._rest(Phase.IDLE)
        self._log.info("given back", seq=held.writer.position.seq)

    async def _step(self, held: Held, inputs: Inputs) -> None:
        """One batch, or one look at what keeps it from being decided."""
        if not self._unread:
            self._unread = await self._read(inputs)
        reason, count = allowed(self._unread, held, self._services)
        self._note_held_up(reason)
        if count:
            first = self._unread[0]
            block, count = await self._decide(held, self._unread[:count])
            del self._unread[:count]
            position = await self._append(held, block)
            await self._publish(block, position)
            self._done(held, block, first, position)
        elif reason is not None:
            await self._wait_for_change(PAUSE_S)

    # ---- 1 to 4: taking

    async def _witnesses(self) -> list[Witness]:
        """Step 1."""
        published = outcome_witness(await self._services.publisher.tail(self._outcomes))
        stored = await self._services.sinks.positions(self._services.ledger_id, self.partition)
        return ([published] if published is not None else []) + [
            chain_witness(source, position.seq, position.chain) for source, position in stored
        ]

    async def _take(self, held: Held, witnesses: list[Witness]) -> Owned:
        """Step 2. If *held* is new this is a restore: the whole journal is folded."""
        try:
            return await held.writer.take(witnesses)
        finally:
            held.count(self._label, self._services)

    async def _read_config(self) -> None:
        """Step 3."""
        await self._services.config.read_through(await self._services.config_end())

    async def _publish_again(self, held: Held, owned: Owned) -> None:
        """Step 4: before anything new, so that first occurrences in ``outcomes`` are in the order of seq."""
        for block in owned.unpublished:
            outcomes, replies = publications(block, self._topics, self.partition)
            await self._services.publisher.publish(self._outcomes, outcomes)
            self._services.replies.offer(replies)
        held.writer.published(owned.position.seq)

    async def _open_inputs(self, held: Held) -> Inputs:
        if self._inputs is None:
            self._inputs = self._services.open_inputs(self.partition)
        await self._inputs.start(held.book.next_offset)
        return self._inputs

    # ---- 5 to 9: one batch

    async def _read(self, inputs: Inputs) -> list[Input]:
        """Step 5."""
        found = await inputs.take(MAX_BATCH, IDLE_WAIT_MS)
        lag, metrics = inputs.lag().records + len(found), self._metrics
        metrics.lag(metrics.input_lag_records, self._label, lag)
        if not lag:
            metrics.lag(metrics.input_lag_seconds, self._label, 0)
        return found

    async def _decide(self, held: Held, inputs: list[Input]) -> tuple[Block, int]:
        """Step 6. From here on the book is ahead of the journal, until the block is true."""
        began = time.perf_counter()
        held.ahead = True
        decided = await held.decider.decide(inputs)
        self._metrics.decide_seconds.observe(time.perf_counter() - began)
        return decided

    async def _append(self, held: Held, block: Block) -> Position:
        """Step 7."""
        began = time.perf_counter()
        try:
            position = await held.writer.append(block.body(), count=len(block.events), at=block.events[-1].at)
        finally:
            held.count(self._label, self._services)
        held.ahead = False
        self._metrics.append_seconds.observe(time.perf_counter() - began)
        return position

    async def _publish(self, block: Block, position: Position) -> None:
        """Step 8."""
        began = time.perf_counter()
        await self._services.publisher.publish(self._outcomes, block.outcomes)
        self._services.replies.offer(block.replies)
        self._metrics.publish_seconds.observe(time.perf_counter() - began)
        self._log.debug("decided", seq=position.seq, events=len(block.events))

    def _done(self, held: Held, block: Block, first: Input, position: Position) -> None:
        """Step 9."""
        held.writer.published(position.seq)
        for seq, body in block.bodies.items():
            held.state.bodies.keep(seq, body)
        metrics, age_s = self._metrics, max(0, self._services.clock_ms() - first.record.timestamp_ms) / 1000
        metrics.batch_events.observe(len(block.events))
        metrics.decision_age_seconds.observe(age_s)
        metrics.skips.inc(block.skipped)
        metrics.lag(metrics.input_lag_seconds, self._label, age_s)
        for decided, count in block.decided.items():
            metrics.decided(decided, count)
        self._defects.note(block.defects)

    # ---- ending

    async def _step_down(self, why: str, delay_s: float) -> None:
        """Wait before the next take. The state is kept unless it is ahead of the journal."""
        self.status.trouble = why
        if self._held is not None:
            if self._held.ahead:
                await self._drop()
            elif self._held.writer.owner:
                self._held.writer.release()
        self._rest(Phase.WAITING)
        await self._services.sleep(delay_s)

    def _halt(self, error: Exception) -> None:
        halted = Halted.of(error)
        self.status.phase, self.status.halted = Phase.HALTED, halted
        self._metrics.halted.labels(self._label).set(1)
        self._metrics.owned.labels(self._label).set(0)
        self._log.error("halted", **halted.plain(), exc_info=error)

    def _rest(self, phase: Phase) -> None:
        """Not owning for now; requests that were read but not decided are read again."""
        self.status.phase = phase
        self._note_held_up(None)
        self._unread = []
        self._metrics.owned.labels(self._label).set(0)
        self._metrics.forget_lag(self._label)
        if self._inputs is not None:
            self._inputs.close()

    async def _drop(self) -> None:
        """Forget the state; the next take restores."""
        held, self._held = self._held, None
        if held is not None:
            await held.close()

    def _note_held_up(self, reason: str | None) -> None:
        if reason == self.status.held:
            return
        self.status.held = reason
        self._metrics.paused.labels(self._label).set(0 if reason is None else 1)
        if reason is None:
            self._log.info("goes on")
        else:
            offset = self._unread[0].record.offset if self._unread else None
            self._log.error("paused", reason=reason, offset=offset)

    # ---- waiting

    async def _wait_for_change(self, timeout_s: float | None) -> None:
        """Until it is assigned, revoked or stopped, at most *timeout_s*."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    async def _while_wanted(self, step: Coroutine[Any, Any, T]) -> T:
        """The result of *step*, which may retry without end; cancelled and ``NotWanted`` when it is revoked."""
        working = asyncio.ensure_future(step)
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            while not working.done():
                if not self._wanted or self._stopping:
                    raise NotWanted
                if changing.done():
                    self._changed.clear()
                    changing = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({working, changing}, return_when=asyncio.FIRST_COMPLETED)
            return working.result()
        finally:
            for task in (working, changing):
                task.cancel()
            await asyncio.wait({working, changing})
