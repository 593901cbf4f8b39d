"""Events are built and encoded without pydantic's help (schemas.events.trusted): they must equal what it makes."""

from schemas.codec import Record
from schemas.events import Answer, ConfigPickup, Skip, decode_events, encode_event, join_events


def assert_as_validated(event: Answer | Skip | ConfigPickup) -> None:
    """Hold *event* equal to its validated form: types, fields, their order, values, and the bytes of its encoding."""
    written = event.__pydantic_serializer__.to_json(event, exclude_none=True)
    (validated,) = decode_events(join_events([written]))
    assert validated == event
    _assert_same_fields(validated, event)
    assert encode_event(event) == encode_event(validated) == written


def _assert_same_fields(validated: Record, found: Record) -> None:
    assert type(found) is type(validated)
    assert list(found.__dict__) == list(type(found).model_fields)
    for name, value in validated.__dict__.items():
        if isinstance(value, Record):
            _assert_same_fields(value, found.__dict__[name])
        else:
            assert type(found.__dict__[name]) is type(value), name
