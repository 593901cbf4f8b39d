"""Start, find and stop the local stack.

The servers belong to nobody: they run in sessions of their own, are recognised by their command lines, and outlive the
command that started them. So a killed ``up`` leaves at worst two healthy servers, to which the next ``up`` attaches.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ledgerline.errors import ConfigurationError, UnreachableError
from ledgerline.stack import kafka, postgres, processes
from ledgerline.stack.jars import Report
from ledgerline.stack.layout import Layout

STATE_FORMAT = 1
DISK_NEEDED_BYTES = 500 * 1000**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server: its process id and its address (Kafka: host:port; PostgreSQL: DSN of the admin database)."""

    pid: int
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """The servers of the stack that run; None for one that does not."""

    kafka: Server | None = None
    postgres: Server | None = None


def up(layout: Layout, report: Report, *, with_kafka: bool = True, with_postgres: bool = True) -> tuple[Stack, bool]:
    """Make the wanted servers run; return them and whether this call had to start one.

    1. Take the lock: of several calls one starts the servers, the others attach.
    2. Find each server by its command line, or start it on its kept data.
    3. Write the state file. A crash before this leaves servers that the next call finds by 2.

    Raises ConfigurationError or UnreachableError; then nothing that this call started is left.
    """
    _check_disk(layout)
    with _locked(layout, report), contextlib.ExitStack() as undo:
        layout.root.mkdir(parents=True, exist_ok=True)
        before = _find(layout)
        broker, database = before.kafka, before.postgres
        if with_kafka and broker is None:
            process = kafka.start(layout, report)
            undo.callback(kafka.stop, process)
            broker = Server(pid=process.pid, address=kafka.address(layout))
        if with_postgres and database is None:
            process = postgres.start(layout, report)
            undo.callback(postgres.stop, process)
            database = Server(pid=process.pid, address=postgres.dsn(layout))
        now = Stack(kafka=broker, postgres=database)
        _write_state(layout, now)
        undo.pop_all()
        return now, now != before


def running(layout: Layout) -> Stack:
    """Return what the state file names and what still runs; quick, and without the lock."""
    try:
        state = json.loads(layout.state.read_text())
    except (FileNotFoundError, ValueError):  # never up, or cut off by a crash of the machine: `up` writes it anew
        return Stack()
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        return Stack()
    broker, database = (Server(**state[name]) if state[name] else None for name in ("kafka", "postgres"))
    if broker is not None and processes.by_pid(broker.pid, kafka.marker(layout)) is None:
        broker = None
    if database is not None and processes.by_pid(database.pid, postgres.marker(layout)) is None:
        database = None
    return Stack(kafka=broker, postgres=database)


def down(layout: Layout, report: Report) -> bool:
    """Stop both servers and wait for their end; return whether one was running. Their data stays."""
    with _locked(layout, report):
        broker, database = kafka.find(layout), postgres.find(layout)
        if broker is not None:
            report("stopping Apache Kafka")
            kafka.stop(broker)
        if database is not None:
            report("stopping PostgreSQL")
            postgres.stop(database)
        layout.state.unlink(missing_ok=True)
        return broker is not None or database is not None


def delete(layout: Layout, report: Report) -> None:
    """Delete the data of a stopped stack; the cached downloads stay."""
    with _locked(layout, report):
        if layout.root.exists():
            report(f"deleting {layout.root}")
            shutil.rmtree(layout.root)


def _find(layout: Layout) -> Stack:
    """Return the servers that run and answer; stop one that does not, so that it can be started anew."""
    broker, database = kafka.find(layout), postgres.find(layout)
    found_broker = found_database = None
    if broker is not None:
        try:
            kafka.await_ready(layout, broker)
            found_broker = Server(pid=broker.pid, address=kafka.address(layout))
        except (kafka.PortTaken, UnreachableError):
            kafka.stop(broker)
    if database is not None:
        try:
            postgres.await_ready(layout, database)
            found_database = Server(pid=database.pid, address=postgres.dsn(layout))
        except UnreachableError:
            postgres.stop(database)
    return Stack(kafka=found_broker, postgres=found_database)


def _write_state(layout: Layout, stack: Stack) -> None:
    """Replace the state file in one step: a reader sees the old one or the new one."""
    draft = layout.state.with_suffix(".new")
    draft.write_text(json.dumps({"format": STATE_FORMAT, **asdict(stack)}, indent=2) + "\n")
    draft.rename(layout.state)


def _check_disk(layout: Layout) -> None:
    place = next(folder for folder in (layout.root, *layout.root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < DISK_NEEDED_BYTES:
        message = (
            f"{place}: the local stack needs {DISK_NEEDED_BYTES / 1e9:.1f} GB of free disk, there are"
            f" {free / 1e9:.2f} GB; free some, or set LEDGERLINE_HOME to a folder on a larger disk"
        )
        raise ConfigurationError(message)


@contextlib.contextmanager
def _locked(layout: Layout, report: Report) -> Iterator[None]:
    """Hold the stack's lock; the operating system drops it with the process, however that ends."""
    try:
        layout.lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = f"{layout.lock}: {error.strerror}; set LEDGERLINE_HOME to a folder that you may write to"
        raise ConfigurationError(message) from error
    with open(descriptor, "wb") as file:  # noqa: PTH123 - wraps a descriptor, not a path
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another command is starting or stopping this stack, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
