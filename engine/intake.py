"""One record of ``requests``, read without any state: what a worker may do ahead of the decision."""

from msgspec import Struct

from engine.idempotency import key_digest
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed
from schemas.plain import PlainTransfer, read_plain_transfer
from schemas.records import RawRecord, input_hash
from schemas.requests import Request, Unreadable, decode_request


class Readable(Struct, frozen=True, gc=False):
    """A request that passed check 1, with what every request has: time (ms), fingerprint, ids and type.

    ``request`` is a :class:`PlainTransfer` where a transfer could be read quickly; its fields are the same.
    """

    request: Request | PlainTransfer
    requested_at: int
    fingerprint: bytes
    request_id: str
    account_id: str
    type: str


class Intake(Struct, frozen=True, gc=False):
    """A record as it was received, with everything that can be known about it without the book.

    ``framed`` are the bytes that the block keeps and ``sha256`` (hex) hashes; ``digest`` is the idempotency key of a
    readable request and ``None`` of an unreadable one.
    """

    offset: int
    key: bytes | None
    framed: bytes
    sha256: str
    content: Readable | Unreadable
    digest: bytes | None


def read_intake(record: RawRecord, framed: bytes, offset: int) -> Intake:
    """Return what *record*, whose framing is *framed*, holds. Never raises: every record gets an answer."""
    content, digest = _read(record.value), None
    if isinstance(content, Readable):
        if len(framed) > MAX_REQUEST_BYTES:
            # The block would not keep it: what takes effect must be in the journal, for audits and backtests.
            problem = Malformed(
                "record", f"at most {MAX_REQUEST_BYTES} bytes with key and headers", f"{len(framed)} bytes"
            )
            content = Unreadable(problem, "too_large", content.request_id, content.account_id, content.type)
        else:
            digest = key_digest(content.account_id, content.request_id)
    return Intake(offset, record.key, framed, input_hash(framed), content, digest)


def _read(value: bytes | None) -> Readable | Unreadable:
    plain = None if value is None else read_plain_transfer(value)
    if plain is not None:
        transfer, requested_at, fingerprint = plain
        return Readable(transfer, requested_at, fingerprint, transfer.request_id, transfer.account_id, "transfer")
    found = decode_request(value, MAX_REQUEST_BYTES)
    if isinstance(found, Unreadable):
        return found
    request = found.request
    return Readable(request, request.requested_at, found.fingerprint, found.request_id, found.account_id, found.type)
