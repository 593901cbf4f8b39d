"""The reading rule of docs/design.md §3, a second time: plain, strict, and sharing nothing with ``streams.journal``.

A property test compares the two on random logs. Framing, chain and record hash are written out here as well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.events import FORMAT

Header = tuple[str, bytes | None]

HEADERS: Final = {
    b"genesis": ["kind", "format"],
    b"lease": ["kind", "format", "epoch", "token"],
    b"block": ["kind", "format", "epoch", "token", "seq", "count", "chain", "published_through"],
}
MAX_EVENTS: Final = 2_000
MAX_VALUE: Final = 4 * 1024 * 1024
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,18}")
_HEX = re.compile(rb"[0-9a-f]*")


class Meaning(StrEnum):
    """What a record of the journal is to a reader."""

    GENESIS = "genesis"
    LEASE = "lease"
    BLOCK = "block"
    DUPLICATE = "duplicate"
    STALE = "stale"


class Broken(Exception):
    """The log cannot be read on: *kind* is ``journal loss``, ``corruption`` or ``too old`` (a newer format)."""

    def __init__(self, kind: str, expected: str, found: str) -> None:
        super().__init__(f"{kind}: expected {expected}, found {found}")
        self.kind = kind
        self.expected = expected
        self.found = found


class WrongChain(Broken):
    """A block in its place whose bytes are not those of its chain. A checker may go on from what it *says*."""

    def __init__(self, computed: bytes, says: Stated) -> None:
        super().__init__("corruption", f"the chain {computed.hex()} of these bytes on this journal", says.chain.hex())
        self.says = says


@dataclass(frozen=True, slots=True)
class Stated:
    """The headers of a record. What a kind does not have is 0 or empty."""

    kind: bytes
    format: int
    epoch: int = 0
    token: bytes = b""
    seq: int = 0
    count: int = 0
    chain: bytes = b""
    published_through: int = 0

    @property
    def last_seq(self) -> int:
        """Of the block's last event."""
        return self.seq + self.count - 1


def u32(number: int) -> bytes:
    """Return *number* in four bytes, big-endian."""
    return number.to_bytes(4, "big")


def framed(key: bytes | None, headers: Sequence[Header], value: bytes | None) -> bytes:
    """Return a record as a block holds it: each part behind its length, 0xFFFFFFFF for null."""

    def part(data: bytes | None) -> bytes:
        return b"\xff\xff\xff\xff" if data is None else u32(len(data)) + data

    middle = b"".join(part(name.encode("utf-8", "surrogateescape")) + part(data) for name, data in headers)
    return part(key) + u32(len(headers)) + middle + part(value)


def unframed(data: bytes) -> tuple[bytes | None, list[Header], bytes | None]:
    """Return key, headers and value of a framed record; raises ValueError where *data* is not exactly one."""
    offset = 0

    def number() -> int:
        nonlocal offset
        if offset + 4 > len(data):
            raise ValueError(f"{len(data)} bytes end inside a length at {offset}")
        offset += 4
        return int.from_bytes(data[offset - 4 : offset], "big")

    def part() -> bytes | None:
        nonlocal offset
        size = number()
        if size == 0xFFFFFFFF:
            return None
        if offset + size > len(data):
            raise ValueError(f"{len(data)} bytes end inside a part of {size} at {offset}")
        offset += size
        return data[offset - size : offset]

    def name() -> str:
        data = part()
        if data is None:
            raise ValueError(f"a header without a name before byte {offset}")
        return data.decode("utf-8", "surrogateescape")

    key = part()
    headers = [(name(), part()) for _ in range(number())]
    value = part()
    if offset != len(data):
        raise ValueError(f"{len(data) - offset} bytes behind the record")
    return key, headers, value


def stated(key: bytes | None, headers: Sequence[Header]) -> Stated:
    """Return what the headers of a journal record say; raises :class:`Broken` unless they are those of its kind."""
    if key is not None:
        raise Broken("corruption", "a record without a key", f"key {key!r}")
    names, values = [name for name, _ in headers], [value for _, value in headers]
    if names[:2] != ["kind", "format"]:
        raise Broken("corruption", "the headers kind and format first", str(names))
    number = _decimal("format", values[1], 1, 0xFFFF)
    if number > FORMAT:
        raise Broken("too old", f"format {FORMAT} or lower", f"format {number}: install a newer Ledgerline")
    kind = values[0] or b""
    if names != HEADERS.get(kind):
        raise Broken("corruption", "a genesis, lease or block with its headers in order", f"{kind!r} with {names}")
    if kind == b"genesis":
        return Stated(kind, number)
    epoch, token = _decimal("epoch", values[2], 1), _hex("token", values[3], 16)
    if kind == b"lease":
        return Stated(kind, number, epoch, token)
    seq, count = _decimal("seq", values[4], 1), _decimal("count", values[5], 1, MAX_EVENTS)
    chain, published = _hex("chain", values[6], 32), _decimal("published_through", values[7], 0)
    return Stated(kind, number, epoch, token, seq, count, chain, published)


def split(value: bytes | None) -> tuple[bytes, bytes]:
    """Return the JSON array of a block's events, and the raw bytes behind it; raises :class:`Broken`."""
    if value is None or not 4 <= len(value) <= MAX_VALUE:
        found = "null" if value is None else f"{len(value)} bytes"
        raise Broken("corruption", f"a block value of 4 to {MAX_VALUE} bytes", found)
    end = 4 + int.from_bytes(value[:4], "big")
    if end > len(value):
        raise Broken("corruption", f"{end - 4} bytes of events", f"{len(value) - 4} bytes behind the length")
    return value[4:end], value[end:]


class Rule:
    """Reads the records of one partition's journal in order. Mutable, one owner.

    ``epoch, token`` are of the lease in force, ``lease_seq`` is the seq at which it began; ``seq``, ``chain`` are those
    of the last valid block. After :class:`Broken` nothing has changed.
    """

    def __init__(self) -> None:
        self.genesis: tuple[bytes | None, list[Header], bytes | None] | None = None
        self.epoch = 0
        self.token = bytes(16)
        self.lease_seq = 0
        self.seq = 0
        self.chain = b""

    def read(self, key: bytes | None, headers: Sequence[Header], value: bytes | None) -> tuple[Meaning, Stated]:
        """Return what the next record means, and what its headers state. Raises :class:`Broken`."""
        says = stated(key, headers)
        if self.genesis is None:
            return self._first(says, key, headers, value)
        if says.kind == b"genesis":
            if (key, list(headers), value) != self.genesis:
                raise Broken("corruption", "no genesis but copies of the first", "another genesis")
            return Meaning.DUPLICATE, says
        if says.kind == b"lease":
            if says.epoch <= self.epoch:
                return Meaning.STALE, says
            self.epoch, self.token, self.lease_seq = says.epoch, says.token, self.seq
            return Meaning.LEASE, says
        return self._block(says, value), says

    def go_on(self, says: Stated) -> None:
        """Take the block of *says* as read although its chain is wrong, so that what follows can be checked too."""
        self.seq, self.chain = says.last_seq, says.chain

    def _first(
        self, says: Stated, key: bytes | None, headers: Sequence[Header], value: bytes | None
    ) -> tuple[Meaning, Stated]:
        if says.kind != b"genesis" or value is None:
            raise Broken("corruption", "a genesis at offset 0", f"{says.kind.decode()} with {len(value or b'')} bytes")
        self.genesis = (key, list(headers), value)
        self.chain = hashlib.sha256(value).digest()
        return Meaning.GENESIS, says

    def _block(self, says: Stated, value: bytes | None) -> Meaning:
        if says.epoch < self.epoch:
            return Meaning.STALE
        if says.epoch > self.epoch:
            raise Broken("corruption", f"epoch {self.epoch} or lower", f"epoch {says.epoch} before its lease")
        if says.token != self.token:
            raise Broken("journal loss", f"token {self.token.hex()} of epoch {self.epoch}", says.token.hex())
        if says.seq == self.seq + 1:
            self._chained(says, value or b"")
            return Meaning.BLOCK
        if says.seq > self.seq:
            raise Broken("corruption", f"seq {self.seq + 1}", f"seq {says.seq}")
        if says.seq <= self.lease_seq:
            raise Broken("journal loss", f"a seq above {self.lease_seq}, where its lease began", f"seq {says.seq}")
        return Meaning.DUPLICATE

    def _chained(self, says: Stated, value: bytes) -> None:
        link = b"block\0" + says.format.to_bytes(2, "big") + says.seq.to_bytes(8, "big") + u32(says.count)
        chain = hashlib.sha256(self.chain + link + value).digest()
        if chain != says.chain:
            raise WrongChain(chain, says)
        self.seq, self.chain = says.last_seq, chain


def _decimal(name: str, text: bytes | None, low: int, high: int = 2**63 - 1) -> int:
    if text is None or not _DECIMAL.fullmatch(text) or not low <= int(text) <= high:
        raise Broken("corruption", f"header {name} as a decimal from {low} to {high}", repr(text))
    return int(text)


def _hex(name: str, text: bytes | None, size: int) -> bytes:
    if text is None or len(text) != 2 * size or not _HEX.fullmatch(text):
        raise Broken("corruption", f"header {name} as {2 * size} lower-case hex digits", repr(text))
    return bytes.fromhex(text.decode())
