"""What is said of an option at its field: whether it decides a run's result, and its range.

Options are the fields of a dataclass. One decides unless its field says otherwise, so that a new
one is never forgotten; `check_options` refuses what the annotation and the range do not allow.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from bertolt.base.checks import is_real, is_whole
from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.format import shorten

_SHOWN = 200  # characters of a value in a message
_OURS = frozenset({"decides", "range", "checked", "instead", "alike"})


class Metadata(dict[str, Any]):
    """What is said of a field: found by its key, and not listed where only Bertolt reads it.

    The peer's argument parser hands on to argparse all that the metadata of a field list.
    """

    def keys(self) -> Any:
        """What argparse knows too."""
        return {key: None for key in self if key not in _OURS}.keys()

    def __or__(self, other: Any) -> Self:  # type: ignore[override]
        return type(self)({**dict(self.items()), **dict(other.items())})

    __ior__ = __or__  # shared by many fields, and never changed


FREE = Metadata(decides=False)
"""Metadata of a field that may change when a run is resumed."""
SWITCH = Metadata(nargs="?", const=True)
"""Metadata of a field that is None, True or False: an argument parser takes it without a value."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, and how to ask a user for one.

    Attributes:
        low, high: the ends; an end that is open is not in the range itself.
        words: as in "1 or more".
    """

    words: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.low_open else self.low <= value
        return above and (value < self.high if self.high_open else value <= self.high)


def at_least(low: int) -> Metadata:
    """Metadata of a field for numbers that are `low` or more."""
    return Metadata(range=Range(f"{low} or more", low))


def between(low: int, high: int) -> Metadata:
    """Metadata of a field for numbers from `low` to `high`."""
    return Metadata(range=Range(f"a number from {low} to {high:,}", low, high))


def above(low: int, most: float = math.inf) -> Metadata:
    """Metadata of a field for numbers above `low`, and `most` at the most."""
    words = f"a number above {low}" + (f", {most:,} at the most" if math.isfinite(most) else "")
    return Metadata(range=Range(words, low, most, low_open=True))


EPOCHS = above(0, 1_000_000)
"""Metadata of a field for passes over rows: of more nobody could count the steps."""


def share(example: float, *, zero: bool = False, one: bool = False) -> Metadata:
    """Metadata of a field for shares of a whole; `zero` and `one`: that end is allowed too."""
    start, end = "from 0" if zero else "above 0", "to 1" if one else "to below 1"
    words = f"a share {start} {end}, as {example:g}"
    return Metadata(range=Range(words, 0, 1, low_open=not zero, high_open=not one))


SEED = Metadata(range=Range("0 or more, below 2**63", 0, 2**63, high_open=True))
"""Metadata of a field for what PyTorch's generators can be seeded with."""


def seen_in(setting: str) -> Metadata:
    """Metadata of a field that decides by its effect: what is compared has another name."""
    return Metadata(decides=setting)


def decides(option: Field[Any]) -> bool | str:
    """Whether a field decides a result; a string names the setting that shows its effect."""
    decision: bool | str = option.metadata.get("decides", True)
    return decision


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


def check_options(
    options: Any,
    shown: Callable[[str], str] = flag,
    place: str = "",
    error: type[BertoltError] = UsageError,
    only: str | None = None,
) -> None:
    """Hold every field of a dataclass against its annotation and its range.

    Args:
        options: an instance, complete.
        shown: a field's name as the user knows it.
        place: where errors say it is.
        error: the kind to raise.
        only: the field to look at; None: all.

    Raises:
        BertoltError: a value of another type, or out of its range.
    """
    annotations = _annotations(options.__class__)
    for option in fields(options):
        if only not in (None, option.name) or not option.metadata.get("checked", True):
            continue
        value, annotation = getattr(options, option.name), annotations[option.name]
        limits = option.metadata.get("range")
        if not any(_fits(value, kind, limits) for kind in _kinds(annotation)):
            listed = option.metadata.get("listed")  # of a text that is one of numbers
            words = [
                listed if kind is str and listed else _wording(kind, limits)
                for kind in _kinds(annotation)
            ]
            allowed = ", or ".join(dict.fromkeys(filter(None, words)))
            if _is_beyond(value) and "2**63" not in allowed:
                allowed += ", below 2**63"
            problem = f"{shown(option.name)} is {shorten(repr(value), _SHOWN)}"
            raise error(problem, place=place, fix=f"give {allowed}")


@cache
def _annotations(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, those of unions inside it too; else the annotation itself."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return (annotation,)
    return tuple(kind for member in get_args(annotation) for kind in _kinds(member))


def _fits(value: object, kind: Any, limits: Range | None) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is int:
        if not is_whole(value) or _is_beyond(value):
            return False
        return limits is None or value in limits
    if kind is float:
        return is_real(value) and (limits is None or value in limits)
    return kind is Any or isinstance(value, get_origin(kind) or kind)


def _is_beyond(value: object) -> bool:
    """Whether it is a whole number that no array or tensor can hold."""
    return is_whole(value) and abs(value) >= 2**63


def _wording(kind: Any, limits: Range | None) -> str:
    """How to ask for a value of this kind; empty for None, which is what is left out."""
    if kind is types.NoneType:
        return ""
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if limits is not None and kind in (int, float):
        return limits.words
    return _WORDINGS.get(kind, f"a {getattr(kind, '__name__', kind)}")


_WORDINGS = {
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    str: "a text",
    Path: "a pathlib.Path",
}
