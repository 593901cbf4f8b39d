"""What the processes of the kill tests run. Imported once, by the server that they are forked from."""

from __future__ import annotations

from tests.kills.workers import work, work_until_killed, work_until_stuck

__all__ = ["work", "work_until_killed", "work_until_stuck"]
