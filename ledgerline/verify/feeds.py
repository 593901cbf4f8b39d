"""Topics as the checker reads them: from a start to an end that was taken before."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Protocol, Self

from streams.kafka import Admin, Consumer, Isolation, KafkaFailure, Partition, Record

STALL_S: Final = 60.0
"""No progress for this long below a known end is a failure of the broker, not of the ledger."""
_POLL_MS: Final = 1_000
_POLL_RECORDS: Final = 5_000
_CLIENT: Final = "ledgerline-verify"


Ranges = Mapping[Partition, tuple[int, int]]
"""Per partition the first offset to read, and the one to stop in front of."""


class Feed(Protocol):
    """Committed records only: they are what the engine has to answer, and all there is in the other topics."""

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions those of *topics* have that exist."""

    async def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the first retained offset of each."""

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the last stable offset of each."""

    def read(self, ranges: Ranges) -> AsyncIterator[tuple[Partition, list[Record]]]:
        """Yield the records of each partition with start <= offset < end, in order, a fetch at a time.

        Offsets may have gaps; the partitions come in any order.
        """


class KafkaFeed:
    """The feed of a real Kafka. Every method raises KafkaFailure where it does not answer."""

    def __init__(self, reader: Consumer, asker: Consumer, admin: Admin) -> None:
        self._reader = reader
        self._asker = asker  # a question waits for the fetch under way, which this one never has
        self._admin = admin

    @classmethod
    async def open(cls, bootstrap: str) -> Self:
        """Connect."""
        async with contextlib.AsyncExitStack() as opened:
            admin = await Admin.start(bootstrap, _CLIENT)
            opened.push_async_callback(admin.close)
            reader = await Consumer.start(bootstrap, _CLIENT, Isolation.COMMITTED, _POLL_RECORDS)
            opened.push_async_callback(reader.close)
            asker = await Consumer.start(bootstrap, _CLIENT, Isolation.COMMITTED)
            opened.pop_all()
        return cls(reader, asker, admin)

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """See Feed."""
        known = await self._admin.topics()
        found = await self._admin.describe_topics(sorted(known.intersection(topics)))
        return {name: info.partitions for name, info in found.items()}

    async def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Feed."""
        return await self._asker.start_offsets(partitions)

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Feed."""
        return await self._asker.end_offsets(partitions)

    async def read(self, ranges: Ranges) -> AsyncIterator[tuple[Partition, list[Record]]]:
        """See Feed. The end is reached when the position is there: the last offsets may be control markers."""
        ends = {partition: end for partition, (start, end) in ranges.items() if start < end}
        if not ends:
            return
        self._reader.assign(ends)
        for partition in ends:
            self._reader.seek(partition, ranges[partition][0])
        moved = time.monotonic()
        while ends:
            for partition, records in (await self._reader.poll(timeout_ms=_POLL_MS)).items():
                if partition in ends:
                    moved = time.monotonic()
                    yield partition, [r for r in records if r.offset < ends[partition]]
            for partition in [p for p, end in ends.items() if await self._reader.position(p) >= end]:
                del ends[partition]
                self._reader.pause(partition)
            if time.monotonic() - moved > STALL_S:
                named = ", ".join(f"{p} to {end}" for p, end in ends.items())
                raise KafkaFailure(f"expected more records of {named}, found none for {STALL_S:.0f} s")

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.close()
        await self._asker.close()
        await self._admin.close()
