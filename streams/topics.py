"""The seven topics of a ledger: their names under a prefix, and the settings that docs/design.md §2 demands of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

REQUESTS_MAX_BYTES: Final = 128 * 1024
CONFIG_MAX_BYTES: Final = 2 * 1024 * 1024
OUTCOMES_MAX_BYTES: Final = 1024 * 1024
JOURNAL_MAX_BYTES: Final = 8 * 1024 * 1024
DAY_MS: Final = 86_400_000
WEEK_MS: Final = 7 * DAY_MS
FOREVER: Final = "-1"

REPLICATION_FACTOR: Final = 3
MIN_INSYNC_REPLICAS: Final = 2


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of a ledger's topics and consumer groups, all beginning with *prefix*."""

    prefix: str

    @property
    def requests(self) -> str:
        """What upstream asks for; read ``read_committed``."""
        return f"{self.prefix}requests"

    @property
    def transfers(self) -> str:
        """Messages between partitions."""
        return f"{self.prefix}transfers"

    @property
    def journal(self) -> str:
        """The truth."""
        return f"{self.prefix}journal"

    @property
    def outcomes(self) -> str:
        """The answers of record."""
        return f"{self.prefix}outcomes"

    @property
    def facts(self) -> str:
        """About entities that are not accounts."""
        return f"{self.prefix}facts"

    @property
    def labels(self) -> str:
        """What turned out to be fraud."""
        return f"{self.prefix}labels"

    @property
    def config(self) -> str:
        """Versions of rulesets."""
        return f"{self.prefix}config"

    @property
    def names(self) -> tuple[str, ...]:
        """All seven."""
        return tuple(spec.name for spec in self.specs(1))

    @property
    def workers_group(self) -> str:
        """The consumer group that shares ``requests`` among workers."""
        return f"{self.prefix}workers"

    def sink_group(self, sink_id: str) -> str:
        """The consumer group that shares ``journal`` among the sinks of *sink_id*."""
        return f"{self.prefix}sink.{sink_id}"

    def specs(self, partitions: int) -> tuple[TopicSpec, ...]:
        """All seven topics of a ledger of *partitions*; ``config`` has one partition whatever that is."""
        return (
            TopicSpec(self.requests, partitions, REQUESTS_MAX_BYTES, retention_ms_at_least=DAY_MS),
            TopicSpec(self.transfers, partitions, OUTCOMES_MAX_BYTES, retention_ms_at_least=DAY_MS),
            TopicSpec(self.journal, partitions, JOURNAL_MAX_BYTES, retention_ms_at_least=None),
            TopicSpec(self.outcomes, partitions, OUTCOMES_MAX_BYTES, retention_ms_at_least=DAY_MS),
            TopicSpec(self.facts, partitions, OUTCOMES_MAX_BYTES, cleanup="compact", retention_ms_at_least=None),
            TopicSpec(self.labels, partitions, OUTCOMES_MAX_BYTES, retention_ms_at_least=DAY_MS),
            TopicSpec(self.config, 1, CONFIG_MAX_BYTES, retention_ms_at_least=None),
        )


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What ``init`` creates and ``doctor`` demands."""

    name: str
    partitions: int
    max_message_bytes: int
    cleanup: str = "delete"
    retention_ms_at_least: int | None = WEEK_MS
    """None: kept for ever (or compacted). Otherwise ``init`` sets a week, and ``doctor`` refuses less than this."""

    def configs(self, *, min_insync_replicas: int) -> Mapping[str, str]:
        """The settings with which the topic is created."""
        kept = FOREVER if self.retention_ms_at_least is None else str(WEEK_MS)
        return {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(min_insync_replicas),
            "retention.bytes": FOREVER,
            "retention.ms": kept,
            "unclean.leader.election.enable": "false",
        }
