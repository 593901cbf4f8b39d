"""Connections to brokers that freeze, leave or never answer: over sockets, with as much of a broker as that takes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v1

from streams.kafka import Isolation, KafkaFailure, Partition
from streams.kafka import cluster as module
from streams.kafka.cluster import Cluster
from streams.kafka.wire import fetch, produce
from tests.streams.world import until

HERE = Partition("t", 0)
FETCH, METADATA, VERSIONS = 1, 3, 18
TAKES = [(0, 3, 3), (FETCH, 4, 4), (METADATA, 1, 1), (VERSIONS, 0, 0)]
EVERYBODY, FIRST = (0, 1, 2), 0


class Broker:
    """Answers for its versions, for the brokers there are, and that there is nothing to fetch."""

    def __init__(self, brokers: list[Broker]) -> None:
        self.brokers, self.leader = brokers, 0
        self.asked: list[int] = []
        self.frozen = asyncio.Event()  # set: it takes connections and bytes, and answers nothing
        self.silent = False  # it does not answer fetches
        self.deaf = False  # it does not even take bytes
        self.thawed = asyncio.Event()
        self.open: set[asyncio.StreamWriter] = set()
        self.port, self.received = 0, 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                if self.deaf:
                    await self.thawed.wait()
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                key, _, number = struct.unpack_from(">hhi", head := await reader.readexactly(min(size, 8)))
                self.asked.append(key)
                self.received += len(head)
                while size > len(head) and (part := await reader.read(min(65536, size - len(head)))):
                    size -= len(part)
                    self.received += len(part)
                if not part:
                    break
                if self.frozen.is_set():
                    await self.thawed.wait()
                if (answer := self._answer(key)) is not None:
                    writer.write(struct.pack(">ii", len(answer) + 4, number) + answer)
        self.open.discard(writer)
        writer.close()

    def _answer(self, key: int) -> bytes | None:
        if key == VERSIONS:
            return bytes(ApiVersionResponse_v0(0, TAKES).encode())
        if key == FETCH:
            return None if self.silent else struct.pack(">ii", 0, 0)
        if key != METADATA:
            return None
        brokers = [(node, "127.0.0.1", broker.port, None) for node, broker in enumerate(self.brokers)]
        topics = [(0, HERE.topic, False, [(0, HERE.number, self.leader, [0], [0])])]
        return bytes(MetadataResponse_v1(brokers, 0, topics).encode())


@pytest.fixture
async def brokers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Broker]]:
    """Three of them; the first is the first to be asked for leaders."""
    monkeypatch.setattr("aiokafka.client.random", SimpleNamespace(shuffle=list.sort))
    made: list[Broker] = []
    made += [Broker(made) for _ in EVERYBODY]
    for broker in made:
        await broker.start()
    yield made
    for broker in made:
        broker.thawed.set()
        await broker.stop()


@pytest.fixture
async def cluster(brokers: list[Broker]) -> AsyncIterator[Cluster]:
    made = Cluster(f"127.0.0.1:{brokers[2].port}", "test")
    yield made
    await made.close()


async def test_one_frozen_broker_delays_a_look_for_leaders_and_costs_no_connection_to_the_others(
    brokers: list[Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_MS", 500)
    monkeypatch.setattr(module, "LOOK_TIMEOUT_S", 2.0)
    cluster = Cluster(f"127.0.0.1:{brokers[2].port}", "test")
    assert await cluster.leader(HERE) == FIRST
    brokers[FIRST].frozen.set()
    for broker in brokers[1:]:
        broker.leader = 1
    await cluster.ask(2, fetch([], Isolation.COMMITTED, 0))
    link = cluster.connection(2)
    assert link is not None
    await cluster.refresh()
    assert cluster.known_leader(HERE) == 1
    assert cluster.connection(2) is link
    await cluster.close()


async def test_a_look_for_leaders_ends_when_the_client_is_closed(brokers: list[Broker], cluster: Cluster) -> None:
    await cluster.connect()
    for broker in brokers:
        broker.frozen.set()
    asked = len(brokers[FIRST].asked)
    looking = asyncio.create_task(cluster.refresh())
    await until(lambda: len(brokers[FIRST].asked) > asked, "the brokers are asked")
    await asyncio.wait_for(cluster.close(), 2)
    await asyncio.wait_for(looking, 2)
    with pytest.raises(KafkaFailure, match="was closed"):
        await cluster.refresh()


async def test_what_is_opened_while_the_client_is_closed_is_closed_too(brokers: list[Broker], cluster: Cluster) -> None:
    brokers[2].frozen.set()
    connecting = asyncio.create_task(cluster.connect())
    await until(lambda: bool(brokers[2].asked), "a connection is being made")
    await cluster.close()
    brokers[2].frozen.clear()
    brokers[2].thawed.set()
    with pytest.raises(KafkaFailure, match="was closed"):
        await asyncio.wait_for(connecting, 5)
    await until(lambda: not any(broker.open for broker in brokers), "nothing stays connected")


async def test_what_was_not_written_when_the_client_is_closed_is_never_sent(
    brokers: list[Broker], cluster: Cluster
) -> None:
    size = 32 * 1024 * 1024
    await cluster.leader(HERE)
    brokers[FIRST].deaf = True
    sending = asyncio.create_task(cluster.ask(FIRST, produce([(HERE, bytes(size))], 1_000)))
    await until(lambda: cluster.connection(FIRST) is not None, "it is connected")
    await asyncio.sleep(0)
    began = time.monotonic()
    await cluster.close()
    assert time.monotonic() - began < 1
    with pytest.raises(KafkaFailure):
        await sending
    brokers[FIRST].thawed.set()
    await until(lambda: not brokers[FIRST].open, "the broker has read what there is")
    assert brokers[FIRST].received < size


async def test_a_connection_that_is_gone_when_its_time_is_up_is_a_failure_like_others(
    brokers: list[Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_MS", 200)
    cluster = Cluster(f"127.0.0.1:{brokers[2].port}", "test")
    brokers[1].silent = True
    asking = asyncio.create_task(cluster.ask(1, fetch([(HERE, 0)], Isolation.COMMITTED, 60_000)))
    await until(lambda: FETCH in brokers[1].asked, "it is under way")
    connection = cluster._client._conns.pop((1, 0))  # as a request does that begins in this moment
    with pytest.raises(KafkaFailure, match="ask broker 1"):
        await asking
    connection.close()
    await cluster.close()
