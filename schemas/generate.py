"""Generate the JSON Schemas in ``schemas/json`` from the models: ``python -m schemas.generate``.

A tool for developers; a test keeps the committed files equal to what it writes.
"""

from pathlib import Path
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas.config import Bundle
from schemas.events import Event, Genesis
from schemas.outcomes import Outcome
from schemas.requests import REQUEST_TYPES

FOLDER: Final = Path(__file__).with_name("json")
_DRAFT: Final = GenerateJsonSchema.schema_dialect


def documents() -> dict[str, bytes]:
    """Return each JSON Schema by its file name.

    Requests and bundles are described as a sender may write them, events, outcomes and the genesis as the engine does:
    a field that may be absent never holds null, a field that may hold null is always present.
    """
    schemas = {f"request.{name}": _without_null(_of(model, "validation")) for name, model in REQUEST_TYPES.items()}
    schemas["config.bundle"] = _without_null(_of(Bundle, "validation"))
    schemas["events"] = _without_null(TypeAdapter(list[Event]).json_schema(mode="serialization"))
    schemas["outcome"] = _of(Outcome, "serialization")
    schemas["genesis"] = _of(Genesis, "serialization")
    return {f"{name}.json": _encode({"$schema": _DRAFT, **schema}) for name, schema in sorted(schemas.items())}


def _of(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    return model.model_json_schema(mode=mode)


def _without_null(node: Any) -> Any:
    """Return *node* whose objects have no nullable fields: such a field is optional, and not null where present."""
    if isinstance(node, list):
        return [_without_null(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: _without_null(value) for name, value in node.items()}
    fields = found.get("properties", {})
    nullable = {name for name, field in fields.items() if {"type": "null"} in field.get("anyOf", ())}
    for name in nullable:
        field = fields[name]
        options = [option for option in field.pop("anyOf") if option != {"type": "null"}]
        field.pop("default", None)
        field.update(options[0] if len(options) == 1 else {"anyOf": options})
    if "required" in found:
        found["required"] = [name for name in found["required"] if name not in nullable]
    return found


def _encode(schema: dict[str, Any]) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    """Write every document and remove files that are no longer one."""
    FOLDER.mkdir(exist_ok=True)
    found = documents()
    for stale in FOLDER.glob("*.json"):
        if stale.name not in found:
            stale.unlink()
    for name, text in found.items():
        (FOLDER / name).write_bytes(text)


if __name__ == "__main__":
    main()
