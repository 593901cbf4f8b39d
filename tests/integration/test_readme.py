"""The console blocks of the README, run as a newcomer would: in a clean copy of the project, with nothing set up."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.console import clean_copy, commands, run

WITHIN_S = 600
NOT_A_NEWCOMERS = (
    "LEDGERLINE_KAFKA",
    "LEDGERLINE_POSTGRES",
    "LEDGERLINE_PREFIX",
    "LEDGERLINE_TEST_HOME",
    "VIRTUAL_ENV",
)


@pytest.fixture
def copy() -> Iterator[Path]:
    with clean_copy() as folder:
        yield folder


@pytest.mark.integration
def test_the_first_request_of_the_readme_works_when_its_commands_are_copied(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = commands(copy / "README.md", "first-request")
    assert len(listed) > 8, "the README has lost its console blocks"
    for name in NOT_A_NEWCOMERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEDGERLINE_HOME", str(copy.parent / "home"))
    try:
        ran = run(listed, folder=copy, environment=os.environ, within_s=WITHIN_S)
    finally:
        subprocess.run([copy / ".venv/bin/ledgerline", "down", "--delete"], check=False)
    assert ran.code == 0, ran.printed
    assert ran.printed.count("accepted") >= 3, ran.printed
    assert "87.50" in ran.printed, ran.printed
