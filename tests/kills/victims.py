"""What the processes of the kill tests run. Imported once, by the server that they are forked from."""

from __future__ import annotations

from tests.kills.inits import init, init_until_killed
from tests.kills.rebuilds import rebuild_until_killed
from tests.kills.sinks import book, book_until_killed
from tests.kills.workers import work, work_until_killed, work_until_stuck

__all__ = [
    "book",
    "book_until_killed",
    "init",
    "init_until_killed",
    "rebuild_until_killed",
    "work",
    "work_until_killed",
    "work_until_stuck",
]
