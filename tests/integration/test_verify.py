"""The checker on real topics and tables: a ledger that works is proved, and every error that is planted is named."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable

import asyncpg
import orjson
import pytest
import pytest_asyncio

from ledgerline.settings import with_database
from ledgerline.verify import Invariant, Report, run, verify
from ledgerline.verify.bundles import Bundles
from ledgerline.verify.rebuild import check_rebuild
from ledgerline.verify.report import Progress
from ledgerline.verify.walk import Walk
from streams.kafka import Admin, NewTopic, UnknownTopic
from tests.ledgerline.verify import planted
from tests.ledgerline.verify.ledgers import PREFIX, Ledger, payments
from tests.ledgerline.verify.running import (
    Servers,
    copy,
    own_ledger,
    send,
    start,
    until_answered,
    until_written,
    working,
)
from tests.ledgerline.verify.topics import delete_topics, write_topics

pytestmark = pytest.mark.integration

PARTITIONS = 2


def explained(report: Report) -> str:
    return "\n".join(f"{f.invariant}: {f}" for line in report.lines.values() for f in line.failures)


def places(report: Report, invariant: Invariant) -> list[tuple[int | None, int | None]]:
    return [(f.place.partition, f.place.seq) for f in report.failed(invariant)]


async def test_a_real_ledger_is_proved_while_it_works_and_afterwards(kafka: str, postgres: str) -> None:
    async with own_ledger(kafka, postgres) as servers:
        replies = f"{servers.prefix}replies"
        made = Ledger(PARTITIONS)
        made.now = int(time.time() * 1000)
        payments(made, reply_to=replies)
        requests = {p: part.requests for p, part in enumerate(made.parts)}
        number = sum(len(log) for log in requests.values())
        await start(servers, PARTITIONS)
        await create(kafka, replies)
        async with working(servers, PARTITIONS):
            await send(servers, requests)
            while_deciding = await verify(kafka, servers.prefix, servers.dsn, rebuild=False)
            await until_answered(servers, number)
            await until_written(servers)
        seen: list[Progress] = []
        afterwards = await verify(kafka, servers.prefix, servers.dsn, progress=seen.append)
    assert while_deciding.ok, explained(while_deciding)
    assert afterwards.ok, explained(afterwards)
    assert afterwards.lines[Invariant.I9].checked == number
    assert afterwards.lines[Invariant.I15].note == "0 inputs to decide, 0 records to write"
    assert {i for i, line in afterwards.lines.items() if not line.checked} <= {Invariant.I12}  # no stale record
    assert {p.step for p in seen} >= {"journal", "requests", "outcomes", "replies", "rebuild"}


async def create(kafka: str, topic: str) -> None:
    admin = await Admin.start(kafka, "tests-verify")
    try:
        await admin.create_topic(NewTopic(name=topic, partitions=1, replication_factor=1, configs={}))
    finally:
        await admin.close()


async def test_a_prefix_without_a_ledger_is_an_error_and_no_proof(kafka: str) -> None:
    with pytest.raises(UnknownTopic, match="LEDGERLINE_PREFIX"):
        await verify(kafka, f"nothing-{uuid.uuid4().hex}.", None)


# ---- errors in topics


IN_TOPICS = [
    planted.changed_byte_in_a_block,
    planted.changed_byte_in_a_request,
    planted.changed_byte_in_an_outcome,
    planted.changed_byte_in_config,
    planted.answer_without_an_event,
    planted.input_without_an_answer,
    planted.unbalanced_entry,
    planted.published_stale_block,
    planted.limit_exceeded,
    planted.other_content_at_the_same_seq,
    planted.replay_that_differs,
    planted.lost_block,
]


@pytest.mark.parametrize("plant", IN_TOPICS, ids=lambda plant: plant.__name__)
async def test_an_error_in_a_topic_is_named(kafka: str, plant: Callable[[], planted.Planted]) -> None:
    found, prefix = plant(), f"verify-{uuid.uuid4().hex[:8]}."
    try:
        await write_topics(kafka, found.records, previous=PREFIX, prefix=prefix)
        report = await verify(kafka, prefix, None, rebuild=False)
    finally:
        await delete_topics(kafka, prefix)
    assert (found.partition, found.seq) in places(report, found.invariant), explained(report)


async def test_a_journal_that_cannot_be_rebuilt_is_named(kafka: str) -> None:
    found, prefix = planted.changed_byte_in_a_block(), f"verify-{uuid.uuid4().hex[:8]}."
    try:
        await write_topics(kafka, found.records, previous=PREFIX, prefix=prefix)
        report = await verify(kafka, prefix, None)
    finally:
        await delete_topics(kafka, prefix)
    blamed = {f.place.partition for f in report.failed(Invariant.I10)}
    assert blamed == {found.partition}
    assert "Corruption" in report.failed(Invariant.I10)[0].found


async def test_the_command_prints_one_line_per_invariant_and_exits_with_1_if_one_is_broken(
    kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, prefix = planted.unbalanced_entry(), f"verify-{uuid.uuid4().hex[:8]}."
    try:
        await write_topics(kafka, found.records, previous=PREFIX, prefix=prefix)
        code = await asyncio.to_thread(run, kafka, prefix, None, rebuild=False)
        shown = capsys.readouterr().out
        code_of_json = await asyncio.to_thread(run, kafka, prefix, None, rebuild=False, as_json=True)
        printed = orjson.loads(capsys.readouterr().out)
    finally:
        await delete_topics(kafka, prefix)
    assert (code, code_of_json, printed["ok"]) == (1, 1, False)
    assert f"partition 0, seq {found.seq}, offset 3: entry in EUR, debits - credits: expected 0, found -1" in shown
    rows = {line["invariant"]: line for line in printed["invariants"]}
    assert rows["I2"]["verdict"] == "FAILED"
    assert rows["I2"]["failures"][0]["seq"] == found.seq
    assert rows["I11"]["verdict"] == "not checked"
    for line in rows.values():
        assert shown.count(line["promise"]) == (2 if line["failed"] else 1)


async def test_a_state_that_depends_on_the_surroundings_is_named() -> None:
    program = """if True:
        import json, sys, time
        state = f"{hash('a string')} {time.tzname}"
        print(json.dumps({"partition": 0, "seq": 0, "state_hash": state}))
    """
    report = Report()
    walk = Walk(report, 0, Bundles())
    for record in planted.ledger().records()[planted.JOURNAL][:1]:
        walk.read(record)
    await check_rebuild(report, "", "", {0: walk}, lambda _: None, program=program)
    assert [f.what for f in report.failed(Invariant.I10)] == ["state hash in other surroundings"]


# ---- errors in tables


class InTables:
    """One ledger in topics, and its Postgres as the sink wrote it; every test gets a copy of that to spoil."""

    def __init__(self, servers: Servers, postgres: str) -> None:
        self.servers = servers
        self.postgres = postgres

    async def spoilt(self, *statements: str) -> Report:
        """Verify with a Postgres in which *statements* were executed by a superuser, whom nothing stops."""
        name = f"verify_{uuid.uuid4().hex[:12]}"
        template = self.servers.dsn.partition("?")[0].rpartition("/")[2]
        admin = await asyncpg.connect(self.postgres)
        try:
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            dsn = with_database(self.postgres, name)
            spoiler = await asyncpg.connect(dsn, server_settings={"search_path": "ledgerline"})
            await spoiler.execute("SET session_replication_role = replica")  # no triggers
            for statement in statements:
                await spoiler.execute(statement)
            await spoiler.close()
            return await verify(self.servers.kafka, self.servers.prefix, dsn, rebuild=False)
        finally:
            await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await admin.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_tables(kafka: str, postgres: str) -> AsyncIterator[InTables]:
    """Its journal has a stale block, which the sink has skipped: a row of it can be planted too."""
    with_stale = planted.published_stale_block().records[planted.JOURNAL]
    async with own_ledger(kafka, postgres) as servers:
        await copy(servers, {**planted.ledger().records(), planted.JOURNAL: with_stale}, PREFIX)
        yield InTables(servers, postgres)


async def test_postgres_as_the_sink_wrote_it_is_proved(in_tables: InTables) -> None:
    report = await in_tables.spoilt()
    assert report.ok, explained(report)
    assert report.lines[Invariant.I12].checked == 1


SPOILT: dict[str, tuple[str, Invariant, int | None]] = {
    "missing decision": ("DELETE FROM decision_rows WHERE partition = 0 AND seq = 5", Invariant.I11, 5),
    "missing entry": ("DELETE FROM entries WHERE partition = 0 AND seq = 3", Invariant.I11, 3),
    "missing posting": ("DELETE FROM posting_rows WHERE partition = 0 AND seq = 3 AND leg = 2", Invariant.I11, 3),
    "missing pick-up": ("DELETE FROM config_pickups WHERE partition = 0", Invariant.I11, 1),
    "missing account": ("DELETE FROM account_terms WHERE account_key = 1", Invariant.I11, 25),
    "missing balance": ("DELETE FROM account_counters WHERE account_key = 1", Invariant.I11, 25),
    "doubled decision": (
        """ALTER TABLE decision_rows DROP CONSTRAINT decision_rows_pkey;
           INSERT INTO decision_rows SELECT * FROM decision_rows WHERE partition = 0 AND seq = 5""",
        Invariant.I11,
        5,
    ),
    "doubled posting": (
        """INSERT INTO posting_rows (seq, account_key, amount_minor, partition, leg, is_debit, currency)
           SELECT seq, account_key, amount_minor, partition, 3, is_debit, currency
             FROM posting_rows WHERE partition = 0 AND seq = 3 AND leg = 2""",
        Invariant.I11,
        3,
    ),
    "posting with another amount": (
        "UPDATE posting_rows SET amount_minor = amount_minor + 1 WHERE partition = 0 AND seq = 3 AND leg = 1",
        Invariant.I11,
        3,
    ),
    "posting that no balance has": (
        "UPDATE posting_rows SET amount_minor = amount_minor + 1 WHERE partition = 0 AND seq = 3 AND leg = 2",
        Invariant.I5,
        25,
    ),
    "balance off by one in the postings' eyes": (
        "UPDATE account_counters SET credits_posted = credits_posted + 1 WHERE account_key = 1",
        Invariant.I5,
        25,
    ),
    "balance off by one in the journal's eyes": (
        "UPDATE account_counters SET credits_posted = credits_posted + 1 WHERE account_key = 1",
        Invariant.I11,
        25,
    ),
    "other terms": ("UPDATE account_terms SET floor_minor = -1 WHERE account_key = 1", Invariant.I11, 25),
    "outcome that differs by a space": (
        "UPDATE decision_rows SET outcome = (' ' || outcome::text)::json WHERE partition = 0 AND seq = 4",
        Invariant.I11,
        4,
    ),
    "other explanation": (
        """UPDATE decision_rows SET explanation = (explanation::jsonb || '{"planted": 1}')::json
            WHERE partition = 0 AND seq = 4""",
        Invariant.I11,
        4,
    ),
    "other time": (
        "UPDATE decision_rows SET at = at + interval '1 ms' WHERE partition = 0 AND seq = 4",
        Invariant.I11,
        4,
    ),
    "row beyond the position": (
        "INSERT INTO skips VALUES (26, now(), 0, 0, 'unsupported')",
        Invariant.I11,
        26,
    ),
    "row of a partition that does not exist": (
        "INSERT INTO skips VALUES (1, now(), 7, 0, 'unsupported')",
        Invariant.I11,
        None,
    ),
    "position ahead of the journal": (
        "UPDATE sink_positions SET next_offset = 1000 WHERE partition = 0",
        Invariant.I11,
        25,
    ),
    "position that is too low": ("UPDATE sink_positions SET seq = 24 WHERE partition = 0", Invariant.I11, 25),
    "other chain in the position": (
        "UPDATE sink_positions SET chain = sha256('planted') WHERE partition = 0",
        Invariant.I11,
        25,
    ),
    "lost position": ("DELETE FROM sink_positions WHERE partition = 0", Invariant.I11, 1),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_an_error_in_a_table_is_named(in_tables: InTables, name: str) -> None:
    statement, invariant, seq = SPOILT[name]
    report = await in_tables.spoilt(statement)
    partition = 7 if seq is None else 0
    assert (partition, seq) in places(report, invariant), explained(report)
    if seq is not None:
        assert {f.place.partition for line in report.lines.values() for f in line.failures} == {0}


async def test_a_row_of_a_stale_block_is_named(in_tables: InTables) -> None:
    found = planted.published_stale_block()
    body = found.records[planted.OUTCOMES][-1].value
    assert body is not None
    text = body.decode().replace("'", "''")
    report = await in_tables.spoilt(
        "INSERT INTO decision_rows (seq, at, partition, binding, replayed, status, outcome, explanation)"
        f" VALUES ({found.seq}, now(), 0, true, false, 'declined', '{text}', '{{}}')",
        f"UPDATE sink_positions SET seq = {found.seq} WHERE partition = 0",
    )
    assert (0, found.seq) in places(report, Invariant.I12), explained(report)
