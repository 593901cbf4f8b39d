"""Strict JSON: one decoder on all paths, canonical encoding, fingerprints.

orjson, msgspec and pydantic all accept more than this format allows: duplicate keys (the last wins), NUL, any depth,
integers that silently become floats. :func:`decode_object` refuses them.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Final, Literal, NoReturn

import orjson
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetPydanticSchema, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, core_schema

from schemas.bounds import MAX_DEPTH, MAX_REQUEST_BYTES, PATTERNS_IN_WORDS

_SHOWN: Final = 80
_SCALARS: Final[frozenset[type[Any]]] = frozenset((str, bool, int))
_KINDS: Final[frozenset[type[Any]]] = _SCALARS | {dict, list}
_CANONICAL_WITHIN_53_BITS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1


class Malformed(ValueError):
    """Bytes or a value that this format refuses: names the field, what was expected, and what was found."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        self.field = field
        self.expected = expected
        self.found = found
        super().__init__(f"{field}: expected {expected}, found {found}")


def _exactly_one(_source: object, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
    return core_schema.int_schema(strict=True, ge=1, le=1)


Version1 = Annotated[Literal[1], GetPydanticSchema(_exactly_one), WithJsonSchema({"const": 1, "type": "integer"})]
"""The integer 1. pydantic's own ``Literal[1]`` accepts ``true``, because ``True == 1``."""


class Record(BaseModel):
    """Base of every message: frozen, strict (no coercion), unknown fields refused."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
    )


def shown(value: object) -> str:
    """Return *value* as JSON for a message, cut to 80 characters. Never raises, however deep *value* is."""
    try:
        text = orjson.dumps(value, default=repr).decode()
    except TypeError:
        text = "a value that is too deep or too large to show"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def decode_object(data: bytes, *, max_bytes: int = MAX_REQUEST_BYTES) -> dict[str, Any]:
    """Return the JSON object in *data*, or raise :class:`Malformed`.

    Refused: more than *max_bytes*, invalid UTF-8 or JSON, duplicate keys, nesting deeper than 8, NUL, lone surrogates,
    null, numbers with a fraction or exponent, integers outside int64.
    """
    return read_object(data, max_bytes)[0]


def read_object(data: bytes, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return what :func:`decode_object` returns, and its canonical JSON.

    The canonical form is also the test for duplicate keys: without backslashes every key and every string stands in
    both texts with two quotes, so a text with more quotes than its canonical form has lost a key on the way.
    """
    if len(data) > max_bytes:
        raise Malformed("value", f"at most {max_bytes} bytes", f"{len(data)} bytes")
    try:
        tree = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed("value", "JSON in UTF-8", f"{error.msg} at character {error.pos}") from None
    if type(tree) is not dict:
        raise Malformed("value", "an object", shown(tree))
    escaped = b"\\" in data
    if escaped or not _is_plain(tree, 1):  # NUL needs an escape
        _refuse_unusual(tree, "", 1)
    try:
        text = orjson.dumps(tree, option=_CANONICAL_WITHIN_53_BITS)
    except orjson.JSONEncodeError:
        _refuse_unusual(tree, "", 1)  # at most 64 bits are allowed
        text = canonical(tree)
    if escaped or data.count(b'"') != text.count(b'"'):
        _refuse_duplicate_keys(data)
    return tree, text


def canonical(value: object) -> bytes:
    """Return *value* as canonical JSON: UTF-8, keys sorted by their bytes, no spaces, only the escapes JSON demands."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def fingerprint(value: object) -> bytes:
    """Return the first 16 bytes of SHA-256 over the canonical JSON of *value*."""
    return digest(canonical(value))


def digest(text: bytes) -> bytes:
    """Return the first 16 bytes of SHA-256 over *text*."""
    return hashlib.sha256(text).digest()[:16]


def malformed(error: ValidationError) -> Malformed:
    """Return the first problem that pydantic found, with its field, expectation and value."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    if place and place[-1] == "[key]":
        place[-2:] = ["(name)"]
    field = ".".join(place) or "value"
    if first["type"] == "missing":
        return Malformed(field, "a value", "nothing (the field is missing)")
    if field == "v" and first["type"] != "extra_forbidden":
        return Malformed(field, "1, the version of this format", shown(first["input"]))
    return Malformed(field, _expectation(first), shown(first["input"]))


_TYPES: Final = {
    "int_type": "an integer",
    "string_type": "a string",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "tuple_type": "an array",
    "extra_forbidden": "no such field",
}


def _expectation(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"]).removeprefix("expected ")
        case "string_pattern_mismatch":
            return PATTERNS_IN_WORDS.get(context["pattern"], f"text like {context['pattern']}")
        case "literal_error" if len(context["expected"]) > _SHOWN:
            return "an ISO 4217 currency code such as EUR"
        case "literal_error":
            allowed = str(context["expected"])
            return f"one of {allowed}" if " or " in allowed else allowed
        case "greater_than_equal":
            return f"an integer of at least {context['ge']}"
        case "less_than_equal":
            return f"an integer of at most {context['le']}"
        case "string_too_short":
            return f"at least {context['min_length']} character"
        case "string_too_long":
            return f"at most {context['max_length']} characters"
        case "too_short":
            return f"at least {context['min_length']} entry"
        case "too_long":
            return f"at most {context['max_length']} entries"
        case kind if kind in _TYPES:
            return _TYPES[kind]
        case _:
            message = error["msg"].removeprefix("Input should be ")
            return message[0].lower() + message[1:]


def _is_plain(tree: dict[str, Any] | list[Any], depth: int) -> bool:
    """Return whether *tree* holds only what this format allows, but for NUL and large integers: one quick pass."""
    if depth > MAX_DEPTH:
        return False
    items: Collection[Any] = tree.values() if type(tree) is dict else tree
    if _SCALARS.issuperset(map(type, items)):
        return True
    return _KINDS.issuperset(map(type, items)) and all(
        _is_plain(item, depth + 1) for item in items if type(item) not in _SCALARS
    )


def _refuse_unusual(tree: dict[str, Any] | list[Any], path: str, depth: int) -> None:
    """Raise for the first thing in *tree* that JSON allows and this format does not, with its path."""
    if depth > MAX_DEPTH:
        raise Malformed(path[1:], f"at most {MAX_DEPTH} levels", "a deeper value")
    items: Iterable[tuple[object, Any]] = tree.items() if type(tree) is dict else enumerate(tree)
    for key, item in items:
        field = f"{path}.{key}"
        if type(key) is str and "\0" in key:
            raise Malformed(path[1:] or "value", "names without NUL", shown(key))
        kind = type(item)
        if kind is str and "\0" in item:
            raise Malformed(field[1:], "text without NUL", shown(item))
        if item is None:
            raise Malformed(field[1:], "a value, or no such field", "null")
        if kind is float:
            raise Malformed(field[1:], "an integer without fraction or exponent, within int64", shown(item))
        if kind is int and not _INT64_MIN <= item <= _INT64_MAX:
            raise Malformed(field[1:], "an integer within int64", shown(item))
        if kind is dict or kind is list:
            _refuse_unusual(item, field, depth + 1)


def _refuse_duplicate_keys(data: bytes) -> None:
    """The slow path, for texts with escapes and for those that must have lost a key."""
    json.loads(data, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                _duplicate(key)
            seen.add(key)
    return tree


def _duplicate(key: str) -> NoReturn:
    raise Malformed(key, "each key once", "a duplicate key")
