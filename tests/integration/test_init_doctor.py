"""``init`` and ``doctor`` on a real Kafka."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from schemas.events import FORMAT, decode_genesis, encode_genesis
from streams.config_log import publish_bundle
from streams.doctor import examine
from streams.init import InitRefused, default_bundle_value, init_ledger
from streams.journal.framing import GenesisHeaders, encode_headers
from streams.kafka import (
    Admin,
    Consumer,
    Isolation,
    NewTopic,
    Outgoing,
    Partition,
    Producer,
    read_to_end,
)
from streams.topics import Topics

pytestmark = pytest.mark.integration


@pytest.fixture
async def prefix(kafka: str) -> AsyncIterator[str]:
    found = f"init-{secrets.token_hex(4)}."
    yield found
    admin = await Admin.start(kafka, "test")
    for name in await admin.describe_topics(Topics(found).names):
        await admin.delete_topic(name)
    await admin.close()


async def create(kafka: str, prefix: str, partitions: int, changes: Mapping[str, Mapping[str, str]]) -> None:
    """The topics as ``init`` makes them, but with other settings where *changes* says so."""
    admin = await Admin.start(kafka, "test")
    for spec in Topics(prefix).specs(partitions):
        configs = {**spec.configs(min_insync_replicas=1), **changes.get(spec.name.removeprefix(prefix), {})}
        await admin.create_topic(
            NewTopic(name=spec.name, partitions=spec.partitions, replication_factor=1, configs=configs)
        )
    await admin.close()


async def write(kafka: str, to: Partition, record: Outgoing) -> None:
    producer = await Producer.start(kafka, "test")
    await producer.send(to, record, 10)
    await producer.close()


async def read(kafka: str, place: Partition) -> list[bytes]:
    consumer = await Consumer.start(kafka, "test", Isolation.UNCOMMITTED)
    try:
        return [record.value or b"" for record in await read_to_end(consumer, place, 0)]
    finally:
        await consumer.close()


async def test_init_makes_a_ledger_that_doctor_accepts_and_a_second_run_changes_nothing(
    kafka: str, prefix: str
) -> None:
    first = await init_ledger(kafka, prefix, partitions=3, dev=True)
    assert first.created_topics == Topics(prefix).names
    assert (first.written_genesis, first.default_bundle_offset) == ((0, 1, 2), 0)
    diagnosis = await examine(kafka, prefix, dev=True)
    assert (diagnosis.refusals, diagnosis.ledger_id, diagnosis.partitions) == ((), first.ledger_id, 3)
    again = await init_ledger(kafka, prefix, partitions=3, dev=True)
    assert again == replace(first, created_topics=(), written_genesis=(), default_bundle_offset=None)
    topics = Topics(prefix)
    assert await read(kafka, Partition(topics.config, 0)) == [default_bundle_value()]
    geneses = [decode_genesis(v) for p in range(3) for v in await read(kafka, Partition(topics.journal, p))]
    assert [(g.partition, g.partitions, g.ledger_id) for g in geneses] == [(p, 3, first.ledger_id) for p in range(3)]
    assert len({g.at for g in geneses}) == 1


async def test_an_interrupted_init_goes_on_with_the_ledger_that_was_begun(kafka: str, prefix: str) -> None:
    await create(kafka, prefix, 2, {})
    whole = await init_ledger(kafka, f"{prefix}other.", partitions=2, dev=True)
    begun = decode_genesis((await read(kafka, Partition(f"{prefix}other.journal", 1)))[0])
    headers = encode_headers(GenesisHeaders(format=FORMAT))
    await write(kafka, Partition(f"{prefix}journal", 1), Outgoing(None, encode_genesis(begun), headers))
    done = await init_ledger(kafka, prefix, partitions=2, dev=True)
    assert (done.ledger_id, done.written_genesis) == (whole.ledger_id, (0,))
    written = decode_genesis((await read(kafka, Partition(f"{prefix}journal", 0)))[0])
    assert written == begun.model_copy(update={"partition": 0})
    admin = await Admin.start(kafka, "test")
    for name in Topics(f"{prefix}other.").names:
        await admin.delete_topic(name)
    await admin.close()


async def test_init_refuses_another_number_of_partitions_and_changes_nothing(kafka: str, prefix: str) -> None:
    await init_ledger(kafka, prefix, partitions=2, dev=True)
    with pytest.raises(InitRefused, match="expected 4 partitions, got 2"):
        await init_ledger(kafka, prefix, partitions=4, dev=True)
    assert (await examine(kafka, prefix, dev=True)).refusals == ()


async def test_init_without_dev_publishes_no_bundle_and_needs_real_replication(kafka: str, prefix: str) -> None:
    with pytest.raises(Exception, match="Replication"):
        await init_ledger(kafka, prefix, partitions=1, dev=False)


async def test_init_with_dev_leaves_a_published_bundle_alone(kafka: str, prefix: str) -> None:
    await create(kafka, prefix, 1, {})
    assert await publish_bundle(kafka, prefix, default_bundle_value()) == 0
    assert (await init_ledger(kafka, prefix, partitions=1, dev=True)).default_bundle_offset is None


async def test_doctor_names_replication_which_dev_waives(kafka: str, prefix: str) -> None:
    await init_ledger(kafka, prefix, partitions=1, dev=True)
    strict, dev = await examine(kafka, prefix, dev=False), await examine(kafka, prefix, dev=True)
    assert {f.name for f in strict.refusals} == {"replication_factor", "min_insync_replicas"}
    assert len(strict.refusals) == 2 * 7
    assert dev.refusals == ()
    assert [f.name for f in dev.findings] == [f.name for f in strict.findings]
    assert "waived by --dev" in str(dev.findings[0])


@pytest.mark.parametrize(
    ("topic", "setting", "value", "name"),
    [
        ("journal", "unclean.leader.election.enable", "true", "unclean_leader_election"),
        ("journal", "cleanup.policy", "compact", "cleanup_policy"),
        ("facts", "cleanup.policy", "delete", "cleanup_policy"),
        ("requests", "message.timestamp.type", "CreateTime", "timestamp_type"),
        ("config", "message.timestamp.type", "CreateTime", "timestamp_type"),
        ("journal", "retention.ms", "604800000", "retention"),
        ("config", "retention.bytes", "1000000", "retention"),
        ("transfers", "retention.ms", "3600000", "retention"),
        ("journal", "max.message.bytes", "1048588", "message_size"),
        ("requests", "max.message.bytes", "1000", "message_size"),
    ],
)
async def test_doctor_names_a_wrong_setting(
    kafka: str, prefix: str, topic: str, setting: str, value: str, name: str
) -> None:
    await create(kafka, prefix, 1, {topic: {setting: value}})
    refusals = (await examine(kafka, prefix, dev=True)).refusals
    (refusal,) = [refusal for refusal in refusals if refusal.name != "journal_empty"]
    assert (refusal.name, refusal.where) == (name, f"{prefix}{topic}")
    assert value in refusal.found
    assert setting in refusal.fix or setting in refusal.expected


async def test_doctor_names_missing_topics_and_empty_journals(kafka: str, prefix: str) -> None:
    missing = await examine(kafka, prefix, dev=True)
    assert [f.name for f in missing.refusals] == ["topic_missing"] * 7
    await create(kafka, prefix, 2, {})
    empty = await examine(kafka, prefix, dev=True)
    assert [(f.name, f.where) for f in empty.refusals] == [
        ("journal_empty", f"{prefix}journal[0]"),
        ("journal_empty", f"{prefix}journal[1]"),
    ]
    assert empty.ledger_id is None


async def test_doctor_names_another_ledger_a_wrong_partition_count_and_a_journal_that_is_none(
    kafka: str, prefix: str
) -> None:
    done = await init_ledger(kafka, prefix, partitions=1, dev=True)
    (refusal,) = (await examine(kafka, prefix, dev=True, ledger_id="another")).refusals
    assert (refusal.name, refusal.expected, refusal.found) == ("ledger_id", "another", done.ledger_id)
    admin = await Admin.start(kafka, "test")
    await admin.delete_topic(f"{prefix}outcomes")
    spec = NewTopic(name=f"{prefix}outcomes", partitions=3, replication_factor=1, configs=done_configs(prefix))
    await admin.create_topic(spec)
    await admin.close()
    (refusal,) = (await examine(kafka, prefix, dev=True)).refusals
    assert (refusal.name, refusal.found) == ("partition_count", "3")


def done_configs(prefix: str) -> Mapping[str, str]:
    topics = Topics(prefix)
    return next(s for s in topics.specs(1) if s.name == topics.outcomes).configs(min_insync_replicas=1)


async def test_doctor_names_a_journal_whose_first_record_is_no_genesis(kafka: str, prefix: str) -> None:
    await create(kafka, prefix, 1, {})
    await write(kafka, Partition(f"{prefix}journal", 0), Outgoing(None, b"graffiti"))
    (refusal,) = (await examine(kafka, prefix, dev=True)).refusals
    assert refusal.name == "genesis"
    with pytest.raises(InitRefused, match="expected a genesis"):
        await init_ledger(kafka, prefix, partitions=1, dev=True)
