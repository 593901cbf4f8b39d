"""Publishing: the records of ``outcomes`` get there in order, or the partition waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from streams.halts import Halt
from streams.kafka import (
    Consumer,
    Isolation,
    KafkaFailure,
    Outgoing,
    Partition,
    Producer,
    Record,
    RecordTooLarge,
)

SEND_TIMEOUT_S: Final = 15.0
MIN_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
TAIL_RECORDS: Final = 100

log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """Where outcomes go."""

    def trouble(self, to: Partition) -> str | None:
        """Why the last attempt to publish to *to* failed; None when it did not."""

    async def publish(self, to: Partition, records: Sequence[Outgoing]) -> None:
        """Return when *records* are acknowledged, in order; I/O trouble is retried without end. Raises Halt."""

    async def tail(self, of: Partition) -> list[Record]:
        """The last records of *of*, at most 100, fewer if some are control markers. Raises KafkaFailure."""


class KafkaPublisher:
    """Publishes through one producer for all partitions of the process.

    A failed publication is sent again as a whole: records may be doubled, but the first occurrence of each is in order,
    because nothing newer is sent to the partition before the older ones are acknowledged.
    """

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._producer = Producer(kafka, "ledgerline-outcomes")
        self._troubles: dict[Partition, str] = {}

    def trouble(self, to: Partition) -> str | None:
        """See ``Publisher``."""
        return self._troubles.get(to)

    async def publish(self, to: Partition, records: Sequence[Outgoing]) -> None:
        """See ``Publisher``."""
        if not records:
            return
        delay_s = MIN_BACKOFF_S
        while True:
            try:
                await self._producer.send_all(to, records, SEND_TIMEOUT_S)
            except RecordTooLarge as error:
                raise Halt(f"an outcome that the topic does not take: {error}", topic=str(to), offset=None) from error
            except KafkaFailure as error:
                self._troubles[to] = str(error)
                log.warning("publication failed; sending again", partition=to.number, error=str(error))
            else:
                self._troubles.pop(to, None)
                return
            await asyncio.sleep(delay_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter
            delay_s = min(2 * delay_s, MAX_BACKOFF_S)

    async def tail(self, of: Partition) -> list[Record]:
        """See ``Publisher``."""
        consumer = await Consumer.start(self._kafka, "ledgerline-tail", Isolation.UNCOMMITTED)
        try:
            start = (await consumer.start_offsets([of]))[of]
            end = (await consumer.end_offsets([of]))[of]
            position = max(start, end - TAIL_RECORDS)
            if position >= end:
                return []
            consumer.assign([of])
            consumer.seek(of, position)
            found: list[Record] = []
            while await consumer.position(of) < end:
                found += (await consumer.poll(of, timeout_ms=1_000)).get(of, [])
            return found
        finally:
            await consumer.close()

    async def close(self) -> None:
        """Close the producer; nothing may be under way."""
        await self._producer.close()
