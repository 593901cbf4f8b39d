"""The worker's metrics, all named ``ledgerline_…`` with bounded labels, and what ``/readyz`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a process does its work, and what it says about itself (JSON)."""

    ready: bool
    detail: dict[str, object]


class WorkerMetrics:
    """One per process; ``partition`` has at most as many values as the ledger has partitions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"ledgerline_{name}", says, labels, registry=registry)

        def gauge(name: str, says: str, *labels: str) -> Gauge:
            return Gauge(f"ledgerline_{name}", says, labels, registry=registry)

        def seconds(name: str, says: str) -> Histogram:
            return Histogram(f"ledgerline_{name}", says, buckets=SECONDS, registry=registry)

        self.decisions = counter("decisions", "Decided requests.", "type", "status", "reason")
        # labels() costs more than all the rest of counting: what it gave is kept.
        self._decided: dict[tuple[str, str, str], Counter] = {}
        self._lags: dict[tuple[Gauge, str], Gauge] = {}
        self.skips = counter("skips", "Records of transfers without an effect.")
        self.decide_seconds = seconds("decide_seconds", "Deciding one batch.")
        self.append_seconds = seconds("append_seconds", "Appending one block, until it is valid.")
        self.publish_seconds = seconds("publish_seconds", "Publishing the outcomes of one block.")
        self.decision_age_seconds = seconds(
            "decision_age_seconds", "From the time of a batch's first record to its published outcome."
        )
        self.batch_events = Histogram("ledgerline_batch_events", "Events per block.", buckets=EVENTS, registry=registry)
        self.input_lag_records = gauge("input_lag_records", "Requests not decided yet.", "partition")
        self.input_lag_seconds = gauge("input_lag_seconds", "Age of the oldest undecided request.", "partition")
        self.journal_epoch = gauge("journal_epoch", "Epoch of the lease in force.", "partition")
        self.journal_stale = counter("journal_stale", "Late records of fenced writers that were skipped.")
        self.journal_duplicate = counter("journal_duplicate", "Further copies of journal records that were skipped.")
        self.retakes = counter("retakes", "Lease attempts because of I/O trouble.")
        self.fenced = counter("fenced", "Partitions lost to another writer.")
        self.restores = counter("restores", "Partitions folded from the start of their journal.")
        self.restore_seconds = Histogram(
            "ledgerline_restore_seconds",
            "From the first read of a journal to owning its partition.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900),
            registry=registry,
        )
        self.halted = gauge("halted", "1: the partition stopped because an invariant is broken.", "partition")
        self.paused = gauge("paused", "1: the partition waits for a person or a clock.", "partition")
        self.owned = gauge("owned", "1: this process decides the partition's requests.", "partition")
        self.ready = gauge("ready", "1: /readyz answers 200.")
        self.replies = counter("replies", "Replies sent.")
        self.replies_failed = counter("replies_failed", "Replies given up.", "why")
        self.replay_lookups = counter("replay_lookups", "Bodies of replays read from the journal.")

    def decided(self, type_status_reason: tuple[str, str, str], count: int) -> None:
        """*count* more of ``decisions``."""
        counter = self._decided.get(type_status_reason)
        if counter is None:
            counter = self._decided[type_status_reason] = self.decisions.labels(*type_status_reason)
        counter.inc(count)

    def lag(self, gauge: Gauge, partition: str, value: float) -> None:
        """Set one of the two gauges of lag."""
        child = self._lags.get((gauge, partition))
        if child is None:
            child = self._lags[gauge, partition] = gauge.labels(partition)
        child.set(value)

    def forget_lag(self, partition: str) -> None:
        """Of *partition*: whoever owns it next tells it; here it would stand as it was for ever."""
        for gauge in (self.input_lag_records, self.input_lag_seconds):
            if self._lags.pop((gauge, partition), None) is not None:
                gauge.remove(partition)
