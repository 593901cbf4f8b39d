"""One partition's journal from its genesis to an end: order and chain (I7), and what other checks are made against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from ledgerline.verify.answers import Answers
from ledgerline.verify.bundles import Bundles, InForce
from ledgerline.verify.reading import Broken, Meaning, Rule, Stated, WrongChain, split
from ledgerline.verify.report import Invariant, Place, Report
from schemas.events import Answer, ConfigPickup, Genesis, Skip, decode_events, decode_genesis, span
from streams.kafka import Record

INPUTS: Final = ("requests", "transfers")
_DIGEST: Final = 16


class Answering(NamedTuple):
    """Which event answered an input, and what it says about it."""

    seq: int
    offset: int  # of its block
    sha256: str
    at: int
    previous_at: int  # of the answering event before it, or of the genesis


class Row(NamedTuple):
    """One valid event with the bytes it points to, as Postgres has to hold it."""

    place: Place
    event: Answer | Skip | ConfigPickup
    outcome: bytes | None
    explanation: bytes | None


def digest(body: bytes) -> bytes:
    """Return what stands for an outcome body in memory: 16 bytes of SHA-256."""
    return hashlib.sha256(body).digest()[:_DIGEST]


class Walk:
    """Reads a partition's journal in order. Mutable, one owner. Memory: about 0.5 KiB per event.

    A block with a wrong chain is reported and read on with the chain it states; a log that cannot be read on at all
    ends the walk (``halted``).
    """

    def __init__(self, report: Report, partition: int, bundles: Bundles) -> None:
        self.report = report
        self.partition = partition
        self.rule = Rule()
        self.genesis: Genesis | None = None
        self.halted = False
        self.at = 0
        self.first_input: dict[str, int] = {}
        self.next_input: dict[str, int] = {}
        self.answered: dict[str, dict[int, Answering]] = {topic: {} for topic in INPUTS}
        self.outcomes: list[bytes | None] = []  # by seq - 1: the digest of the published body
        self.stale: dict[bytes, int] = {}  # digests of bodies in blocks that do not count, with the offset of the block
        self.claims_below = 0
        """What blocks below this offset claim as published (``published_through``) has to be in ``outcomes``."""
        self.published_through = 0
        self.stale_records = 0
        self._bundles = bundles
        self._in_force: InForce | None = None
        self._answers: Answers | None = None
        self._answered_at = 0
        self._next_config = 0
        self._rows: list[Row] = []

    @property
    def answers(self) -> Answers:
        """What the answers of this partition add up to; only behind the genesis."""
        assert self._answers is not None, "a genesis has been read"
        return self._answers

    def read(self, record: Record) -> list[Row]:
        """Take the next record; return the events that became valid by it."""
        if self.halted:
            return []
        self.report.check(Invariant.I7)
        try:
            meaning, says = self.rule.read(record.key, record.headers, record.value)
        except WrongChain as wrong:
            self._broken(record.offset, wrong)
            self.rule.go_on(wrong.says)
            meaning, says = Meaning.BLOCK, wrong.says
        except Broken as broken:
            self._broken(record.offset, broken)
            self.halted = True
            return []
        match meaning:
            case Meaning.GENESIS:
                self._begin(record)
            case Meaning.BLOCK:
                return self._block(record, says)
            case Meaning.STALE | Meaning.DUPLICATE:
                self.stale_records += 1
                self._suspect(record, says)
            case Meaning.LEASE:
                pass
        return []

    def finish(self) -> None:
        """Clear the stale bodies that a valid block holds too: a re-take appends the same bytes again."""
        valid = set(self.outcomes)
        self.stale = {body: offset for body, offset in self.stale.items() if body not in valid}
        self.report.check(Invariant.I12, self.stale_records)

    def _begin(self, record: Record) -> None:
        place = Place(self.partition, None, record.offset)
        try:
            genesis = decode_genesis(record.value or b"")
        except ValueError as error:
            self.report.fail(Invariant.I7, place, "genesis", "a genesis", error)
            self.halted = True
            return
        if record.offset != 0 or genesis.partition != self.partition:
            expected, found = (self.partition, 0), (genesis.partition, record.offset)
            self.report.fail(Invariant.I7, place, "partition and offset of the genesis", expected, found)
        self.genesis = genesis
        self.at = self._answered_at = genesis.at
        self.first_input = {"requests": genesis.inputs["requests"], "transfers": genesis.inputs["transfers"]}
        self.next_input = dict(self.first_input)
        self._next_config = genesis.inputs["config"]
        self._answers = Answers(self.report, self.partition, genesis.partitions, genesis.retry_window_s)

    def _block(self, record: Record, says: Stated) -> list[Row]:
        """Check the events of a valid block one by one."""
        place = Place(self.partition, says.seq, record.offset)
        try:
            encoded, raw = split(record.value)
            events = decode_events(encoded)
        except (Broken, ValueError) as error:
            self.report.fail(Invariant.I7, place, "block", "events in format 1", error)
            self.halted = True
            return []
        if len(events) != says.count:
            self.report.fail(Invariant.I7, place, "events in the block", says.count, len(events))
            self.halted = True
            return []
        if says.published_through >= says.seq:
            self.report.fail(Invariant.I7, place, "published_through", f"below {says.seq}", says.published_through)
        elif record.offset < self.claims_below:
            self.published_through = max(self.published_through, says.published_through)
        self._causes(says, record.offset, events)
        self._rows = []
        for index, event in enumerate(events):
            self._event(Place(self.partition, says.seq + index, record.offset), event, raw)
        return self._rows

    def _causes(self, says: Stated, offset: int, events: list[Answer | Skip | ConfigPickup]) -> None:
        """A pick-up stands in front of the answering event that it names, in the same block, with its ``at``."""
        follows: Answer | Skip | None = None
        for index, event in reversed(list(enumerate(events))):
            if not isinstance(event, ConfigPickup):
                follows = event
                continue
            said = (event.cause_topic, event.cause_offset, event.at)
            cause = None if follows is None else (follows.topic, follows.offset, follows.at)
            if said != cause:
                self.report.fail(
                    Invariant.I7,
                    Place(self.partition, says.seq + index, offset),
                    "cause and at of a pick-up",
                    cause,
                    said,
                )

    def _event(self, place: Place, event: Answer | Skip | ConfigPickup, raw: bytes) -> None:
        self.report.events += 1
        if event.at < self.at:
            self.report.fail(Invariant.I7, place, "at", f"{self.at} or later", event.at)
        self.at = max(self.at, event.at)
        outcome = explanation = None
        match event:
            case Answer():
                outcome, explanation = self._answer(place, event, raw)
            case Skip():
                self._input(place, event)
            case ConfigPickup():
                self._pick_up(place, event)
        self.outcomes.append(None if outcome is None else digest(outcome))
        self._rows.append(Row(place, event, outcome, explanation))

    def _answer(self, place: Place, event: Answer, raw: bytes) -> tuple[bytes | None, bytes | None]:
        self._input(place, event)
        try:
            spans = (event.record, event.outcome, event.explanation)
            kept, outcome, explanation = (span(raw, where) for where in spans)
        except ValueError as error:
            self.report.fail(Invariant.I7, place, "spans of the event", "bytes of its block", error)
            return None, None
        in_force = self._in_force
        version = None if in_force is None else in_force.version
        if event.ruleset != version:
            self.report.fail(Invariant.I14, place, "ruleset", version, event.ruleset)
        bundle = None if in_force is None else in_force.bundle
        self.answers.judge(place, event, kept or b"", outcome or b"", bundle)
        return outcome, explanation

    def _input(self, place: Place, event: Answer | Skip) -> None:
        """Inputs are answered in their order, each once."""
        first = self.next_input[event.topic]
        if event.offset < first:
            expected = f"{first} or higher"
            self.report.fail(Invariant.I7, place, f"input offset of {event.topic}", expected, event.offset)
        self.next_input[event.topic] = max(first, event.offset + 1)
        known = self.answered[event.topic].get(event.offset)
        if known is not None:
            what = f"answers to {event.topic} offset {event.offset}"
            self.report.fail(Invariant.I9, place, what, f"one, at seq {known.seq}", "another")
            return
        self.answered[event.topic][event.offset] = Answering(
            place.seq or 0, place.offset or 0, event.sha256, event.at, self._answered_at
        )
        self._answered_at = event.at

    def _pick_up(self, place: Place, event: ConfigPickup) -> None:
        """Config records are judged in their order, none is left out, and the bytes are those of the topic."""
        left_out = self._bundles.between(self._next_config, event.offset)
        if event.offset < self._next_config or left_out:
            expected = min(left_out, default=self._next_config)
            self.report.fail(Invariant.I14, place, "config offset picked up", expected, event.offset)
        self._next_config = event.offset + 1
        published = self._bundles.get(event.offset)
        if published is None or published.sha256 != event.sha256:
            found = "no such record" if published is None else published.sha256
            what = f"SHA-256 of config offset {event.offset}"
            self.report.fail(Invariant.I14, place, what, event.sha256, found)
        if event.verdict == "active":
            bundle = None if published is None else published.bundle
            version = None if bundle is None else bundle.version
            if version is None or version != event.version:
                self.report.fail(Invariant.I14, place, "version of the bundle picked up", version, event.version)
            self._in_force = InForce(event.offset, event.version or "", bundle)

    def _suspect(self, record: Record, says: Stated) -> None:
        """Remember what a block that does not count would have published."""
        if says.kind != b"block":
            return
        for body in _bodies(record.value):
            self.stale[digest(body)] = record.offset

    def _broken(self, offset: int, broken: Broken) -> None:
        place = Place(self.partition, self.rule.seq + 1, offset)
        self.report.fail(Invariant.I7, place, f"journal record ({broken.kind})", broken.expected, broken.found)


def _bodies(value: bytes | None) -> Iterator[bytes]:
    """Yield the outcome bodies of a block that does not count; what cannot be read had no effect."""
    try:
        encoded, raw = split(value)
        for event in decode_events(encoded):
            if isinstance(event, Answer):
                body = span(raw, event.outcome)
                if body is not None:
                    yield body
    except (Broken, ValueError):
        return
