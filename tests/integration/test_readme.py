"""The console blocks of the README, run as a newcomer would: in a clean copy of the project, with nothing set up."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- test: (?P<name>[a-z-]+) -->\n```console\n(?P<lines>.*?)```", re.DOTALL)
WITHIN_S = 600


@pytest.fixture
def clean_copy() -> Iterator[Path]:
    """What git would hand to a newcomer: the tracked files and the new ones that it does not ignore."""
    folder = Path(tempfile.mkdtemp(prefix="ledgerline-readme-"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            target = folder / "ledgerline" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    yield folder / "ledgerline"
    shutil.rmtree(folder)


def commands(document: Path, name: str) -> list[str]:
    """The commands of the blocks called *name*, in order."""
    blocks = [match["lines"] for match in BLOCK.finditer(document.read_text()) if match["name"] == name]
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.integration
def test_the_first_request_of_the_readme_works_when_its_commands_are_copied(clean_copy: Path) -> None:
    lines = commands(clean_copy / "README.md", "first-request")
    assert len(lines) > 8, "the README has lost its console blocks"
    home = clean_copy.parent / "home"
    unset = {"LEDGERLINE_KAFKA", "LEDGERLINE_POSTGRES", "LEDGERLINE_PREFIX", "LEDGERLINE_TEST_HOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["LEDGERLINE_HOME"] = str(home)
    script = "\n".join(["set -e", *lines, "kill %1", "wait %1"])
    shell = subprocess.Popen(
        ["bash", "-m", "-c", script],
        cwd=clean_copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=WITHIN_S)
    finally:
        subprocess.run([clean_copy / ".venv/bin/ledgerline", "down", "--delete"], env=environment, check=False)
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, printed
    assert printed.count("accepted") >= 3, printed
    assert "87.50" in printed, printed
