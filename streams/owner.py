"""The owner of one partition: takes it, decides its requests, and gives it back (docs/design.md §3)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import deque
from typing import Final

import structlog

from streams.batch import Block, Decider, Defect
from streams.halts import Halt, Halted
from streams.inputs import Input, Inputs
from streams.journal.errors import Diverged, Fenced
from streams.journal.follower import Follower
from streams.journal.log import Log, LogUnavailable
from streams.journal.reading import Position
from streams.journal.writer import Owned, Witness, Writer, chain_witness
from streams.kafka import KafkaFailure, Partition
from streams.republish import outcome_witness, publications
from streams.restore import Originals, State
from streams.services import Services
from streams.status import Phase, Status

MAX_BATCH: Final = 2_000
IDLE_WAIT_MS: Final = 250
"""How long one read waits for requests; afterwards the owner looks whether it is still wanted."""

PAUSE_S: Final = 0.5
"""Between two looks at what a paused partition waits for."""

MAX_AHEAD_MS: Final = 60_000
"""A record this far ahead of the worker's clock is not decided (docs/design.md §8)."""

BUDGET_PERCENT: Final = 90
MIN_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
FENCED_BACKOFF_S: Final = 1.0

INTERNAL_ERRORS: Final = 20
INTERNAL_ERRORS_WITHIN_S: Final = 60.0
"""That many requests answered with ``internal_error`` within that time halt the partition."""


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

    Giving back happens between 9 and 5 only; the state stays *warm*: the next take folds what others have appended since.
    """

    def __init__(self, partition: int, services: Services) -> None:
        self.partition = partition
        self.status = Status()
        self._services = services
        self._topics = services.topics
        self._log = structlog.get_logger(__name__).bind(partition=partition)
        self._wanted = asyncio.Event()
        self._stopping = False
        self._changed = asyncio.Event()
        self._writer: Writer | None = None
        self._journal: Log | None = None
        self._state: State | None = None
        self._decider: Decider | None = None
        self._originals: Originals | None = None
        self._inputs: Inputs | None = None
        self._unread: list[Input] = []
        self._ahead = False  # whether the book has moved beyond the journal
        self._backoff_s = MIN_BACKOFF_S
        self._errors: deque[float] = deque(maxlen=INTERNAL_ERRORS)
        self._seen = (0, 0, 0)  # stale, duplicates, retakes already counted
        self._metrics = services.metrics
        self._label = str(partition)

    # ---- what the worker sees

    def assign(self) -> None:
        """Try to own the partition from now on."""
        self._wanted.set()
        self._changed.set()

    def revoke(self) -> None:
        """Give the partition back after the block in flight; stay warm."""
        self._wanted.clear()
        self._changed.set()

    def stop(self) -> None:
        """As ``revoke``, and then end ``run``."""
        self._stopping = True
        self._changed.set()

    @property
    def assigned(self) -> bool:
        """Whether it should be owned by this process."""
        return self._wanted.is_set()

    @property
    def position(self) -> int | None:
        """The next offset of ``requests`` to decide, while the partition is owned."""
        if self.status.phase is not Phase.OWNER or self._state is None:
            return None
        return self._state.book.next_offset["requests"]

    @property
    def well(self) -> bool:
        """Whether requests are being decided: owned, not held, and no block waits for an acknowledgement in trouble."""
        return self.status.well and not self._troubles()

    def plain(self) -> dict[str, object]:
        """What ``/readyz`` says about the partition."""
        return self.status.plain() | self._troubles()

    def _troubles(self) -> dict[str, object]:
        """Failures that are being retried right now."""
        journal = self._writer.trouble if self._writer is not None else None
        found = {"journal": journal, "outcomes": self._services.publisher.trouble}
        return {name: trouble for name, trouble in found.items() if trouble is not None}

    async def run(self) -> None:
        """Own the partition whenever it is assigned, until ``stop``. Returns early when it halts. Never raises."""
        try:
            while not self._stopping and self.status.halted is None:
                if self._wanted.is_set():
                    await self._own_guarded()
                else:
                    await self._wait_for_change(None)
        finally:
            await self._close()

    # ---- the loop around the protocol

    async def _own_guarded(self) -> None:
        """Own once; every way in which that ends leads to exactly one of: give back, wait and try again, halt."""
        try:
            await self._own()
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
        witnesses = await self._witnesses()
        owned = await self._take(witnesses)
        await self._read_config()
        await self._publish_again(owned)
        await self._open_inputs()
        gc.freeze()  # the state lives long: without this every full collection walks it
        self._metrics.restore_seconds.observe(time.monotonic() - began)
        self._metrics.owned.labels(self._label).set(1)
        self.status.phase, self.status.trouble, self._backoff_s = Phase.OWNER, None, MIN_BACKOFF_S
        self._log.info("owned", epoch=owned.position.epoch, seq=owned.position.seq, offset=owned.position.next_offset)
        while self._wanted.is_set() and not self._stopping:
            await self._step()
        await self._give_back()

    async def _step(self) -> None:
        """One batch, or one look at what keeps it from being decided."""
        if not self._unread:
            self._unread = await self._read()
        held, allowed = self._allowed(self._unread)
        self._note_held(held)
        if allowed:
            first = self._unread[0]
            block, count = await self._decide(self._unread[:allowed])
            del self._unread[:count]
            position = await self._append(block)
            await self._publish(block, position)
            self._done(block, first, position)
        elif held is not None:
            await self._wait_for_change(PAUSE_S)

    # ---- 1 to 4: taking

    async def _witnesses(self) -> list[Witness]:
        """Step 1."""
        tail = await self._services.publisher.tail(Partition(self._topics.outcomes, self.partition))
        published = outcome_witness(tail)
        stored = await self._services.sinks.positions(self._services.ledger_id, self.partition)
        return ([published] if published is not None else []) + [
            chain_witness(source, position.seq, position.chain) for source, position in stored
        ]

    async def _take(self, witnesses: list[Witness]) -> Owned:
        """Step 2. Without a warm state this is a restore: the whole journal is folded."""
        if self._writer is None:
            await self._begin()
        assert self._writer is not None
        try:
            return await self._writer.take(witnesses)
        finally:
            self._count_journal(self._writer)

    async def _begin(self) -> None:
        """An empty book in front of the journal."""
        services = self._services
        self._metrics.restores.inc()
        self._journal = services.open_log(self.partition)
        follower = await Follower.begin(self._journal, ledger_id=services.ledger_id, partition=self.partition)
        state = State(self._journal.where, follower.reader.genesis)
        self._originals = Originals(services.open_log(self.partition), state)
        self._decider = Decider(state.book, self._topics, services.config, self._original)
        self._state, self._seen = state, (0, 0, 0)
        self._writer = self.new_writer(follower, state)

    def new_writer(self, follower: Follower, state: State) -> Writer:
        """Made once per restore."""
        services = self._services
        return Writer(follower, owner=services.name, fold=state.fold, chance=services.chance, sleep=services.sleep)

    async def _read_config(self) -> None:
        """Step 3."""
        await self._services.config.read_through(await self._services.config_end())

    async def _publish_again(self, owned: Owned) -> None:
        """Step 4: before anything new, so that first occurrences in ``outcomes`` are in the order of seq."""
        assert self._writer is not None
        to = Partition(self._topics.outcomes, self.partition)
        for block in owned.unpublished:
            outcomes, replies = publications(block, self._topics, self.partition)
            await self._services.publisher.publish(to, outcomes)
            self._services.replies.offer(replies)
        self._writer.published(owned.position.seq)

    async def _open_inputs(self) -> None:
        assert self._state is not None
        if self._inputs is None:
            self._inputs = self._services.open_inputs(self.partition)
        await self._inputs.start(self._state.book.next_offset)

    # ---- 5 to 9: one batch

    async def _read(self) -> list[Input]:
        """Step 5."""
        assert self._inputs is not None
        inputs = await self._inputs.take(MAX_BATCH, IDLE_WAIT_MS)
        lag = self._inputs.lag().records + len(inputs)
        self._metrics.input_lag_records.labels(self._label).set(lag)
        if not lag:
            self._metrics.input_lag_seconds.labels(self._label).set(0)
        return inputs

    async def _decide(self, inputs: list[Input]) -> tuple[Block, int]:
        """Step 6. From here on the book is ahead of the journal, until the block is true."""
        assert self._decider is not None
        began = time.perf_counter()
        self._ahead = True
        block, count = await self._decider.decide(inputs)
        self._metrics.decide_seconds.observe(time.perf_counter() - began)
        return block, count

    async def _append(self, block: Block) -> Position:
        """Step 7."""
        assert self._writer is not None
        began = time.perf_counter()
        try:
            position = await self._writer.append(block.body(), count=len(block.events), at=block.events[-1].at)
        finally:
            self._count_journal(self._writer)
        self._ahead = False
        self._metrics.append_seconds.observe(time.perf_counter() - began)
        return position

    async def _publish(self, block: Block, position: Position) -> None:
        """Step 8."""
        began = time.perf_counter()
        await self._services.publisher.publish(Partition(self._topics.outcomes, self.partition), block.outcomes)
        self._services.replies.offer(block.replies)
        self._metrics.publish_seconds.observe(time.perf_counter() - began)
        self._log.debug("decided", seq=position.seq, events=len(block.events))

    def _done(self, block: Block, first: Input, position: Position) -> None:
        """Step 9."""
        assert self._writer is not None
        assert self._state is not None
        self._writer.published(position.seq)
        for seq, body in block.bodies.items():
            self._state.bodies.keep(seq, body)
        metrics, age_s = self._metrics, max(0, self._services.clock_ms() - first.record.timestamp_ms) / 1000
        metrics.batch_events.observe(len(block.events))
        metrics.decision_age_seconds.observe(age_s)
        metrics.skips.inc(block.skipped)
        metrics.input_lag_seconds.labels(self._label).set(age_s)
        for decided, count in block.decided.items():
            metrics.decisions.labels(*decided).inc(count)
        self._watch_defects(block.defects)

    # ---- what keeps it from deciding

    def _allowed(self, inputs: list[Input]) -> tuple[str | None, int]:
        """``(why not, how many)`` of *inputs* may be decided now."""
        assert self._decider is not None
        assert self._state is not None
        if not self._decider.can_decide():
            return "no_ruleset", 0
        if self._state.book.memory.count() * 100 >= self._services.max_remembered * BUDGET_PERCENT:
            return "idempotency_budget", 0
        latest_ms = self._services.clock_ms() + MAX_AHEAD_MS
        if all(record.timestamp_ms <= latest_ms for _, record in inputs):
            return None, len(inputs)
        behind = next(n for n, (_, record) in enumerate(inputs) if record.timestamp_ms > latest_ms)
        return ("clock", 0) if behind == 0 else (None, behind)

    def _note_held(self, held: str | None) -> None:
        if held == self.status.held:
            return
        self.status.held = held
        self._metrics.paused.labels(self._label).set(0 if held is None else 1)
        if held is None:
            self._log.info("goes on")
        else:
            place = self._unread[0].record if self._unread else None
            self._log.error("paused", reason=held, offset=place.offset if place is not None else None)

    def _watch_defects(self, defects: list[Defect]) -> None:
        """A defect that one request meets is answered and alarmed; a burst of them halts the partition."""
        now = time.monotonic()
        for defect in defects:
            self._errors.append(now)
            trace = defect.error if defect is defects[0] else None  # the others of a block are usually the same
            said = self._log.bind(request_id=defect.request_id, offset=defect.offset)
            said.error("internal_error", error=repr(defect.error), exc_info=trace)
            if len(self._errors) == INTERNAL_ERRORS and now - self._errors[0] <= INTERNAL_ERRORS_WITHIN_S:
                raise Halt(
                    f"{INTERNAL_ERRORS} requests were answered with internal_error within "
                    f"{INTERNAL_ERRORS_WITHIN_S:.0f} s, the last with {defect.error!r}: install a build without the defect",
                    topic=f"{self._topics.requests}[{self.partition}]",
                    offset=defect.offset,
                )

    async def _original(self, seq: int) -> bytes:
        """The outcome body of an earlier event. I/O trouble is retried here: the book is already ahead of the journal."""
        assert self._originals is not None
        assert self._writer is not None
        body = self._originals.cached(seq)
        while body is None:
            await self._services.sleep(self._originals.delay_s())
            self._metrics.replay_lookups.inc()
            try:
                body = await self._originals.read(seq, self._writer.position, self._writer.index)
            except LogUnavailable as error:
                self._log.warning("an original could not be read; trying again", seq=seq, error=str(error))
                await self._services.sleep(MIN_BACKOFF_S)
        return body

    # ---- ending

    async def _give_back(self) -> None:
        """Release the lease without a trace; keep book and position warm."""
        assert self._writer is not None
        self._writer.release()
        await self._rest(Phase.IDLE)
        self._log.info("given back", seq=self._writer.position.seq)

    async def _step_down(self, why: str, delay_s: float) -> None:
        """Wait before the next take. The state is kept unless it is ahead of the journal."""
        self.status.trouble = why
        if self._ahead or self._writer is None:
            await self._drop()
        elif self._writer.owner:
            self._writer.release()
        await self._rest(Phase.WAITING)
        await self._services.sleep(delay_s)

    def _halt(self, error: Exception) -> None:
        halted = Halted.of(error)
        self.status.phase, self.status.halted = Phase.HALTED, halted
        self._metrics.halted.labels(self._label).set(1)
        self._metrics.owned.labels(self._label).set(0)
        self._log.error("halted", **halted.plain(), exc_info=error)

    async def _rest(self, phase: Phase) -> None:
        self.status.phase = phase
        self._note_held(None)
        self._unread = []
        self._metrics.owned.labels(self._label).set(0)
        if self._inputs is not None:
            await self._inputs.close()

    async def _drop(self) -> None:
        """Forget the state and close the journal's clients; the next take restores."""
        self._ahead = False
        self._state = self._decider = None
        writer, self._writer = self._writer, None
        journal, self._journal = self._journal, None
        originals, self._originals = self._originals, None
        if writer is not None:
            await writer.close()
        elif journal is not None:
            await journal.close()
        if originals is not None:
            await originals.close()

    async def _close(self) -> None:
        """Everything, at the end of ``run``."""
        if self._inputs is not None:
            await self._inputs.close()
        await self._drop()

    async def _wait_for_change(self, timeout_s: float | None) -> None:
        """Until it is assigned, revoked or stopped, at most *timeout_s*."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    def _count_journal(self, writer: Writer) -> None:
        before, now = self._seen, (writer.stale, writer.duplicates, writer.retakes)
        self._seen = now
        self._metrics.journal_stale.inc(now[0] - before[0])
        self._metrics.journal_duplicate.inc(now[1] - before[1])
        self._metrics.retakes.inc(now[2] - before[2])
        self._metrics.journal_epoch.labels(self._label).set(writer.epoch)
