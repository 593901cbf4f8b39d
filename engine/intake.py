"""One record of ``requests``, read without any state: what a worker may do ahead of the decision."""

from msgspec import Struct

from engine.idempotency import key_digest
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed
from schemas.records import RawRecord, input_hash
from schemas.requests import Decoded, Unreadable, decode_request


class Intake(Struct, frozen=True, gc=False):
    """A record as it was received, with everything that can be known about it without the book.

    ``framed`` are the bytes that the block keeps and ``sha256`` (hex) hashes; ``digest`` is the idempotency key of a
    readable request and ``None`` of an unreadable one.
    """

    offset: int
    key: bytes | None
    framed: bytes
    sha256: str
    content: Decoded | Unreadable
    digest: bytes | None


def read_intake(record: RawRecord, framed: bytes, offset: int) -> Intake:
    """Return what *record*, whose framing is *framed*, holds. Never raises: every record gets an answer."""
    content = decode_request(record.value, MAX_REQUEST_BYTES)
    digest = None
    if isinstance(content, Decoded):
        if len(framed) > MAX_REQUEST_BYTES:
            # The block would not keep it: what takes effect must be in the journal, for audits and backtests.
            problem = Malformed(
                "record", f"at most {MAX_REQUEST_BYTES} bytes with key and headers", f"{len(framed)} bytes"
            )
            content = Unreadable(problem, "too_large", content.request_id, content.account_id, content.type)
        else:
            digest = key_digest(content.account_id, content.request_id)
    return Intake(offset, record.key, framed, input_hash(framed), content, digest)
