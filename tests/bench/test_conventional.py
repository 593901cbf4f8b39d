"""What pgbench says is read, or refused."""

import pytest

from bench.conventional import parse

REPORT = """\
pgbench (18.4)
transaction type: conventional.pgbench
scaling factor: 1
query mode: prepared
number of clients: 16
number of threads: 2
duration: 12 s
number of transactions actually processed: 40123
number of failed transactions: {failed} (0.000%)
latency average = 4.785 ms
initial connection time = 21.5 ms
tps = 3343.583000 (without initial connection time)
"""


def test_the_report_of_pgbench_is_read() -> None:
    run = parse(REPORT.format(failed=0), {"postgres": 1.0})
    assert (run.transactions, run.per_second, run.latency_ms) == (40123, 3343.583, 4.785)


@pytest.mark.parametrize("report", [REPORT.format(failed=3), "", REPORT.replace("tps", "")])
def test_failed_transactions_and_other_reports_are_refused(report: str) -> None:
    with pytest.raises(ValueError, match="without failures"):
        parse(report.format(failed=0), {})
