"""Events are read by msgspec as strictly as pydantic, which is fast in neither direction, would read them."""

import copy
import json
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.events import Event, decode_events, encode_events
from schemas.generate import events_in_pydantic

EXAMPLES: list[dict[str, Any]] = orjson.loads((Path(__file__).with_name("examples") / "events.json").read_bytes())
PYDANTIC = events_in_pydantic()

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["0" * 32, "f" * 64, "F" * 64, "0" * 64 + "\n", "credit", "open", "skip", "accepted", "1"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container in *node* with each of its keys."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An example with one or two values replaced, removed or added, at any depth."""
    event = copy.deepcopy(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 2))):
        node, key = draw(st.sampled_from(places(event)))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                node[key] = draw(values)
            case "remove":
                del node[key]
            case _ if isinstance(node, dict):
                node[draw(st.text(max_size=3))] = draw(values)
            case _:
                node.append(draw(values))
        if not event:
            break
    return json.dumps([event]).encode()


def read(text: bytes) -> list[Event] | None:
    try:
        return decode_events(text)
    except ValueError:
        return None


@given(damaged())
def test_what_is_no_event_is_refused_and_what_is_one_is_read_as_by_pydantic(text: bytes) -> None:
    events = read(text)
    try:
        validated = PYDANTIC.validate_json(text)
    except ValidationError:
        assert events is None
    else:
        assert events is not None
        assert encode_events(events) == PYDANTIC.dump_json(validated, exclude_none=True)
