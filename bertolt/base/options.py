"""Which options decide the result of a run: said at each field of a dataclass, and read here.

An option decides unless its field says otherwise, so that a new one is never forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

FREE: Mapping[str, Any] = {"decides": False}
"""Metadata of a field that may change when a run is resumed."""


def seen_in(setting: str) -> Mapping[str, Any]:
    """Metadata of a field that decides by its effect: what is compared has another name."""
    return {"decides": setting}


def decides(option: Field[Any]) -> bool | str:
    """Whether a field decides a result; a string names the setting that shows its effect."""
    known: bool | str = option.metadata.get("decides", True)
    return known


def flag(name: str) -> str:
    """The name of a field as an option of the command line."""
    return "--" + name.replace("_", "-")


def deciding(options: Any, shown: Callable[[str], str] = flag) -> dict[str, Any]:
    """The values of the fields that decide by themselves, by the names that the user knows."""
    return {
        shown(option.name): getattr(options, option.name)
        for option in fields(options)
        if decides(option) is True
    }
