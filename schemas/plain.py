"""Plain transfers, the most frequent requests by far: read in one pass, without pydantic.

:func:`read_plain_transfer` knows no refusals. What it does not take for plain, valid or not, is for
:func:`schemas.requests.decode_request`, which alone says what is wrong with a request. What it does take,
``decode_request`` would read alike: the tests compare the two.
"""

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.bounds import (
    MAX_AMOUNT_MINOR,
    MAX_FEES,
    MAX_METADATA_KEY,
    MAX_METADATA_KEYS,
    MAX_METADATA_VALUE,
    MAX_REQUEST_BYTES,
)
from schemas.codec import digest
from schemas.currencies import EXPONENTS
from schemas.times import parse_time

AmountMinor = Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR)]
Metadata = dict[
    Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_KEY)], Annotated[str, Meta(max_length=MAX_METADATA_VALUE)]
]


class PlainFee(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A :class:`schemas.requests.Fee`."""

    code: Annotated[str, Meta(pattern=r"^[!-~]{1,64}\Z")]
    amount_minor: AmountMinor


class PlainTransfer(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A :class:`schemas.requests.Transfer`, but for ``requested_at``, which is the text that was sent."""

    v: Literal[1]
    type: Literal["transfer"]
    request_id: str
    account_id: str
    requested_at: str
    metadata: Annotated[Metadata, Meta(max_length=MAX_METADATA_KEYS)] | None = None
    amount_minor: AmountMinor
    currency: str
    merchant: str | None = None
    category: str | None = None
    device: str | None = None
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")] | None = None
    channel: str | None = None
    payee: str
    fees: Annotated[tuple[PlainFee, ...], Meta(max_length=MAX_FEES)] = ()


_DECODER: Final = msgspec.json.Decoder(PlainTransfer)
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_SPELLING: Final = re.compile(r"(?:(?!sys:)[A-Za-z0-9._:~-]{1,64}\n){2}[!-~]{1,64}(?:\n[!-~]{1,64}){4}").fullmatch
"""Two account ids and five words, a line each: one expression for all is quicker than seven."""


def read_plain_transfer(value: bytes) -> tuple[PlainTransfer, int, bytes] | None:
    """Return the plain transfer in *value*, its ``requested_at`` in ms and its fingerprint; ``None``: it is not plain.

    Not plain is, among all that is invalid, a text with a backslash: without one no text holds a quote, a line feed or
    NUL. So, as in :func:`schemas.codec.read_object`, a text with more quotes than its canonical form lost a key on the
    way: it had the key twice, with null, or with an empty list of fees.
    """
    if len(value) > MAX_REQUEST_BYTES or b"\\" in value:
        return None
    try:
        transfer = _DECODER.decode(value)
        requested_at = parse_time(transfer.requested_at)
    except ValueError:  # msgspec's, that of the UTF-8 decoder, and that of parse_time
        return None
    # What is absent reads "None" in the second text, which is a word too.
    ids = f"{transfer.account_id}\n{transfer.payee}\n{transfer.request_id}"
    words = f"{transfer.merchant}\n{transfer.category}\n{transfer.device}\n{transfer.channel}"
    if _SPELLING(f"{ids}\n{words}") is None or transfer.currency not in EXPONENTS:
        return None
    text = _CANONICAL.encode(transfer)
    if value.count(b'"') != text.count(b'"'):
        return None
    return transfer, requested_at, digest(text)
