"""The inputs of a partition, ``transfers[p]`` and ``requests[p]``, as one stream of records in a journaled order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from streams.halts import Halt
from streams.kafka import Consumer, Isolation, OffsetOutOfRange, Partition, Record
from streams.topics import Topics

InputName = Literal["requests", "transfers"]
RANK: Final[tuple[InputName, InputName]] = ("transfers", "requests")
"""Of two records with the same timestamp the earlier named goes first."""

MAX_BUFFERED: Final = 4_000
"""Records of one input that wait here: from there on no more of it are read until some are taken, as while the other
input cannot be reached. One read adds at most one fetch, which is 1 MiB."""

FETCH_EVERYTHING: Final = 100_000

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

    async def close(self) -> None:
        """Forget what was fetched."""


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
    """``Inputs`` on a real broker: one consumer for both topics, ``read_committed``, no offset to fall back to."""

    def __init__(self, kafka: str, topics: Topics, partition: int) -> None:
        self._kafka = kafka
        self._places: dict[InputName, Partition] = {
            "transfers": Partition(topics.transfers, partition),
            "requests": Partition(topics.requests, partition),
        }
        self._heads = Heads()
        self._consumer: Consumer | None = None
        self._trouble: str | None = None
        self._started_ms = 0

    async def start(self, next_offsets: Mapping[str, int]) -> None:
        """See ``Inputs``."""
        await self.close()
        self._heads = Heads()
        places = self._places
        consumer = await Consumer.start(
            self._kafka, "ledgerline-inputs", Isolation.COMMITTED, max_poll_records=FETCH_EVERYTHING
        )
        try:
            starts = await consumer.start_offsets(places.values())
            ends = await consumer.end_offsets(places.values())
            for name, place in places.items():
                self._check_retained(place, next_offsets[name], starts[place], ends[place])
            consumer.assign(places.values())
            for name, place in places.items():
                consumer.seek(place, next_offsets[name])
        except BaseException:
            await consumer.close()
            raise
        self._consumer, self._started_ms = consumer, _now_ms()

    async def take(self, limit: int, wait_ms: int) -> list[Input]:
        """See ``Inputs``."""
        taken: list[Input] = []
        if self._heads.waiting() < limit:
            await self._fetch(0 if self._heads.waiting() else wait_ms)
        taken = self._heads.take(limit)
        if not taken and self._heads.waiting():  # the other input's end is not known yet
            await self._fetch(wait_ms)
            taken = self._heads.take(limit)
        return taken

    def lag(self) -> Lag:
        """See ``Inputs``."""
        return Lag(self._heads.waiting() + self._behind)

    @property
    def trouble(self) -> str | None:
        """See ``Inputs``."""
        return self._trouble

    async def close(self) -> None:
        """See ``Inputs``."""
        consumer, self._consumer, self._trouble = self._consumer, None, None
        if consumer is not None:
            await consumer.close()

    _behind = 0  # records of requests at the broker that were not fetched yet, as of the last fetch

    async def _fetch(self, wait_ms: int) -> None:
        assert self._consumer is not None, "start comes first"
        consumer, heads = self._consumer, self._heads
        wanted = [place for name, place in self._places.items() if heads.room(name)]
        try:
            found = await consumer.poll(*wanted, timeout_ms=wait_ms)
        except OffsetOutOfRange as error:
            raise Halt(
                f"the records at the position in the journal are gone: {error}; requests were deleted before they were "
                "decided, or the topic was recreated: restore it, or start a new ledger",
                topic=str(self._places["requests"]),
                offset=None,
            ) from error
        self._trouble = None
        for name, place in self._places.items():
            records = found.get(place)
            if records:
                heads.add(name, records)
            position = await consumer.position(place)
            if heads.empty(name):
                end = consumer.last_stable_offset(place)
                heads.ended(name, end is not None and position >= end)
                silent_s = (_now_ms() - (consumer.last_answer_ms(place) or self._started_ms)) / 1000
                if silent_s > SILENT_AFTER_S:
                    self._trouble = f"{place}: expected an answer to a fetch, got none for {silent_s:.0f} s"
            if name == "requests":
                self._behind = max(0, (consumer.high_water(place) or 0) - position)

    @staticmethod
    def _check_retained(place: Partition, position: int, start: int, end: int) -> None:
        if not start <= position <= end:
            raise Halt(
                f"expected the record at {position}, the position in the journal, within the log {start}..{end}: "
                "records were deleted before they were decided, or the topic was recreated; "
                "restore it, or start a new ledger",
                topic=str(place),
                offset=position,
            )


def _now_ms() -> int:
    return int(time.time() * 1000)
