"""The list of processes that serve HTTP."""

import os
import subprocess
import sys
from pathlib import Path

from ledgerline.stack.registry import Registered, register, registered

PROGRAM = """
import sys, pathlib
from ledgerline.stack.registry import register
kept = register(pathlib.Path(sys.argv[1]), "worker", "127.0.0.1:9101")
print("registered", flush=True)
sys.stdin.read()
"""


def test_a_process_is_listed_until_it_takes_itself_away(tmp_path: Path) -> None:
    assert registered(tmp_path) == []
    sink = register(tmp_path, "sink", "127.0.0.1:9102")
    assert registered(tmp_path) == [Registered(kind="sink", pid=os.getpid(), address="127.0.0.1:9102")]
    sink.close()
    assert registered(tmp_path) == []


def test_a_killed_process_vanishes_and_a_living_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "registered\n"
        here = register(tmp_path, "sink", "127.0.0.1:9102")
        worker = Registered(kind="worker", pid=process.pid, address="127.0.0.1:9101")
        assert [entry for entry in registered(tmp_path) if entry.kind == "worker"] == [worker]
        process.kill()
        process.wait()
        assert [entry.kind for entry in registered(tmp_path)] == ["sink"]
        assert len(list((tmp_path / "processes").iterdir())) == 1  # what it left behind is gone
        here.close()
