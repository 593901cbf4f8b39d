"""Generate the JSON Schemas in ``schemas/json`` from the models: ``python -m schemas.generate``.

A tool for developers; a test keeps the committed files equal to what it writes.
"""

from functools import lru_cache, reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import orjson
from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo
from msgspec.structs import fields as struct_fields
from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema

from schemas.codec import Record
from schemas.config import Bundle
from schemas.events import Answer, ConfigPickup, Genesis, Skip
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
    schemas["events"] = _without_null(events_in_pydantic().json_schema(mode="serialization"))
    schemas["outcome"] = _of(Outcome, "serialization")
    schemas["genesis"] = _of(Genesis, "serialization")
    return {f"{name}.json": _encode({"$schema": _DRAFT, **schema}) for name, schema in sorted(schemas.items())}


def events_in_pydantic() -> TypeAdapter[Any]:
    """Return a second reader and writer of the array of events, derived from their declarations.

    It gives the JSON Schema, in the words of the others, and the tests a validator to compare msgspec's with.
    """
    models = [in_pydantic(struct) for struct in (Answer, Skip, ConfigPickup)]
    return TypeAdapter(list[Annotated[reduce(or_, models), Field(discriminator="event")]])  # type: ignore[arg-type, misc]  # made at run time


@lru_cache
def in_pydantic(struct: type[Struct]) -> type[BaseModel]:
    """Return the pydantic model with the same fields, bounds and defaults as *struct*."""
    tag, hints = struct.__struct_config__.tag, get_type_hints(struct, include_extras=True)
    fields: dict[str, Any] = {} if tag is None else {"event": (Literal[tag], tag)}
    fields |= {one.name: (_type_in_pydantic(hints[one.name]), _default(one)) for one in struct_fields(struct)}
    return create_model(struct.__name__, __base__=Record, __doc__=struct.__doc__, **fields)


def _type_in_pydantic(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Struct):
        return in_pydantic(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[(_type_in_pydantic(inner[0]), *map(_bounds_in_pydantic, inner[1:]))]
    if origin in {Union, UnionType}:
        return reduce(or_, map(_type_in_pydantic, inner))
    if origin in {tuple, dict}:
        return origin[tuple(map(_type_in_pydantic, inner))]
    return kind


def _bounds_in_pydantic(meta: Meta) -> Any:
    # Python's $ also matches in front of a last line feed, so the events say \Z: what $ is in a JSON Schema.
    pattern = None if meta.pattern is None else meta.pattern.replace(r"\Z", "$")
    return Field(ge=meta.ge, le=meta.le, pattern=pattern)


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return ... if field.default is NODEFAULT else field.default


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
