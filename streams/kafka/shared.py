"""A producer that several users share, replaced at its first error."""

from __future__ import annotations

import asyncio

from streams.kafka.producers import Producer


class SharedProducer:
    """One idempotent producer of a process: what its users send at the same time travels in one request.

    An idempotent producer is of no use after an error. Whoever sees one calls ``replace``: the producer is killed,
    which fails what others have under way with it, and the next ``usable`` opens another.
    """

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap, self._client_id = bootstrap, client_id
        self._producer: Producer | None = None
        self._changing = asyncio.Lock()

    async def usable(self) -> Producer:
        """A producer that nobody has seen fail. Raises KafkaFailure."""
        async with self._changing:
            if self._producer is None:
                self._producer = await Producer.idempotent(self._bootstrap, self._client_id)
            return self._producer

    async def replace(self, failed: Producer) -> None:
        """Kill *failed*, unless somebody did already; nothing of it is appended by us after this returns.

        It is ended even if the caller is cancelled meanwhile, as when its partition is revoked.
        """
        await asyncio.shield(self._replace(failed))

    async def _replace(self, failed: Producer) -> None:
        async with self._changing:
            if self._producer is failed:
                self._producer = None
                await failed.kill()

    async def close(self) -> None:
        """Close the producer, also if the caller is cancelled meanwhile; nothing may be under way."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        async with self._changing:
            producer, self._producer = self._producer, None
            if producer is not None:
                await producer.close()
