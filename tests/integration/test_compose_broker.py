"""The broker of docker-compose.yml without a container: a real Kafka with the settings that its variables become."""

import asyncio
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgerline.settings import Settings
from ledgerline.stack.jars import kafka_jars
from ledgerline.stack.java import find_java
from ledgerline.stack.kafka import JVM, answers
from streams.doctor import examine
from streams.init import init_ledger
from tests.ops.deployment import services

pytestmark = pytest.mark.integration

DEADLINE_S = 120.0
PREFIX = "ledgerline."


def settings_here(data: Path) -> dict[str, str]:
    """What the image makes of KAFKA_A_B, a.b, with this machine's address, free ports and *data*."""
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in services()["kafka"]["environment"].items()
    }
    free: dict[str, str] = {}
    for port in re.findall(r":(\d+)", given["listeners"]):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free[port] = str(probe.getsockname()[1])

    def here(text: str) -> str:
        return re.sub(r"(?:kafka|localhost|(?<=//)):(\d+)", lambda match: f"127.0.0.1:{free[match[1]]}", text)

    return {name: here(value) for name, value in given.items()} | {"log.dirs": str(data)}


@pytest.fixture
def broker() -> Iterator[dict[str, str]]:
    """Its listeners by name: host:port."""
    with tempfile.TemporaryDirectory(prefix="ledgerline-broker-") as folder:
        settings = settings_here(Path(folder) / "data")
        file = Path(folder) / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        jars = kafka_jars(Settings().layout.jars, print)
        java = [str(find_java()), *JVM, "-cp", ":".join(map(str, jars))]
        formatting = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(file)]
        subprocess.run([*java, *formatting], check=True, capture_output=True, cwd=folder)
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([*java, "kafka.Kafka", str(file)], cwd=folder, stdout=log, stderr=log)
        try:
            told = dict(part.split("://") for part in settings["advertised.listeners"].split(","))
            deadline = time.monotonic() + DEADLINE_S
            while not asyncio.run(answers(told["INSIDE"])):
                assert process.poll() is None, (Path(folder) / "log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield told
        finally:
            process.kill()
            process.wait()


async def test_the_broker_starts_answers_where_clients_are_told_and_takes_a_ledger(broker: dict[str, str]) -> None:
    assert await answers(broker["OUTSIDE"])
    done = await init_ledger(broker["INSIDE"], PREFIX, partitions=2, dev=True)
    assert len(done.created_topics) == 7
    found = await examine(broker["INSIDE"], PREFIX, dev=True)
    assert found.refusals == ()
