"""What people and programs ask the journal: its records with their verdicts, and one event with its bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from schemas.events import Answer, ConfigPickup, Genesis, Skip, span
from schemas.outcomes import parse_transaction_id, transaction_id
from schemas.records import RawRecord, unframe
from sinks.postgres.errors import ForeignLedger, PostgresUnavailable
from sinks.postgres.readers import sink_position
from streams.journal.errors import JournalLoss
from streams.journal.follower import Follower
from streams.journal.index import find_block
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import Log, LogRecord
from streams.journal.reading import Position, ValidBlock, Verdict
from streams.kafka import Admin, Partition, UnknownTopic
from streams.topics import Topics

CLIENT = "ledgerline-reader"
FOLLOW_WAIT_S = 1.0


class Read(NamedTuple):
    """A record of the journal and what it means to a reader who came from its start."""

    record: LogRecord
    verdict: Verdict


class Told(NamedTuple):
    """One event, and the bytes of its block that it points to. ``record`` is None for a record above 64 KiB."""

    transaction: str
    offset: int
    event: Answer | Skip | ConfigPickup
    record: RawRecord | None
    outcome: bytes | None
    explanation: bytes | None


class NoSuchEvent(Exception):
    """The journal does not hold that event (yet)."""


async def partitions_of(kafka: str, prefix: str) -> int:
    """How many partitions the ledger has. Raises UnknownTopic where there is none; KafkaFailure."""
    topic = Topics(prefix).journal
    admin = await Admin.start(kafka, CLIENT)
    try:
        found = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if topic not in found:
        raise UnknownTopic(f"no topic {topic} at {kafka}")
    return found[topic].partitions


@asynccontextmanager
async def opened(kafka: str, prefix: str, partition: int) -> AsyncIterator[KafkaLog]:
    """The journal of *partition*, closed at the end."""
    log = KafkaLog(kafka, Partition(Topics(prefix).journal, partition), CLIENT)
    try:
        yield log
    finally:
        await log.close()


async def genesis_of(log: Log, partition: int) -> Genesis:
    """What offset 0 says. Raises NoGenesis, WrongLedger, JournalLoss, Corruption, LogUnavailable."""
    return (await Follower.begin(log, ledger_id=None, partition=partition)).reader.genesis


async def read_all(log: Log, partition: int, *, follow: bool) -> AsyncIterator[Read]:
    """Every record behind the genesis up to the end as of now, in order; with *follow* then what comes, without end.

    Raises: JournalHalt of the kind found; LogUnavailable.
    """
    follower = await Follower.begin(log, ledger_id=None, partition=partition)
    end = await log.end_offset()
    while follow or not follower.at_end(end):
        for record in await follower.records(FOLLOW_WAIT_S):
            if record.offset >= end and not follow:
                return
            yield Read(record, follower.reader.read(record))


async def find(kafka: str, prefix: str, dsn: str | None, transaction: str) -> Told:
    """The event of *transaction* with its bytes.

    Where PostgreSQL has the event, its position shows where the journal must be: a binary search. Otherwise, or without
    PostgreSQL, the journal is read from its start. Raises: ValueError for what is no transaction id; NoSuchEvent;
    JournalHalt; LogUnavailable; KafkaFailure.
    """
    partition, seq = parse_transaction_id(transaction)
    count = await partitions_of(kafka, prefix)
    if partition >= count:
        raise NoSuchEvent(f"{transaction}: the ledger has the partitions 0 to {count - 1}")
    async with opened(kafka, prefix, partition) as log:
        genesis = await genesis_of(log, partition)
        position = await _witnessed(dsn, genesis) if dsn is not None else None
        if position is not None and position.seq >= seq:
            return told(await find_block(log, seq, position), partition, seq)
        last = 0
        async for read in read_all(log, partition, follow=False):
            if isinstance(read.verdict, ValidBlock):
                last = read.verdict.last_seq
                if seq <= last:
                    return told(read.verdict, partition, seq)
    raise NoSuchEvent(f"{transaction}: the journal of partition {partition} ends at {transaction_id(partition, last)}")


async def _witnessed(dsn: str, genesis: Genesis) -> Position | None:
    try:
        return await sink_position(dsn, ledger_id=genesis.ledger_id, partition=genesis.partition)
    except (PostgresUnavailable, ForeignLedger):  # it only shortens the search
        return None


def told(block: ValidBlock, partition: int, seq: int) -> Told:
    """Event *seq* of *block* with its bytes. Raises JournalLoss if they are not where the event says."""
    event = block.events[seq - block.headers.seq]
    record = outcome = explanation = None
    try:
        if not isinstance(event, ConfigPickup):
            framed = span(block.raw, event.record)
            record = None if framed is None else unframe(framed)
        if isinstance(event, Answer):
            outcome, explanation = span(block.raw, event.outcome), span(block.raw, event.explanation)
    except ValueError as error:
        raise JournalLoss(
            f"journal[{partition}]", block.offset, "the bytes that its event names", str(error)
        ) from error
    return Told(transaction_id(partition, seq), block.offset, event, record, outcome, explanation)
