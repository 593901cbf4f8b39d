"""The sink on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from ledgerline.settings import Settings
from ledgerline.stack import local
from ledgerline.stack.layout import layout
from sinks.postgres.errors import ForeignLedger, SchemaMismatch
from sinks.postgres.migrations import ensure_database, migrate
from sinks.postgres.readers import sink_position, wait_for
from sinks.postgres.session import session
from sinks.postgres.sink import Sink
from streams.journal.kafka_log import KafkaLog
from streams.kafka import Admin, NewTopic, Partition
from streams.membership import Membership, StaticMembership
from streams.topics import Topics
from tests.sinks.journals import LEDGER, Journal, Message, payments, wrong

pytestmark = pytest.mark.integration
PARTITIONS = 4


class Ledger:
    """Topics and a database of one test."""

    def __init__(self, kafka: str, dsn: str, prefix: str) -> None:
        self.kafka, self.dsn, self.prefix = kafka, dsn, prefix
        self.journals = [Journal(p) for p in range(PARTITIONS)]
        self._logs = [KafkaLog(kafka, Partition(Topics(prefix).journal, p), "test") for p in range(PARTITIONS)]

    def sink(self, membership: Membership | None = None) -> Sink:
        return Sink(kafka=self.kafka, prefix=self.prefix, dsn=self.dsn, membership=membership)

    async def append(self, partition: int, *messages: Message) -> None:
        for headers, value in messages:
            await self._logs[partition].append(headers, value)

    async def close(self) -> None:
        for log in self._logs:
            await log.close()


@pytest.fixture
async def ledger(kafka: str, postgres: str) -> AsyncIterator[Ledger]:
    name = f"sink_{secrets.token_hex(6)}"
    dsn = await ensure_database(postgres, name)
    await migrate(dsn)
    topics = Topics(f"{name}.")
    admin = await Admin.start(kafka, "test")
    spec = next(s for s in topics.specs(PARTITIONS) if s.name == topics.journal)
    await admin.create_topic(
        NewTopic(
            name=spec.name,
            partitions=PARTITIONS,
            replication_factor=1,
            configs=spec.configs(min_insync_replicas=1),
        )
    )
    found = Ledger(kafka, dsn, topics.prefix)
    for p in range(PARTITIONS):
        await found.append(p, found.journals[p].start())
    yield found
    await found.close()
    await admin.delete_topic(topics.journal)
    await admin.close()
    async with session(postgres) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def running(*sinks: Sink) -> AsyncIterator[None]:
    """Sinks at work; drained at the end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for sink in sinks:
            group.create_task(sink.run(stop))
        try:
            yield
        finally:
            stop.set()


async def everything(ledger: Ledger) -> None:
    """PostgreSQL has caught up with every journal, and is right."""
    for p, journal in enumerate(ledger.journals):
        await wait_for(ledger.dsn, partition=p, seq=journal.seq, timeout_s=60)
    await is_right(ledger)


async def is_right(ledger: Ledger) -> None:
    async with session(ledger.dsn) as connection:
        for p, journal in enumerate(ledger.journals):
            row = await connection.fetchrow("SELECT seq, chain FROM sink_positions WHERE partition = $1", p)
            if row is None:
                continue
            assert row["seq"] <= journal.seq
            assert row["seq"] < journal.seq or row["chain"] == journal.chain
            seqs = await connection.fetch(
                "SELECT seq FROM decisions WHERE partition = $1 "
                "UNION ALL SELECT seq FROM config_pickups WHERE partition = $1 ORDER BY seq",
                p,
            )
            assert [r["seq"] for r in seqs] == list(range(1, row["seq"] + 1))
        assert await connection.fetch("SELECT * FROM unproved_balances") == []
        assert (
            await connection.fetch(
                "SELECT currency FROM trial_balance GROUP BY currency HAVING sum(balance_minor) <> 0"
            )
            == []
        )


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # what is waited for is in another process, or another task's
            await asyncio.sleep(0.02)


async def test_what_is_in_the_journal_is_in_postgres_and_a_reader_can_wait_for_it(ledger: Ledger) -> None:
    for p in range(PARTITIONS):
        await ledger.append(p, *payments(ledger.journals[p], blocks=20, per_block=50))
    sink = ledger.sink()
    assert not sink.ready().ready
    async with running(sink):
        await sink.wait_for(2, ledger.journals[2].seq, timeout_s=30)
        await everything(ledger)
        await until(lambda: sink.ready().ready)
        await until(lambda: "ledgerline_sink_lag_records" in generate_latest(sink.registry).decode())
        position = await sink_position(ledger.dsn, ledger_id=LEDGER, partition=2)
    assert position is not None
    assert position.seq == ledger.journals[2].seq
    text = generate_latest(sink.registry).decode()
    assert f'ledgerline_sink_seq{{partition="2"}} {float(position.seq)}' in text
    assert "ledgerline_sink_commit_seconds_count" in text


async def test_sinks_join_and_leave_while_the_stream_runs(ledger: Ledger) -> None:
    async def stream() -> None:
        for p in range(PARTITIONS):
            await ledger.append(p, *payments(ledger.journals[p], blocks=1, per_block=10))
        for _ in range(40):
            for p in range(PARTITIONS):
                ledger.journals[p].deposit(f"acc-{p}-1", 5)
                await ledger.append(p, ledger.journals[p].block())
            await asyncio.sleep(0.05)

    first, second = ledger.sink(), ledger.sink()
    async with running(second), asyncio.timeout(90):
        streaming = asyncio.create_task(stream())
        async with running(first):
            await until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2)
        await until(lambda: len(second.partitions) == PARTITIONS)
        await streaming
        await everything(ledger)
    assert first.halted == second.halted == {}


async def test_two_sinks_that_both_believe_to_own_everything_write_it_once(ledger: Ledger) -> None:
    for p in range(PARTITIONS):
        await ledger.append(p, *payments(ledger.journals[p], blocks=20, per_block=10))
    all_of_them = StaticMembership(frozenset(range(PARTITIONS)))
    async with running(ledger.sink(all_of_them), ledger.sink(all_of_them)):
        for _ in range(30):
            for p in range(PARTITIONS):
                ledger.journals[p].deposit(f"acc-{p}-1", 5)
                await ledger.append(p, ledger.journals[p].block())
        await everything(ledger)


async def test_a_corrupt_journal_halts_its_partition_only_and_readiness_names_it(ledger: Ledger) -> None:
    for p in range(PARTITIONS):
        await ledger.append(p, *payments(ledger.journals[p], blocks=3, per_block=10))
    broken = ledger.journals[1]
    seq = broken.seq
    broken.skip()
    await ledger.append(1, wrong(broken.block()))
    broken.seq = seq
    sink = ledger.sink()
    async with running(sink):
        await until(lambda: 1 in sink.halted)
        for p in (0, 2, 3):
            ledger.journals[p].deposit(f"acc-{p}-1", 5)
            await ledger.append(p, ledger.journals[p].block())
            await wait_for(ledger.dsn, partition=p, seq=ledger.journals[p].seq, timeout_s=30)
        await wait_for(ledger.dsn, partition=1, seq=seq, timeout_s=30)
        readiness = sink.ready()
        assert not readiness.ready
        assert f"{ledger.prefix}journal[1] offset 6" in str(readiness.detail)
        assert 'ledgerline_sink_halted{partition="1"} 1.0' in generate_latest(sink.registry).decode()


async def start_stopping_sink(ledger: Ledger, step: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sinks.stopping_sink",
        ledger.kafka,
        ledger.prefix,
        ledger.dsn,
        "0",
        step,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while (line := await process.stdout.readline()) != b"stopped\n":
            assert line, "the sink ended before it stopped"
    return process


@pytest.mark.parametrize("step", ["take", "begin", "advance_positions", "copy_rows", "apply_deltas", "commit"])
async def test_a_sink_killed_between_any_two_steps_leaves_no_gap_and_no_duplicate(ledger: Ledger, step: str) -> None:
    journal = ledger.journals[0]
    first = payments(journal, blocks=2, per_block=10)
    ledger.journals = [journal]
    await ledger.append(0, *first[:2])
    process = asyncio.create_task(start_stopping_sink(ledger, step))
    if step != "take":
        await wait_for(ledger.dsn, partition=0, seq=41, timeout_s=30)
        await ledger.append(0, *first[2:])
    killed = await process
    killed.kill()
    await killed.wait()
    if step == "take":
        await ledger.append(0, *first[2:])
    await is_right(ledger)
    async with running(ledger.sink(StaticMembership(frozenset({0})))):
        await everything(ledger)


async def test_a_sink_that_was_stopped_inside_a_transaction_delays_its_successor_and_commits_nothing(
    ledger: Ledger,
) -> None:
    journal = ledger.journals[0]
    messages = payments(journal, blocks=2, per_block=10)
    ledger.journals = [journal]
    await ledger.append(0, *messages[:2])
    starting = asyncio.create_task(start_stopping_sink(ledger, "apply_deltas"))
    await wait_for(ledger.dsn, partition=0, seq=41, timeout_s=30)
    await ledger.append(0, *messages[2:])
    zombie = await starting
    zombie.send_signal(signal.SIGSTOP)
    async with running(ledger.sink(StaticMembership(frozenset({0})))):
        await everything(ledger)
        zombie.send_signal(signal.SIGCONT)
        assert zombie.stdin is not None
        zombie.stdin.write(b"go on\n")
        journal.deposit("acc-0-1", 5)
        await ledger.append(0, journal.block())
        await everything(ledger)
        zombie.kill()
        await zombie.wait()
    await everything(ledger)


async def test_a_restart_of_postgres_delays_the_sink_and_changes_nothing(ledger: Ledger) -> None:
    home = Path(tempfile.mkdtemp(prefix="ll-sink-"))
    own = layout(home, Settings().cache)
    try:
        stack, _ = local.up(own, lambda _line: None, with_kafka=False)
        assert stack.postgres is not None
        ledger.dsn = await ensure_database(stack.postgres.address, "restarted")
        await migrate(ledger.dsn)
        sink = ledger.sink()
        async with running(sink), asyncio.timeout(120):
            for p in range(PARTITIONS):
                await ledger.append(p, *payments(ledger.journals[p], blocks=10, per_block=10))
            await everything(ledger)
            await asyncio.to_thread(local.down, own, lambda _line: None)
            for p in range(PARTITIONS):
                ledger.journals[p].deposit(f"acc-{p}-1", 5)
                await ledger.append(p, ledger.journals[p].block())
            await until(lambda: not sink.ready().ready)
            assert "PostgreSQL" in str(sink.ready().detail)
            await asyncio.to_thread(local.up, own, lambda _line: None, with_kafka=False)
            await everything(ledger)
            await until(lambda: sink.ready().ready)
        assert sink.halted == {}
    finally:
        await asyncio.to_thread(local.down, own, lambda _line: None)
        shutil.rmtree(home)


async def test_a_sink_waits_for_postgres_at_its_start_and_refuses_a_schema_that_is_not_there(ledger: Ledger) -> None:
    absent = Sink(kafka=ledger.kafka, prefix=ledger.prefix, dsn="postgresql://postgres@127.0.0.1:1/nothing")
    async with running(absent):
        await until(lambda: "PostgreSQL: connect" in str(absent.ready().detail))
    with pytest.raises(SchemaMismatch, match="ledgerline init"):
        await Sink(kafka=ledger.kafka, prefix=ledger.prefix, dsn=ledger.dsn, schema="nothing").run(asyncio.Event())


async def test_a_schema_of_another_ledger_ends_the_sink(ledger: Ledger) -> None:
    async with session(ledger.dsn) as connection:
        await connection.execute("INSERT INTO ledger VALUES (true, gen_random_uuid(), 'main', 4)")
    async with asyncio.timeout(30):
        with pytest.raises(ForeignLedger):
            await ledger.sink().run(asyncio.Event())
