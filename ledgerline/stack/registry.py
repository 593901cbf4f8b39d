"""Which processes of this home serve HTTP, and where: each registers itself and vanishes from the list when it dies.

A registered process holds a lock on its file for as long as it lives. The operating system drops the lock with the
process, however that ends, so a listing never names a dead process and never mistakes another program for it.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A living process: its kind (``worker``, ``sink``, …), its process id, and host:port of its HTTP endpoints."""

    kind: str
    pid: int
    address: str


class Registration:
    """The entry of this process; it lasts until ``close`` or the end of the process."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path

    def close(self) -> None:
        """Take the entry away."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def register(home: Path, kind: str, address: str) -> Registration:
    """List this process under *home* as a *kind* that serves HTTP at *address* (host:port)."""
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{os.getpid()}.json"
    unlisted = path.with_suffix(".new")
    file = unlisted.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    json.dump({"kind": kind, "pid": os.getpid(), "address": address}, file)
    file.flush()
    unlisted.rename(path)  # listed only from here on, complete and locked
    return Registration(file, path)


def registered(home: Path) -> list[Registered]:
    """Return the living processes in the order of kind and process id, and remove the entries of dead ones."""
    return sorted(_living(_folder(home)), key=lambda entry: (entry.kind, entry.pid))


def _living(folder: Path) -> Iterator[Registered]:
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError), path.open() as file:  # closed by its process meanwhile
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield Registered(**json.load(file))
            else:
                path.unlink(missing_ok=True)


def _folder(home: Path) -> Path:
    return home / "processes"
