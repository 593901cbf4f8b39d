"""From what a caller has to the bytes that are sent: filled in, checked, encoded once."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed
from schemas.requests import Request, RequestBase, Unreadable, decode_request
from schemas.times import format_time


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A request that the engine can read. ``value`` is what is sent, every time the same bytes."""

    account_id: str
    request_id: str
    request: Mapping[str, Any]
    value: bytes


def prepare(request: Mapping[str, Any] | Request, now_ms: int) -> Prepared:
    """Fill in ``v``, ``request_id``, ``requested_at`` where they are absent, check it as the engine will, encode it.

    Raises :class:`schemas.codec.Malformed` naming the field, what was expected and what was found.
    """
    given = _tree(request) if isinstance(request, RequestBase) else request
    filled = {"v": 1, "request_id": str(uuid.uuid4()), "requested_at": format_time(now_ms), **given}
    try:
        value = orjson.dumps(filled)
    except TypeError as error:  # orjson's class for what is not JSON derives from it
        raise Malformed("value", "only JSON values and integers within int64", str(error)) from None
    decoded = decode_request(value, MAX_REQUEST_BYTES)
    if isinstance(decoded, Unreadable):
        raise decoded.problem
    its = decoded.request
    return Prepared(account_id=its.account_id, request_id=its.request_id, request=filled, value=value)


def _tree(request: RequestBase) -> dict[str, Any]:
    """A model as the wire has it: no nulls, times as text."""
    tree = request.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return {**tree, "requested_at": format_time(request.requested_at)}
