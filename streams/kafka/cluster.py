"""Who leads which partition, and requests to that broker: aiokafka's client, opened when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, TypeVar

import aiokafka.errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup

from streams.kafka.common import (
    CLOSE_TIMEOUT_S,
    REQUEST_TIMEOUT_MS,
    ClientLeak,
    KafkaFailure,
    Partition,
    Unreachable,
    failures,
    topic_partition,
)
from streams.kafka.wire import Request

Answer = TypeVar("Answer")

METADATA_MAX_AGE_MS: Final = 60_000
LOOK_TIMEOUT_S: Final = 4 * REQUEST_TIMEOUT_MS / 1000
"""Of one look for leaders: the brokers are asked in turn, and one that is frozen keeps silent for a whole request."""


class Cluster:
    """Metadata of, and connections to, the brokers behind one bootstrap address; one connection a broker.

    Requests to one broker are answered in the order in which they were sent. None is sent again.
    """

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap, self._client_id = bootstrap, client_id
        self._client: Any = None  # AIOKafkaClient is untyped
        self._leaders: dict[Partition, int] = {}  # as of the client's last metadata
        self._topics: set[str] = set()
        self._changing = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False

    async def connect(self) -> None:
        """Connect if that was not done. Raises KafkaFailure."""
        await self._opened()

    def known_leader(self, place: Partition) -> int | None:
        """The broker that leads *place* as far as is known."""
        known = self._leaders.get(place)
        if known is None and self._client is not None:
            leader = self._client.cluster.leader_for_partition(topic_partition(place))
            if leader is not None and leader >= 0:
                known = self._leaders[place] = int(leader)
        return known

    async def leader(self, place: Partition) -> int:
        """The broker that leads *place*. Raises Unreachable if there is none just now."""
        if (known := self.known_leader(place)) is not None:
            return known
        await self.refresh(place.topic)
        if (known := self.known_leader(place)) is not None:
            return known
        raise Unreachable(f"{place}: expected a broker that leads it, the brokers name none")

    async def refresh(self, topic: str | None = None) -> None:
        """Ask the brokers anew, also about *topic*. If none answers, the next request begins at the bootstrap address.

        Raises: KafkaFailure if that cannot be reached either.
        """
        client = await self._opened()
        if topic is not None:
            self._topics.add(topic)
            client.add_topic(topic)
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                updated = await client.force_metadata_update()
        except TimeoutError:
            updated = False
        if not updated:
            await self._drop(client)

    def refresh_soon(self) -> None:
        """As ``refresh``, without waiting: leaders may have changed."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._try_to_refresh(), name="refresh metadata")

    async def _try_to_refresh(self) -> None:
        with contextlib.suppress(KafkaFailure):  # the next request meets it again, and tells
            await self.refresh()

    async def reach(self, node: int) -> None:
        """Connect to the broker *node* if that was not done: ``ask`` then writes at once. Raises KafkaFailure."""
        client = await self._opened()
        if not await client.ready(node):
            raise KafkaFailure(f"ask broker {node} of {self._bootstrap}: expected a connection, got none")

    async def ask(self, node: int, request: Request[Answer]) -> Answer:
        """The answer of the broker *node*. Raises KafkaFailure if there is none: whether it was done is not known."""
        client = await self._opened()
        doing = f"ask broker {node} of {self._bootstrap}"
        with failures(doing):
            try:
                answer: Answer = await client.send(node, request)
            except KeyError as error:  # a connection that did not answer in time was replaced before it was closed
                raise KafkaFailure(f"{doing}: got no answer in time") from error
            return answer

    def connection(self, node: int) -> object:
        """The connection to *node*, None without one: another object whenever it was made anew."""
        return None if self._client is None else self._client._conns.get((node, ConnectionGroup.DEFAULT))  # noqa: SLF001  # nothing public tells

    async def close(self) -> None:
        """Close every connection: what was not written by then is never sent.

        Raises: ClientLeak if one stays open: the process must exit.
        """
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        if (client := self._client) is not None:
            await self._drop(client)

    async def _opened(self) -> Any:
        if self._client is not None:
            return self._client
        async with self._changing:
            self._check()
            if self._client is None:
                client = AIOKafkaClient(
                    bootstrap_servers=self._bootstrap,
                    client_id=self._client_id,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                    metadata_max_age_ms=METADATA_MAX_AGE_MS,
                )
                try:
                    with failures(f"connect to {self._bootstrap}"):
                        async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
                            await client.bootstrap()
                            await client.set_topics(self._topics)
                    self._check()  # else nobody would close what was opened
                except BaseException:
                    await _close(client)
                    raise
                client.cluster.add_listener(lambda _: self._leaders.clear())
                self._client = client
            return self._client

    def _check(self) -> None:
        if self._closed:
            raise KafkaFailure(f"a client of {self._bootstrap} was closed")

    async def _drop(self, client: Any) -> None:
        """Shielded: a client that is closed halfway would stay."""
        if self._client is client:
            self._client = None
            self._leaders.clear()
        await asyncio.shield(_close(client))


async def _close(client: Any) -> None:
    for connection in client._conns.values():  # noqa: SLF001  # nothing public ends them
        if connection.connected():  # closed without this, it would still send what a frozen broker takes later
            connection._writer.transport.abort()  # noqa: SLF001  # as above
    with contextlib.suppress(TimeoutError, OSError, aiokafka.errors.KafkaError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.close()
    if (update := client._md_update_fut) is not None and not update.done():  # noqa: SLF001  # else it is waited for in vain
        update.set_result(False)
    left = [connection for connection in client._conns.values() if connection.connected()]  # noqa: SLF001  # nor shows them
    if left:
        raise ClientLeak(f"{len(left)} connection(s) not closed after {CLOSE_TIMEOUT_S} s; the process must end")
