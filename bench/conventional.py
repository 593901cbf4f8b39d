"""(a) the conventional way: one SQL function per payment, called by pgbench."""

import os
import re
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

from bench.payments import FUNDING_MINOR
from bench.usage import cpu_s
from ledgerline.stack.postgres import psql
from sinks.postgres.migrations import ensure_database
from sinks.postgres.session import session

CLIENTS: Final = 16
THREADS: Final = 2
DATABASE: Final = "bench_conventional"
SQL: Final = Path(__file__).with_name("conventional.sql")
SCRIPT: Final = Path(__file__).with_name("conventional.pgbench")

INSIDE: Final = (
    "SELECT * FROM accounts WHERE account IN (1, 2) ORDER BY account FOR NO KEY UPDATE",
    """INSERT INTO payments VALUES (1, 'explained', 2, 100, 'accepted', NULL, 900, now())
       ON CONFLICT (account, request_id) DO NOTHING""",
    """UPDATE accounts SET balance_minor = balance_minor + CASE account WHEN 1 THEN -100 ELSE 100 END
        WHERE account IN (1, 2)""",
    "INSERT INTO postings VALUES (1, 'explained', 1, -100, now()), (2, 'explained', 1, 100, now())",
    "SELECT pay('explained as a whole', 1, 2, 100)",
)
"""The statements of the function, with values, and a call of it: what EXPLAIN is asked about."""

Durability = Literal["on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of pgbench told, and the CPU seconds of client and server."""

    transactions: int
    per_second: float
    latency_ms: float
    cpu_s: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventional:
    """The database of the conventional way, on the server of postmaster *pid*."""

    dsn: str
    pid: int
    accounts: int

    @classmethod
    async def create(cls, admin_dsn: str, pid: int, accounts: int) -> "Conventional":
        """Make the database anew, with funded accounts."""
        async with session(admin_dsn) as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        dsn = await ensure_database(admin_dsn, DATABASE)
        async with session(dsn, "public") as connection:
            await connection.execute(SQL.read_text())
            await connection.execute(
                "INSERT INTO accounts SELECT n, $1, '2000-01-01', 0, 0 FROM generate_series(1, $2::bigint) n",
                FUNDING_MINOR,
                accounts,
            )
            await connection.execute("VACUUM ANALYZE accounts")
        return cls(dsn=dsn, pid=pid, accounts=accounts)

    def run(self, seconds: int, durability: Durability) -> Run:
        """16 clients, prepared statements, for *seconds*."""
        parts = urlsplit(self.dsn)
        environment = os.environ | {
            "PGHOST": parse_qs(parts.query)["host"][0],
            "PGUSER": parts.username or "postgres",
            "PGDATABASE": parts.path.strip("/"),
            "PGOPTIONS": f"-c synchronous_commit={durability}",
        }
        command = [str(psql().with_name("pgbench")), "--no-vacuum", "--protocol=prepared", f"--file={SCRIPT}"]
        command += [
            f"--client={CLIENTS}",
            f"--jobs={THREADS}",
            f"--time={seconds}",
            f"--define=accounts={self.accounts}",
        ]
        server, client = cpu_s(self.pid), _children_s()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        used = {"postgres": cpu_s(self.pid) - server, "pgbench": _children_s() - client}
        return parse(done.stdout, used)

    async def explain(self) -> str:
        """The plans of the call and of the statements inside, executed with literal values and rolled back."""
        plans: list[str] = []
        async with session(self.dsn, "public") as connection:
            await connection.execute("BEGIN")
            for statement in INSIDE:
                rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}")
                plans.append("\n".join([statement, *(f"    {row[0]}" for row in rows)]))
            await connection.execute("ROLLBACK")
        return "\n\n".join(plans)


def parse(report: str, used: dict[str, float]) -> Run:
    """Read the report of pgbench; raises ValueError if it is not one of a run without failures."""
    found = {
        name: re.search(pattern, report)
        for name, pattern in {
            "transactions": r"number of transactions actually processed: (\d+)",
            "failed": r"number of failed transactions: (\d+)",
            "latency": r"latency average = ([\d.]+) ms",
            "tps": r"tps = ([\d.]+) ",
        }.items()
    }
    values = {name: match[1] for name, match in found.items() if match is not None}
    if len(values) < len(found) or values["failed"] != "0":
        raise ValueError(f"expected the report of a pgbench run without failures, got:\n{report}")
    return Run(
        transactions=int(values["transactions"]),
        per_second=float(values["tps"]),
        latency_ms=float(values["latency"]),
        cpu_s=used,
    )


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
