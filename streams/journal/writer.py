"""The one writer of a partition, fenced by the log itself (design §3, "Appending")."""

from __future__ import annotations

import asyncio
import enum
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from schemas.events import FORMAT
from streams.journal.errors import Diverged, Fenced, JournalLoss
from streams.journal.follower import Follower
from streams.journal.framing import (
    TOKEN_BYTES,
    BlockBody,
    BlockHeaders,
    Headers,
    LeaseHeaders,
    encode_block,
    encode_headers,
    next_chain,
)
from streams.journal.index import SeqIndex, find_block
from streams.journal.log import LogRecord, LogUnavailable
from streams.journal.reading import Position, ValidBlock, Verdict, WonLease

MIN_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0

T = TypeVar("T")

Fold = Callable[[ValidBlock], None]


class Witness(NamedTuple):
    """Something outside the journal that saw the event *seq*: a snapshot, a published outcome, the sink's row."""

    source: str  # for the message
    seq: int
    agrees: Callable[[ValidBlock], bool]  # given the journal's block that holds *seq*


def chain_witness(source: str, seq: int, chain: bytes) -> Witness:
    """A stored position: the journal's chain at *seq* must be *chain*."""
    return Witness(source, seq, lambda block: (block.last_seq, block.headers.chain) == (seq, chain))


@dataclass(frozen=True, kw_only=True, slots=True)
class Owned:
    """The partition is mine from *position* on. *unpublished*, in order, must be published before anything new."""

    position: Position
    unpublished: tuple[ValidBlock, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pending:
    """A block whose fate is not known yet: its bytes, and the journal's (seq, chain) in front of it and behind it."""

    value: bytes
    seq: int
    count: int
    at: int
    before: tuple[int, bytes]
    after: tuple[int, bytes]


class _Phase(enum.Enum):
    WARM = "warm"  # the state is what the journal says at `position`; no lease is held
    OWNER = "owner"  # as above, and the lease in force is mine
    DEAD = "dead"  # the state may be ahead of the journal, or the journal is broken: writer and state must be dropped


class Writer:
    """Owns one partition's journal for as long as it is allowed to, together with exactly one in-memory state.

    *fold* applies a block to that state: it is called for every valid block that this writer did not append itself, in
    order, and the state must be at ``position`` when the writer is made. What the worker does:

    1. ``owned = await writer.take(witnesses)``: publish ``owned.unpublished``, then
       ``writer.published(owned.position.seq)``.
    2. Decide a batch and evolve the state by it; ``position = await writer.append(body, count=…, at=…)``.
    3. Publish what the block contains; ``writer.published(position.seq)``; go on with 2.

    Lost acknowledgements are no business of the worker: both calls take new leases, with the same bytes, until the log
    has spoken, without end (``trouble`` says why, ``retakes`` counts). They raise only:

    * ``Fenced`` from ``take``: another owner. The state is still right: ``take`` again when assigned again.
    * ``Fenced`` or ``Diverged`` from ``append``: the state is ahead of the journal. Drop it and the writer; restore.
    * ``JournalHalt``: halt the partition.

    After any exception of ``append``, a cancellation, or a halt, the writer refuses every further call
    (``RuntimeError``).
    """

    def __init__(
        self,
        follower: Follower,
        *,
        owner: str,
        fold: Fold,
        token: Callable[[], bytes] = lambda: secrets.token_bytes(TOKEN_BYTES),
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.index = SeqIndex()
        self.retakes = 0  # how often I/O trouble made it wait and take again
        self.trouble: str | None = None  # why the partition is not ready: the last I/O error, until it is overcome
        self._follower, self._reader, self._log = follower, follower.reader, follower.log
        self._owner, self._fold, self._token, self._chance, self._sleep = owner, fold, token, chance, sleep
        self._phase = _Phase.WARM
        self._pending: _Pending | None = None
        self._published = 0
        self._last_block: ValidBlock | None = None

    # ---- what a worker sees

    @property
    def position(self) -> Position:
        """What is known to be in the journal."""
        return self._reader.position

    @property
    def epoch(self) -> int:
        """Of the lease in force, as far as was read."""
        return self._reader.position.epoch

    @property
    def stale(self) -> int:
        """Late records of fenced writers that were skipped."""
        return self._reader.stale

    @property
    def duplicates(self) -> int:
        """Further copies of records that were skipped."""
        return self._reader.duplicates

    @property
    def owner(self) -> bool:
        """Whether ``append`` is allowed."""
        return self._phase is _Phase.OWNER

    async def take(self, witnesses: Sequence[Witness] = ()) -> Owned:
        """Become the partition's owner: steps 1 and 2. *witnesses* were read before this call.

        1. Read the journal to its end and fold it; no witness may be ahead of it or contradict it.
        2. Append a lease with a fresh token and fold everything up to it. I own the partition if mine is in force.
           A crash in between leaves a lease that nobody uses; a lost acknowledgement is not adopted: another lease is
           taken.

        Raises: Fenced (lost the race; the state stays usable), JournalHalt.
        """
        self._expect(_Phase.WARM, _Phase.OWNER)
        self._phase = _Phase.WARM
        try:
            await self._lease_until_answered(witnesses)
            unpublished = await self._with_patience(self._unpublished)
        except (Fenced, asyncio.CancelledError):
            raise
        except BaseException:
            self._phase = _Phase.DEAD
            raise
        self._phase = _Phase.OWNER
        return Owned(position=self.position, unpublished=unpublished)

    async def append(self, body: BlockBody, *, count: int, at: int) -> Position:
        """Make *body* (*count* events, the last at *at* ms) durable in the journal; the only way anything becomes true.

        3. Send it as one record of the current epoch, and wait for its offset.
        4. The offset is the expected one: valid, nothing is read. Higher: fold up to it. A winning lease in between:
           Fenced. My block is valid at its first copy. Another valid block of my token, or a lower offset: JournalLoss.
        6. No acknowledgement: take a new lease and compare the journal with the two points in front of the block and
           behind it. Before: send the same bytes again. After: it is there. Anything else: Diverged.

        A crash before 3 leaves no trace; afterwards the next owner finds the block in the log, or never, and publishes
        it.
        Raises: BlockTooLarge (nothing was sent, nothing has changed); Fenced, Diverged, JournalHalt.
        """
        self._expect(_Phase.OWNER)
        now = self.position
        if self._published < now.seq:
            raise RuntimeError(f"{self._log.where}: seq {now.seq} must be published before the next block is appended")
        value = encode_block(body, count)
        chain = next_chain(now.chain, FORMAT, now.seq + 1, count, value)
        after = (now.seq + count, chain)
        self._phase = _Phase.DEAD  # until the log has spoken
        self._pending = _Pending(
            value=value, seq=now.seq + 1, count=count, at=at, before=(now.seq, now.chain), after=after
        )
        delay_s = MIN_BACKOFF_S
        while self._pending is not None:
            try:
                await self._fold_block(self._pending, await self._send_block(self._pending))
            except LogUnavailable as error:
                delay_s = await self._back_off(error, delay_s)  # also between leases that work and blocks that do not
                await self._lease_until_answered(())
                self._compare(self._pending)
            else:
                self._pending = None
        self._phase = _Phase.OWNER
        return self.position

    def published(self, seq: int) -> None:
        """Step 5 is done: everything up to *seq* is published and acknowledged. The next block's header says so."""
        if seq > self.position.seq:
            raise RuntimeError(f"{self._log.where}: seq {seq} is published but the journal ends at {self.position.seq}")
        self._published = max(self._published, seq)

    def release(self) -> None:
        """Stop owning without a trace in the log. The state stays usable: ``take`` folds what others have appended."""
        self._expect(_Phase.WARM, _Phase.OWNER)
        self._phase = _Phase.WARM

    async def close(self) -> None:
        """Close the log's clients, whatever the phase. Bounded; ends the process if a client cannot be closed."""
        self._phase = _Phase.DEAD
        await self._log.close()

    # ---- steps 1 and 2, and 6 (the same, with a block remembered)

    async def _lease_until_answered(self, witnesses: Sequence[Witness]) -> None:
        """Lease attempts until one is answered; I/O trouble backs off without end."""

        async def attempt() -> None:
            await self._read_to_end()
            await self._check_witnesses(witnesses)
            headers = self._claim()
            await self._fold_lease(headers, await self._send_lease(headers))

        await self._with_patience(attempt)

    async def _with_patience(self, step: Callable[[], Awaitable[T]]) -> T:
        delay_s = MIN_BACKOFF_S
        while True:
            try:
                done = await step()
            except LogUnavailable as error:
                delay_s = await self._back_off(error, delay_s)
            else:
                self.trouble = None
                return done

    async def _back_off(self, error: LogUnavailable, delay_s: float) -> float:
        """Wait about *delay_s*; the next delay."""
        self.trouble = str(error)
        self.retakes += 1
        await self._sleep(delay_s * (0.5 + self._chance() / 2))
        return min(2 * delay_s, MAX_BACKOFF_S)

    async def _read_to_end(self) -> None:
        """Step 1. The last record read is compared first, whatever happened before."""
        self._follower.interrupt()
        end = await self._log.end_offset()
        async for record in self._follower.below(end):
            self._read(record)

    async def _check_witnesses(self, witnesses: Sequence[Witness]) -> None:
        for source, seq, agrees in witnesses:
            if seq > self.position.seq:
                raise JournalLoss(
                    self._log.where, None, f"seq {seq}, seen by {source}", f"an end at {self.position.seq}"
                )
            if seq > 0 and not agrees(await self._block_with(seq)):
                raise JournalLoss(self._log.where, None, f"at seq {seq} what {source} holds", "another content")

    def _claim(self) -> LeaseHeaders:
        return LeaseHeaders(format=FORMAT, epoch=self.position.epoch + 1, token=self._token())

    async def _send_lease(self, lease: LeaseHeaders) -> int:
        return await self._log.append(encode_headers(lease), self._owner.encode())

    async def _fold_lease(self, lease: LeaseHeaders, offset: int) -> None:
        """Fold up to and including the acknowledged *offset*; whose lease is in force?"""
        winner = self._owner
        if offset == self.position.next_offset:
            self._read(LogRecord(offset, None, encode_headers(lease), self._owner.encode()))
        else:
            async for verdict in self._through(offset):
                if isinstance(verdict, WonLease):
                    winner = verdict.owner
        if (self.position.epoch, self.position.token) != (lease.epoch, lease.token):
            raise Fenced(self._log.where, offset, lease.epoch, self.position.epoch, winner)

    def _compare(self, pending: _Pending) -> None:
        """Step 6, after the new lease: where does the journal end?"""
        here = (self.position.seq, self.position.chain)
        if here == pending.after:
            self._pending = None
        elif here != pending.before:
            expected = f"seq {pending.before[0]} or {pending.after[0]} with my chains"
            raise Diverged(self._log.where, expected, f"seq {here[0]}, chain {here[1].hex()}")

    # ---- steps 3 and 4

    async def _send_block(self, pending: _Pending) -> int:
        return await self._log.append(self._block_headers(pending), pending.value)

    def _block_headers(self, pending: _Pending) -> Headers:
        """Under the lease in force: after a re-take the same bytes go out under another epoch and token."""
        return encode_headers(
            BlockHeaders(
                format=FORMAT,
                epoch=self.position.epoch,
                token=self.position.token,
                seq=pending.seq,
                count=pending.count,
                chain=pending.after[1],
                published_through=self._published,
            )
        )

    async def _fold_block(self, pending: _Pending, offset: int) -> None:
        now = self.position
        if offset == now.next_offset:  # the common case: nothing is read, and nothing decoded
            record = LogRecord(offset, None, self._block_headers(pending), pending.value)
            seq, chain = pending.after
            self._reader.position = now.behind(record, seq=seq, chain=chain, at=pending.at)
            self._last_block = None
            self.index.note(pending.seq, offset)
            return
        found = False
        async for verdict in self._through(offset):
            if isinstance(verdict, WonLease):
                raise Fenced(self._log.where, verdict.offset, now.epoch, verdict.epoch, verdict.owner)
            if isinstance(verdict, ValidBlock):
                if found or verdict.value != pending.value:
                    got = f"seq {verdict.headers.seq} to {verdict.last_seq} with other content"
                    raise JournalLoss(self._log.where, verdict.offset, "of my token only the block that I sent", got)
                found = True
        if not found:
            raise JournalLoss(self._log.where, offset, "my block, which was acknowledged there", "no copy up to there")

    async def _through(self, offset: int) -> AsyncIterator[Verdict]:
        """The verdicts on the records up to and including *offset*, which was acknowledged."""
        if offset < self.position.next_offset:
            expected = f"an acknowledged offset of at least {self.position.next_offset}, up to which I have read"
            raise JournalLoss(self._log.where, offset, expected, f"offset {offset}: the topic was cut or recreated")
        self._follower.interrupt()
        async for record in self._follower.below(offset + 1):
            yield self._read(record)

    # ---- folding

    def _read(self, record: LogRecord) -> Verdict:
        """Move behind *record*. The state follows, unless it is ahead by the block in question (``_compare``)."""
        verdict = self._reader.read(record)
        if isinstance(verdict, ValidBlock):
            self._last_block = verdict
            self.index.note(verdict.headers.seq, verdict.offset)
            if self._pending is None:
                self._fold(verdict)
        return verdict

    async def _block_with(self, seq: int) -> ValidBlock:
        block = self._last_block
        if block is None or not block.headers.seq <= seq <= block.last_seq:
            block = await find_block(self._log, seq, self.position, self.index)
            self._follower.interrupt()
        return block

    async def _unpublished(self) -> tuple[ValidBlock, ...]:
        """The blocks behind the hint, oldest first: the last block's hint, or what this writer itself published."""
        blocks: list[ValidBlock] = []
        seq, published = self.position.seq, self._published
        while seq > published:
            blocks.insert(0, await self._block_with(seq))
            published = max(published, blocks[0].headers.published_through)
            seq = blocks[0].headers.seq - 1
        return tuple(blocks)

    def _expect(self, *phases: _Phase) -> None:
        if self._phase not in phases:
            allowed = " or ".join(phase.value for phase in phases)
            raise RuntimeError(f"{self._log.where}: this writer is {self._phase.value}, the call needs {allowed}")
