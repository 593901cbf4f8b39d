"""The set-up script: what it tells when a step fails, and what it leaves alone."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "ops" / "bootstrap.py"


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "what", "todo", "code"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full", "free 2 GB", 3),
        ("NewConnectionError('...: Connection refused')", "cannot be reached", "HTTPS_PROXY", 5),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "not the pinned one", "cache purge", 3),
        ("ERROR: No matching distribution found for x==1", "does not exist for this machine", "PYTHON=", 3),
        ("error: something else", "a step failed:\n    error: something else", "run the same command again", 3),
    ],
)
def test_a_failed_step_says_what_happened_and_what_to_do(
    bootstrap: ModuleType, line: str, what: str, todo: str, code: int
) -> None:
    failure = bootstrap.explain_failure(["Collecting x==1", line])
    assert what in failure.what
    assert todo in failure.todo
    assert failure.code == code


def test_an_old_python_is_refused(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (99, 0))
    assert bootstrap.main() == 3
    told = capsys.readouterr().err
    assert "Python 3.11 or newer is needed" in told
    assert "make PYTHON=" in told


def test_a_small_disk_and_a_missing_venv_module_are_refused_before_anything_is_made(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "stamp")
    monkeypatch.setattr(bootstrap, "DISK_NEEDED_BYTES", 10**18)
    assert bootstrap.main() == 3
    assert "free disk are needed" in capsys.readouterr().err

    monkeypatch.setattr(bootstrap, "DISK_NEEDED_BYTES", 0)
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert bootstrap.main() == 3
    assert "apt install python3-venv" in capsys.readouterr().err
    assert not (tmp_path / ".venv").exists()


def test_the_callers_index_and_proxy_reach_pip_but_not_a_redirected_target(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = bootstrap.clean_environment()
    assert environment["PIP_INDEX_URL"] == "https://index.example/simple"
    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert not {"PIP_TARGET", "PYTHONPATH"} & environment.keys()


def test_the_pinned_requirements_have_hashes_and_name_no_host() -> None:
    text = (SCRIPT.parents[1] / "requirements.txt").read_text()
    pins = [line for line in text.splitlines() if line[:1].isalnum()]
    assert pins
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
