"""What one demo measured, gathered when it has ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg

from ledgerline import surroundings
from ledgerline.demo.killed import Killed
from ledgerline.demo.timeline import Course
from ledgerline.demo.traffic import SAMPLE
from ledgerline.stack.jars import KAFKA_VERSION
from ledgerline.verify.report import Report

TABLES: Final = ("decisions", "entries", "postings")
PACKAGES: Final = ("aiokafka", "asyncpg", "orjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that the report tells; nothing in it is computed otherwise than from these."""

    name: str
    """Of the ledger: the prefix of its topics without the dot."""
    requests: int
    rate: int
    """Requests per second that were asked for."""
    seed: int
    accounts: int
    elapsed_s: float
    """From the first payment sent to the last one in Postgres."""
    by_result: Mapping[tuple[str, str, str], int]
    """How many outcomes there were of each (type, status, reason), the opening and funding of accounts included."""
    repeated_publications: int
    course: Course
    killed: Killed | None
    resumed_ms: Mapping[int, int]
    """When each partition of the killed worker answered again, ms since 1970."""
    rows: Mapping[str, int]
    """Rows of the tables in Postgres."""
    proof: Report
    surroundings: Mapping[str, str]
    """Commit, versions, machine: names and values for people."""


async def count_rows(dsn: str) -> dict[str, int]:
    """Return how many rows the tables of the ledger have."""
    connection = await asyncpg.connect(dsn)
    try:
        return {name: await connection.fetchval(f"SELECT count(*) FROM ledgerline.{name}") for name in TABLES}  # noqa: S608 - names of our own
    finally:
        await connection.close()


async def describe(dsn: str, own_kafka: str | None) -> dict[str, str]:
    """Return commit, versions and machine; *own_kafka* is the address of brokers that are not the local stack's."""
    connection = await asyncpg.connect(dsn)
    try:
        postgres = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    machine = surroundings.machine()
    return {
        "commit": surroundings.commit(SAMPLE.parent),
        "Python": surroundings.python(),
        "Kafka": KAFKA_VERSION if own_kafka is None else "of your own",
        "PostgreSQL": str(postgres),
        **surroundings.packages(PACKAGES),
        "processor": f"{machine['cpu']}, {machine['cores']} cores",
        "memory": f"{machine['memory_gib']} GiB",
        "system": str(machine["system"]),
        "load average (1, 5, 15 min) at the end": ", ".join(str(value) for value in surroundings.load_average()),
    }
