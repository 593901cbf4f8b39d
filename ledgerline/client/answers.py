"""Reading answers: from the partitions in use, from the moment that they came into use, across failures."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from streams.kafka import Consumer, Isolation, KafkaFailure, OffsetOutOfRange, Partition, Record

POLL_MS: Final = 100
RECORDS: Final = 2_000
RECONNECT_S: Final = 0.5
IDLE_S: Final = 30.0
"""A partition on which nothing was awaited for so long is not read any more, until it is used again."""

_log = logging.getLogger("ledgerline.client")


@dataclass(slots=True)
class Counters:
    """What a client has read. Mutable; for monitoring."""

    answers: int = 0
    """Answers that were handed to a caller."""
    duplicates: int = 0
    """Further copies of an answer: publication is at least once."""
    foreign: int = 0
    """Answers to requests of others, and to requests that nobody waits for any more."""
    refused: int = 0
    """Answers that claimed one of our requests from another partition than its account's, or could not be read."""


class Answers:
    """Hands every record that is appended to the listened partitions to *deliver*, in the order of each partition."""

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        deliver: Callable[[Record], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._deliver = deliver
        self._ended = ended
        self._consumer: Consumer | None = None
        self._positions: dict[Partition, int] = {}
        self._users: dict[Partition, int] = {}
        self._idle_since: dict[Partition, float] = {}
        self._changing = asyncio.Lock()
        self._listening = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and begin. Raises KafkaFailure."""
        self._consumer = await self._connect()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.close()

    def use(self, partition: Partition) -> None:
        """Keep reading *partition* once ``listen`` has begun, until ``leave``."""
        self._users[partition] = self._users.get(partition, 0) + 1
        self._idle_since.pop(partition, None)

    async def listen(self, partition: Partition) -> None:
        """Return when everything that is appended to *partition*, which is in use, from now on will be delivered."""
        while partition not in self._positions:
            await self._stand_at_end(partition)

    def leave(self, partition: Partition) -> None:
        """End what ``use`` began."""
        self._users[partition] -= 1
        if not self._users[partition]:
            self._idle_since[partition] = time.monotonic()

    async def _stand_at_end(self, partition: Partition) -> None:
        async with self._changing:
            if partition in self._positions:
                return
            if self._consumer is not None:
                try:
                    end = (await self._consumer.end_offsets([partition]))[partition]
                except KafkaFailure as failure:
                    _log.warning("connecting again to read answers: %s", failure)
                    await self._drop()
                else:
                    self._positions[partition] = end
                    self._assign(self._consumer)
                    self._listening.set()
                    return
        await asyncio.sleep(RECONNECT_S)

    async def _read(self) -> None:
        while True:
            await self._listening.wait()
            consumer = self._consumer
            try:
                if consumer is None:
                    async with self._changing:
                        consumer = self._consumer = await self._connect()
                        self._assign(consumer)
                if not self._positions:
                    self._listening.clear()
                    continue
                found = await consumer.poll(timeout_ms=POLL_MS)
            except OffsetOutOfRange as lost:
                _log.warning("answers are gone, their requests are sent again: %s", lost)
                async with self._changing:
                    await self._after_loss()
            except KafkaFailure as failure:
                _log.warning("connecting again to read answers: %s", failure)
                async with self._changing:
                    await self._drop()
                await asyncio.sleep(RECONNECT_S)
            else:
                for partition, records in found.items():
                    self._hand_over(partition, records)
                await self._leave_idle()

    def _hand_over(self, partition: Partition, records: Iterable[Record]) -> None:
        for record in records:
            position = self._positions.get(partition)
            if position is not None and record.offset >= position:  # else fetched before a change of the assignment
                self._positions[partition] = record.offset + 1
                self._deliver(record)

    async def _leave_idle(self) -> None:
        long_ago = time.monotonic() - IDLE_S
        idle = [p for p, since in self._idle_since.items() if since < long_ago and not self._users[p]]
        if not idle:
            return
        async with self._changing:
            for partition in idle:
                if not self._users[partition]:
                    self._positions.pop(partition, None)
                    self._idle_since.pop(partition, None)
            if self._consumer is not None:
                self._assign(self._consumer)

    async def _after_loss(self) -> None:
        """Stand at the ends again: answers that are no longer there come back by sending their requests again."""
        if self._consumer is not None:
            try:
                self._positions = await self._consumer.end_offsets(self._positions)
            except KafkaFailure:
                await self._drop()
            else:
                self._assign(self._consumer)

    async def _connect(self) -> Consumer:
        return await Consumer.start(self._bootstrap, self._client_id, Isolation.UNCOMMITTED, RECORDS)

    async def _drop(self) -> None:
        if self._consumer is not None:
            await self._consumer.close()
            self._consumer = None
        self._listening.set()  # so that the reader connects again, also when nothing is listened to yet

    def _assign(self, consumer: Consumer) -> None:
        """Assigning forgets what was fetched and every position, so both begin at ours."""
        consumer.assign(self._positions)
        for partition, offset in self._positions.items():
            consumer.seek(partition, offset)
