"""``doctor``: what must hold of the brokers and topics before anything is decided, each refusal by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from streams.init import InitRefused, read_geneses
from streams.kafka import Admin, Consumer, Isolation, Partition, TopicInfo
from streams.topics import MIN_INSYNC_REPLICAS, REPLICATION_FACTOR, Topics, TopicSpec

CheckName = Literal[
    "topic_missing",
    "partition_count",
    "replication_factor",
    "min_insync_replicas",
    "unclean_leader_election",
    "cleanup_policy",
    "timestamp_type",
    "retention",
    "message_size",
    "journal_empty",
    "journal_start",
    "genesis",
    "ledger_id",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    name: CheckName
    where: str
    """A topic, or ``topic[partition]``."""
    expected: str
    found: str
    fix: str
    """What a person does about it."""
    waived: bool
    """It would be refused without ``--dev``."""

    def __str__(self) -> str:
        """One line for a person."""
        waived = " (waived by --dev)" if self.waived else ""
        return f"{self.name}: {self.where}: expected {self.expected}, found {self.found}{waived}; {self.fix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What ``examine`` found. *ledger_id* and *partitions* are None where no genesis could be read."""

    findings: tuple[Finding, ...]
    ledger_id: str | None
    partitions: int | None

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Those that keep a process from starting."""
        return tuple(finding for finding in self.findings if not finding.waived)


async def examine(kafka: str, prefix: str, *, dev: bool, ledger_id: str | None = None) -> Diagnosis:
    """Check everything of docs/design.md §2 about the ledger *prefix*, and change nothing.

    *dev* waives the replication factor and ``min.insync.replicas``. With *ledger_id* the journals must be its.
    Raises: KafkaFailure.
    """
    topics = Topics(prefix)
    admin = await Admin.start(kafka, "ledgerline-doctor")
    try:
        infos = await admin.describe_topics(topics.names)
        configs = await admin.topic_configs(infos) if infos else {}
    finally:
        await admin.close()
    partitions = infos[topics.journal].partitions if topics.journal in infos else None
    findings = [*_topics(topics, infos, configs, partitions or 1, dev=dev)]
    found_id = None
    if partitions is not None:
        found_id, journal_findings = await _journals(kafka, topics, partitions, ledger_id)
        findings += journal_findings
    return Diagnosis(findings=tuple(findings), ledger_id=found_id, partitions=partitions)


def _topics(
    topics: Topics,
    infos: Mapping[str, TopicInfo],
    configs: Mapping[str, Mapping[str, str]],
    partitions: int,
    *,
    dev: bool,
) -> Iterator[Finding]:
    for spec in topics.specs(partitions):
        if spec.name not in infos:
            fix = "run `ledgerline init`"
            yield _finding("topic_missing", spec.name, "the topic", "none", fix)
            continue
        yield from _replication(spec, infos[spec.name], configs[spec.name], dev=dev)
        yield from _settings(spec, infos[spec.name], configs[spec.name])


def _replication(spec: TopicSpec, info: TopicInfo, config: Mapping[str, str], *, dev: bool) -> Iterator[Finding]:
    if info.replication_factor < REPLICATION_FACTOR:
        fix = f"reassign the topic to {REPLICATION_FACTOR} replicas"
        expected, found = f"at least {REPLICATION_FACTOR} replicas", str(info.replication_factor)
        yield _finding("replication_factor", spec.name, expected, found, fix, waived=dev)
    in_sync = int(config["min.insync.replicas"])
    if in_sync < MIN_INSYNC_REPLICAS:
        fix = f"set min.insync.replicas={MIN_INSYNC_REPLICAS}"
        yield _finding(
            "min_insync_replicas", spec.name, f"at least {MIN_INSYNC_REPLICAS}", str(in_sync), fix, waived=dev
        )


def _settings(spec: TopicSpec, info: TopicInfo, config: Mapping[str, str]) -> Iterator[Finding]:
    if info.partitions != spec.partitions:
        expected = f"{spec.partitions}, as many as the journal has" if spec.partitions != 1 else "1"
        fix = "the number is fixed for the life of a ledger: restore the topic, or start a new ledger"
        yield _finding("partition_count", spec.name, expected, str(info.partitions), fix)
    wanted: tuple[tuple[CheckName, str, str], ...] = (
        ("unclean_leader_election", "unclean.leader.election.enable", "false"),
        ("cleanup_policy", "cleanup.policy", spec.cleanup),
        ("timestamp_type", "message.timestamp.type", "LogAppendTime"),
    )
    for name, setting, value in wanted:
        if config[setting] != value:
            yield _finding(name, spec.name, f"{setting}={value}", config[setting], f"set {setting}={value}")
    if spec.cleanup == "delete":
        yield from _retention(spec, config)
    size = int(config["max.message.bytes"])
    if size < spec.max_message_bytes:
        expected = f"max.message.bytes of at least {spec.max_message_bytes}"
        fix = f"set max.message.bytes={spec.max_message_bytes}"
        yield _finding("message_size", spec.name, expected, str(size), fix)


def _retention(spec: TopicSpec, config: Mapping[str, str]) -> Iterator[Finding]:
    kept_ms, kept_bytes = int(config["retention.ms"]), int(config["retention.bytes"])
    least = spec.retention_ms_at_least
    if kept_bytes != -1:
        fix = "set retention.bytes=-1"
        yield _finding("retention", spec.name, "retention.bytes=-1", str(kept_bytes), fix)
    if kept_ms != -1 and (least is None or kept_ms < least):
        expected = "retention.ms=-1 (kept for ever)" if least is None else f"retention.ms of at least {least}, or -1"
        fix = "set retention.ms=-1" if least is None else f"set retention.ms={least} or more"
        yield _finding("retention", spec.name, expected, str(kept_ms), fix)


async def _journals(
    kafka: str, topics: Topics, partitions: int, ledger_id: str | None
) -> tuple[str | None, list[Finding]]:
    """The ledger that the journals name, and what is wrong with them."""
    consumer = await Consumer.start(kafka, "ledgerline-doctor", Isolation.UNCOMMITTED)
    try:
        journals = [Partition(topics.journal, p) for p in range(partitions)]
        starts, ends = await consumer.start_offsets(journals), await consumer.end_offsets(journals)
        findings = [
            _finding("journal_empty", str(j), "a genesis at offset 0", "an empty journal", "run `ledgerline init`")
            for j in journals
            if ends[j] == 0
        ]
        findings += [
            _finding(
                "journal_start",
                str(j),
                "log start 0 (the journal is kept for ever)",
                str(starts[j]),
                "records were deleted: restore the topic from a replica or a copy",
            )
            for j in journals
            if starts[j] > 0
        ]
        if any(starts.values()):
            return None, findings
        try:
            geneses = await read_geneses(consumer, topics, partitions)
        except InitRefused as refused:
            fix = "the topic is not a journal: check LEDGERLINE_KAFKA and LEDGERLINE_PREFIX"
            findings.append(_finding("genesis", topics.journal, "a genesis at offset 0", str(refused), fix))
            return None, findings
    finally:
        await consumer.close()
    if not geneses:
        return None, findings
    expected_id = ledger_id or next(iter(geneses.values())).ledger_id
    for number, genesis in geneses.items():
        where = f"{topics.journal}[{number}]"
        if genesis.ledger_id != expected_id:
            fix = "check LEDGERLINE_KAFKA and LEDGERLINE_PREFIX"
            findings.append(_finding("ledger_id", where, expected_id, genesis.ledger_id, fix))
        if (genesis.partition, genesis.partitions) != (number, partitions):
            got = f"partition {genesis.partition} of {genesis.partitions}"
            fix = "the number is fixed for the life of a ledger: restore the topic, or start a new ledger"
            findings.append(_finding("partition_count", where, f"partition {number} of {partitions}", got, fix))
    return expected_id, findings


def _finding(name: CheckName, where: str, expected: str, found: str, fix: str, *, waived: bool = False) -> Finding:
    return Finding(name=name, where=where, expected=expected, found=found, fix=fix, waived=waived)
