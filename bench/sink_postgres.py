"""What one transaction costs the sink, client and server together, against writing row by row in the same run.

    python bench/sink_postgres.py ADMIN_DSN [--transfers 40000] [--batch 1000] [--accounts 5000] [--without SQL]

Creates a database on a local server, writes a journal of transfers (one in four with a fee) from memory, drops it.
The row-by-row writer commits as often, and keeps balances by text key with ON CONFLICT. ``--without "DROP INDEX x"``
runs a statement first, to see what an index or a trigger costs: on two busy cores each of the two look-up indexes and
of the two checks took 3 to 8 of 46 us of server time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from schemas.events import Answer, span
from sinks.postgres.migrations import ensure_database, migrate
from sinks.postgres.rows import instant
from sinks.postgres.session import session, writer_pool
from sinks.postgres.store import Owner, PartitionStore, claim_ledger
from streams.journal.log import LogRecord
from streams.journal.reading import Reader, ValidBlock
from tests.sinks.journals import LEDGER, Journal, Message

EXPLANATION = (
    b'{"score":{"total":120,"amount":80,"velocity":20,"hour":20,"log_mean":6912,"log_deviation":411,"rate":1203},'
    b'"near_duplicates":[],"limits":[{"name":"daily_sum","used_minor":125000,"limit_minor":5000000,"remaining_minor":4875000},'
    b'{"name":"daily_count","used":12,"limit":1000,"remaining":988}],"tier":"standard","ruleset":"default-1"}'
)


def journal(transfers: int, batch: int, accounts: int) -> tuple[Journal, list[Message], list[Message]]:
    """Opening and funding, then blocks of *batch* transfers between accounts, a few of which take part in most."""
    chance = random.Random(7)
    made = Journal(0)
    made.explanation = EXPLANATION
    names = [f"customer-{n:06d}" for n in range(accounts)]
    opening = [made.lease()]
    for first in range(0, accounts, 1000):
        for name in names[first : first + 1000]:
            made.open(name)
            made.deposit(name, 10**9)
        opening.append(made.block())
    blocks: list[Message] = []
    for first in range(0, transfers, batch):
        for n in range(first, min(first + batch, transfers)):
            payer = chance.randrange(accounts)
            payee = min(int(chance.paretovariate(0.7)), accounts) - 1
            payee = payee if payee != payer else (payer + 1) % accounts
            made.transfer(names[payer], names[payee], 100 + n % 9000, *([15] if n % 4 == 0 else []))
        blocks.append(made.block())
    return made, opening, blocks


def read(reader: Reader, messages: list[Message]) -> list[ValidBlock]:
    """What the reading rule makes of *messages*."""
    found = []
    for headers, value in messages:
        verdict = reader.read(LogRecord(reader.position.next_offset, None, headers, value))
        if isinstance(verdict, ValidBlock):
            found.append(verdict)
    return found


ROW_BY_ROW = """
CREATE SCHEMA naive;
CREATE TABLE naive.entries (partition int, seq bigint, at timestamptz, leg_count int, type text, request_id text,
    PRIMARY KEY (partition, seq));
CREATE TABLE naive.postings (partition int, seq bigint, leg int, account_id text, side text, amount_minor bigint,
    currency text, PRIMARY KEY (partition, seq, leg));
CREATE INDEX ON naive.postings (account_id);
CREATE TABLE naive.decisions (partition int, seq bigint, request_id text, account_id text, type text, status text,
    reason text, at timestamptz, outcome json, explanation jsonb, PRIMARY KEY (partition, seq));
CREATE INDEX ON naive.decisions (request_id);
CREATE TABLE naive.balances (account_id text PRIMARY KEY, debits bigint, credits bigint, seq bigint)
"""


async def row_by_row(dsn: str, blocks: list[ValidBlock]) -> float:
    """Seconds to write *blocks* with one statement per row."""
    async with session(dsn) as connection:
        await connection.execute(ROW_BY_ROW)
        entry = await connection.prepare("INSERT INTO naive.entries VALUES (0, $1, $2, $3, $4, $5)")
        posting = await connection.prepare("INSERT INTO naive.postings VALUES (0, $1, $2, $3, $4, $5, $6)")
        values = ", ".join(f"${n}" for n in range(1, 10))
        decision = await connection.prepare(f"INSERT INTO naive.decisions VALUES (0, {values})")  # noqa: S608  # constants
        balance = await connection.prepare(
            "INSERT INTO naive.balances AS b VALUES ($1, $2, $3, $4) ON CONFLICT (account_id) DO UPDATE "
            "SET debits = b.debits + excluded.debits, credits = b.credits + excluded.credits, seq = excluded.seq"
        )
        started = time.perf_counter()
        for block in blocks:
            async with connection.transaction():
                for seq, event in enumerate(block.events, block.headers.seq):
                    assert isinstance(event, Answer)
                    at = instant(event.at)
                    outcome, why = span(block.raw, event.outcome), span(block.raw, event.explanation)
                    assert outcome is not None
                    assert why is not None
                    a = event
                    await decision.fetch(
                        seq, a.request_id, a.account_id, a.type, a.status, a.reason, at, outcome.decode(), why.decode()
                    )
                    await entry.fetch(seq, at, len(a.legs), a.type, a.request_id)
                    for number, (account, side, amount, currency) in enumerate(a.legs, 1):
                        await posting.fetch(seq, number, account, side, amount, currency)
                        debit = amount if side == "debit" else 0
                        await balance.fetch(account, debit, amount - debit, seq)
        return time.perf_counter() - started


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("--transfers", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--accounts", type=int, default=5_000)
    parser.add_argument("--without", default="", help="statements run before, separated by ';'")
    given = parser.parse_args()

    made, opening, blocks = journal(given.transfers, given.batch, given.accounts)
    name = "bench_sink_postgres"
    async with session(given.dsn) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    dsn = await ensure_database(given.dsn, name)
    await migrate(dsn)
    if given.without:
        async with session(dsn) as connection:
            await connection.execute(given.without)
    pool = await writer_pool(dsn, "ledgerline", 1)
    reader = Reader("journal[0]", LogRecord(0, None, *made.start()))
    owner = Owner(sink_id="main", ledger_id=LEDGER, partition=0)
    await claim_ledger(pool, "ledgerline", owner, 4)
    store = await PartitionStore.take(pool, owner, reader.position)
    await store.write(read(reader, opening), reader.position)

    async with session(dsn) as connection:
        await connection.execute("CHECKPOINT")
    backend = psutil.Process(await pool.fetchval("SELECT pg_backend_pid()"))
    server, cpu, started, decoding = sum(backend.cpu_times()[:2]), time.process_time(), time.perf_counter(), 0.0
    for message in blocks:
        before = time.perf_counter()
        found = read(reader, [message])
        decoding += time.perf_counter() - before
        await store.write(found, reader.position)
    seconds = time.perf_counter() - started
    client, server = time.process_time() - cpu, sum(backend.cpu_times()[:2]) - server
    per = 1e6 / given.transfers
    client, server, decoding = client * per, server * per, decoding * per
    print(f"sink: {seconds * per:.1f} us a transaction on one session, batches of {given.batch}; ", end="")
    print(f"CPU client {client:.1f} (decoding {decoding:.1f}), server {server:.1f}")

    if not given.without:
        few = read(_again(made, opening), blocks)[: max(1, 3_000 // given.batch)]
        slow = await row_by_row(dsn, few) * 1e6 / sum(len(b.events) for b in few)
        print(f"row by row: {slow:.1f} us a transaction; ratio {slow / (seconds * per):.1f}")
    async with session(dsn) as connection:
        sizes = await connection.fetch(
            "SELECT relname, pg_size_pretty(pg_relation_size(oid)) FROM pg_class WHERE pg_relation_size(oid) > 500000 "
            "AND relnamespace = 'ledgerline'::regnamespace ORDER BY pg_relation_size(oid) DESC"
        )
        print(", ".join(f"{row[0]} {row[1]}" for row in sizes))
    pool.terminate()
    async with session(given.dsn) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _again(made: Journal, opening: list[Message]) -> Reader:
    reader = Reader("journal[0]", LogRecord(0, None, *made.start()))
    read(reader, opening)
    return reader


if __name__ == "__main__":
    asyncio.run(main())
