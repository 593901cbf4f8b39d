"""Near-duplicates: the same payer, payee, amount and currency again under another request id, within a window."""

import hashlib
import struct
from typing import Final

from msgspec import Struct

from schemas.bounds import DAY_MS

_ENTRY: Final = struct.Struct(">QQ")


class Lookalike(Struct, frozen=True, gc=False):
    """The latest accepted transfer of one payer, payee and amount: when it was decided, and by which event."""

    at: int
    seq: int


def payment_digest(payer: str, payee: str, amount_minor: int) -> bytes:
    """Return the key of a transfer: 16 bytes of SHA-256. The currency is the payer's, which never changes."""
    return hashlib.sha256(f"{payer}\0{payee}\0{amount_minor}".encode()).digest()[:16]


class RecentPayments:
    """The accepted transfers of a partition, whatever rules are in force; mutable, changed by ``evolve`` only.

    ``generations`` maps the UTC day of ``at`` to its entries, each 16 B digest -> 8 B at, 8 B seq of the latest.
    Today's and yesterday's are kept: a bundle's window is at most a day.
    """

    __slots__ = ("generations",)

    def __init__(self) -> None:
        self.generations: dict[int, dict[bytes, bytes]] = {}

    def find(self, digest: bytes, at: int, window_ms: int) -> Lookalike | None:
        """Return the latest transfer under *digest* that is at most *window_ms* older than *at*."""
        today = at // DAY_MS
        for day in (today, today - 1):
            entries = self.generations.get(day)
            entry = None if entries is None else entries.get(digest)
            if entry is not None:
                found = Lookalike(*_ENTRY.unpack(entry))
                return found if at - found.at <= window_ms else None
        return None

    def remember(self, digest: bytes, at: int, seq: int) -> None:
        """Keep a transfer as the latest under *digest*."""
        day = at // DAY_MS
        entries = self.generations.get(day)
        if entries is None:
            entries = self.generations[day] = {}
        entries[digest] = _ENTRY.pack(at, seq)

    def forget(self, at: int) -> None:
        """Drop the days before yesterday."""
        if len(self.generations) > 2:
            yesterday = at // DAY_MS - 1
            self.generations = {day: entries for day, entries in self.generations.items() if day >= yesterday}
