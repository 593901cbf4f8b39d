"""The only package that touches aiokafka: typed, bounded clients with the settings that Ledgerline needs.

aiokafka is untyped, so everything it returns is converted here, and every failure of a client, a connection or a broker
becomes one ``KafkaFailure`` (I/O trouble: the shells retry it). What a setting protects against is written next to it.
"""

from streams.kafka.admin import Admin, NewTopic, TopicInfo
from streams.kafka.common import (
    BATCH_BYTES,
    CLOSE_TIMEOUT_S,
    FETCH_WAIT_MS,
    LOG_APPEND_TIME,
    MAX_RECORD_BYTES,
    REQUEST_TIMEOUT_MS,
    SESSION_TIMEOUT_MS,
    Acknowledged,
    ClientLeak,
    Headers,
    Isolation,
    KafkaFailure,
    OffsetOutOfRange,
    Outgoing,
    Partition,
    Record,
    RecordTooLarge,
    TopicExists,
    UnknownTopic,
    Unreachable,
)
from streams.kafka.consumers import Consumer, read_to_end
from streams.kafka.fetcher import Fetched, Fetcher
from streams.kafka.membership import Member
from streams.kafka.producers import Producer

__all__ = [
    "BATCH_BYTES",
    "CLOSE_TIMEOUT_S",
    "FETCH_WAIT_MS",
    "LOG_APPEND_TIME",
    "MAX_RECORD_BYTES",
    "REQUEST_TIMEOUT_MS",
    "SESSION_TIMEOUT_MS",
    "Acknowledged",
    "Admin",
    "ClientLeak",
    "Consumer",
    "Fetched",
    "Fetcher",
    "Headers",
    "Isolation",
    "KafkaFailure",
    "Member",
    "NewTopic",
    "OffsetOutOfRange",
    "Outgoing",
    "Partition",
    "Producer",
    "Record",
    "RecordTooLarge",
    "TopicExists",
    "TopicInfo",
    "UnknownTopic",
    "Unreachable",
    "read_to_end",
]
