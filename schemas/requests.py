"""Transaction requests as upstream services send them (docs/requests.md), and their one decoder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from msgspec import Struct
from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import core_schema

from schemas.bounds import (
    ACCOUNT_ID_PATTERN,
    COUNTRY_PATTERN,
    MAX_ACCOUNT_ID,
    MAX_AMOUNT_MINOR,
    MAX_FEES,
    MAX_METADATA_KEY,
    MAX_METADATA_KEYS,
    MAX_METADATA_VALUE,
    RAIL_PATTERN,
    REQUEST_ID_PATTERN,
    WORD_PATTERN,
)
from schemas.codec import Malformed, Record, Version1, digest, malformed, read_object, shown
from schemas.currencies import EXPONENTS
from schemas.times import TIME_PATTERN, parse_time


def _one_of_the_currencies(_source: object, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
    return core_schema.literal_schema(sorted(EXPONENTS))


_ACCOUNT_ID_SCHEMA: Final = {"pattern": "^(?!sys:)[A-Za-z0-9._:~-]+$"}
AccountId = Annotated[
    str, Field(pattern=ACCOUNT_ID_PATTERN, max_length=MAX_ACCOUNT_ID, json_schema_extra=_ACCOUNT_ID_SCHEMA)
]
RequestId = Annotated[str, Field(pattern=REQUEST_ID_PATTERN)]
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
Currency = Annotated[str, GetPydanticSchema(_one_of_the_currencies)]
"""The code of a pinned ISO 4217 currency."""
AmountMinor = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
BoundMinor = Annotated[int, Field(ge=-MAX_AMOUNT_MINOR, le=MAX_AMOUNT_MINOR)]
Instant = Annotated[
    int, PlainValidator(parse_time), WithJsonSchema({"type": "string", "pattern": TIME_PATTERN, "format": "date-time"})
]
"""Milliseconds since 1970; on the wire exactly ``YYYY-MM-DDTHH:MM:SS[.mmm]Z``."""
MetadataKey = Annotated[str, Field(min_length=1, max_length=MAX_METADATA_KEY)]
MetadataValue = Annotated[str, Field(max_length=MAX_METADATA_VALUE)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Attributes = Annotated[dict[MetadataKey, MetadataValue | Int64 | bool], Field(max_length=MAX_METADATA_KEYS)]
AccountStatus = Literal["open", "frozen", "closed"]
NormalSide = Literal["credit", "debit"]


class Fee(Record):
    """A fee on top of the amount: payer to ``sys:fees`` of the currency."""

    code: Word
    amount_minor: AmountMinor


class RequestBase(Record):
    """What every request carries. ``requested_at`` is mandatory and part of the fingerprint; a retry must keep it.

    An optional field that is absent is ``None`` here; on the wire ``null`` is refused everywhere.
    """

    v: Version1
    request_id: RequestId
    account_id: AccountId
    requested_at: Instant
    metadata: Metadata | None = None


class OpenAccount(RequestBase):
    """Open an account in one currency. ``kind`` is the normal side; a debit-normal account owes up to its ceiling."""

    type: Literal["open_account"]
    currency: Currency
    tier: Word | None = None
    kind: NormalSide | None = None
    floor_minor: BoundMinor | None = None
    ceiling_minor: BoundMinor | None = None
    attributes: Attributes | None = None


class UpdateAccount(RequestBase):
    """Change the terms of an account; what is absent stays. At least one field is needed."""

    type: Literal["update_account"]
    status: Literal["open", "frozen"] | None = None
    tier: Word | None = None
    floor_minor: BoundMinor | None = None
    ceiling_minor: BoundMinor | None = None
    attributes: Attributes | None = None


class CloseAccount(RequestBase):
    """Close an account for ever: its balance must be zero; the id is never reused."""

    type: Literal["close_account"]


class MoneyRequest(RequestBase):
    """What the requests that move money share; the context fields are for rules and the score."""

    amount_minor: AmountMinor
    currency: Currency
    merchant: Word | None = None
    category: Word | None = None
    device: Word | None = None
    country: Annotated[str, Field(pattern=COUNTRY_PATTERN)] | None = None
    channel: Word | None = None


class Deposit(MoneyRequest):
    """Money from outside (``sys:external:<rail>:<currency>``) to the account."""

    type: Literal["deposit"]
    rail: Annotated[str, Field(pattern=RAIL_PATTERN)]


class Withdraw(MoneyRequest):
    """Money from the account to outside (``sys:external:<rail>:<currency>``)."""

    type: Literal["withdraw"]
    rail: Annotated[str, Field(pattern=RAIL_PATTERN)]


class Transfer(MoneyRequest):
    """Money from the account to ``payee``; ``fees`` are paid on top, to ``sys:fees:<currency>``."""

    type: Literal["transfer"]
    payee: AccountId
    fees: Annotated[tuple[Fee, ...], Field(max_length=MAX_FEES, strict=False)] = ()


Request = OpenAccount | UpdateAccount | CloseAccount | Deposit | Withdraw | Transfer

REQUEST_TYPES: Final[dict[str, type[Request]]] = {
    "open_account": OpenAccount,
    "update_account": UpdateAccount,
    "close_account": CloseAccount,
    "deposit": Deposit,
    "withdraw": Withdraw,
    "transfer": Transfer,
}
"""The types that this version decides."""

PLANNED_TYPES: Final = frozenset(
    ["authorize", "capture", "release", "refund", "resolve", "exchange", "batch", "reverse", "post", "payment_request"]
)
"""Types of the interface that this version refuses with ``unsupported_type``; the same id may be sent again later."""


class Decoded(Struct, frozen=True, gc=False):
    """A request that passed check 1, with the first 16 bytes of SHA-256 over its canonical value.

    Its ids and type again, as of an :class:`Unreadable`: what is refused and what is decided are answered alike.
    """

    request: Request
    fingerprint: bytes
    request_id: str
    account_id: str
    type: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that check 1 refuses. The ids are those of the record where they can be read, for the answer only."""

    problem: Malformed
    reason: Literal["malformed", "too_large", "unsupported_type"]
    request_id: str | None
    account_id: str | None
    type: str | None


_VALIDATE: Final[dict[str, Callable[[dict[str, Any]], Request]]] = {
    name: model.__pydantic_validator__.validate_python for name, model in REQUEST_TYPES.items()
}
"""By type, without looking the validator up in the model each time: pydantic's metaclass makes that slow."""


def decode_request(value: bytes | None, max_bytes: int) -> Decoded | Unreadable:
    """Return the request in *value*, or why it is refused. Never raises: every record gets an answer."""
    if value is None:
        return Unreadable(Malformed("value", "a JSON object", "null"), "malformed", None, None, None)
    if len(value) > max_bytes:
        problem = Malformed("value", f"at most {max_bytes} bytes", f"{len(value)} bytes")
        return Unreadable(problem, "too_large", None, None, None)
    try:
        tree, text = read_object(value, max_bytes)
    except Malformed as problem:
        return Unreadable(problem, "malformed", None, None, None)
    return _parse(tree, text)


def _parse(tree: dict[str, Any], text: bytes) -> Decoded | Unreadable:
    kind = tree.get("type")
    if type(kind) is not str or kind not in _VALIDATE:
        return _of_no_known_type(tree)
    try:
        request = _VALIDATE[kind](tree)
    except ValidationError as error:
        return _unreadable(tree, malformed(error), "malformed")
    if kind == "update_account" and not UPDATE_FIELDS & tree.keys():
        return _unreadable(tree, Malformed("value", "one of " + ", ".join(sorted(UPDATE_FIELDS)), "none"), "malformed")
    return Decoded(request, digest(text), tree["request_id"], tree["account_id"], kind)


def _of_no_known_type(tree: dict[str, Any]) -> Unreadable:
    kind = tree.get("type")
    if type(kind) is str and kind in PLANNED_TYPES:
        problem = Malformed("type", "a type that this version decides", shown(kind))
        return _unreadable(tree, problem, "unsupported_type")
    found = shown(kind) if "type" in tree else "nothing (the field is missing)"
    return _unreadable(tree, Malformed("type", "one of " + ", ".join(REQUEST_TYPES), found), "malformed")


UPDATE_FIELDS: Final = frozenset({"status", "tier", "floor_minor", "ceiling_minor", "attributes"})


_IDS: Final[dict[str, TypeAdapter[str]]] = {
    "request_id": TypeAdapter(RequestId, config=ConfigDict(strict=True)),
    "account_id": TypeAdapter(AccountId, config=ConfigDict(strict=True)),
}


def _unreadable(
    tree: dict[str, Any], problem: Malformed, reason: Literal["malformed", "unsupported_type"]
) -> Unreadable:
    """Keep each id that is valid by itself, so that the sender can match the answer."""

    def readable(name: str) -> str | None:
        value = tree.get(name)
        try:
            _IDS[name].validate_python(value)
        except ValidationError:
            return None
        return str(value)

    kind = tree.get("type")
    known = type(kind) is str and (kind in REQUEST_TYPES or kind in PLANNED_TYPES)
    return Unreadable(problem, reason, readable("request_id"), readable("account_id"), str(kind) if known else None)
