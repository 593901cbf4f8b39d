"""Which changes of a JSON Schema break those who wrote, or read, messages by the schema before."""

from collections.abc import Iterator
from typing import Any

_LOWEST = ("minimum", "minLength", "minItems", "minProperties")
_HIGHEST = ("maximum", "maxLength", "maxItems", "maxProperties")


def breaks_senders(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What somebody may send by *old* and *new* refuses."""
    return list(_narrower(old, new, old, new, "value"))


def breaks_readers(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What somebody relies on by *old* and *new* no longer promises: fields that were always there, and their types."""
    return list(_less_promised(old, new, old, new, "value"))


def _resolve(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return node


def _narrower(old: Any, new: Any, old_root: Any, new_root: Any, path: str) -> Iterator[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    yield from _leaf_changes(old, new, path)
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{path}.{name}: newly required"
    if "anyOf" in old:
        yield from _options(old, new, path)
    for name, field in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name}: removed"
        else:
            yield from _narrower(field, new["properties"][name], old_root, new_root, f"{path}.{name}")
    for part in ("items", "additionalProperties", "propertyNames"):
        if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
            yield from _narrower(old[part], new[part], old_root, new_root, f"{path}.{part}")


def _options(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
    for option in old["anyOf"]:
        if option not in new.get("anyOf", ()):
            yield f"{path}: no longer {option}"


def _leaf_changes(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
    for name in ("type", "pattern", "const", "format"):
        if name in new and old.get(name) != new[name]:
            yield f"{path}: {name} {old.get(name)} became {new[name]}"
    for name in _LOWEST:
        if name in new and new[name] > old.get(name, float("-inf")):
            yield f"{path}: {name} {old.get(name)} became {new[name]}"
    for name in _HIGHEST:
        if name in new and new[name] < old.get(name, float("inf")):
            yield f"{path}: {name} {old.get(name)} became {new[name]}"
    for value in old.get("enum", ()):
        if "enum" in new and value not in new["enum"]:
            yield f"{path}: {value!r} no longer allowed"
    if "enum" in new and "enum" not in old:
        yield f"{path}: newly restricted to {new['enum']}"


def _less_promised(old: Any, new: Any, old_root: Any, new_root: Any, path: str) -> Iterator[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    if old.get("type") != new.get("type") or old.get("anyOf") != new.get("anyOf"):
        yield f"{path}: type {old.get('type', old.get('anyOf'))} became {new.get('type', new.get('anyOf'))}"
    for name in old.get("required", ()):
        if name not in new.get("required", ()):
            yield f"{path}.{name}: no longer always present"
    for name, field in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from _less_promised(field, new["properties"][name], old_root, new_root, f"{path}.{name}")
