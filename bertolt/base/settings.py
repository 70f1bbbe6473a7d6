"""The settings of a run as a file that `--config` takes again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

SETTINGS = "settings.yaml"

_NOT_KEPT = frozenset({"resume", "overwrite"})
"""Options that say what to do with a folder, and nothing of the run."""
_BREAKS = ("\x85", "\u2028", "\u2029")  # line breaks of YAML that JSON writes as they are


def settings_of_run(options: Any, resolved: Mapping[str, Any], **positional: Any) -> dict[str, Any]:
    """Every option that has a value, by the name of its field.

    Args:
        options: of a command, a dataclass.
        resolved: what the run has made of them, where that is what an option can be given.
        positional: of the command line, by the names that a file of settings has for them.
    """
    values: dict[str, Any] = dict(positional)
    for option in fields(options):
        value = resolved.get(option.name, getattr(options, option.name))
        if isinstance(value, Mapping):  # such as a whole config, which was given by its name
            value = getattr(options, option.name)
        if value not in (None, False) and option.name not in _NOT_KEPT:
            values[option.name] = value
    return values


def settings_text(command: str, values: Mapping[str, Any]) -> str:
    """YAML with a line for each setting.

    Args:
        command: its name.
        values: numbers, texts, paths, truth values, and lists of them, by name.
    """
    head = (
        f"# bertolt {command} --config {SETTINGS}\n"
        "# The settings of this run. Flags beside --config win; paths are seen from where the "
        "command runs.\n"
    )
    return head + "".join(
        f"{name.replace('_', '-')}: {_text(value)}\n" for name, value in values.items()
    )


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    text = str(value)
    return json.dumps(text, ensure_ascii=any(mark in text for mark in _BREAKS))
