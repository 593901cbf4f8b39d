"""What the clients share: records, failures, limits. See the package's docstring."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiokafka
import aiokafka.errors

REQUEST_TIMEOUT_MS = 15_000  # of one request to a broker
SESSION_TIMEOUT_MS = 6_000  # a silent group member loses its partitions; the lowest that brokers allow by default
FETCH_WAIT_MS = 100  # a fetch without data: short, because a seek waits for the fetch under way
MAX_RECORD_BYTES = 8 * 1024 * 1024  # `max.message.bytes` of the journal, the largest topic
BATCH_BYTES = 900_000  # of several records sent as one batch: below the broker's default `message.max.bytes`
CLOSE_TIMEOUT_S = 5.0
NO_PRODUCER = -1  # producer id, epoch and sequence of batches that are neither idempotent nor transactional
LOG_APPEND_TIME = 1  # `Record.timestamp_type` of a time that the broker has set

Headers = Sequence[tuple[str, bytes | None]]


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class KafkaFailure(Exception):
    """A client, connection or broker failed, or did not answer in time; a fresh client may succeed."""


class RecordTooLarge(KafkaFailure):
    """The record is larger than the client or the topic allows: the same bytes will never be accepted."""


class OffsetOutOfRange(KafkaFailure):
    """The offset to read from is below the log start or above the log end; *places* where it is known of which."""

    def __init__(self, message: str, places: frozenset[Partition] = frozenset()) -> None:
        super().__init__(message)
        self.places = places


class Unreachable(KafkaFailure):
    """The broker that leads a partition does not answer, or there is none just now. It passes."""


class UnknownTopic(KafkaFailure):
    """The topic or partition does not exist."""


class TopicExists(KafkaFailure):
    """A topic that was to be created exists already."""


class ClientLeak(SystemExit):
    """A client that may still append could not be closed. Ends the process (exit code 70): only that is certain."""

    def __init__(self, message: str) -> None:
        super().__init__(70)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Record(NamedTuple):
    """One record as delivered."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int
    timestamp_type: int  # LOG_APPEND_TIME, or 0 for the producer's clock


class Outgoing(NamedTuple):
    """One record to send."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Acknowledged(NamedTuple):
    """Where a record lies, as far as the broker said. *offset* is -1 if it accepted the record without naming one."""

    offset: int
    timestamp_ms: int
    timestamp_type: int


class Isolation(enum.Enum):
    """Whether records of open and aborted transactions are delivered."""

    COMMITTED = "read_committed"
    UNCOMMITTED = "read_uncommitted"


class failures:  # noqa: N801 - reads as a clause; a generator with contextmanager costs four times as much
    """Turn what aiokafka and sockets raise into ``KafkaFailure``, saying what was being done."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raises the failure, if *error* is one."""
        if error is not None and (failure := _failure(f"{self._doing}: {error!r}", error)) is not None:
            try:
                raise failure from error
            finally:
                del failure  # else it and this frame would keep each other, and all that was to be sent, alive


def _failure(message: str, error: BaseException) -> KafkaFailure | None:
    match error:
        case aiokafka.errors.MessageSizeTooLargeError() | aiokafka.errors.RecordTooLargeError():
            return RecordTooLarge(message)
        case aiokafka.errors.OffsetOutOfRangeError():
            offsets = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
            return OffsetOutOfRange(message, frozenset(Partition(*tp) for tp in offsets))
        case aiokafka.errors.UnknownTopicOrPartitionError():
            return UnknownTopic(message)
        case aiokafka.errors.TopicAlreadyExistsError():
            return TopicExists(message)
        case aiokafka.errors.KafkaError() | OSError() | TimeoutError():
            return KafkaFailure(message)
        # Two classes that aiokafka does not derive from KafkaError; and it asserts that a partition exists.
        case aiokafka.errors.ConsumerStoppedError() | aiokafka.errors.IllegalOperation() | AssertionError():
            return KafkaFailure(message)
        case _:
            return None


def topic_partition(partition: Partition) -> Any:
    """As aiokafka wants it."""
    return aiokafka.TopicPartition(partition.topic, partition.number)


def record(r: Any) -> Record:
    """From what aiokafka delivers."""
    return Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp, r.timestamp_type)
