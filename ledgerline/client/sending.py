"""Appending requests: per partition one batch after the other, each until it is acknowledged."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from ledgerline.client.under_way import UnderWay
from streams.kafka import ClientLeak, KafkaFailure, Outgoing, Partition, Producer
from streams.topics import REQUESTS_MAX_BYTES

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = REQUESTS_MAX_BYTES // 2
"""Of keys, values and headers. The topic takes no larger batch than REQUESTS_MAX_BYTES; the other half is for what a
batch and each of its records add. One request has at most as many, so that it fits alone."""

APPEND_TIMEOUT_S: Final = 10.0
BACK_OFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts of a partition; the last one repeats."""

Ready = Callable[[Partition], Awaitable[None]]
Ended = Callable[[asyncio.Task[None]], None]

_log = logging.getLogger("ledgerline.client")


class Sender:
    """Appends requests; ``put`` returns at once. First copies for a partition are appended in the order of ``put``."""

    def __init__(self, bootstrap: str, client_id: str, ready: Ready, ended: Ended) -> None:
        """*ready* returns when the answers to what is appended to a partition will be heard; *ended* hears of tasks."""
        self._producer = Producer(bootstrap, client_id)
        self._ready = ready
        self._ended = ended
        self._queues: dict[Partition, deque[UnderWay]] = {}
        self._drains: dict[Partition, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Connect, so that a wrong address is known at once. Raises KafkaFailure."""
        await self._producer.connect()

    def put(self, request: UnderWay) -> None:
        """Append one more copy of *request* soon; try until it is acknowledged or nobody waits for it."""
        request.queued = True
        self._queues.setdefault(request.to, deque()).append(request)
        if request.to not in self._drains:
            drain = self._drains[request.to] = asyncio.create_task(self._drain(request.to))
            drain.add_done_callback(self._ended)

    async def close(self) -> None:
        """End every attempt and the producer."""
        drains = [*self._drains.values()]
        for drain in drains:
            drain.cancel()
        await asyncio.gather(*drains, return_exceptions=True)
        try:
            await self._producer.kill()
        except ClientLeak as leak:  # it could only repeat requests, which is harmless, as each has its id: so no exit
            _log.warning("%s (not ended)", leak)

    async def _drain(self, to: Partition) -> None:
        """Append what waits for *to*, batch by batch, once its answers will be heard; ends when nothing waits.

        A batch whose acknowledgement is missing may lie in the log; it is appended again before what came later.
        """
        queue, failures = self._queues[to], 0
        try:
            while batch := self._head(queue):
                await self._ready(to)
                for request in batch:
                    request.attempts += 1
                try:
                    await self._producer.send_all(to, [request.outgoing for request in batch], APPEND_TIMEOUT_S)
                except KafkaFailure as failure:
                    _log.warning("requests not acknowledged, sending again: %s", failure)
                    for request in batch:
                        request.problem = str(failure)
                    await asyncio.sleep(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                    failures += 1
                else:
                    failures = 0
                    for request in batch:
                        queue.popleft()
                        request.queued = False
                        request.acknowledged += 1
        finally:
            del self._drains[to]  # no await since the queue was seen empty: a later put starts the next drain

    @staticmethod
    def _head(queue: deque[UnderWay]) -> list[UnderWay]:
        """The next batch, which stays in the queue; what nobody waits for any more is dropped."""
        waiting = [request for request in queue if not request.answer.done()]
        if len(waiting) < len(queue):
            queue.clear()
            queue.extend(waiting)
        room, batch = BATCH_BYTES, list[UnderWay]()
        for request in waiting[:BATCH_RECORDS]:
            room -= _size(request.outgoing)
            if batch and room < 0:
                break
            batch.append(request)
        return batch


def _size(record: Outgoing) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
