"""Values of the facts in words: by the name of a format, and as the cells of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bertolt.base import format as words

FORMATS: dict[str, Callable[[Any], str]] = {
    "percent": words.percent,
    "number": words.number,
    "count": words.number,
    "whole percent": lambda value: words.percent(value, 0),
    "millions": lambda value: words.ABSENT if value is None else words.millions(value),
}
"""How the facts name a way to write a number."""


def shown(value: Any, format: str | None = None) -> str:
    """A text as it is, or a number in one of `FORMATS`."""
    return value if isinstance(value, str) else FORMATS[format or "number"](value)


def ends(measure: Mapping[str, Any], format: str) -> str:
    """The interval of a measure as "83.5–86.5", or nothing where it has none."""
    low, high = measure.get("low"), measure.get("high")
    if format == "percent":
        return words.interval(low, high)
    both = words.is_number(low) and words.is_number(high)
    return f"{words.number(low)}–{words.number(high)}" if both else ""


def within(value: float, low: float = 0.0, high: float = 1.0) -> str:
    """Where a value lies between two others, as the share that a style sheet places it at."""
    share = (value - low) / (high - low) if high > low else 0.0
    return f"{min(max(share, 0.0), 1.0):.4f}"


def listed(names: list[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(words.shorten(name, 60) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
