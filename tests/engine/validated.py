"""Building an event checks nothing: what was built must equal what is read, by msgspec and by pydantic."""

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict
from pydantic import BaseModel

from schemas.events import Event, decode_events, encode_event, encode_events
from schemas.generate import events_in_pydantic

_PYDANTIC = events_in_pydantic()


def assert_as_validated(event: Event) -> None:
    """Hold *event* equal to its validated form: types, fields, values, and the bytes of its encoding."""
    written = encode_events([event])
    (decoded,) = decode_events(written)
    assert decoded == event
    assert encode_event(decoded) == encode_event(event)
    (validated,) = _PYDANTIC.validate_json(written)
    assert validated.event == event.__struct_config__.tag
    _assert_same(validated, event)
    assert _PYDANTIC.dump_json([validated], exclude_none=True) == written


def _assert_same(validated: BaseModel, found: Struct) -> None:
    fields: dict[str, Any] = asdict(found)
    assert fields.keys() == validated.__dict__.keys() - {"event"}
    for name, value in fields.items():
        expected = validated.__dict__[name]
        if isinstance(value, Struct):
            _assert_same(expected, value)
        else:
            assert type(value) is type(expected), name
            assert value == expected, name
