"""Committed examples of every message of format 1: they are never edited, and decode for ever."""

from pathlib import Path

import msgspec
import orjson
import pytest

from schemas.bounds import MAX_REQUEST_BYTES
from schemas.config import decode_bundle
from schemas.events import decode_events, decode_genesis, encode_events, encode_genesis
from schemas.outcomes import decode_outcome, encode_outcome
from schemas.requests import REQUEST_TYPES, Decoded, decode_request

EXAMPLES = Path(__file__).with_name("examples")


def files(pattern: str) -> list[Path]:
    return sorted(EXAMPLES.glob(pattern))


@pytest.mark.parametrize("path", files("request.*.json"), ids=lambda path: path.name)
def test_every_request_decodes_with_all_that_it_says(path: Path) -> None:
    value = path.read_bytes()
    decoded = decode_request(value, MAX_REQUEST_BYTES)
    assert isinstance(decoded, Decoded), decoded
    tree = orjson.loads(value)
    assert decoded.request.type == path.name.split(".")[1].split("-")[0] == tree["type"]
    assert decoded.request.model_fields_set == tree.keys()
    ids = (decoded.request_id, decoded.account_id, decoded.type)
    assert ids == (tree["request_id"], tree["account_id"], tree["type"])


def test_there_is_an_example_of_every_request_type() -> None:
    assert {path.name.split(".")[1].split("-")[0] for path in files("request.*.json")} == REQUEST_TYPES.keys()


@pytest.mark.parametrize("path", files("outcome.*.json"), ids=lambda path: path.name)
def test_every_outcome_decodes_and_is_encoded_to_the_same_bytes(path: Path) -> None:
    assert encode_outcome(decode_outcome(path.read_bytes())) == path.read_bytes()


def test_every_event_decodes_and_is_encoded_to_the_same_bytes() -> None:
    text = (EXAMPLES / "events.json").read_bytes()
    events = decode_events(text)
    assert encode_events(events) == text
    assert {event.__struct_config__.tag for event in events} == {"answer", "skip", "config"}


def test_the_genesis_decodes_and_is_encoded_to_the_same_bytes() -> None:
    text = (EXAMPLES / "genesis.json").read_bytes()
    assert encode_genesis(decode_genesis(text)) == text


def test_the_bundle_decodes() -> None:
    bundle = decode_bundle((EXAMPLES / "config.bundle.json").read_bytes())
    assert bundle.version == "7"
    assert set(bundle.tiers) == {"standard", "vip"}


@pytest.mark.parametrize(
    "change", [{"event": "other"}, {"unknown": 1}, {"at": "5"}, {"at": 5.0}, {"at": -1}, {"at": True}]
)
def test_an_event_of_another_shape_is_refused(change: dict[str, object]) -> None:
    events = orjson.loads((EXAMPLES / "events.json").read_bytes())
    for number in range(len(events)):
        changed = [*events[:number], events[number] | change, *events[number + 1 :]]
        with pytest.raises(msgspec.ValidationError, match=rf" - at `\$\[{number}\]"):
            decode_events(orjson.dumps(changed))
