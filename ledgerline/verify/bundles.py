"""The config log: what a pick-up names, and which bundle is in force in a partition."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from schemas.codec import Malformed
from schemas.config import Bundle, decode_bundle


class Published(NamedTuple):
    """A record of ``config``: the hash of its value, and the bundle in it, or None where it is none."""

    sha256: str
    bundle: Bundle | None


@dataclass(frozen=True, slots=True)
class InForce:
    """The bundle that decides from a pick-up on."""

    offset: int
    version: str
    bundle: Bundle | None


class Bundles:
    """Every record of ``config`` by its offset. Filled once, then only read."""

    def __init__(self) -> None:
        self._published: dict[int, Published] = {}

    def add(self, offset: int, value: bytes | None) -> None:
        """Take a record of ``config``."""
        try:
            bundle = None if value is None else decode_bundle(value)
        except Malformed:
            bundle = None
        self._published[offset] = Published(hashlib.sha256(value or b"").hexdigest(), bundle)

    def get(self, offset: int) -> Published | None:
        """Return the record at *offset*, or None."""
        return self._published.get(offset)

    def between(self, start: int, end: int) -> list[int]:
        """Return the offsets of records with start <= offset < end."""
        return [offset for offset in self._published if start <= offset < end]
