"""Sends the demo's requests at a steady rate, as a plain upstream service would: key = account, default partitioner."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from ledgerline.demo.traffic import Outbound
from schemas.records import partition_of
from streams.kafka import KafkaFailure, Outgoing, Partition, Producer

TICK_S: Final = 0.02
BURST: Final = 1_000
"""Accounts are opened in bursts; payments are sent in bursts of at most this many, however late the sender is."""
ACKNOWLEDGED_WITHIN_S: Final = 30.0
RETRY_S: Final = 0.2
MAX_UNANSWERED: Final = 50_000
"""Above this backlog the sender waits: the demo shows a stream, not a queue."""


class Sender:
    """Appends to ``requests``; mutable, used by one task."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._topic = topic
        self._partitions = partitions
        self._producer = Producer(bootstrap, "ledgerline-demo")
        self.sent = 0

    async def send(self, outbound: list[Outbound]) -> None:
        """Append *outbound*, in order per partition. After an error the same bytes are sent again."""
        groups: defaultdict[int, list[Outgoing]] = defaultdict(list)
        for one in outbound:
            groups[partition_of(one.key, self._partitions)].append(Outgoing(one.key, one.value))
        await asyncio.gather(*(self._append(number, records) for number, records in groups.items()))
        self.sent += len(outbound)

    async def _append(self, number: int, records: list[Outgoing]) -> None:
        while True:
            try:
                return await self._producer.send_all(Partition(self._topic, number), records, ACKNOWLEDGED_WITHIN_S)
            except KafkaFailure:
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Close the producer; everything sent was acknowledged."""
        await self._producer.close()


async def send_bursts(sender: Sender, outbound: Iterator[Outbound]) -> int:
    """Send everything as fast as it is acknowledged; return the number of requests."""
    before = sender.sent
    while burst := list(islice(outbound, BURST)):
        await sender.send(burst)
    return sender.sent - before


async def send_steadily(
    sender: Sender,
    take: Callable[[int, int], list[Outbound]],
    rate: int,
    unanswered: Callable[[], int],
) -> None:
    """Send what *take* gives, *rate* a second; a sender that falls behind catches up in bursts of 1,000 at most."""
    began, sent = time.monotonic(), 0
    while True:
        due = int(rate * (time.monotonic() - began)) - sent
        if due <= 0 or unanswered() > MAX_UNANSWERED:
            await asyncio.sleep(TICK_S)
            continue
        batch = take(min(due, BURST), time.time_ns() // 1_000_000)
        if not batch:
            return
        await sender.send(batch)
        sent += len(batch)
