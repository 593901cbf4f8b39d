"""What a sink tells Prometheus. Labels are partitions: bounded by the ledger."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


class SinkMetrics:
    """The metrics of one sink process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        per_partition = ["partition"]
        self.lag_records = Gauge(
            "ledgerline_sink_lag_records", "Journal records not yet in PostgreSQL", per_partition, registry=registry
        )
        self.lag_seconds = Gauge(
            "ledgerline_sink_lag_seconds",
            "Age of the last event in PostgreSQL while others wait behind it, 0 at the journal's end",
            per_partition,
            registry=registry,
        )
        self.seq = Gauge("ledgerline_sink_seq", "Seq of the last event in PostgreSQL", per_partition, registry=registry)
        self.events = Counter("ledgerline_sink_events_total", "Events written", registry=registry)
        self.batch_rows = Histogram(
            "ledgerline_sink_batch_rows",
            "Rows inserted or updated by one transaction",
            buckets=_ROWS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "ledgerline_sink_commit_seconds",
            "From BEGIN to the answer to COMMIT",
            buckets=_SECONDS,
            registry=registry,
        )
        self.owned = Gauge(
            "ledgerline_sink_owned", "1 for a partition that this sink writes", per_partition, registry=registry
        )
        self.halted = Gauge(
            "ledgerline_sink_halted",
            "1 for a partition that halted: see /readyz and the log",
            per_partition,
            registry=registry,
        )
        self.retries = Counter(
            "ledgerline_sink_retries_total",
            "Resumptions from the stored position after an error",
            ["cause"],  # kafka, postgres, position
            registry=registry,
        )
