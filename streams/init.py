"""``init``: creates the topics of a ledger and the genesis of every journal. An interrupted one goes on."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from schemas.config import DEFAULT_BUNDLE
from schemas.events import (
    DEFAULT_RETRY_WINDOW_S,
    DEFAULT_RING_HORIZON_S,
    FORMAT,
    Genesis,
    decode_genesis,
)
from streams.config_log import publish_bundle
from streams.journal.errors import JournalHalt
from streams.journal.genesis import ensure_genesis
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import LogUnavailable
from streams.kafka import (
    Admin,
    Consumer,
    Isolation,
    KafkaFailure,
    NewTopic,
    Partition,
    TopicExists,
)
from streams.topics import MIN_INSYNC_REPLICAS, REPLICATION_FACTOR, Topics

WRITTEN_AT_ONCE: Final = 8
"""Journals; each needs two clients."""


class InitRefused(Exception):
    """What exists already contradicts what was asked for; the message says what and how to go on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Initialised:
    """The ledger, and what this run added to it: all empty or None where it was complete already."""

    ledger_id: str
    partitions: int
    created_topics: tuple[str, ...]
    written_genesis: tuple[int, ...]
    """Partitions whose journal got its genesis."""
    default_bundle_offset: int | None
    """Where in ``config`` the default bundle was published."""


async def init_ledger(kafka: str, prefix: str, *, partitions: int, dev: bool) -> Initialised:
    """Create what is missing of the ledger *prefix* and return it.

    1. Create the missing topics. *dev*: one replica; otherwise 3, of which 2 in sync.
    2. Read the genesis of every journal that has one: all must be of one ledger, of *partitions* partitions.
    3. Write the missing ones, with the ``ledger_id`` and ``at`` of those found, or fresh ones.
    4. With *dev*: publish DEFAULT_BUNDLE if ``config`` is empty.

    A crash between any two is completed by the next run. Only one may run at a time: it is a person's command.
    Raises: InitRefused; KafkaFailure.
    """
    topics = Topics(prefix)
    created = await _create_topics(kafka, topics, partitions, dev=dev)
    consumer = await Consumer.start(kafka, "ledgerline-init", Isolation.UNCOMMITTED)
    try:
        found = await read_geneses(consumer, topics, partitions)
        missing = [p for p in range(partitions) if p not in found]
        if found:
            example = next(iter(found.values()))
            _same_ledger(topics, found, partitions)
        else:
            example = _fresh(partitions, lambda: int(time.time() * 1000))
        await _write_geneses(kafka, topics, example, missing)
        config = Partition(topics.config, 0)
        config_is_empty = (await consumer.end_offsets([config]))[config] == 0
    finally:
        await consumer.close()
    offset = None
    if dev and config_is_empty:
        offset = await publish_bundle(kafka, prefix, default_bundle_value())
    return Initialised(
        ledger_id=example.ledger_id,
        partitions=partitions,
        created_topics=created,
        written_genesis=tuple(missing),
        default_bundle_offset=offset,
    )


def default_bundle_value() -> bytes:
    """``DEFAULT_BUNDLE`` as a value of ``config``."""
    return TypeAdapter(type(DEFAULT_BUNDLE)).dump_json(DEFAULT_BUNDLE, exclude_none=True)


async def read_geneses(consumer: Consumer, topics: Topics, partitions: int) -> dict[int, Genesis]:
    """The genesis of each journal that has one, by partition. Raises InitRefused for a first record that is none."""
    journals = [Partition(topics.journal, p) for p in range(partitions)]
    starts, ends = await consumer.start_offsets(journals), await consumer.end_offsets(journals)
    written = [j for j in journals if ends[j] > 0]
    for journal in written:
        if starts[journal] > 0:
            raise InitRefused(
                f"{journal}: expected a log that is kept from offset 0, got log start {starts[journal]}: records have "
                "been deleted; restore the topic"
            )
    found: dict[int, Genesis] = {}
    consumer.assign(written)
    for journal in written:
        consumer.seek(journal, 0)
    while len(found) < len(written):
        for journal, records in (await consumer.poll(timeout_ms=1_000)).items():
            consumer.pause(journal)
            try:
                found.setdefault(journal.number, decode_genesis(records[0].value or b""))
            except ValueError as error:
                raise InitRefused(f"{journal} offset 0: expected a genesis, got {error}") from error
    return found


def _fresh(partitions: int, clock_ms: Callable[[], int]) -> Genesis:
    return Genesis(
        ledger_id=str(uuid.uuid4()),
        partition=0,
        partitions=partitions,
        format=FORMAT,
        at=clock_ms(),
        retry_window_s=DEFAULT_RETRY_WINDOW_S,
        ring_horizon_s=DEFAULT_RING_HORIZON_S,
        inputs={"requests": 0, "transfers": 0, "config": 0},
    )


def _same_ledger(topics: Topics, found: dict[int, Genesis], partitions: int) -> None:
    first = next(iter(found.values()))
    for number, genesis in found.items():
        if genesis != first.model_copy(update={"partition": number}):
            raise InitRefused(
                f"{topics.journal}[{number}]: expected the genesis of ledger {first.ledger_id}, got {genesis!r}"
            )
    if first.partitions != partitions:
        raise InitRefused(
            f"{topics.journal}: expected a ledger of {partitions} partitions, got one of {first.partitions}: "
            "the number is fixed for the life of a ledger; run init with it"
        )


async def _create_topics(kafka: str, topics: Topics, partitions: int, *, dev: bool) -> tuple[str, ...]:
    replicas, in_sync = (1, 1) if dev else (REPLICATION_FACTOR, MIN_INSYNC_REPLICAS)
    admin = await Admin.start(kafka, "ledgerline-init")
    try:
        existing = await admin.describe_topics(topics.names)
        for spec in topics.specs(partitions):
            info = existing.get(spec.name)
            if info is not None and info.partitions != spec.partitions:
                raise InitRefused(
                    f"{spec.name}: expected {spec.partitions} partitions, got {info.partitions}; run init with the "
                    "number that the ledger has, or choose another prefix"
                )
        created: list[str] = []
        for spec in topics.specs(partitions):
            if spec.name in existing:
                continue
            new = NewTopic(
                name=spec.name,
                partitions=spec.partitions,
                replication_factor=replicas,
                configs=spec.configs(min_insync_replicas=in_sync),
            )
            try:
                await admin.create_topic(new)
            except TopicExists:
                continue
            created.append(spec.name)
    finally:
        await admin.close()
    return tuple(created)


async def _write_geneses(kafka: str, topics: Topics, example: Genesis, missing: list[int]) -> None:
    """At offset 0 of each journal that has none, a few journals at a time."""
    at_once = asyncio.Semaphore(WRITTEN_AT_ONCE)

    async def write(number: int) -> None:
        async with at_once, KafkaLog(kafka, Partition(topics.journal, number), "ledgerline-init") as log:
            await ensure_genesis(log, example.model_copy(update={"partition": number}))

    try:
        await asyncio.gather(*map(write, missing))
    except JournalHalt as halt:  # another init at the same moment, with another ledger_id
        raise InitRefused(str(halt)) from halt
    except LogUnavailable as error:
        raise KafkaFailure(str(error)) from error
