"""The demo, small, as a newcomer would run it: it must end with a killed worker and every invariant proved."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

WITHIN_S = 240


@pytest.mark.integration
def test_the_demo_kills_a_worker_and_ends_proved(kafka: str, postgres: str, stack_home: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "ledgerline.cli.app", "demo", "--requests", "3000", "--rate", "500"],
        env=os.environ | {"LEDGERLINE_HOME": str(stack_home), "LEDGERLINE_PREFIX": "unused."},
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
