"""The inputs of a partition, ``transfers[p]`` and ``requests[p]``, as one stream of records in a journaled order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from streams.feed import Feed, Heard
from streams.halts import Halt
from streams.kafka import OffsetOutOfRange, Partition, Record
from streams.topics import Topics

InputName = Literal["requests", "transfers"]
RANK: Final[tuple[InputName, InputName]] = ("transfers", "requests")
"""Of two records with the same timestamp the earlier named goes first."""

MAX_BUFFERED: Final = 4_000
"""Records of one input that wait here: from there on no more of it are read until some are taken, as while the other
input cannot be reached. One read adds at most one fetch, which is 1 MiB."""

SILENT_AFTER_S: Final = 10.0
"""Without an answer to a fetch for so long an input is in trouble: aiokafka says nothing while it cannot fetch."""


class Lag(NamedTuple):
    """How far a partition is behind its inputs: records not yet taken, as of the last fetch."""

    records: int


class Input(NamedTuple):
    """A record, and which of the inputs it came from."""

    name: InputName
    record: Record


class Inputs(Protocol):
    """Where a partition's owner gets its records from."""

    async def start(self, next_offsets: Mapping[str, int]) -> None:
        """Read from these offsets on. Raises Halt if they are no longer retained, KafkaFailure."""

    async def take(self, limit: int, wait_ms: int) -> list[Input]:
        """At most *limit* of the next records; waits up to *wait_ms* for the first. Raises Halt, KafkaFailure."""

    def lag(self) -> Lag:
        """As of the last fetch."""

    @property
    def trouble(self) -> str | None:
        """Why records may wait that nobody sees: as of the last fetch."""

    def close(self) -> None:
        """Read no more, and forget what was fetched."""


class Heads:
    """Which record is next (docs/design.md §8): the head with the lowest (timestamp, rank).

    While the end of an input is not known, nothing may overtake it: an input counts as empty only after a fetch that
    ended at its last stable offset. I/O-free.
    """

    def __init__(self) -> None:
        self._waiting: dict[InputName, deque[Record]] = {name: deque() for name in RANK}
        self._at_end: dict[InputName, bool] = dict.fromkeys(RANK, False)

    def add(self, name: InputName, records: Sequence[Record]) -> None:
        """These were fetched of *name*."""
        self._waiting[name].extend(records)
        self._at_end[name] = False

    def ended(self, name: InputName, at_end: bool) -> None:  # noqa: FBT001 - a fact, not a mode
        """Whether the last fetch of *name* ended at its last stable offset."""
        self._at_end[name] = at_end

    def empty(self, name: InputName) -> bool:
        """Whether nothing of *name* waits here."""
        return not self._waiting[name]

    def room(self, name: InputName) -> bool:
        """Whether more of *name* may be read."""
        return len(self._waiting[name]) < MAX_BUFFERED

    def waiting(self) -> int:
        """How many records wait here."""
        return sum(map(len, self._waiting.values()))

    def take(self, limit: int) -> list[Input]:
        """The next records in order, at most *limit*; none while an input without records may have some."""
        transfers, requests = self._waiting["transfers"], self._waiting["requests"]
        taken: list[Input] = []
        while len(taken) < limit:
            if not transfers:
                if not self._at_end["transfers"]:
                    break
                count = min(limit - len(taken), len(requests))
                taken += [Input("requests", requests.popleft()) for _ in range(count)]
                break
            if requests:
                if transfers[0].timestamp_ms <= requests[0].timestamp_ms:
                    taken.append(Input("transfers", transfers.popleft()))
                else:
                    taken.append(Input("requests", requests.popleft()))
            elif self._at_end["requests"]:
                taken.append(Input("transfers", transfers.popleft()))
            else:
                break
        return taken


class KafkaInputs:
    """``Inputs`` on real brokers, as a taker of the process's feed."""

    def __init__(self, topics: Topics, partition: int, feed: Feed) -> None:
        self._feed = feed
        self._places: dict[InputName, Partition] = {
            "transfers": Partition(topics.transfers, partition),
            "requests": Partition(topics.requests, partition),
        }
        self._names = {place: name for name, place in self._places.items()}
        self._heads = Heads()
        self._news = asyncio.Event()  # something may be taken, reading has failed, or whoever waits has waited enough
        self._failure: Exception | None = None
        self._answered_ms: dict[Partition, int] = {}  # when a broker last answered a fetch
        self._silent: dict[Partition, str] = {}
        self._behind = 0  # records of requests at the broker that were not fetched yet, as of the last fetch
        self._started_ms = 0

    async def start(self, next_offsets: Mapping[str, int]) -> None:
        """See ``Inputs``."""
        self.close()
        self._heads, self._failure, self._behind, self._answered_ms = Heads(), None, 0, {}
        await self._check_kept(next_offsets)
        self._started_ms = _now_ms()
        self._feed.add(self, {place: next_offsets[name] for name, place in self._places.items()})

    async def take(self, limit: int, wait_ms: int) -> list[Input]:
        """See ``Inputs``."""
        taken = self._take(limit)
        if not taken and self._failure is None:
            self._news.clear()
            self._feed.waits(self)
            enough = asyncio.get_running_loop().call_later(wait_ms / 1000, self._news.set)
            try:
                await self._news.wait()
            finally:
                enough.cancel()
            taken = self._take(limit)
        if self._failure is not None:
            raise self._explained(self._failure)
        return taken

    def _take(self, limit: int) -> list[Input]:
        full = not all(map(self._heads.room, RANK))
        taken = self._heads.take(limit)
        if full and taken:
            self._feed.made_room()
        return taken

    def lag(self) -> Lag:
        """See ``Inputs``."""
        return Lag(self._heads.waiting() + self._behind)

    @property
    def trouble(self) -> str | None:
        """See ``Inputs``."""
        return next(iter(self._silent.values()), None)

    def close(self) -> None:
        """See ``Inputs``."""
        self._silent = {}
        self._feed.remove(self._places.values())

    # ---- what the feed tells

    def room(self, place: Partition) -> bool:
        """See ``Taker``."""
        return self._heads.room(self._names[place])

    def hear(self, place: Partition, heard: Heard) -> None:
        """See ``Taker``. What a look did not answer stands as it was."""
        name, heads = self._names[place], self._heads
        if heard.records:
            heads.add(name, heard.records)
        if heard.answered_ms is not None:
            self._answered_ms[place] = heard.answered_ms
        self._silent.pop(place, None)
        if heard.stable_end is not None:
            heads.ended(name, heard.position >= heard.stable_end)
        if heads.empty(name):
            silent_s = (_now_ms() - self._answered_ms.get(place, self._started_ms)) / 1000
            if silent_s > SILENT_AFTER_S:
                self._silent[place] = f"{place}: expected an answer to a fetch, got none for {silent_s:.0f} s"
        if name == "requests" and heard.end is not None:
            self._behind = max(0, heard.end - heard.position)
        if heads.waiting():
            self._news.set()

    def fail(self, error: Exception) -> None:
        """See ``Taker``."""
        self._failure = error
        self._news.set()

    # ---- what is not kept

    async def _check_kept(self, next_offsets: Mapping[str, int]) -> None:
        for name, place in self._places.items():
            position, (start, end) = next_offsets[name], await self._feed.kept(place)
            if not start <= position <= end:
                raise Halt(
                    f"expected the record at {position}, the position in the journal, within the log {start}..{end}: "
                    "records were deleted before they were decided, or the topic was recreated; "
                    "restore it, or start a new ledger",
                    topic=str(place),
                    offset=position,
                )

    def _explained(self, failure: Exception) -> Exception:
        if not isinstance(failure, OffsetOutOfRange):
            return failure
        place = next((place for place in self._names if place in failure.places), self._places["requests"])
        halt = Halt(
            f"the records at the position in the journal are gone: {failure}; records were deleted before they were "
            "decided, or the topic was recreated: restore it, or start a new ledger",
            topic=str(place),
            offset=None,
        )
        halt.__cause__ = failure
        return halt


def _now_ms() -> int:
    return int(time.time() * 1000)
