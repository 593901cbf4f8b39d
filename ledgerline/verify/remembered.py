"""Which request ids were decided, recounted from the journal: replays, conflicts, ``too_old`` (I4, I14)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

HOUR_MS: Final = 3_600_000
FUTURE_MS: Final = 60_000

Key = tuple[str, str]
"""``(account_id, request_id)``."""


class Stage(NamedTuple):
    """The decision that an id is remembered with."""

    fingerprint: str
    seq: int
    content: bytes
    """Digest of the outcome but for ``seq`` and ``replayed``."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What check 4 has to find."""

    finding: Literal["from_the_future", "replay", "conflict", "too_old", "fresh"]
    stage: Stage | None = None


class Remembered:
    """The ids of one partition. Mutable, one owner.

    An id is kept until ``at`` is more than the retry window behind the end of the UTC hour of its ``requested_at``, and
    dropped with that hour, as docs/design.md §6 says.
    """

    def __init__(self, retry_window_s: int) -> None:
        self._window_ms = retry_window_s * 1000
        self._stages: dict[Key, Stage] = {}
        self._hours: dict[int, list[Key]] = defaultdict(list)

    def look_up(self, key: Key, fingerprint: str, requested_at: int, at: int) -> Expected:
        """Return what check 4 finds for a request that passed checks 1 to 3. *at* never goes back."""
        if requested_at > at + FUTURE_MS:
            return Expected("from_the_future")
        self._drop(at)
        stage = self._stages.get(key)
        if stage is not None:
            return Expected("replay" if stage.fingerprint == fingerprint else "conflict", stage)
        return Expected("too_old" if at > requested_at + self._window_ms else "fresh")

    def remember(self, key: Key, requested_at: int, stage: Stage) -> None:
        """Keep a binding decision."""
        self._stages[key] = stage
        self._hours[requested_at // HOUR_MS].append(key)

    def _drop(self, at: int) -> None:
        for hour in [hour for hour in self._hours if at > (hour + 1) * HOUR_MS + self._window_ms]:
            for key in self._hours.pop(hour):
                self._stages.pop(key, None)


def content_of(body: dict[str, Any]) -> bytes:
    """Return the digest of an outcome body without what a replay may change: ``seq`` and ``replayed``."""
    return hashlib.sha256(orjson.dumps({**body, "seq": 0, "replayed": False})).digest()[:16]
