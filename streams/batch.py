"""Deciding a batch: records in, one block and its publications out. The hot path: no I/O, except for an old replay."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.book import Book
from engine.decide import decide, decide_config, needs, skip
from engine.evidence import NO_EVIDENCE, Evidence
from engine.evolve import evolve
from engine.intake import read_intake
from schemas.bounds import MAX_BLOCK_BYTES, MAX_BLOCK_EVENTS
from schemas.config import Bundle
from schemas.events import Answer, Cause, ConfigPickup, Skip, encode_event, join_events
from schemas.records import Header, RawRecord, frame, input_hash
from schemas.requests import REQUEST_TYPES
from streams.config_log import ConfigLog, ConfigVersion
from streams.halts import Halt
from streams.inputs import Input
from streams.journal.errors import JournalHalt
from streams.journal.framing import BlockBody
from streams.kafka import Outgoing, Record
from streams.replies import Reply
from streams.topics import Topics

BATCH_BYTES: Final = MAX_BLOCK_BYTES - 512 * 1024
"""No event is added to a block above this: the largest (64 KiB of record, outcome, explanation, JSON) still fits."""

BREATHE_EVERY: Final = 64
"""Events after which other partitions of the process get a turn: their acknowledgements must not wait for long."""

MAX_PICKUPS: Final = 500
"""Config versions that one block picks up; more follow in the next."""

Original = Callable[[int], Awaitable[bytes]]
"""Finds the outcome body of an earlier event, by its seq."""


class Decided(NamedTuple):
    """For the metrics: labels are bounded."""

    type: str
    status: str
    reason: str


class Defect(NamedTuple):
    """A request that was answered with ``internal_error``, and why."""

    request_id: str | None
    offset: int
    error: Exception


@dataclass(slots=True)
class Block:
    """The events of one batch, encoded once, and what is published when they are true. Mutable while it is built."""

    events: list[Answer | Skip | ConfigPickup] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    raw_bytes: int = 0
    outcomes: list[Outgoing] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    bodies: dict[int, bytes] = field(default_factory=dict)
    skipped: int = 0
    decided: Counter[Decided] = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    json_bytes: int = 0

    @property
    def full(self) -> bool:
        """Whether no further record fits for certain."""
        return len(self.events) >= MAX_BLOCK_EVENTS or self.raw_bytes + self.json_bytes >= BATCH_BYTES

    def add(self, event: Answer | Skip | ConfigPickup) -> None:
        """Append *event*, encoded: how much JSON an event takes is counted, as no guess bounds it."""
        text = encode_event(event)
        self.events.append(event)
        self.encoded.append(text)
        self.json_bytes += len(text) + 1

    def body(self) -> BlockBody:
        """What the writer appends."""
        return BlockBody(join_events(self.encoded), b"".join(self.parts))


class Decider:
    """Decides the records of one partition on its book.

    The book moves with every event: if the block does not become true, the book must be dropped.
    """

    def __init__(self, book: Book, topics: Topics, config: ConfigLog, original: Original) -> None:
        self._book, self._config, self._original = book, config, original
        self._names = {"requests": topics.requests, "transfers": topics.transfers}

    def can_decide(self) -> bool:
        """Whether a ruleset is in force, or the first record would pick one up."""
        if self._book.ruleset is not None:
            return True
        pending = self._config.since(self._book.config_offset)[:MAX_PICKUPS]
        return any(version.bundle is not None for version in pending)

    async def decide(self, inputs: Sequence[Input]) -> tuple[Block, int]:
        """The block of as many of *inputs* as fit, and their number (at least one).

        Raises: Halt, naming the record, where the engine cannot go on; what *original* raises.
        """
        book, block, count = self._book, Block(), 0
        pending = self._config.since(book.config_offset)[:MAX_PICKUPS]
        for name, record in inputs:
            if block.full:
                break
            at = max(book.at, record.timestamp_ms)
            raw = RawRecord(record.key, record.headers, record.value)
            framed = frame(raw)
            try:
                if pending:
                    self._pick_up(block, pending, name, record, at)
                    pending = []
                if name == "requests":
                    await self._request(block, record, raw, framed, at)
                else:
                    self._transfer(block, record, framed, at)
            except (Halt, JournalHalt):
                raise
            except Exception as error:  # a defect: naming the record is all that can be done, and the partition halts
                where = f"{self._names[name]}[{record.partition}]"
                raise Halt(f"{error!r}", topic=where, offset=record.offset, sha256=input_hash(framed)) from error
            count += 1
            if count % BREATHE_EVERY == 0:
                await asyncio.sleep(0)
        return block, count

    async def _request(self, block: Block, record: Record, raw: RawRecord, framed: bytes, at: int) -> None:
        book = self._book
        intake = read_intake(raw, framed, record.offset)
        evidence = NO_EVIDENCE
        wanted = needs(book, intake)
        if wanted is not None:
            body = block.bodies.get(wanted)
            evidence = Evidence(original=body if body is not None else await self._original(wanted))
        decision = decide(book, intake, evidence, at, self._bundle(), block.raw_bytes)
        event, outcome, explanation = decision.event, decision.outcome, decision.explanation
        evolve(book, event, intake.digest, decision.payment_digest)
        if decision.defect is not None:
            block.defects.append(Defect(event.request_id, record.offset, decision.defect))
        seq = book.seq
        block.add(event)
        if event.record[0] is not None:
            block.parts.append(framed)
            block.raw_bytes += len(framed)
        block.parts += (outcome, explanation)
        block.raw_bytes += len(outcome) + len(explanation)
        if event.binding and not event.replayed:
            block.bodies[seq] = outcome
        self._publication(block, event, seq, record, outcome)

    def _publication(self, block: Block, event: Answer, seq: int, record: Record, outcome: bytes) -> None:
        reply_to, correlation = return_address(record.headers)
        published = outcome_record(
            event, seq, outcome, record.key, correlation, self._names["requests"], record.partition
        )
        block.outcomes.append(published)
        if reply_to is not None:
            block.replies.append(Reply(reply_to, published))
        kind = event.type if event.type in REQUEST_TYPES else "other"
        block.decided[Decided(kind, event.status, event.reason or ("replayed" if event.replayed else ""))] += 1

    def _transfer(self, block: Block, record: Record, framed: bytes, at: int) -> None:
        block.skipped += 1
        event = skip(self._book, framed, record.offset, at, block.raw_bytes)
        evolve(self._book, event)
        block.add(event)
        if event.record[0] is not None:
            block.parts.append(framed)
            block.raw_bytes += len(framed)

    def _pick_up(self, block: Block, pending: Sequence[ConfigVersion], cause: Cause, record: Record, at: int) -> None:
        assert cause in {"requests", "transfers"}
        for version in pending:
            event = decide_config(self._book, version.offset, version.value, cause, record.offset, at)
            evolve(self._book, event)
            block.add(event)

    def _bundle(self) -> Bundle:
        """The bundle in force. Raises Halt if ``config`` does not hold what the journal names."""
        ruleset = self._book.ruleset
        bundle = self._config.bundle(ruleset.sha256) if ruleset is not None else None
        if bundle is None:
            named = "a ruleset in force" if ruleset is None else f"the bundle {ruleset.version} ({ruleset.sha256})"
            raise Halt(
                f"expected {named}, which the journal names, got none in this topic",
                topic=self._config.topic,
                offset=None,
            )
        return bundle


def return_address(headers: tuple[Header, ...]) -> tuple[bytes | None, bytes | None]:
    """``(reply-to, correlation-id)`` of a request: of each the first that is not empty, or None."""
    reply_to: bytes | None = None
    correlation: bytes | None = None
    for name, value in headers:
        if name == "reply-to":
            reply_to = reply_to or value
        elif name == "correlation-id":
            correlation = correlation or value
    return reply_to or None, correlation or None


def outcome_record(
    event: Answer, seq: int, body: bytes, key: bytes | None, correlation: bytes | None, topic: str, partition: int
) -> Outgoing:
    """The record of ``outcomes`` that answers *event*: its key, its headers, the body as it stands in the journal."""
    headers: list[Header] = []
    if event.request_id is not None:
        headers.append(("request_id", event.request_id.encode()))
    if correlation is not None:
        headers.append(("correlation-id", correlation))
    headers.append(("seq", b"%d" % seq))
    headers.append(("input", f"{topic}-{partition}-{event.offset}".encode()))
    return Outgoing(event.account_id.encode() if event.account_id is not None else key, body, headers)
