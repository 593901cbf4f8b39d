"""Journal events, as the blocks of ``journal`` hold them (docs/journal-format.md), and the genesis of a journal."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from pydantic import Field

from schemas.codec import Record
from schemas.outcomes import Status
from schemas.requests import AccountStatus, NormalSide

FORMAT: Final = 1
"""The format that this version writes, and the highest that it reads."""

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Hex16 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]

Span = tuple[Count | None, Count]
"""``(start, length)`` of bytes in the raw part of the block, 0 being the first byte behind the array of events.

``start`` is null for a record above 64 KiB, which is kept by length and hash only.
"""

Side = Literal["debit", "credit"]
Leg = tuple[str, Side, Positive, str]
"""``(account, side, amount_minor, currency)``. An event's legs are its entry: debits first, balanced per currency."""


def _always(value: Any) -> Any:
    """A default that is written in journals nevertheless: only what is null is left out."""
    return msgspec.field(default_factory=lambda: value)


class Journaled(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what blocks hold: frozen, strict (no coercion) when decoded, unknown fields refused.

    Building one checks nothing: ``decide`` builds them from values that it computed or that a request was validated to
    have, and the tests hold every event that they reach equal to its decoded form (tests/engine/validated.py).
    """


class AccountTerms(Journaled, frozen=True, kw_only=True):
    """Everything about an account that is not a counter; an event that carries it creates or replaces the terms."""

    account_id: str
    currency: str
    normal_side: NormalSide
    status: AccountStatus
    tier: str
    floor_minor: int
    ceiling_minor: int | None = None
    attributes: dict[str, str | int | bool]


class Usage(Journaled, frozen=True, kw_only=True):
    """What an accepted request adds to its account's limit counters, under the request's type: the amount and one.

    ``day`` is the UTC day in days since 1970.
    """

    day: Count
    amount_minor: Positive


class Payment(Journaled, frozen=True, kw_only=True):
    """What near-duplicate detection remembers of an accepted transfer, with the event's ``at`` and seq."""

    payee: str
    amount_minor: Positive


class Profile(Journaled, frozen=True, kw_only=True):
    """The account's spending profile behind this event, computed in ``decide`` and only stored by ``evolve``.

    Integers; logarithms are in units of 1/1024; engine/scoring.py defines them. ``count`` payments so far; running mean
    and mean deviation of log2(amount); ``spent_minor``, the decayed sum of the amounts, and the same of its logarithm;
    the UTC hour of day.
    """

    count: Count
    log_mean: Count
    log_deviation: Count
    spent_minor: Count
    pace_mean: Count
    pace_deviation: Count
    hour: Annotated[int, Meta(ge=0, le=23)]


class Answer(Journaled, frozen=True, kw_only=True, tag_field="event", tag="answer"):
    """The one answering event of a record of ``requests``: the decision, its effects, and where the bytes are."""

    at: Count
    topic: Literal["requests"] = _always("requests")
    offset: Count
    sha256: Hex32
    kid: str | None = None
    record: Span
    request_id: str | None = None
    account_id: str | None = None
    type: str | None = None
    requested_at: Count | None = None
    fingerprint: Hex16 | None = None
    status: Status
    reason: str | None = None
    binding: bool
    replayed: bool = _always(value=False)
    original: Positive | None = None
    legs: tuple[Leg, ...] = _always(())
    account: AccountTerms | None = None
    usage: Usage | None = None
    payment: Payment | None = None
    profile: Profile | None = None
    score: Count | None = None
    ruleset: str
    outcome: Span
    explanation: Span


class Skip(Journaled, frozen=True, kw_only=True, tag_field="event", tag="skip"):
    """The answering event of a record of ``transfers`` that has no effect and no outcome."""

    at: Count
    topic: Literal["transfers"] = _always("transfers")
    offset: Count
    sha256: Hex32
    record: Span
    reason: Literal["unsupported"]


Cause = Literal["requests", "transfers"]
"""The input that a consequent event precedes."""


class ConfigPickup(Journaled, frozen=True, kw_only=True, tag_field="event", tag="config"):
    """A consequent event: the config record at ``offset`` was judged.

    It precedes, in its block, the answering event of the input ``(cause_topic, cause_offset)`` and carries its ``at``.
    A refused one changes nothing but the config position.
    """

    at: Count
    cause_topic: Cause
    cause_offset: Count
    offset: Count
    sha256: Hex32
    version: str | None = None
    verdict: Literal["active", "refused"]
    reason: str | None = None


Event = Answer | Skip | ConfigPickup

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(list[Event])


def encode_event(event: Event) -> bytes:
    """Return *event* as an element of a block's JSON array: fields in declared order, absent where null, no spaces."""
    return _ENCODER.encode(event)


def join_events(encoded: Iterable[bytes]) -> bytes:
    """Return the JSON array of events that :func:`encode_event` encoded."""
    return b"[" + b",".join(encoded) + b"]"


def encode_events(events: list[Event]) -> bytes:
    """Return the JSON array of *events*."""
    return join_events(map(encode_event, events))


def decode_events(data: bytes | memoryview) -> list[Event]:
    """Return the events in a JSON array; raises ``ValueError`` (msgspec's) where it is not one, strictly."""
    return _DECODER.decode(data)


class Genesis(Record):
    """Offset 0 of a partition's journal: what can never change during the life of the ledger."""

    ledger_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    partition: Annotated[int, Field(ge=0)]
    partitions: Annotated[int, Field(ge=1)]
    format: Annotated[int, Field(ge=1)]
    at: Annotated[int, Field(ge=0)]
    retry_window_s: Annotated[int, Field(ge=3600)]
    ring_horizon_s: Annotated[int, Field(ge=86400)]
    inputs: dict[Literal["requests", "transfers", "config"], Annotated[int, Field(ge=0)]]
    root_key: str | None = None


DEFAULT_RETRY_WINDOW_S: Final = 86_400
DEFAULT_RING_HORIZON_S: Final = 35 * 86_400


def encode_genesis(genesis: Genesis) -> bytes:
    """Return the value of the genesis record: JSON, fields in declared order, no spaces, null where absent."""
    return genesis.__pydantic_serializer__.to_json(genesis)


def decode_genesis(value: bytes) -> Genesis:
    """Return the genesis in *value*; raises ``ValueError`` (pydantic's) where it is not one."""
    return Genesis.model_validate_json(value)


def span(raw: memoryview | bytes, where: Span) -> bytes | None:
    """Return the bytes that *where* points to in *raw*, or ``None`` where only length and hash were kept.

    Raises ``ValueError`` if the span leaves *raw*.
    """
    start, length = where
    if start is None:
        return None
    if start + length > len(raw):
        raise ValueError(f"span {start}+{length} leaves the {len(raw)} raw bytes of its block")
    return bytes(raw[start : start + length])
