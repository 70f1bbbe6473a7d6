"""JSON Schema of what a task is asked and what it answers, in a few builders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
PLACE: Schema = {"type": "integer", "minimum": 0}


def record(fields: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object of these fields and no others."""
    required = [name for name in fields if name not in optional]
    return {
        "type": "object",
        "properties": dict(fields),
        "required": required,
        "additionalProperties": False,
    }


def several(items: Schema, **bounds: int) -> Schema:
    """A list."""
    return {"type": "array", "items": items, **bounds}


def one_of(names: Sequence[str]) -> Schema:
    """One of these texts."""
    return {"type": "string", "enum": list(names)}


def of_each(names: Sequence[str], value: Schema) -> Schema:
    """An object with a value for each name."""
    return record(dict.fromkeys(names, value))


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def span(*names: str, **more: Schema) -> Schema:
    """A part of a text, by characters, from `start` to `end`."""
    return record({"start": PLACE, "end": PLACE, **dict.fromkeys(names, TEXT), **more})
