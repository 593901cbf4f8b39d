"""The demo, small, as a newcomer would run it: it must end with a killed worker and every invariant proved."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ledgerline.page_reader import Page

WITHIN_S = 240
REQUESTS = 3_000


@pytest.mark.integration
def test_the_demo_kills_a_worker_and_ends_proved(kafka: str, postgres: str, stack_home: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "ledgerline.cli.app", "demo", "--requests", str(REQUESTS), "--rate", "500", "--open"],
        env=os.environ
        | {"LEDGERLINE_HOME": str(stack_home), "LEDGERLINE_PREFIX": "unused.", "BROWSER": "echo opened %s"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.search(r"SIGKILL worker-[12], the owner of [1-8] of 8 partitions", demo.stdout), demo.stdout
    assert re.search(r"^proved: [\d,]+ events in 8 partitions", demo.stdout, re.MULTILINE), demo.stdout
    assert "simulated" in demo.stdout
    for reason in ("per_transaction_limit", "idempotency_conflict", "malformed", "replayed", "accepted"):
        assert reason in demo.stdout, f"{reason} is missing from the outcomes:\n{demo.stdout}"
    explained = re.search(r"ledgerline explain (\d+-\d+)", demo.stdout)
    assert explained is not None, "no decline is named to look at"
    told = re.search(r"^report +(\S+)$", demo.stdout, re.MULTILINE)
    assert told is not None, demo.stdout
    report = Path(told[1])
    assert report.parent == stack_home / "reports"
    assert f"opened {report.as_uri()}" in demo.stdout
    _holds_the_run(Page(report.read_text(encoding="utf-8")), demo.stdout)
    report.unlink()


def _holds_the_run(page: Page, printed: str) -> None:
    """The report loads nothing, and tells what was printed and what was sent."""
    assert page.loads == []
    assert "payments are simulated" in page.text
    for pattern in (
        r"(SIGKILL of worker-[12])",
        r"posted in [\d.]+ s: ([\d,]+/s)",
        r"latency.*: p50 ([\d,]+ ms)",
        r"proved: ([\d,]+ events)",
        r"answered again after ([\d.]+ s)",
        r"transfer +│ declined │ per_transaction_limit +│ +(\d+) ",
    ):
        figure = re.search(pattern, " ".join(printed.split()))
        assert figure is not None, f"{pattern} is not in:\n{printed}"
        assert figure[1] in page.text, f"{figure[1]} is not in the report"
    per_second = "Requests, outcomes and booked events per second, /s"
    for name in ("requests received by Kafka", "outcomes published"):
        assert sum(int(cell.replace(",", "")) for cell in page.column(per_second, name)) == REQUESTS
    assert sum(int(cell.replace(",", "")) for cell in page.column("Per partition", "requests")) == REQUESTS
    assert sum(cell != "-" for cell in page.column("Per partition", "answered again after")) >= 1
    assert len(page.plots) == 4
