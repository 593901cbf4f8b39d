"""The committed JSON Schemas are those of the models, and break nobody who relies on format 1."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.generate import FOLDER, documents
from tests.schemas.compatibility import breaks_readers, breaks_senders

BASELINE = Path(__file__).with_name("baseline")
SENT = sorted(path.name for path in BASELINE.glob("*.json") if path.name.startswith(("request.", "config.")))
FIXED = ["events.json", "genesis.json"]


def load(path: Path) -> dict[str, Any]:
    tree = orjson.loads(path.read_bytes())
    assert isinstance(tree, dict)
    return tree


def without_words(node: Any) -> Any:
    """Return a schema without its descriptions, which may be improved at any time."""
    if isinstance(node, dict):
        return {name: without_words(value) for name, value in node.items() if name not in {"description", "title"}}
    return [without_words(one) for one in node] if isinstance(node, list) else node


def test_the_committed_files_are_what_the_models_generate() -> None:
    committed = {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    assert committed == documents(), "run python -m schemas.generate and look at the difference"


@pytest.mark.parametrize("name", SENT)
def test_whatever_could_be_sent_by_format_1_still_can(name: str) -> None:
    assert breaks_senders(load(BASELINE / name), load(FOLDER / name)) == []


def test_whatever_an_outcome_promised_it_still_does() -> None:
    assert breaks_readers(load(BASELINE / "outcome.json"), load(FOLDER / "outcome.json")) == []


@pytest.mark.parametrize("name", FIXED)
def test_events_and_genesis_of_format_1_never_change(name: str) -> None:
    assert without_words(load(FOLDER / name)) == without_words(load(BASELINE / name)), "this is a new format"


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found = schema["properties"][name]
    assert isinstance(found, dict)
    return found


SENDER_BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "value.memo: newly required": lambda s: s["required"].append("memo"),
    "value.merchant: removed": lambda s: s["properties"].pop("merchant"),
    "value.currency: 'EUR' no longer allowed": lambda s: field(s, "currency")["enum"].remove("EUR"),
    "value.amount_minor: maximum": lambda s: field(s, "amount_minor").update(maximum=5),
    "value.amount_minor: minimum": lambda s: field(s, "amount_minor").update(minimum=5),
    "value.amount_minor: type": lambda s: field(s, "amount_minor").update(type="string"),
    "value.device: pattern": lambda s: field(s, "device").update(pattern="^x$"),
    "value.fees: maxItems": lambda s: field(s, "fees").update(maxItems=7),
    "value.fees.items.code: pattern": lambda s: field(s["$defs"]["Fee"], "code").update(pattern="^x$"),
    "value.metadata: maxProperties": lambda s: field(s, "metadata").update(maxProperties=1),
    "value.metadata.additionalProperties: maxLength": lambda s: field(s, "metadata")["additionalProperties"].update(
        maxLength=1
    ),
}


@pytest.mark.parametrize("expected", SENDER_BREAKS)
def test_a_change_that_refuses_what_was_allowed_is_detected(expected: str) -> None:
    old = load(BASELINE / "request.transfer.json")
    new = copy.deepcopy(old)
    SENDER_BREAKS[expected](new)
    (found,) = breaks_senders(old, new)
    assert found.startswith(expected)


def test_a_wider_request_is_no_break() -> None:
    old = load(BASELINE / "request.transfer.json")
    new = copy.deepcopy(old)
    new["properties"]["memo"] = {"type": "string"}
    field(new, "amount_minor")["maximum"] *= 10
    field(new, "currency")["enum"].append("XXX")
    assert breaks_senders(old, new) == []


def test_an_outcome_that_promises_less_is_detected() -> None:
    old = load(BASELINE / "outcome.json")
    optional, gone, retyped = copy.deepcopy(old), copy.deepcopy(old), copy.deepcopy(old)
    optional["required"].remove("seq")
    gone["properties"].pop("seq")
    gone["required"].remove("seq")
    field(retyped, "seq")["type"] = "string"
    assert breaks_readers(old, optional) == breaks_readers(old, gone) == ["value.seq: no longer always present"]
    assert breaks_readers(old, retyped) == ["value.seq: type integer became string"]
