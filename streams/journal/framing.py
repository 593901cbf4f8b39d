"""The bytes of a journal record: headers, block value, chain, record hash (docs/journal-format.md says each of them).

Events are opaque here: bytes that were encoded once and are never encoded again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

from schemas.bounds import MAX_BLOCK_BYTES, MAX_BLOCK_EVENTS
from schemas.events import FORMAT
from schemas.records import Header, RawRecord, frame

TOKEN_BYTES: Final = 16
CHAIN_BYTES: Final = 32
MAX_INTEGER: Final = 2**63 - 1

_U32: Final = struct.Struct(">I")
_LINK: Final = struct.Struct(">HQI")

Headers = tuple[Header, ...]


class FramingError(ValueError):
    """Bytes that are not the framing they should be: what was expected and what was found."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class NewerFormat(Exception):
    """A record that states a format above ``FORMAT``: nothing else about it may be assumed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"format {number}, this program reads up to {FORMAT}")
        self.number = number


class BlockTooLarge(ValueError):
    """More events or bytes than a block may have. Nothing was sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenesisHeaders:
    """Of the record at offset 0."""

    format: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseHeaders:
    """Of a claim to the partition."""

    format: int
    epoch: int
    token: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockHeaders:
    """Of the events of one decided batch."""

    format: int
    epoch: int
    token: bytes
    seq: int  # of the first event
    count: int
    chain: bytes
    published_through: int  # a hint: everything up to this seq was published

    @property
    def last_seq(self) -> int:
        """Of the last event."""
        return self.seq + self.count - 1


RecordHeaders = GenesisHeaders | LeaseHeaders | BlockHeaders

_NAMES: Final[dict[bytes | None, tuple[str, ...]]] = {
    b"genesis": ("kind", "format"),
    b"lease": ("kind", "format", "epoch", "token"),
    b"block": ("kind", "format", "epoch", "token", "seq", "count", "chain", "published_through"),
}


def encode_headers(headers: RecordHeaders) -> Headers:
    """The headers of a journal record, in the one order that readers accept."""
    number = b"%d" % headers.format
    match headers:
        case GenesisHeaders():
            return (("kind", b"genesis"), ("format", number))
        case LeaseHeaders(epoch=epoch, token=token):
            token_hex = token.hex().encode()
            return (("kind", b"lease"), ("format", number), ("epoch", b"%d" % epoch), ("token", token_hex))
        case BlockHeaders(epoch=epoch, token=token, seq=seq, count=count, chain=chain, published_through=published):
            return (
                ("kind", b"block"),
                ("format", number),
                ("epoch", b"%d" % epoch),
                ("token", token.hex().encode()),
                ("seq", b"%d" % seq),
                ("count", b"%d" % count),
                ("chain", chain.hex().encode()),
                ("published_through", b"%d" % published),
            )
        case _:
            assert_never(headers)


def decode_headers(headers: Sequence[Header]) -> RecordHeaders:
    """Exact inverse of ``encode_headers``: no header more, less, twice, null or in another order, no other spelling.

    Raises: FramingError; NewerFormat, which is decided before anything but the first two headers is looked at.
    """
    names, values = zip(*headers, strict=True) if headers else ((), ())
    if names[:2] != ("kind", "format"):
        raise FramingError("the headers kind and format first", f"headers {list(names)}")
    number = _integer("format", values[1], 1, 0xFFFF)
    if number > FORMAT:
        raise NewerFormat(number)
    expected = _NAMES.get(values[0])
    if expected is None:
        raise FramingError("kind genesis, lease or block", f"kind {values[0]!r}")
    if names != expected:
        raise FramingError(f"headers {list(expected)}", f"headers {list(names)}")
    if values[0] == b"genesis":
        return GenesisHeaders(format=number)
    epoch, token = _integer("epoch", values[2], 1, MAX_INTEGER), _hex("token", values[3], TOKEN_BYTES)
    if values[0] == b"lease":
        return LeaseHeaders(format=number, epoch=epoch, token=token)
    return BlockHeaders(
        format=number,
        epoch=epoch,
        token=token,
        seq=_integer("seq", values[4], 1, MAX_INTEGER),
        count=_integer("count", values[5], 1, MAX_BLOCK_EVENTS),
        chain=_hex("chain", values[6], CHAIN_BYTES),
        published_through=_integer("published_through", values[7], 0, MAX_INTEGER),
    )


def _integer(name: str, text: bytes | None, low: int, high: int) -> int:
    """Digits only: ``int`` would take signs, spaces, underscores and leading zeros."""
    if text is None or not text.isdigit() or (text[0] == 0x30 and len(text) > 1) or len(text) > 19:
        raise FramingError(f"header {name} as a decimal integer", repr(text))
    number = int(text)
    if not low <= number <= high:
        raise FramingError(f"header {name} between {low} and {high}", str(number))
    return number


def _hex(name: str, text: bytes | None, length: int) -> bytes:
    if text is not None and len(text) == 2 * length:
        try:
            data = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            data = b""
        if data.hex().encode() == text:  # fromhex also takes capitals and spaces
            return data
    raise FramingError(f"header {name} as {2 * length} lower-case hexadecimal digits", repr(text))


class BlockBody(NamedTuple):
    """What a block holds: the JSON array of its events, and the raw bytes that they point into by (start, length)."""

    events_json: bytes
    raw: bytes | memoryview


def encode_block(body: BlockBody, count: int) -> bytes:
    """The value of a block record. Raises BlockTooLarge above 2,000 events or 4 MiB of value."""
    length = _U32.size + len(body.events_json) + len(body.raw)
    if not 1 <= count <= MAX_BLOCK_EVENTS or length > MAX_BLOCK_BYTES:
        raise BlockTooLarge(
            f"a block of {count:,} events and {length:,} bytes: at least 1 event, at most {MAX_BLOCK_EVENTS:,} and "
            f"{MAX_BLOCK_BYTES:,} bytes; nothing was sent"
        )
    return b"".join((_U32.pack(len(body.events_json)), body.events_json, body.raw))


def open_block(value: bytes | None) -> BlockBody:
    """Exact inverse of ``encode_block``; *raw* is a view into *value*. Events are not decoded. Raises FramingError."""
    if value is None or len(value) < _U32.size:
        raise FramingError("a block value of at least 4 bytes", "null" if value is None else f"{len(value)} bytes")
    if len(value) > MAX_BLOCK_BYTES:
        raise FramingError(f"a block value of at most {MAX_BLOCK_BYTES:,} bytes", f"{len(value):,} bytes")
    end = _U32.size + int(_U32.unpack_from(value)[0])
    if end > len(value):
        raise FramingError(
            f"{end - _U32.size:,} bytes of events", f"{len(value) - _U32.size:,} bytes behind the length"
        )
    return BlockBody(value[_U32.size : end], memoryview(value)[end:])


def first_chain(genesis_value: bytes) -> bytes:
    """``chain_0``."""
    return hashlib.sha256(genesis_value).digest()


def next_chain(previous: bytes, number: int, seq: int, count: int, value: bytes) -> bytes:
    """SHA-256(previous ‖ "block" ‖ 0x00 ‖ format u16 ‖ seq u64 ‖ count u32 ‖ value).

    Epoch and token stay outside, so the same bytes can be appended again under a later lease.
    """
    digest = hashlib.sha256(previous + b"block\x00" + _LINK.pack(number, seq, count))
    digest.update(value)  # without copying it
    return digest.digest()


def record_hash(key: bytes | None, headers: Headers, value: bytes | None) -> bytes:
    """SHA-256 over the record's framing (schemas.records), as delivered; equals ``sha256(frame(record))``."""
    if value is None:
        return hashlib.sha256(frame(RawRecord(key, headers, None))).digest()
    digest = hashlib.sha256(frame(RawRecord(key, headers, b""))[: -_U32.size] + _U32.pack(len(value)))
    digest.update(value)  # without copying it
    return digest.digest()
