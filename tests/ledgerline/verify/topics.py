"""Ledgers in real topics: written from memory, read back, or copied with changes into another prefix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ledgerline.verify.feeds import KafkaFeed
from streams.kafka import Admin, NewTopic, Outgoing, Partition, Producer, Record
from streams.topics import Topics

Records = Mapping[Partition, list[Record]]

KINDS = ("requests", "transfers", "journal", "outcomes", "config")


async def write_topics(kafka: str, records: Records, *, previous: str, prefix: str) -> None:
    """Create the topics of *records*, their prefix *previous* replaced by *prefix*, and append everything.

    They have the producers' times (a copy cannot have the broker's of the original), so the checker does not compare
    ``at`` with them.
    """
    counts: dict[str, int] = {}
    for topic, number in records:
        counts[topic] = max(counts.get(topic, 0), number + 1)
    admin = await Admin.start(kafka, "tests-verify")
    try:
        for topic, partitions in counts.items():
            configs = {"max.message.bytes": str(8 * 1024 * 1024), "message.timestamp.type": "CreateTime"}
            new = NewTopic(
                name=renamed(topic, previous, prefix), partitions=partitions, replication_factor=1, configs=configs
            )
            await admin.create_topic(new)
    finally:
        await admin.close()
    producer = await Producer.start(kafka, "tests-verify")
    try:
        for (topic, number), log in records.items():
            assert [r.offset for r in log] == list(range(len(log))), f"{topic}: a copy keeps offsets only without gaps"
            outgoing = [Outgoing(r.key, r.value, r.headers) for r in log]
            await producer.send_all(Partition(renamed(topic, previous, prefix), number), outgoing, 30)
    finally:
        await producer.close()


async def read_topics(kafka: str, prefix: str, others: Iterable[str] = ()) -> dict[Partition, list[Record]]:
    """Everything that the topics of a ledger, and *others*, hold."""
    topics = Topics(prefix)
    feed = await KafkaFeed.open(kafka)
    try:
        names = [*(getattr(topics, kind) for kind in KINDS), *others]
        counts = await feed.partitions(names)
        here = [Partition(topic, n) for topic, count in counts.items() for n in range(count)]
        ends = await feed.ends(here)
        found: dict[Partition, list[Record]] = {}
        for partition in here:
            found[partition] = []
        async for partition, records in feed.read({p: (0, end) for p, end in ends.items()}):
            found[partition] += records
        return found
    finally:
        await feed.close()


async def delete_topics(kafka: str, prefix: str) -> None:
    """Delete every topic whose name begins with *prefix*."""
    admin = await Admin.start(kafka, "tests-verify")
    try:
        for name in sorted(await admin.topics()):
            if name.startswith(prefix):
                await admin.delete_topic(name)
    finally:
        await admin.close()


def renamed(topic: str, previous: str, prefix: str) -> str:
    """The name of *topic* in the copy."""
    return prefix + topic.removeprefix(previous)
