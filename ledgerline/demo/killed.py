"""The worker that is killed in the middle of the demo."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """Its name, the partitions that it owned, and when it was killed (ms since 1970)."""

    name: str
    partitions: frozenset[int]
    at_ms: int
