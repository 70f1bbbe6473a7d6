"""Values of the facts in words: by the name of a format, and as the cells of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bertolt.base import format as formatting

FORMATS: dict[str, Callable[[Any], str]] = {
    "percent": formatting.percent,
    "number": formatting.number,
    "count": formatting.number,
    "whole percent": lambda value: formatting.percent(value, 0),
    "millions": lambda value: formatting.ABSENT if value is None else formatting.millions(value),
}
"""How the facts name a way to write a number."""


def shown(value: Any, format: str | None = None) -> str:
    """A text as it is, or a number in one of `FORMATS`."""
    return value if isinstance(value, str) else FORMATS[format or "number"](value)


def ends(measure: Mapping[str, Any], format: str) -> str:
    """The interval of a measure as "83.5–86.5", or nothing where it has none."""
    low, high = measure.get("low"), measure.get("high")
    if format == "percent":
        return formatting.interval(low, high)
    both = formatting.is_number(low) and formatting.is_number(high)
    return f"{formatting.number(low)}–{formatting.number(high)}" if both else ""


def within(value: float, low: float = 0.0, high: float = 1.0) -> str:
    """How far a value lies from the first of two others to the second, as a share for the style."""
    share = (value - low) / (high - low) if high > low else 0.0
    return f"{min(max(share, 0.0), 1.0):.4f}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(formatting.clean(formatting.shorten(name, 60)) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
