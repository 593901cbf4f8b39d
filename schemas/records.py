"""Records as they were received: their framing in a block, their hash, and the partition of a key."""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

Header = tuple[str, bytes | None]

_U32 = struct.Struct(">I")
_NULL: Final = 0xFFFFFFFF


class RawRecord(NamedTuple):
    """What a producer sent: key, headers in their order, value; ``None`` is Kafka's null."""

    key: bytes | None
    headers: tuple[Header, ...]
    value: bytes | None


def frame(record: RawRecord) -> bytes:
    """Return *record* as a block holds it: key, number of headers, each header's name and value, value.

    Each part has a big-endian u32 length in front, 0xFFFFFFFF for null. Byte-exact inverse: :func:`unframe`.
    """
    key, headers, value = record
    parts = [_part(key), _U32.pack(len(headers))]
    for name, content in headers:
        parts.append(_part(name.encode("utf-8", "surrogateescape")))
        parts.append(_part(content))
    parts.append(_part(value))
    return b"".join(parts)


def unframe(framed: bytes | memoryview) -> RawRecord:
    """Return the record of which *framed* is the framing; ``ValueError`` says where it is not one."""
    parts = _Parts(bytes(framed))
    key = parts.take()
    headers = tuple(parts.header() for _ in range(parts.number()))
    value = parts.take()
    if parts.offset != len(parts.framed):
        raise ValueError(f"framed record: {len(parts.framed) - parts.offset} bytes behind its end at {parts.offset}")
    return RawRecord(key, headers, value)


def input_hash(framed: bytes) -> str:
    """Return the input hash of a record: SHA-256 over its framing, in lower-case hex."""
    return hashlib.sha256(framed).hexdigest()


def header_values(headers: tuple[Header, ...], name: str) -> Iterator[bytes]:
    """Yield the non-null values of the headers called *name*, in order."""
    return (value for key, value in headers if key == name and value is not None)


def _part(data: bytes | None) -> bytes:
    return _U32.pack(_NULL) if data is None else _U32.pack(len(data)) + data


class _Parts:
    """A cursor over a framed record."""

    def __init__(self, framed: bytes) -> None:
        self.framed = framed
        self.offset = 0

    def number(self) -> int:
        end = self.offset + 4
        if end > len(self.framed):
            found = len(self.framed) - self.offset
            raise ValueError(f"framed record: expected 4 bytes at {self.offset}, found {found}")
        (number,) = _U32.unpack_from(self.framed, self.offset)
        self.offset = end
        return int(number)

    def take(self) -> bytes | None:
        length = self.number()
        if length == _NULL:
            return None
        start, self.offset = self.offset, self.offset + length
        if self.offset > len(self.framed):
            raise ValueError(f"framed record: expected {length} bytes at {start}, found {len(self.framed) - start}")
        return self.framed[start : self.offset]

    def header(self) -> Header:
        name = self.take()
        if name is None:
            raise ValueError(f"framed record: a header without a name before byte {self.offset}")
        return name.decode("utf-8", "surrogateescape"), self.take()


_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of *key* by Kafka's default partitioner: ``(murmur2(key) & 0x7fffffff) mod partitions``.

    Source: ``org.apache.kafka.common.utils.Utils.murmur2``, seed 0x9747b28c.
    """
    length = len(key)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for (k,) in struct.iter_unpack("<I", key[:whole]):
        k = (k * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if length != whole:
        h = ((h ^ int.from_bytes(key[whole:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return ((h ^ (h >> 15)) & 0x7FFFFFFF) % partitions
