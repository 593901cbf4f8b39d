"""The two requests of every block, Produce and Fetch, written and read straight from bytes.

aiokafka describes each request as a tree of typed fields and walks it in Python; its producer and consumer add
background tasks on top, which re-send on their own. Without them a produce request costs about a sixth less CPU, a
fetch a fifth (docs/performance.md), and what is sent when is known. Connections, metadata, versions and record batches
remain aiokafka's. Layouts: https://kafka.apache.org/protocol, Produce 3, Fetch 4: what Kafka 0.11 introduced and 4.x
still has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Final, Generic, NamedTuple, Self, TypeVar

import aiokafka.errors

from streams.kafka.common import Isolation, Partition

PRODUCE: Final = 0
PRODUCE_VERSION: Final = 3
FETCH: Final = 1
FETCH_VERSION: Final = 4

ALL_IN_SYNC: Final = -1
NO_REPLICA: Final = -1
NO_TRANSACTION: Final = -1
MIN_BYTES: Final = 1
MAX_BYTES: Final = 50 * 1024 * 1024
MAX_PARTITION_BYTES: Final = 1024 * 1024
"""Of one fetch, and of one partition in it: Kafka's own defaults. The first batch of an answer comes at any size."""

_INT16, _INT32 = struct.Struct(">h"), struct.Struct(">i")
_TWO_INT32 = struct.Struct(">ii")
_HEADER = struct.Struct(">hhih")  # api key, version, correlation id, length of the client id
_PRODUCE_HEAD = struct.Struct(">hhii")  # transactional id (null), acks, timeout, number of topics
_PRODUCE_PLACE = struct.Struct(">ii")  # partition, bytes of the batch
_PRODUCED = struct.Struct(">ihqq")  # partition, error, offset, LogAppendTime
_FETCH_HEAD = struct.Struct(">iiiibi")  # replica, max wait, min bytes, max bytes, isolation, number of topics
_FETCH_PLACE = struct.Struct(">iqi")  # partition, offset, max bytes
_FETCHED = struct.Struct(">ihqqi")  # partition, error, high water, last stable offset, number of aborted transactions
_ABORTED = struct.Struct(">qq")  # producer id, first offset

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class Produced(NamedTuple):
    """What the broker said of one batch. *error* is Kafka's code, 0 for none; *timestamp_ms* -1: not LogAppendTime."""

    error: int
    offset: int
    timestamp_ms: int


class FetchedBytes(NamedTuple):
    """What the broker gave of one partition: whole record batches, the last one perhaps cut off."""

    error: int
    high_water: int
    stable_end: int
    aborted: list[tuple[int, int]]  # producer id, first offset
    data: bytes


class _Encoded(NamedTuple):
    text: bytes

    def encode(self) -> bytes:
        return self.text


class _ResponseHeader(NamedTuple):
    correlation_id: int


class Request(Generic[Answer]):
    """What a connection of aiokafka takes as a request: its methods are those of ``aiokafka.protocol.api.Request``."""

    def __init__(self, key: int, version: int, body: bytes, read: Callable[[memoryview], Answer]) -> None:
        self._key, self._version, self._body, self._read = key, version, body, read

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        """Raises IncompatibleBrokerVersion if the broker does not know this version."""
        lowest, highest = versions.get(self._key, (0, -1))
        if not lowest <= self._version <= highest:
            raise aiokafka.errors.IncompatibleBrokerVersion(
                f"expected a broker that takes version {self._version} of request {self._key}, "
                f"got one that takes {lowest} to {highest}"
            )
        return self

    def build_request_header(self, *, correlation_id: int, client_id: str) -> _Encoded:
        """Version 1."""
        name = client_id.encode()
        return _Encoded(_HEADER.pack(self._key, self._version, correlation_id, len(name)) + name)

    def encode(self) -> bytes:
        """The body."""
        return self._body

    @staticmethod
    def parse_response_header(response: BytesIO) -> _ResponseHeader:
        """Version 0."""
        return _ResponseHeader(*_INT32.unpack(response.read(_INT32.size)))

    @property
    def RESPONSE_TYPE(self) -> Self:  # noqa: N802 - aiokafka's name
        """What decodes the answer."""
        return self

    def decode(self, response: BytesIO) -> Answer:
        """The answer behind its header. Raises struct.error for another layout, which closes the connection."""
        return self._read(response.getbuffer()[response.tell() :])


def produce(batches: Sequence[tuple[Partition, bytes]], timeout_ms: int) -> Request[dict[Partition, Produced]]:
    """Append one batch to each of some partitions; all in-sync replicas must have it within *timeout_ms*."""
    topics = _by_topic(batches)
    body = [_PRODUCE_HEAD.pack(NO_TRANSACTION, ALL_IN_SYNC, timeout_ms, len(topics))]
    for topic, those in topics.items():
        body += (_string(topic), _INT32.pack(len(those)))
        for number, batch in those:
            body += (_PRODUCE_PLACE.pack(number, len(batch)), batch)
    return Request(PRODUCE, PRODUCE_VERSION, b"".join(body), _produced)


def fetch(
    offsets: Iterable[tuple[Partition, int]], isolation: Isolation, wait_ms: int
) -> Request[dict[Partition, FetchedBytes]]:
    """What lies behind the *offsets*; the broker waits up to *wait_ms* for the first byte.

    Its order matters where more is there than one answer holds: what is named first is sure to get something.
    """
    topics = _by_topic(offsets)
    level = 1 if isolation is Isolation.COMMITTED else 0
    body = [_FETCH_HEAD.pack(NO_REPLICA, wait_ms, MIN_BYTES, MAX_BYTES, level, len(topics))]
    for topic, those in topics.items():
        body += (_string(topic), _INT32.pack(len(those)))
        body += [_FETCH_PLACE.pack(number, offset, MAX_PARTITION_BYTES) for number, offset in those]
    return Request(FETCH, FETCH_VERSION, b"".join(body), _fetched)


def _by_topic(items: Iterable[tuple[Partition, Item]]) -> dict[str, list[tuple[int, Item]]]:
    topics: dict[str, list[tuple[int, Item]]] = {}
    for (topic, number), item in items:
        topics.setdefault(topic, []).append((number, item))
    return topics


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _INT16.pack(len(encoded)) + encoded


def _produced(answer: memoryview) -> dict[Partition, Produced]:
    found, (topics,), at = dict[Partition, Produced](), _INT32.unpack_from(answer), _INT32.size
    for _ in range(topics):
        topic, places, at = _topic(answer, at)
        for _ in range(places):
            number, error, offset, timestamp_ms = _PRODUCED.unpack_from(answer, at)
            at += _PRODUCED.size
            found[Partition(topic, number)] = Produced(error, offset, timestamp_ms)
    return found


def _fetched(answer: memoryview) -> dict[Partition, FetchedBytes]:
    found = dict[Partition, FetchedBytes]()
    (_throttled_ms, topics), at = _TWO_INT32.unpack_from(answer), _TWO_INT32.size
    for _ in range(topics):
        topic, places, at = _topic(answer, at)
        for _ in range(places):
            number, error, high_water, stable_end, aborts = _FETCHED.unpack_from(answer, at)
            at += _FETCHED.size
            aborted = [_ABORTED.unpack_from(answer, at + n * _ABORTED.size) for n in range(aborts)]  # -1: null
            at += len(aborted) * _ABORTED.size
            (size,) = _INT32.unpack_from(answer, at)
            at += _INT32.size
            data = bytes(answer[at : at + max(size, 0)])
            at += len(data)
            found[Partition(topic, number)] = FetchedBytes(error, high_water, stable_end, aborted, data)
    return found


def _topic(answer: memoryview, at: int) -> tuple[str, int, int]:
    """The topic's name at *at*, how many partitions of it follow, and where."""
    (size,) = _INT16.unpack_from(answer, at)
    at += _INT16.size
    name = str(answer[at : at + size], "utf-8")
    (places,) = _INT32.unpack_from(answer, at + size)
    return name, places, at + size + _INT32.size
