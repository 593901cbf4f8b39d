"""Which requests were answered for good: 16-byte digests in generations of an hour (docs/design.md §6).

An entry belongs to the generation of the UTC hour of its request's ``requested_at``. The generation is dropped whole
when ``at`` is more than W after the end of that hour: never earlier, so that no clock skew opens a window.
"""

import hashlib
import struct
from typing import Final

from msgspec import Struct

from schemas.bounds import HOUR_MS

_ENTRY: Final = struct.Struct(">16sQ")


class Remembered(Struct, frozen=True, gc=False):
    """The answer that an earlier request of the same key got: its fingerprint and the seq of its event."""

    fingerprint: bytes
    seq: int


def key_digest(account_id: str, request_id: str) -> bytes:
    """Return the key of a request: the first 16 bytes of SHA-256(account_id ‖ 0x00 ‖ request_id)."""
    return hashlib.sha256(f"{account_id}\0{request_id}".encode()).digest()[:16]


class Memory:
    """The remembered answers of a partition; mutable, changed by ``evolve`` only.

    ``generations`` maps an hour (hours since 1970 of ``requested_at``) to its entries, each 16 B key digest ->
    16 B fingerprint and 8 B seq. At most W + 2 hours of them exist.
    """

    __slots__ = ("_oldest", "generations", "retry_window_ms")

    def __init__(self, retry_window_s: int) -> None:
        self.retry_window_ms = retry_window_s * 1000
        self.generations: dict[int, dict[bytes, bytes]] = {}
        self._oldest: int | None = (
            None  # the lowest hour of the generations: forget() looks no further most of the time
        )

    def find(self, digest: bytes, at: int) -> Remembered | None:
        """Return what is remembered at *at* under *digest*; a generation that is due to be dropped no longer counts."""
        for hour, entries in self.generations.items():
            entry = entries.get(digest)
            if entry is not None and at <= self._last_instant(hour):
                return Remembered(*_ENTRY.unpack(entry))
        return None

    def remember(self, digest: bytes, requested_at: int, fingerprint: bytes, seq: int) -> None:
        """Keep an answer; the caller knows that nothing is remembered under *digest* now."""
        hour = requested_at // HOUR_MS
        entries = self.generations.get(hour)
        if entries is None:
            entries = self.generations[hour] = {}
            self._oldest = hour if self._oldest is None else min(self._oldest, hour)
        entries[digest] = _ENTRY.pack(fingerprint, seq)

    def forget(self, at: int) -> None:
        """Drop the generations whose hour ended more than W before *at*."""
        while self._oldest is not None and at > self._last_instant(self._oldest):
            del self.generations[self._oldest]
            self._oldest = min(self.generations, default=None)

    def count(self, at: int) -> int:
        """Return the number of entries that are not due to be dropped at *at*, for the budget."""
        return sum(len(entries) for hour, entries in self.generations.items() if at <= self._last_instant(hour))

    def _last_instant(self, hour: int) -> int:
        """Return the last ``at`` at which the generation of *hour* is kept."""
        return (hour + 1) * HOUR_MS + self.retry_window_ms
