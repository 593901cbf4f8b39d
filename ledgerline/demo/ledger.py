"""A ledger of the demo's own: topics and a database beside those of the user, deleted when the next demo begins."""

import shlex
import time
from dataclasses import dataclass
from typing import Final

import asyncpg

from ledgerline.demo.traffic import DEMO_BUNDLE
from ledgerline.settings import Settings, database_name, resolve
from ledgerline.stack.postgres import psql
from schemas.codec import canonical
from sinks.postgres.migrations import ensure_database, migrate
from streams.config_log import publish_bundle
from streams.init import init_ledger
from streams.kafka import Admin
from streams.topics import Topics

PREFIX: Final = "demo-"
PARTITIONS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoLedger:
    """The ledger that a demo plays on. ``environment`` makes any ``ledgerline`` command use it."""

    topics: Topics
    partitions: int
    kafka: str
    dsn: str
    environment: dict[str, str]


async def create_ledger(settings: Settings) -> DemoLedger:
    """Create topics, genesis, database and rules of a new ledger on the servers of *settings*."""
    servers = resolve(settings)
    prefix = f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S')}."
    environment = {
        "LEDGERLINE_HOME": str(settings.home),
        "LEDGERLINE_KAFKA": servers.kafka,
        "LEDGERLINE_PREFIX": prefix,
        "LEDGERLINE_DEV": "true",
        "LEDGERLINE_HTTP": "127.0.0.1:0",
    }
    if servers.postgres_admin is None:
        dsn = environment["LEDGERLINE_POSTGRES"] = servers.postgres
    else:
        dsn = await ensure_database(servers.postgres_admin, database_name(prefix))
    await migrate(dsn)
    await init_ledger(servers.kafka, prefix, partitions=PARTITIONS, dev=True)
    await publish_bundle(servers.kafka, prefix, canonical(DEMO_BUNDLE.model_dump(mode="json", exclude_none=True)))
    return DemoLedger(
        topics=Topics(prefix), partitions=PARTITIONS, kafka=servers.kafka, dsn=dsn, environment=environment
    )


async def delete_earlier(settings: Settings) -> int:
    """Delete the topics and databases of earlier demos; return how many ledgers those were.

    Only on a server of our own are databases deleted: what was given with LEDGERLINE_POSTGRES is the user's.
    """
    servers = resolve(settings)
    admin = await Admin.start(servers.kafka, "ledgerline-demo")
    try:
        topics = [name for name in await admin.topics() if name.startswith(PREFIX)]
        prefixes = {f"{name.rpartition('.')[0]}." for name in topics}
        for name in topics:
            await admin.delete_topic(name)
    finally:
        await admin.close()
    if servers.postgres_admin is not None:
        connection = await asyncpg.connect(servers.postgres_admin)
        try:
            for prefix in prefixes:
                await connection.execute(f'DROP DATABASE IF EXISTS "{database_name(prefix)}" WITH (FORCE)')
        finally:
            await connection.close()
    return len(prefixes)


def psql_line(ledger: DemoLedger) -> str:
    """Return a shell command that opens the demo's database, with the psql that comes with the embedded server."""
    query = "SELECT * FROM ledgerline.trial_balance ORDER BY abs(balance_minor) DESC LIMIT 10"
    return f"{shlex.quote(str(psql()))} {shlex.quote(ledger.dsn)} -c {shlex.quote(query)}"
