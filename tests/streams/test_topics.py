"""Names and settings of topics."""

from __future__ import annotations

from streams.topics import Topics


def test_every_name_begins_with_the_prefix() -> None:
    topics = Topics("bank.")
    names = ("requests", "transfers", "journal", "outcomes", "facts", "labels", "config")
    assert topics.names == tuple(f"bank.{name}" for name in names)
    assert (topics.workers_group, topics.sink_group("main")) == ("bank.workers", "bank.sink.main")


def test_the_journal_and_config_are_kept_for_ever_and_times_are_the_brokers() -> None:
    topics = Topics("")
    configs = {spec.name: spec.configs(min_insync_replicas=2) for spec in topics.specs(8)}
    assert {c["message.timestamp.type"] for c in configs.values()} == {"LogAppendTime"}
    assert {c["unclean.leader.election.enable"] for c in configs.values()} == {"false"}
    for kept in (topics.journal, topics.config):
        assert (configs[kept]["cleanup.policy"], configs[kept]["retention.ms"]) == ("delete", "-1")
    assert configs[topics.facts]["cleanup.policy"] == "compact"
    assert configs[topics.requests]["max.message.bytes"] == str(128 * 1024)
    assert configs[topics.journal]["max.message.bytes"] == str(8 * 1024 * 1024)


def test_config_has_one_partition_whatever_the_ledger_has() -> None:
    partitions = {spec.name: spec.partitions for spec in Topics("").specs(8)}
    assert partitions.pop("config") == 1
    assert set(partitions.values()) == {8}
