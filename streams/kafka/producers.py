"""Appending: nothing is sent behind the back of whoever waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import aiokafka.errors
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.kafka.cluster import Cluster
from streams.kafka.common import (
    BATCH_BYTES,
    CLOSE_TIMEOUT_S,
    LOG_APPEND_TIME,
    MAX_RECORD_BYTES,
    NO_PRODUCER,
    Acknowledged,
    ClientLeak,
    KafkaFailure,
    Outgoing,
    Partition,
    RecordTooLarge,
    Unreachable,
    failures,
)
from streams.kafka.wire import Produced, produce

REPLICATED_WITHIN_MS: Final = 10_000
"""Then the broker gives up waiting for replicas, and says so; before the client closes the connection."""

REQUEST_BYTES: Final = 16 * 1024 * 1024
"""One request holds no more, unless one batch is larger: far below the brokers' default `socket.request.max.bytes`."""

LEADER_PAUSE_S: Final = 0.1
"""Between two looks for the leader of a partition."""

_NOT_THE_LEADER: Final = frozenset(
    error.errno
    for error in (
        aiokafka.errors.NotLeaderForPartitionError,
        aiokafka.errors.LeaderNotAvailableError,
        aiokafka.errors.UnknownTopicOrPartitionError,
    )
)
"""Told by a broker that does not lead the partition any more, or does not know yet that it does."""


@dataclass(slots=True, eq=False)
class _Batch:
    """What one call sends to one partition, and its answer."""

    to: Partition
    data: bytes
    answer: asyncio.Future[Produced]


class Producer:
    """Appends with ``acks=all``; what is sent at the same time travels in one request for each broker.

    While that is under way the next one fills. Calls for one partition that wait at the same time are appended in their
    order, as long as its leader stays the same.

    A batch is sent again only when a broker said that it does not lead the partition; one that lost it while replicas
    were behind says so also of a batch that it had appended, which may then lie there twice. After any other error the
    batch is in the log, or gets there, or never does, and it is up to the caller to send it again. An error of one
    partition is no business of the others, except that the loss of a connection, or 15 s without any answer, ends
    everything that is under way to that broker.
    """

    def __init__(self, bootstrap: str, client_id: str) -> None:
        """Connects when it is first used, and again whenever no broker can be reached."""
        self._cluster = Cluster(bootstrap, client_id)
        self._waiting: dict[int, deque[_Batch]] = {}  # by broker, not yet sent
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._dead = False

    @classmethod
    async def start(cls, bootstrap: str, client_id: str) -> Self:
        """One that is connected. Raises KafkaFailure."""
        self = cls(bootstrap, client_id)
        await self.connect()
        return self

    async def connect(self) -> None:
        """Connect if that was not done, so that a wrong address is known at once. Raises KafkaFailure."""
        await self._cluster.connect()

    async def send(self, to: Partition, record: Outgoing, timeout_s: float) -> Acknowledged:
        """Append one record and wait for its acknowledgement. Raises RecordTooLarge, KafkaFailure."""
        doing = f"append a record of {len(record.value or b''):,} bytes to {to}"
        (batch,) = _batches(doing, [record])
        got = await self._append(doing, to, batch, timeout_s)
        return Acknowledged(got.offset, got.timestamp_ms, LOG_APPEND_TIME if got.timestamp_ms >= 0 else 0)

    async def send_all(self, to: Partition, records: Sequence[Outgoing], timeout_s: float) -> None:
        """Append *records* in order, in as few batches as fit, and wait for every acknowledgement (2 µs a record).

        A batch is sent when the one before is acknowledged: after an error there is no gap in what was appended.
        """
        doing = f"append {len(records)} record(s) to {to}"
        for batch in list(_batches(doing, records)):
            await self._append(doing, to, batch, timeout_s)

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Wait for what is under way, then close; after *timeout_s* like ``kill``."""
        self._dead = True
        if self._pumps:
            await asyncio.wait(self._pumps.values(), timeout=timeout_s)
        await self.kill()

    async def kill(self) -> None:
        """End without waiting: what waits is never sent, and what is under way fails; it may still reach the broker.

        Raises: ClientLeak if something is left after 5 s: the process must exit.
        """
        self._dead = True
        await asyncio.shield(self._kill())

    async def _kill(self) -> None:
        pumps = [*self._pumps.values()]
        for pump in pumps:
            pump.cancel()
        await self._cluster.close()
        if pumps:
            _, running = await asyncio.wait(pumps, timeout=CLOSE_TIMEOUT_S)
            if running:
                raise ClientLeak(f"{len(running)} request(s) not ended after {CLOSE_TIMEOUT_S} s; the process must end")

    # ---- one batch

    async def _append(self, doing: str, to: Partition, data: bytes, timeout_s: float) -> Produced:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        with failures(doing):
            try:
                answer = await self._answered(to, data, deadline)
                while answer.error in _NOT_THE_LEADER:
                    await asyncio.sleep(min(LEADER_PAUSE_S, deadline - clock()))
                    answer = await self._answered(to, data, deadline)
            except KafkaFailure as error:
                raise KafkaFailure(f"{doing}: {error}") from error
            if answer.error:
                raise aiokafka.errors.for_code(answer.error)
            return answer

    async def _answered(self, to: Partition, data: bytes, deadline: float) -> Produced:
        """What the leader of *to* says. Raises KafkaFailure, TimeoutError at the *deadline* of the loop's clock."""
        node, loop = self._cluster.known_leader(to), asyncio.get_running_loop()
        if node is None:
            async with asyncio.timeout_at(deadline):
                node = await self._leader(to)
        self._check()
        if loop.time() >= deadline:
            raise TimeoutError
        batch = _Batch(to, data, loop.create_future())
        late = loop.call_at(deadline, _fail, [batch], TimeoutError())  # less than half of what asyncio.timeout costs
        self._waiting.setdefault(node, deque()).append(batch)
        if node not in self._pumps:
            self._pumps[node] = asyncio.create_task(self._pump(node), name=f"produce to broker {node}")
        try:
            return await batch.answer
        finally:
            late.cancel()

    async def _leader(self, to: Partition) -> int:
        while True:
            self._check()
            try:
                return await self._cluster.leader(to)
            except Unreachable:
                await asyncio.sleep(LEADER_PAUSE_S)

    def _check(self) -> None:
        if self._dead:
            raise KafkaFailure("this client was closed")

    # ---- one broker

    async def _pump(self, node: int) -> None:
        """Request after request until nothing waits: one at a time, so that batches of a partition stay in order."""
        waiting, request = self._waiting[node], list[_Batch]()
        try:
            while waiting:
                if await self._reached(node, waiting) and (request := _next_request(waiting)):
                    await self._request(node, request)
        except asyncio.CancelledError:
            _fail([*request, *waiting], KafkaFailure("this client was closed meanwhile"))
            raise
        finally:
            del self._pumps[node], self._waiting[node]  # no await since nothing waited

    async def _reached(self, node: int, waiting: deque[_Batch]) -> bool:
        """Connect before anything is taken to be sent: what is given up meanwhile must not be."""
        try:
            await self._cluster.reach(node)
        except Exception as error:  # noqa: BLE001 - a defect too: whoever waits must hear of it
            _fail(waiting, error)
            waiting.clear()
            self._cluster.refresh_soon()
            return False
        return True

    async def _request(self, node: int, request: list[_Batch]) -> None:
        try:
            answers = await self._cluster.ask(
                node, produce([(batch.to, batch.data) for batch in request], REPLICATED_WITHIN_MS)
            )
            for batch in request:
                if batch.to not in answers:
                    _fail([batch], KafkaFailure(f"broker {node}: expected an answer for {batch.to}, got none"))
                elif not batch.answer.done():
                    batch.answer.set_result(answers[batch.to])
            if any(answer.error for answer in answers.values()):
                self._cluster.refresh_soon()
        except KafkaFailure as error:
            _fail(request, error)
            self._cluster.refresh_soon()
        except Exception as error:  # noqa: BLE001 - a defect: whoever waits must hear of it
            _fail(request, error)


def _next_request(waiting: deque[_Batch]) -> list[_Batch]:
    """The batches to send next, in order, at most one for each partition; what nobody waits for any more is dropped."""
    taken: dict[Partition, _Batch] = {}
    size = 0
    while waiting:
        batch = waiting[0]
        if not batch.answer.done():
            if batch.to in taken or (taken and size + len(batch.data) > REQUEST_BYTES):
                break
            taken[batch.to] = batch
            size += len(batch.data)
        waiting.popleft()
    return [*taken.values()]


def _fail(batches: Iterable[_Batch], error: Exception) -> None:
    for batch in batches:
        if not batch.answer.done():
            batch.answer.set_exception(error)


def _batches(doing: str, records: Sequence[Outgoing]) -> Iterator[bytes]:
    """*records* as record batches; a record that is larger than a batch has one of its own. Raises RecordTooLarge."""
    builder: Any = None
    count = 0
    for record in records:
        size = len(record.value or b"")
        if size > MAX_RECORD_BYTES:
            raise RecordTooLarge(f"{doing}: one is {size:,} bytes long, at most {MAX_RECORD_BYTES:,}")
        if builder is None or not _add(builder, count, record):
            if builder is not None:
                yield bytes(builder.build())
            builder, count = _builder(), 0
            _add(builder, count, record)  # the first is accepted at any size
        count += 1
    if builder is not None:
        yield bytes(builder.build())


def _builder() -> Any:
    return DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=NO_PRODUCER,
        producer_epoch=NO_PRODUCER,
        base_sequence=NO_PRODUCER,
        batch_size=BATCH_BYTES,
    )


def _add(builder: Any, number: int, record: Outgoing) -> bool:
    added = builder.append(number, timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    return added is not None
