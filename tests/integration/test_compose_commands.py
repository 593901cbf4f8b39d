"""The services of docker-compose.yml without containers: their commands, variables, logins and health checks.

Same command lines, same environment, with local addresses for the servers and ports; no package is there that the image
does not install. What a container adds (its network, its user, its volumes) is not run.
"""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ledgerline.settings import database_name, with_database
from ledgerline.stack.postgres import psql
from tests.ledgerline.verify.topics import delete_topics
from tests.ops.deployment import PROMETHEUS as SCRAPED
from tests.ops.deployment import ROOT, as_in_the_image, environment, health_url, ours, services, yaml

pytestmark = pytest.mark.integration

DEADLINE_S = 90.0
LOGINS = ("ledgerline_worker", "ledgerline_sink")
STARTED = ("worker-1", "worker-2", "sink")


@dataclass
class Machine:
    """Where the services run here, in place of the network of the compose file."""

    kafka: str
    dsn: str
    prefix: str
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def environment(self, name: str) -> dict[str, str]:
        """That of the compose file and the image, with this machine's addresses."""
        given = environment(ours()[name])
        user = urlsplit(given["LEDGERLINE_POSTGRES"]).username
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("LEDGERLINE_")}
        home = self.folder / name
        home.mkdir(exist_ok=True)
        here = {
            "LEDGERLINE_KAFKA": self.kafka,
            "LEDGERLINE_POSTGRES": self.dsn.replace("postgres@", f"{user}@", 1),
            "LEDGERLINE_PREFIX": self.prefix,
            "LEDGERLINE_HOME": str(home),
            "LEDGERLINE_HTTP": f"127.0.0.1:{self.ports[name]}",
            "PYTHONPATH": str(ROOT),
        }
        assert here.keys() <= given.keys(), "each of these is said by the compose file or the image"
        return inherited | given | here

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        command = as_in_the_image(*ours()[name]["command"])
        return subprocess.run(command, env=self.environment(name), capture_output=True, text=True, check=False)

    def start(self, name: str) -> None:
        self.running[name] = subprocess.Popen(
            as_in_the_image(*ours()[name]["command"]),
            env=self.environment(name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def healthy(self, name: str) -> bool:
        """What the health check of the compose file finds, asked at this machine's port."""
        kind, *test = ours()[name]["healthcheck"]["test"]
        assert kind == "CMD"
        told = f"127.0.0.1:{health_url(ours()[name]).port}"
        command = [word.replace(told, f"127.0.0.1:{self.ports[name]}") for word in test]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def ended(self, name: str) -> tuple[int, str]:
        """Exit code and output after SIGTERM, within the time that the compose file grants."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=float(ours()[name]["stop_grace_period"].removesuffix("s")))
        return process.returncode, printed


@pytest.fixture
def machine(kafka: str, postgres: str, tmp_path: Path) -> Iterator[Machine]:
    """A database made as the compose file's PostgreSQL makes it, with the logins of the services."""
    prefix = f"compose-{secrets.token_hex(4)}."
    name = database_name(prefix)
    asyncio.run(execute(postgres, f"CREATE DATABASE {name}"))
    made = Machine(kafka=kafka, dsn=with_database(postgres, name), prefix=prefix, folder=tmp_path)
    for service in ours():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            made.ports[service] = probe.getsockname()[1]
    try:
        initialise_database(made.dsn)
        yield made
    finally:
        for process in made.running.values():
            process.kill()
            process.communicate()
        asyncio.run(delete_topics(kafka, prefix))
        asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)", *(f"DROP ROLE {one}" for one in LOGINS)))


def initialise_database(dsn: str) -> None:
    """Run the mounted files in their order, as the entry point of the image does."""
    mounted = [volume.split(":") for volume in services()["postgres"]["volumes"]]
    scripts = {target: source for source, target, *_ in mounted if "/docker-entrypoint-initdb.d/" in target}
    passwords = {name: secrets.token_hex(8) for name in ("WORKER_PASSWORD", "SINK_PASSWORD")}
    for target in sorted(scripts):
        ran = subprocess.run(
            [psql(), "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file", ROOT / scripts[target], dsn],
            env={**os.environ, **passwords},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for one in statements:
            await connection.execute(one)
    finally:
        await connection.close()


def until(condition: Callable[[], bool], machine: Machine) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        for name, process in machine.running.items():
            assert process.poll() is None, f"{name} ended: {process.communicate()[0]}"
        time.sleep(0.2)


def test_the_services_start_in_their_order_work_and_drain(machine: Machine) -> None:
    for repeated in (False, True):  # `docker compose up` runs init every time
        ran = machine.run("init")
        assert ran.returncode == 0, ran.stderr
        assert ("complete already" in ran.stdout) == repeated, ran.stdout
    assert not any(map(machine.healthy, STARTED)), "nothing is there to be healthy"

    for name in STARTED:
        machine.start(name)
    until(lambda: all(map(machine.healthy, STARTED)), machine)

    request = '{"type": "open_account", "account_id": "alice", "currency": "EUR"}'
    sent = subprocess.run(
        as_in_the_image("send", request), env=machine.environment("init"), capture_output=True, text=True, check=False
    )
    assert sent.returncode == 0, sent.stderr
    assert "accepted" in sent.stdout

    scraped = {job["job_name"]: job for job in yaml(SCRAPED)["scrape_configs"]}
    for name in STARTED:
        kind = "sink" if name == "sink" else "worker"
        path = scraped[f"ledgerline-{kind}"]["metrics_path"]
        with urllib.request.urlopen(f"http://127.0.0.1:{machine.ports[name]}{path}", timeout=5) as answer:
            assert f"ledgerline_{'sink_' if kind == 'sink' else ''}owned" in answer.read().decode()

    for name in STARTED:
        code, printed = machine.ended(name)
        assert code == 0, printed


def test_the_logins_can_do_what_their_service_needs_and_no_more(machine: Machine) -> None:
    ran = machine.run("init")
    assert ran.returncode == 0, ran.stderr
    as_sink = machine.environment("sink")["LEDGERLINE_POSTGRES"]
    as_worker = machine.environment("worker-1")["LEDGERLINE_POSTGRES"]
    asyncio.run(execute(as_sink, "SELECT * FROM ledgerline.entries", "SET ROLE ledgerline_writer"))
    asyncio.run(execute(as_worker, "SELECT * FROM ledgerline.sink_positions"))
    refused = {
        as_sink: ["DELETE FROM ledgerline.entries", "DROP SCHEMA ledgerline CASCADE", "SET ROLE ledgerline_owner"],
        as_worker: ["DELETE FROM ledgerline.sink_positions", "SET ROLE ledgerline_writer", "CREATE TABLE mine (n int)"],
    }
    for dsn, statements in refused.items():
        for one in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                asyncio.run(execute(dsn, one))


async def test_every_variable_of_the_broker_is_one_of_its_settings(kafka: str) -> None:
    """The image turns KAFKA_A_B into a.b; what a broker does not know it ignores."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        described = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])
    finally:
        await admin.close()
    known = {entry[0] for response in described for resource in response.resources for entry in resource[4]}
    given = {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in services()["kafka"]["environment"]}
    assert "log.dirs" in known
    assert given <= known
