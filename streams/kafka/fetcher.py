"""Reading: one fetch after the other, each from the offsets that the caller names."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import aiokafka.errors
from aiokafka.protocol.offset import OffsetRequest

from streams.kafka.cluster import Cluster
from streams.kafka.common import Isolation, KafkaFailure, OffsetOutOfRange, Partition, Record, Unreachable, failures
from streams.kafka.lenient import read_batches
from streams.kafka.wire import NO_REPLICA, FetchedBytes, fetch

LATEST: Final = -1
EARLIEST: Final = -2
NOBODY: Final = -1
"""Stands for the broker of partitions that nobody leads."""

RETRY_S: Final = 0.1
"""Before a broker that did not answer, or one that refused a partition, is asked again for it."""

LEADER_WITHIN_S: Final = 5.0
"""How long a partition that nobody leads, as right after its creation, is asked for its ends again."""

TOGETHER_S: Final = 0.002
"""How long the answers of other brokers are waited for behind the first one, so that they come with the same fetch:
brokers that all have something answer about as fast as each other."""

LATE_S: Final = 0.1
"""How much longer than the brokers were told to wait an answer is waited for."""

_OUT_OF_RANGE: Final = aiokafka.errors.OffsetOutOfRangeError.errno
_PASSING: Final = frozenset(
    error.errno
    for error in (
        aiokafka.errors.NotLeaderForPartitionError,
        aiokafka.errors.LeaderNotAvailableError,
        aiokafka.errors.ReplicaNotAvailableError,
        aiokafka.errors.UnknownTopicOrPartitionError,
        aiokafka.errors.KafkaStorageError,
    )
)
"""Errors of a partition whose leader is being changed."""


class Fetched(NamedTuple):
    """What one fetch gave of one partition."""

    records: list[Record]
    next_offset: int
    """To go on from: beyond the last record where control markers or aborted records follow."""
    stable_end: int
    """The last stable offset: transactions of records at or above it may still be open."""
    end: int
    """The log end."""
    link: tuple[object, object]
    """The broker and the connection it came by: unequal to an earlier one if either has changed."""


class _Asked(NamedTuple):
    offset: int
    answer: Fetched | KafkaFailure


class Fetcher:
    """Reads partitions of one cluster. It keeps no positions: each fetch says from where. One task at a time fetches.

    With ``Isolation.COMMITTED`` records of open and aborted transactions are not delivered.
    """

    def __init__(self, bootstrap: str, client_id: str, isolation: Isolation) -> None:
        """Connects when it is first used, and again whenever no broker can be reached."""
        self._cluster, self._isolation = Cluster(bootstrap, client_id), isolation
        self._asking: dict[int, asyncio.Task[dict[Partition, _Asked]]] = {}  # at most one fetch for each broker
        self._resting: dict[Partition, float] = {}  # until when, by the loop's clock, it is not asked for

    async def fetch(self, offsets: Mapping[Partition, int], wait_ms: int) -> dict[Partition, Fetched | KafkaFailure]:
        """What the first broker to answer has behind *offsets*, and those that answer within 2 ms of it.

        They wait up to *wait_ms* for something to come. Partitions of other brokers are missing in the answer; their
        fetches go on and are answered by a later call. So is a partition that nobody asked for yet when the fetch that
        is under way to its broker began. Nothing is said if no broker answers. A failure of one partition is its value:
        Unreachable passes; OffsetOutOfRange, and a
        KafkaFailure for what cannot be read, do not.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_ms / 1000 + LATE_S
        found: dict[Partition, Fetched | KafkaFailure] = {}
        while not found and (left_s := deadline - clock()) > 0:
            for node, places in self._by_leader(self._awake(offsets, clock())).items():
                if node not in self._asking:
                    self._asking[node] = asyncio.create_task(
                        self._ask(node, places, wait_ms), name=f"fetch from {node}"
                    )
            if self._asking:
                done, others = await asyncio.wait(
                    self._asking.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if done and others:
                    await asyncio.wait(others, timeout=TOGETHER_S)
            else:
                await asyncio.sleep(min(left_s, RETRY_S))
            for node in [node for node, asking in self._asking.items() if asking.done()]:
                for place, (offset, answer) in self._asking.pop(node).result().items():
                    if offsets.get(place) == offset:
                        found[place] = answer
        return found

    async def start_offset(self, place: Partition) -> int:
        """The first offset that is kept. Raises KafkaFailure."""
        return await self._listed(place, EARLIEST)

    async def end_offset(self, place: Partition) -> int:
        """The log end, or with ``Isolation.COMMITTED`` the last stable offset. Raises KafkaFailure."""
        return await self._listed(place, LATEST)

    async def close(self) -> None:
        """Close the connections; nothing may be under way but what a cancelled fetch has left."""
        asking = [*self._asking.values()]
        self._asking.clear()
        for task in asking:
            task.cancel()
        await self._cluster.close()
        await asyncio.gather(*asking, return_exceptions=True)

    def _awake(self, offsets: Mapping[Partition, int], now: float) -> Mapping[Partition, int]:
        """Without those that were refused a moment ago: a refusal comes at once, also in front of what others have."""
        if not self._resting:
            return offsets
        self._resting = {place: until for place, until in self._resting.items() if until > now}
        return {place: offset for place, offset in offsets.items() if place not in self._resting}

    def _by_leader(self, offsets: Mapping[Partition, int]) -> dict[int, dict[Partition, int]]:
        found: dict[int, dict[Partition, int]] = {}
        for place, offset in offsets.items():
            leader = self._cluster.known_leader(place)
            found.setdefault(NOBODY if leader is None else leader, {})[place] = offset
        return found

    async def _ask(self, node: int, offsets: dict[Partition, int], wait_ms: int) -> dict[Partition, _Asked]:
        if node == NOBODY:
            return await self._look_for_leaders(offsets)
        in_turn = [*offsets.items()]
        random.shuffle(in_turn)  # else the first could keep large batches of the others out of every answer
        try:
            answers = await self._cluster.ask(node, fetch(in_turn, self._isolation, wait_ms))
        except KafkaFailure as error:
            return await self._unreachable(offsets, error)
        link = node, self._cluster.connection(node) or object()  # without one it is equal to no other
        found = {
            place: _Asked(offset, self._read(place, offset, answers[place], link))
            for place, offset in in_turn
            if place in answers  # a broker that enforces a quota answers at once, of no partition
        }
        if refused := [place for place, asked in found.items() if isinstance(asked.answer, Unreachable)]:
            self._resting.update(dict.fromkeys(refused, asyncio.get_running_loop().time() + RETRY_S))
            self._cluster.refresh_soon()
        return found

    def _read(
        self, place: Partition, offset: int, answer: FetchedBytes, link: tuple[object, object]
    ) -> Fetched | KafkaFailure:
        if answer.error == _OUT_OF_RANGE:
            return OffsetOutOfRange(f"read {place} from offset {offset}: it is out of range", frozenset({place}))
        if answer.error:
            kind = Unreachable if answer.error in _PASSING else KafkaFailure
            return kind(f"read {place} from offset {offset}: {aiokafka.errors.for_code(answer.error).__name__}")
        if not answer.data:
            return Fetched([], offset, answer.stable_end, answer.high_water, link)
        try:
            records, behind = read_batches(place, answer.data, answer.aborted, offset, self._isolation)
        except KafkaFailure as error:
            return error
        return Fetched(records, behind, answer.stable_end, answer.high_water, link)

    async def _look_for_leaders(self, offsets: dict[Partition, int]) -> dict[Partition, _Asked]:
        error: KafkaFailure = Unreachable(f"{', '.join(map(str, offsets))}: found the leader only now")
        for place in {place.topic: place for place in offsets}.values():  # one look tells of all partitions of a topic
            try:
                await self._cluster.leader(place)
            except Unreachable as failure:
                error = failure
            except KafkaFailure as failure:
                error = failure
                break
        if self._by_leader(offsets).keys() == {NOBODY}:
            return await self._unreachable(offsets, error)
        return {}

    async def _unreachable(self, offsets: dict[Partition, int], error: KafkaFailure) -> dict[Partition, _Asked]:
        self._cluster.refresh_soon()
        await asyncio.sleep(RETRY_S)
        unreachable = Unreachable(str(error))
        unreachable.__cause__ = error
        return {place: _Asked(offset, unreachable) for place, offset in offsets.items()}

    async def _listed(self, place: Partition, at: int) -> int:
        clock = asyncio.get_running_loop().time
        deadline = clock() + LEADER_WITHIN_S
        while True:
            try:
                return await self._listed_by_leader(place, at)
            except Unreachable:
                self._cluster.refresh_soon()
                if clock() >= deadline:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _listed_by_leader(self, place: Partition, at: int) -> int:
        doing = f"ask for {'the start' if at == EARLIEST else 'the end'} of {place}"
        with failures(doing):
            node = await self._cluster.leader(place)
            level = 1 if self._isolation is Isolation.COMMITTED else 0
            try:
                answer: Any = await self._cluster.ask(
                    node, OffsetRequest(NO_REPLICA, level, [(place.topic, [(place.number, at)])])
                )
            except KafkaFailure:
                self._cluster.refresh_soon()
                raise
            ((_, ((_, error, _, offset),)),) = answer.topics
            if error in _PASSING:
                raise Unreachable(f"{doing}: {aiokafka.errors.for_code(error).__name__}")
            if error:
                raise aiokafka.errors.for_code(error)
            return int(offset)
