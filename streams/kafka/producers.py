"""Appending: every record through a client that dies at its first error and can be closed for certain."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import aiokafka
import aiokafka.errors

from streams.kafka.common import (
    BATCH_BYTES,
    CLOSE_TIMEOUT_S,
    MAX_RECORD_BYTES,
    REQUEST_TIMEOUT_MS,
    Acknowledged,
    ClientLeak,
    KafkaFailure,
    Outgoing,
    Partition,
    RecordTooLarge,
    failures,
)


class Producer:
    """Appends with ``acks=all``; records of one partition in the order of the calls.

    After an error of an idempotent producer, kill it and start another: it would refuse every later send to that
    partition (aiokafka issue 1017).
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._dead = False
        self._limits: set[asyncio.Timeout] = set()  # of the sends under way
        self._requests: set[asyncio.Task[None]] = set()  # under way, at most one for each broker

    @classmethod
    async def idempotent(cls, bootstrap: str, client_id: str) -> Self:
        """For journal, outcomes and transfers: re-sent requests are appended once as long as this client lives."""
        return await cls._start(bootstrap, client_id, enable_idempotence=True)

    @classmethod
    async def best_effort(cls, bootstrap: str, client_id: str) -> Self:
        """For reply topics and upstream clients: one bad record does not end the client; records may be doubled."""
        return await cls._start(bootstrap, client_id, enable_idempotence=False)

    @classmethod
    async def _start(cls, bootstrap: str, client_id: str, **more: Any) -> Self:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=60_000,
            **more,
        )
        self = cls(producer)
        self._note_requests()
        try:
            with failures(f"connect a producer to {bootstrap}"):
                await asyncio.wait_for(producer.start(), REQUEST_TIMEOUT_MS / 1000)
        except BaseException:
            await self.kill()
            raise
        return self

    def _note_requests(self) -> None:
        """Know the tasks that wait for brokers: the sender task, when it is cancelled, leaves all but one running."""
        sender = self._producer._sender  # noqa: SLF001  # nothing public shows them
        request = sender._send_produce_req  # noqa: SLF001  # as above

        async def noted(*to: Any) -> None:
            task: Any = asyncio.current_task()
            self._requests.add(task)
            try:
                await request(*to)
            finally:
                self._requests.discard(task)

        sender._send_produce_req = noted  # noqa: SLF001  # as above

    @property
    def dead(self) -> bool:
        """Whether it was closed."""
        return self._dead

    async def send(self, to: Partition, record: Outgoing, timeout_s: float) -> Acknowledged:
        """Append one record and wait for its acknowledgement. After an error it may be there, or still get there."""
        doing = f"append a record of {len(record.value or b''):,} bytes to {to}"
        producer = self._usable(doing)
        async with self._limited(doing, timeout_s):
            meta = await producer.send_and_wait(
                to.topic, record.value, key=record.key, partition=to.number, headers=list(record.headers)
            )
        return Acknowledged(meta.offset, meta.timestamp or -1, meta.timestamp_type)

    async def send_all(self, to: Partition, records: Sequence[Outgoing], timeout_s: float) -> None:
        """Append *records* in order, in as few batches as fit, and wait for every acknowledgement (2 µs a record)."""
        doing = f"append {len(records)} record(s) to {to}"
        producer, sent = self._usable(doing), []
        async with self._limited(doing, timeout_s):
            batch = producer.create_batch()
            for record in records:
                if len(record.value or b"") > MAX_RECORD_BYTES:  # `send_batch` does not check it
                    raise RecordTooLarge(
                        f"{doing}: one is {len(record.value or b''):,} bytes long, at most {MAX_RECORD_BYTES:,}"
                    )
                if not self._add(batch, record):
                    sent.append(await producer.send_batch(batch, to.topic, partition=to.number))
                    batch = producer.create_batch()
                    self._add(batch, record)  # the first of a batch is accepted at any size
            if batch.record_count():
                sent.append(await producer.send_batch(batch, to.topic, partition=to.number))
            for acknowledgement in sent:
                await acknowledgement

    @contextlib.asynccontextmanager
    async def _limited(self, doing: str, timeout_s: float) -> AsyncIterator[None]:
        """At most *timeout_s*, and no longer than this client lives. Raises KafkaFailure."""
        with failures(doing):
            try:
                async with asyncio.timeout(timeout_s) as limit:
                    self._limits.add(limit)
                    try:
                        yield
                    finally:
                        self._limits.discard(limit)
            except TimeoutError as error:
                if self._dead:
                    raise KafkaFailure(f"{doing}: this client was closed meanwhile") from error
                raise

    @staticmethod
    def _add(batch: Any, record: Outgoing) -> bool:
        headers = list(record.headers)
        return batch.append(timestamp=None, key=record.key, value=record.value, headers=headers) is not None

    async def partitions_of(self, topic: str) -> int:
        """How many partitions *topic* has. An unknown one stays in the client's metadata: ask an admin first."""
        with failures(f"look up {topic}"):
            return len(await self._usable("look up").partitions_for(topic))

    def _usable(self, doing: str) -> Any:
        if self._dead:
            raise KafkaFailure(f"{doing}: this client was closed")
        return self._producer

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Wait for what is under way, then close; after *timeout_s* like ``kill``."""
        if self._dead:
            return
        self._dead = True
        with contextlib.suppress(TimeoutError, OSError, aiokafka.errors.KafkaError):
            await asyncio.wait_for(self._producer.stop(), timeout_s)
        await self.kill(timeout_s)

    async def kill(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the client without waiting for what is under way; afterwards nothing of it can be appended *by us*.

        aiokafka's ``stop()`` waits for a batch that never expires, and when it is given up the sender task goes on and
        may append minutes later. So: 1. cancel that task and those of its requests, which may still be connecting,
        2. close the connections (which fails the requests they wait for), until they have ended; 3. close what they
        opened meanwhile; 4. check. A request that has already left may still reach the broker. Sends under way fail at
        once.

        Raises: ClientLeak if something is left after *timeout_s*: the process must exit.
        """
        self._dead = True
        for limit in self._limits:  # aiokafka never tells them
            if not limit.expired():
                limit.reschedule(0)
        producer, deadline = self._producer, time.monotonic() + timeout_s
        producer._closed = True  # noqa: SLF001  # or its destructor complains
        sender = producer._sender.sender_task  # noqa: SLF001  # nothing public stops it
        while (running := self._running(sender)) and time.monotonic() < deadline:
            for task in running:
                task.cancel()
            await self._drop_connections(deadline)
            await asyncio.wait(running, timeout=0.1)
        await self._drop_connections(deadline)
        alive = [c for c in producer.client._conns.values() if c.connected()]  # noqa: SLF001  # nor shows them
        if alive or running:
            raise ClientLeak(
                f"a producer is not closed after {timeout_s} s: {len(alive)} open connection(s), {len(running)} "
                "running task(s); the process must end"
            )

    def _running(self, sender: asyncio.Task[None] | None) -> set[asyncio.Task[None]]:
        tasks = self._requests if sender is None else {sender, *self._requests}
        return {task for task in tasks if not task.done()}

    async def _drop_connections(self, deadline: float) -> None:
        with contextlib.suppress(TimeoutError, OSError, aiokafka.errors.KafkaError):
            await asyncio.wait_for(self._producer.client.close(), max(0.05, deadline - time.monotonic()))
