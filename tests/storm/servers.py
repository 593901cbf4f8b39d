"""The storm's own servers, which it may kill, and the ledger on them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from ledgerline.settings import Settings, database_name
from ledgerline.stack import kafka, local, postgres
from ledgerline.stack.layout import Layout, layout
from sinks.postgres.migrations import ensure_database, migrate
from streams.init import init_ledger
from streams.topics import Topics

PREFIX: Final = "storm."
GONE_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the ledger of a storm is. ``environment`` makes any ``ledgerline`` command use it."""

    home: Path
    kafka: str
    dsn: str
    topics: Topics
    partitions: int

    @property
    def environment(self) -> dict[str, str]:
        """Addresses are given, not looked up: a process may start while a server is down."""
        return {
            "LEDGERLINE_HOME": str(self.home),
            "LEDGERLINE_KAFKA": self.kafka,
            "LEDGERLINE_POSTGRES": self.dsn,
            "LEDGERLINE_PREFIX": self.topics.prefix,
            "LEDGERLINE_DEV": "true",
            "LEDGERLINE_HTTP": "127.0.0.1:0",
            "LEDGERLINE_LOG_FORMAT": "json",
        }


class Servers:
    """A Kafka and a PostgreSQL below *home*, started and found as by ``ledgerline up``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files: Layout = layout(home, Settings().cache)
        self.deaths = 0

    async def up(self) -> local.Stack:
        """Start whatever does not run, on its kept data; Kafka on its old port."""
        stack, _ = await asyncio.to_thread(local.up, self.files, _quiet)
        return stack

    async def create_ledger(self, partitions: int) -> Ledger:
        """Start the servers, and make topics, genesis, rules and database."""
        stack = await self.up()
        assert stack.kafka is not None
        assert stack.postgres is not None
        dsn = await ensure_database(stack.postgres.address, database_name(PREFIX))
        await migrate(dsn)
        await init_ledger(stack.kafka.address, PREFIX, partitions=partitions, dev=True)
        return Ledger(home=self.home, kafka=stack.kafka.address, dsn=dsn, topics=Topics(PREFIX), partitions=partitions)

    async def kill_broker(self) -> None:
        """SIGKILL: nothing is flushed, no connection is closed in order."""
        await self._kill(kafka.find(self.files))

    async def kill_postgres(self) -> None:
        """SIGKILL of the postmaster: its children notice and end, as after a crash."""
        await self._kill(postgres.find(self.files))

    async def stop_postgres(self) -> None:
        """Fast shutdown: transactions are rolled back, sessions ended with an error."""
        process = postgres.find(self.files)
        assert process is not None, "PostgreSQL is started again after every fault"
        await asyncio.to_thread(postgres.stop, process)

    async def down(self) -> None:
        """Stop both."""
        await asyncio.to_thread(local.down, self.files, _quiet)

    @staticmethod
    async def _kill(process: psutil.Process | None) -> None:
        assert process is not None, "a server is started again after every fault"
        process.kill()
        await asyncio.to_thread(process.wait, GONE_WITHIN_S)


def _quiet(_: str) -> None:
    """Progress lines of the stack would drown those of the storm."""
