"""The local stack as a user meets it: real servers, real signals, the real command."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from ledgerline.settings import Settings, with_database
from ledgerline.stack import kafka, local, postgres, processes
from ledgerline.stack.layout import Layout, layout
from streams.kafka.admin import Admin, NewTopic

pytestmark = pytest.mark.integration
DEADLINE_S = 240.0


class Machine:
    """A home of its own, and the ``ledgerline`` command in it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.layout: Layout = layout(home, Settings().cache)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LEDGERLINE_")}
        self.environment = {
            **plain,
            "LEDGERLINE_HOME": str(home),
            "LEDGERLINE_CACHE": str(Settings().cache),
            **environment,
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledgerline.cli.app", *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == code, f"{arguments}: exit code {process.returncode}, not {code}\n{out}\n{err}"
        return out + err

    def status(self) -> dict[str, Any]:
        process = self.start("status", "--json")
        status: dict[str, Any] = json.loads(process.communicate(timeout=DEADLINE_S)[0])
        return status

    def up(self) -> local.Stack:
        self.run("up", "--detach")
        return local.running(self.layout)

    def servers(self) -> list[psutil.Process]:
        """Every process whose command line names this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if any(str(self.home) in argument for argument in process.cmdline()):
                    found.append(process)
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix="ll-")).resolve()
    machine = Machine(home)
    try:
        yield machine
    finally:
        machine.run("down")
        left = machine.servers()
        shutil.rmtree(home)
    assert left == []


async def make_topic(bootstrap: str, name: str) -> None:
    admin = await Admin.start(bootstrap, "test")
    try:
        await admin.create_topic(NewTopic(name=name, partitions=1, replication_factor=1, configs={}))
    finally:
        await admin.close()


async def topics(bootstrap: str) -> frozenset[str]:
    admin = await Admin.start(bootstrap, "test")
    try:
        return await admin.topics()
    finally:
        await admin.close()


def is_running(program: str, marker: processes.Marker) -> bool:
    return processes.find(program, marker) is not None


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.05)


async def test_data_outlives_down_and_a_second_up_attaches_until_delete(machine: Machine) -> None:
    assert "not running" in machine.run("status", code=5)
    first = machine.up()
    assert first.kafka is not None
    assert first.postgres is not None
    assert machine.status()["kafka"] == first.kafka.address
    assert machine.status()["postgres"] == with_database(first.postgres.address, "ledgerline")

    attached = machine.run("up")  # in the foreground: it must return, because it started nothing
    assert first.kafka.address in attached
    assert "already running" in attached
    assert local.running(machine.layout) == first

    await make_topic(first.kafka.address, "kept")
    connection = await asyncpg.connect(first.postgres.address)
    await connection.execute("CREATE TABLE kept (n int)")
    assert (await connection.fetchval("SHOW server_version")).startswith("18.")
    assert await connection.fetchval("SHOW fsync") == "on"
    await connection.close()

    assert "stopped" in machine.run("down")
    assert machine.servers() == []
    assert machine.status()["kafka"] is None
    assert "not running" in machine.run("down")

    again = machine.up()
    assert again.kafka is not None
    assert again.postgres is not None
    assert again.kafka.address == first.kafka.address  # clients outside keep working
    assert "kept" in await topics(again.kafka.address)
    connection = await asyncpg.connect(again.postgres.address)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 0
    await connection.close()

    assert "data deleted" in machine.run("down", "--delete")
    assert machine.servers() == []
    assert not machine.layout.root.exists()


def test_killed_servers_and_stale_process_ids_do_not_block_the_next_up(machine: Machine) -> None:
    first = machine.up()
    assert first.kafka is not None
    assert first.postgres is not None
    os.kill(first.kafka.pid, signal.SIGKILL)
    os.kill(first.postgres.pid, signal.SIGKILL)
    wait_until(lambda: local.running(machine.layout) == local.Stack(), "both servers are dead")

    # As after a reboot: the remembered process ids belong to somebody else, here to this test.
    ours = os.getpid()
    machine.layout.state.write_text(
        machine.layout.state.read_text()
        .replace(f'"pid": {first.kafka.pid},', f'"pid": {ours},')
        .replace(f'"pid": {first.postgres.pid},', f'"pid": {ours},')
    )
    pid_file = machine.layout.postgres / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(f"{first.postgres.pid}\n", f"{ours}\n", 1))
    assert machine.status()["kafka"] is None
    assert machine.status()["postgres"] is None

    # The port of the last start is taken meanwhile: another one is chosen.
    host, port = first.kafka.address.split(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        second = machine.up()
    assert second.kafka is not None
    assert second.postgres is not None
    assert second.kafka.address != first.kafka.address

    machine.layout.state.write_text('{"format": 1, "kaf')  # cut off by a crash of the machine
    assert machine.up() == second


def test_a_killed_up_leaves_nothing_that_blocks_the_next(machine: Machine) -> None:
    tool = ("kafka.tools.StorageTool", str(kafka.config_file(machine.layout)))
    stages = (("java", tool), ("java", kafka.marker(machine.layout)), ("postgres", postgres.marker(machine.layout)))
    for program, marker in stages:
        begun = machine.start("up")
        wait_until(partial(is_running, program, marker), f"{marker} is running")
        begun.kill()
        begun.communicate()

    foreground = machine.start("up")
    wait_until(machine.layout.state.exists, "the stack is up")
    stack = local.running(machine.layout)
    foreground.kill()
    foreground.communicate()
    assert "already running" in machine.run("up")
    assert local.running(machine.layout) == stack


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_in_the_foreground_stops_its_servers_when_asked(machine: Machine, number: signal.Signals) -> None:
    foreground = machine.start("up", LEDGERLINE_KAFKA="127.0.0.1:9")  # PostgreSQL alone is quick
    wait_until(machine.layout.state.exists, "the stack is up")
    assert postgres.find(machine.layout) is not None
    assert kafka.find(machine.layout) is None
    foreground.send_signal(number)
    out, _ = foreground.communicate(timeout=DEADLINE_S)
    assert foreground.returncode == 0
    assert "LEDGERLINE_KAFKA is set" in out
    assert machine.servers() == []


def test_up_in_the_foreground_fails_when_a_server_dies(machine: Machine) -> None:
    foreground = machine.start("up", LEDGERLINE_KAFKA="127.0.0.1:9")
    wait_until(lambda: local.running(machine.layout).postgres is not None, "the stack is up")
    server = local.running(machine.layout).postgres
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    _, err = foreground.communicate(timeout=DEADLINE_S)
    assert foreground.returncode == 5
    assert "PostgreSQL ended by itself" in err


def test_of_several_ups_at_once_one_starts_the_servers_and_the_others_attach(machine: Machine) -> None:
    crowd = [machine.start("up", "--detach") for _ in range(3)]
    printed = {process.communicate(timeout=DEADLINE_S)[0].splitlines()[0] for process in crowd}
    assert [process.returncode for process in crowd] == [0, 0, 0]
    assert len(printed) == 1
    assert len([process for process in machine.servers() if process.name() == "java"]) == 1


def test_a_changed_jar_is_refused_by_name_and_nothing_is_left_running(machine: Machine, kafka: str) -> None:
    assert kafka  # the shared stack has filled the cache
    cache = machine.home / "cache"
    shutil.copytree(machine.layout.jars, cache / "kafka")
    jar = cache / "kafka" / "kafka-server-4.3.1.jar"
    jar.write_bytes(jar.read_bytes()[:-1] + b"x")
    told = machine.run("up", "--detach", code=3, LEDGERLINE_CACHE=str(cache))
    assert f"Kafka jar {jar}: expected SHA-256 " in told
    assert f"delete {cache / 'kafka'}" in told
    jar.unlink()
    assert "it is missing" in machine.run("up", "--detach", code=3, LEDGERLINE_CACHE=str(cache))
    assert machine.servers() == []


def test_nothing_is_started_for_servers_that_are_given(machine: Machine) -> None:
    given = {"LEDGERLINE_KAFKA": "10.0.0.1:9092", "LEDGERLINE_POSTGRES": "postgresql://u@10.0.0.2/ledger"}
    told = machine.run("up", code=0, **given)
    assert "LEDGERLINE_KAFKA is set" in told
    assert "LEDGERLINE_POSTGRES is set" in told
    assert not machine.layout.root.exists()
    status = json.loads(machine.run("status", "--json", code=0, **given))
    assert status["kafka"] == "10.0.0.1:9092"
    assert status["postgres"] == "postgresql://u@10.0.0.2/ledger"
