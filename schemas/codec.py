"""Strict JSON: one decoder on all paths, canonical encoding, fingerprints.

orjson, msgspec and pydantic all accept more than this format allows: duplicate keys (the last wins), NUL, any depth,
integers that silently become floats. :func:`decode_object` refuses them.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.bounds import MAX_DEPTH, MAX_REQUEST_BYTES

type_names: Final = {dict: "object", list: "array", str: "string", int: "integer", bool: "boolean", float: "number"}
_SHOWN: Final = 80
_INT64 = range(-(2**63), 2**63)


class Malformed(ValueError):
    """Bytes or a value that this format refuses: names the field, what was expected, and what was found."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        self.field = field
        self.expected = expected
        self.found = found
        super().__init__(f"{field}: expected {expected}, found {found}")


class Record(BaseModel):
    """Base of every message: frozen, strict (no coercion), unknown fields refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def shown(value: object) -> str:
    """Return *value* as JSON for a message, cut to 80 characters."""
    try:
        text = orjson.dumps(value, default=repr).decode()
    except TypeError:
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def decode_object(data: bytes, *, max_bytes: int = MAX_REQUEST_BYTES) -> dict[str, Any]:
    """Return the JSON object in *data*, or raise :class:`Malformed`.

    Refused: more than *max_bytes*, invalid UTF-8 or JSON, duplicate keys, nesting deeper than 8, NUL, lone surrogates,
    null, numbers with a fraction or exponent, integers outside int64.
    """
    if len(data) > max_bytes:
        raise Malformed("value", f"at most {max_bytes} bytes", f"{len(data)} bytes")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed("value", "JSON", f"{error.msg} at byte {error.pos}") from None
    if type(value) is not dict:
        raise Malformed("value", "an object", _kind(value))
    colons = _walk(value, "", 1)
    if b"\\" in data or data.count(b":") != colons:
        _refuse_duplicate_keys(data)
    return value


def canonical(value: object) -> bytes:
    """Return *value* as canonical JSON: UTF-8, keys sorted by their bytes, no spaces, only the escapes JSON demands."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def fingerprint(value: object) -> bytes:
    """Return the first 16 bytes of SHA-256 over the canonical JSON of *value*."""
    return hashlib.sha256(canonical(value)).digest()[:16]


def malformed(error: ValidationError) -> Malformed:
    """Return the first problem that pydantic found, with its field, expectation and value."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "value"
    match first["type"]:
        case "missing":
            return Malformed(field, "a value", "nothing (the field is missing)")
        case "extra_forbidden":
            return Malformed(field, "no such field", shown(first["input"]))
        case "value_error":
            return Malformed(field, str(first["ctx"]["error"]).removeprefix("expected "), shown(first["input"]))
        case _:
            expected = first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
            return Malformed(field, expected[0].lower() + expected[1:], shown(first["input"]))


def _walk(value: dict[str, Any] | list[Any], path: str, depth: int) -> int:
    """Refuse what JSON allows and this format does not; return the number of colons that the value's text must have.

    Every key stands with one structural colon; every string keeps its own. A text without backslashes that has more
    colons than that has lost something to a duplicate key: the test is exact and costs one pass that is made anyway.
    """
    if depth > MAX_DEPTH:
        raise Malformed(path[1:], f"at most {MAX_DEPTH} levels", "a deeper value")
    colons = 0
    items: Sequence[tuple[Any, Any]]
    if type(value) is dict:
        items = list(value.items())
        colons = len(items)
    else:
        items = list(enumerate(value))
    for key, item in items:
        if type(key) is str:
            if "\0" in key:
                raise Malformed(f"{path}.{key}"[1:], "a name without NUL", shown(key))
            colons += key.count(":")
        kind = type(item)
        if kind is str:
            if "\0" in item:
                raise Malformed(f"{path}.{key}"[1:], "text without NUL", shown(item))
            colons += item.count(":")
        elif kind is int:
            if item not in _INT64:
                raise Malformed(f"{path}.{key}"[1:], "an integer within int64", shown(item))
        elif kind is dict or kind is list:
            colons += _walk(item, f"{path}.{key}", depth + 1)
        elif kind is not bool:
            expected = "an integer without fraction or exponent, within int64" if kind is float else "a value"
            raise Malformed(f"{path}.{key}"[1:], expected, shown(item))
    return colons


def _refuse_duplicate_keys(data: bytes) -> None:
    """The slow path, for texts with escapes or with more colons than their keys explain."""
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


def _kind(value: object) -> str:
    return "null" if value is None else type_names[type(value)]
