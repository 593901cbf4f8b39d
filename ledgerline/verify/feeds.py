"""Topics as the checker reads them: one partition at a time, from a start to an end that was taken before."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, Protocol, Self

from streams.kafka import Admin, Consumer, Isolation, KafkaFailure, Partition, Record

STALL_S: Final = 60.0
"""No progress for this long below a known end is a failure of the broker, not of the ledger."""
_POLL_MS: Final = 1_000
_POLL_RECORDS: Final = 5_000
_CLIENT: Final = "ledgerline-verify"


class Feed(Protocol):
    """Committed records only: they are what the engine has to answer, and all there is in the other topics."""

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions those of *topics* have that exist."""

    async def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the first retained offset of each."""

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the last stable offset of each."""

    def read(self, partition: Partition, start: int, end: int) -> AsyncIterator[list[Record]]:
        """Yield the records with start <= offset < end, a fetch at a time; offsets may have gaps."""


class KafkaFeed:
    """The feed of a real Kafka. Every method raises KafkaFailure where it does not answer."""

    def __init__(self, consumer: Consumer, admin: Admin) -> None:
        self._consumer = consumer
        self._admin = admin

    @classmethod
    async def open(cls, bootstrap: str) -> Self:
        """Connect."""
        admin = await Admin.start(bootstrap, _CLIENT)
        try:
            consumer = await Consumer.start(bootstrap, _CLIENT, Isolation.COMMITTED, max_poll_records=_POLL_RECORDS)
        except BaseException:
            await admin.close()
            raise
        return cls(consumer, admin)

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """See Feed."""
        known = await self._admin.topics()
        found = await self._admin.describe_topics(sorted(known.intersection(topics)))
        return {name: info.partitions for name, info in found.items()}

    async def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Feed."""
        return await self._consumer.start_offsets(partitions)

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Feed."""
        return await self._consumer.end_offsets(partitions)

    async def read(self, partition: Partition, start: int, end: int) -> AsyncIterator[list[Record]]:
        """See Feed. The end is reached when the position is there: the last offsets may be control markers."""
        if start >= end:
            return
        self._consumer.assign([partition])
        self._consumer.seek(partition, start)
        moved = time.monotonic()
        while await self._consumer.position(partition) < end:
            records = (await self._consumer.poll(partition, timeout_ms=_POLL_MS)).get(partition, [])
            if records:
                moved = time.monotonic()
                yield records if records[-1].offset < end else [r for r in records if r.offset < end]
            elif time.monotonic() - moved > STALL_S:
                raise KafkaFailure(f"read {partition}: expected records up to offset {end}, none for {STALL_S:.0f} s")

    async def close(self) -> None:
        """Close the connections."""
        await self._consumer.close()
        await self._admin.close()
