"""The processes of the bench, and the three ways behind one face: start, run a flood, stop."""

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient

from bench.payments import BUNDLE, PARTITIONS
from bench.upstream import Order, Sending
from ledgerline.demo import processes
from ledgerline.demo.processes import Process
from ledgerline.settings import Settings, database_name, resolve
from schemas.codec import canonical
from sinks.postgres.migrations import ensure_database, migrate
from streams.config_log import publish_bundle
from streams.init import init_ledger
from streams.kafka import Admin, Consumer, Isolation, NewTopic, Partition
from streams.topics import Topics

ROOT: Final = Path(__file__).parents[1]
WORKERS: Final = 2
LOOK_EVERY_S: Final = 0.5
STABLE_LOOKS: Final = 10
FAUST_TABLES: Final = ("accounts", "decided")
ASSIGNED_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The stack of the bench: its settings, the pids of its servers, where logs go, how many accounts there are."""

    settings: Settings
    kafka: str
    admin_dsn: str
    servers: dict[str, int]
    logs: Path
    accounts: int
    name: str


async def upstream(order: Order) -> Sending:
    """Run an upstream service in a process of its own; raises RuntimeError with its words if it fails."""
    command = [sys.executable, "-m", "bench.upstream", json.dumps(asdict(order))]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"the upstream service ended with {process.returncode}: {err.decode()[-2000:]}")
    return Sending(**json.loads(out))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """(c) Ledgerline: two workers and a sink on a ledger of the bench's own."""

    stage: Stage
    topics: Topics
    dsn: str
    environment: dict[str, str]

    @classmethod
    async def create(cls, stage: Stage) -> "Ledger":
        """Topics, genesis, database, rules."""
        prefix = f"{stage.name}."
        dsn = await ensure_database(stage.admin_dsn, database_name(prefix))
        await migrate(dsn)
        await init_ledger(stage.kafka, prefix, partitions=PARTITIONS, dev=True)
        await publish_bundle(stage.kafka, prefix, canonical(BUNDLE.model_dump(mode="json", exclude_none=True)))
        environment = {
            "LEDGERLINE_HOME": str(stage.settings.home),
            "LEDGERLINE_KAFKA": stage.kafka,
            "LEDGERLINE_POSTGRES": dsn,
            "LEDGERLINE_PREFIX": prefix,
            "LEDGERLINE_DEV": "true",
            "LEDGERLINE_HTTP": "127.0.0.1:0",
        }
        return cls(stage=stage, topics=Topics(prefix), dsn=dsn, environment=environment)

    def order(self, **more: object) -> Order:
        """An order whose effects are rows in Postgres."""
        given = {"kafka": self.stage.kafka, "topic": self.topics.requests, "accounts": self.stage.accounts}
        return Order(**given, posted=self.dsn, **more)  # type: ignore[arg-type]  # the dataclass checks the names

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, int]]:
        """Workers and sink, ready; gives their pids by name. They are drained at the end."""
        names = {f"worker-{n + 1}": "worker" for n in range(WORKERS)} | {"sink": "sink"}
        home, logs = self.stage.settings.home, self.stage.logs
        started: list[Process] = []
        try:
            for name, command in names.items():
                started.append(processes.start(name, [command], self.environment, home, logs))
            async with aiohttp.ClientSession() as http:
                for process in started:
                    await processes.await_ready(process, http)
                await _evenly_owned(started[:WORKERS], http)
            yield {process.name: process.running.pid for process in started}
        finally:
            await asyncio.to_thread(processes.stop, started)


async def _evenly_owned(workers: list[Process], http: aiohttp.ClientSession) -> None:
    """Ready is also who owns nothing, or owns all while another is joining."""
    async with asyncio.timeout(ASSIGNED_WITHIN_S):
        while {len(await processes.owned(worker, http)) for worker in workers} != {PARTITIONS // len(workers)}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


class FaustMissing(Exception):
    """The extra [risk] is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faust:
    """(b) two workers of the Faust application, with topics of their own on the same brokers."""

    stage: Stage
    run_id: str

    @classmethod
    async def create(cls, stage: Stage) -> "Faust":
        """Its topics. Raises FaustMissing."""
        if importlib.util.find_spec("faust") is None:
            raise FaustMissing(
                'Faust is not installed: pip install "faust-streaming==0.15.3" (the extra [risk]; `make bench` does it)'
            )
        made = cls(stage=stage, run_id=f"{stage.name}-faust")
        admin = await Admin.start(stage.kafka, "bench")
        try:
            # The changelogs too: workers that start at once would not see the ones that the first of them creates.
            topics: dict[str, dict[str, str]] = {made.requests: {}, made.outcomes: {}}
            topics |= {f"{made.run_id}-{table}-changelog": {"cleanup.policy": "compact"} for table in FAUST_TABLES}
            for name, configs in topics.items():
                await admin.create_topic(
                    NewTopic(name=name, partitions=PARTITIONS, replication_factor=1, configs=configs)
                )
        finally:
            await admin.close()
        return made

    @property
    def requests(self) -> str:
        """Topic of requests."""
        return f"{self.run_id}.requests"

    @property
    def outcomes(self) -> str:
        """Topic of answers."""
        return f"{self.run_id}.outcomes"

    def order(self, **more: object) -> Order:
        """An order whose effects are answers."""
        given = {"kafka": self.stage.kafka, "topic": self.requests, "accounts": self.stage.accounts}
        return Order(**given, answered=self.outcomes, **more)  # type: ignore[arg-type]  # as above

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, int]]:
        """Its workers; gives their pids. They say nothing when they are ready: what they are given is answered then."""
        started: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for number in range(1, WORKERS + 1):
                name = f"faust-{number}"
                folder = self.stage.logs / name
                folder.mkdir(exist_ok=True)
                given = {"kafka": self.stage.kafka, "run": self.run_id, "folder": str(folder)}
                with (self.stage.logs / f"{name}.log").open("ab") as log:
                    started[name] = subprocess.Popen(  # noqa: ASYNC220 - a fork, at a moment when nothing is measured
                        [sys.executable, "-m", "bench.faust_app", "worker", "--without-web", "--loglevel=error"],
                        cwd=ROOT,
                        env=os.environ | {"BENCH_FAUST": json.dumps(given)},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
            await self._joined()
            yield {name: process.pid for name, process in started.items()}
        finally:
            await asyncio.to_thread(_end, list(started.values()))

    async def _joined(self) -> None:
        """Wait until the group has kept all workers for a while: what comes during a rebalance may be lost."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stage.kafka, client_id="bench")
        await admin.start()
        try:
            async with asyncio.timeout(ASSIGNED_WITHIN_S):
                stable = 0
                while stable < STABLE_LOOKS:
                    await asyncio.sleep(LOOK_EVERY_S)
                    described = await admin.describe_consumer_groups([self.run_id])
                    _, _, state, _, _, members, *_ = described[0].groups[0]
                    stable = stable + 1 if state == "Stable" and len(members) == WORKERS else 0
        finally:
            await admin.close()


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 15
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ends(kafka: str, topics: list[str]) -> dict[Partition, int]:
    """The ends of all partitions of *topics*."""
    consumer = await Consumer.start(kafka, "bench", Isolation.UNCOMMITTED)
    try:
        return await consumer.end_offsets([Partition(topic, n) for topic in topics for n in range(PARTITIONS)])
    finally:
        await consumer.close()


def addresses(settings: Settings) -> tuple[str, str]:
    """Kafka and the admin database of the running stack."""
    servers = resolve(settings)
    assert servers.postgres_admin is not None, "the bench runs on a stack of its own"
    return servers.kafka, servers.postgres_admin
