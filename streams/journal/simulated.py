"""The journal port in memory: what Kafka's contract allows, and nothing else, from a seed.

What a broker may do to a request without losing an acknowledged record is a ``Fate`` and drawn at random; what it must
never do (lose or replace what it acknowledged) is done by tests, with the methods of ``SimulatedBroker``.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from schemas.records import RawRecord
from streams.journal.framing import Headers
from streams.journal.log import AppendUnknown, Chunk, LogRecord, LogUnavailable, OffsetOutOfRange

MAX_RECORD_BYTES: Final = 8 * 1024 * 1024


class Fate(enum.Enum):
    """What becomes of a request to append."""

    NORMAL = "appended, acknowledged"
    LOST_ACK = "appended, the acknowledgement is lost"
    NO_OFFSET = "appended, acknowledged without an offset"
    LATE = "no acknowledgement, appended at any later moment"
    NEVER = "no acknowledgement, never appended"
    TWICE_FIRST = "appended twice, the first copy is acknowledged"
    TWICE_SECOND = "appended twice, others perhaps in between, the second copy is acknowledged"


APPENDED: Final = frozenset({Fate.NORMAL, Fate.LOST_ACK, Fate.NO_OFFSET, Fate.TWICE_FIRST, Fate.TWICE_SECOND})

WELL: Final[Mapping[Fate, float]] = {Fate.NORMAL: 1.0}
STORM: Final[Mapping[Fate, float]] = {
    Fate.NORMAL: 0.7,
    Fate.LOST_ACK: 0.06,
    Fate.NO_OFFSET: 0.02,
    Fate.LATE: 0.08,
    Fate.NEVER: 0.04,
    Fate.TWICE_FIRST: 0.05,
    Fate.TWICE_SECOND: 0.05,
}


class SimulatedBroker:
    """One partition's log. Single-threaded; equal seeds and calls give equal logs."""

    def __init__(
        self, seed: int = 0, *, fates: Mapping[Fate, float] = WELL, markers: float = 0.0, unavailable: float = 0.0
    ) -> None:
        """*markers*: how often a control marker (a gap) precedes a record. *unavailable*: how often a read fails."""
        self.chance = random.Random(seed)  # noqa: S311  # reproducible on purpose
        self.fates = dict(fates)
        self.markers = markers
        self.unavailable = unavailable
        self.max_record_bytes = MAX_RECORD_BYTES
        self.max_fetch_records = 100
        self.records: list[LogRecord] = []
        self.start = 0
        self.end = 0
        self.on_their_way: list[tuple[Headers, bytes]] = []

    def append(self, headers: Headers, value: bytes | None, key: bytes | None = None) -> int:
        """Append at once; the offset."""
        if self.end and self.chance.random() < self.markers:  # the genesis is the first record
            self.end += 1
        self.records.append(LogRecord(self.end, key, headers, value))
        self.end += 1
        return self.end - 1

    def append_record(self, record: RawRecord) -> int:
        """The same for a record as others know it."""
        return self.append(record.headers, record.value, record.key)

    def mark(self) -> None:
        """A control marker: an offset without a record."""
        self.end += 1

    def deliver(self) -> None:
        """One of the late requests, any of them, arrives."""
        if self.on_their_way:
            self.append(*self.on_their_way.pop(self.chance.randrange(len(self.on_their_way))))

    def fate(self) -> Fate:
        """What becomes of the next request."""
        return self.chance.choices(list(self.fates), list(self.fates.values()))[0]

    # ---- against the contract: what readers must notice

    def cut(self, end: int) -> None:
        """Lose the records from offset *end* on."""
        self.records = [r for r in self.records if r.offset < end]
        self.end = end

    def expire(self, start: int) -> None:
        """Retention: the log starts at *start*."""
        self.records = [r for r in self.records if r.offset >= start]
        self.start = start

    def recreate(self) -> None:
        """The topic is deleted and created again: empty, offsets from 0."""
        self.records, self.start, self.end = [], 0, 0


async def no_turn() -> None:
    """Nobody else acts."""


class SimulatedLog:
    """``streams.journal.log.Log`` of one client. *turn* is awaited wherever others may act."""

    def __init__(
        self, broker: SimulatedBroker, turn: Callable[[], Awaitable[None]] = no_turn, where: str = "journal[0]"
    ) -> None:
        self.broker, self._turn, self._where = broker, turn, where
        self.closed = False

    @property
    def where(self) -> str:
        """``<topic>[<partition>]``."""
        return self._where

    async def start_offset(self) -> int:
        """See ``Log``."""
        await self._answer()
        return self.broker.start

    async def end_offset(self) -> int:
        """See ``Log``."""
        await self._answer()
        return self.broker.end

    async def fetch(self, start: int, wait_s: float) -> Chunk:  # noqa: ARG002  # nothing comes while nobody acts
        """See ``Log``. What is not there yet is not waited for beyond one turn."""
        await self._answer()
        broker = self.broker
        if not broker.start <= start <= broker.end:
            raise OffsetOutOfRange(f"{self._where}: offset {start} is not in {broker.start}..{broker.end}")
        behind = [r for r in broker.records if r.offset >= start]
        found = behind[: broker.max_fetch_records]
        return Chunk(found, broker.end if len(found) == len(behind) else found[-1].offset + 1)

    async def append(self, headers: Headers, value: bytes) -> int:
        """See ``Log``."""
        broker = self.broker
        await self._turn()
        if len(value) > broker.max_record_bytes:
            raise AppendUnknown(f"{self._where}: {len(value):,} bytes, the topic takes {broker.max_record_bytes:,}")
        fate, offset = broker.fate(), -1
        if fate in APPENDED:
            offset = broker.append(headers, value)
        elif fate is Fate.LATE:
            broker.on_their_way.append((headers, value))
        if fate in {Fate.TWICE_FIRST, Fate.TWICE_SECOND}:
            await self._turn()
            second = broker.append(headers, value)
            offset = offset if fate is Fate.TWICE_FIRST else second
        await self._turn()
        if fate in {Fate.NORMAL, Fate.TWICE_FIRST, Fate.TWICE_SECOND}:
            return offset
        raise AppendUnknown(f"{self._where}: {fate.value}")

    async def close(self) -> None:
        """See ``Log``."""
        self.closed = True

    async def _answer(self) -> None:
        await self._turn()
        if self.broker.unavailable and self.broker.chance.random() < self.broker.unavailable:
            raise LogUnavailable(f"{self._where}: no answer")
