"""Outcomes: the answers of record, on ``outcomes`` and, the same bytes, on a request's ``reply-to`` topic."""

from collections.abc import Sequence
from typing import Annotated, Literal

import orjson
from msgspec import Struct
from pydantic import Field

from schemas.codec import Record, Version1

Status = Literal["accepted", "declined", "rejected"]
"""The statuses of this version.

Reserved by docs/design.md §11: in_transit, settled, returned, authorized, held, captured, released, expired, credited.
"""


class SumLimit(Record):
    """Headroom of a limit in minor units, behind the decision; a decline consumes nothing."""

    name: Literal["per_transaction", "daily_sum"]
    used_minor: int
    limit_minor: int
    remaining_minor: int


class CountLimit(Record):
    """Headroom of a limit that counts transactions, behind the decision."""

    name: Literal["daily_count"]
    used: int
    limit: int
    remaining: int


LimitHeadroom = Annotated[SumLimit | CountLimit, Field(discriminator="name")]


class Outcome(Record):
    """What happened to a request. Every field is always present; ``null`` where it does not apply or could not be read.

    ``transaction`` names the deciding event; in a replay and in an ``idempotency_conflict`` the original's. ``seq`` is
    that of the event which publishes this outcome. A replay differs from its original in ``seq`` and ``replayed`` only.
    ``binding`` is false where the refusal was not remembered: the client may re-send only the same id and body.
    ``detail`` says for people what was expected and found.
    """

    v: Version1 = 1
    request_id: str | None
    account_id: str | None
    type: str | None
    status: Status
    reason: str | None
    detail: str | None
    final: bool
    binding: bool
    replayed: bool
    transaction: str
    partition: int
    seq: int
    at: str
    amount_minor: int | None
    currency: str | None
    balance_minor: int | None
    available_minor: int | None
    limits: tuple[LimitHeadroom, ...]
    score: int | None
    rules: tuple[str, ...]
    ruleset: str | None


class OutcomeBody(Struct, frozen=True, gc=False):
    """An :class:`Outcome` as ``decide`` writes it: the same fields in the same order, unchecked.

    The tests hold every body against the model (tests/engine/desk.py).
    """

    v: int
    request_id: str | None
    account_id: str | None
    type: str | None
    status: Status
    reason: str | None
    detail: str | None
    final: bool
    binding: bool
    replayed: bool
    transaction: str
    partition: int
    seq: int
    at: str
    amount_minor: int | None
    currency: str | None
    balance_minor: int | None
    available_minor: int | None
    limits: Sequence[Struct]
    score: int | None
    rules: tuple[str, ...]
    ruleset: str


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the body of *outcome*: JSON, fields in the order of :class:`Outcome`. Encoded once, published as is."""
    return orjson.dumps(outcome.__dict__, default=vars)


def decode_outcome(body: bytes | memoryview) -> Outcome:
    """Return the outcome in *body*; raises ``pydantic.ValidationError`` where it is not one."""
    return Outcome.model_validate_json(bytes(body))


def transaction_id(partition: int, seq: int) -> str:
    """Return ``<partition>-<seq>``."""
    return f"{partition}-{seq}"


def parse_transaction_id(text: str) -> tuple[int, int]:
    """Return ``(partition, seq)`` of a transaction id; ``ValueError`` names what is wrong."""
    partition, dash, seq = text.partition("-")
    if not (dash and partition.isascii() and partition.isdigit() and seq.isascii() and seq.isdigit() and int(seq) > 0):
        raise ValueError(f"expected a transaction id <partition>-<seq> such as 3-128, found {text!r}")
    return int(partition), int(seq)
