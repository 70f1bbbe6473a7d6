"""The settings that a search tries: read from a file or a few words, and checked."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from bertolt.base.errors import UsageError, nearest
from bertolt.base.format import shorten
from bertolt.base.options import decides, flag
from bertolt.base.settings import ENDINGS, Word, read_entries
from bertolt.commands.finetune.options import FinetuneOptions

_NOT_SEARCHED = frozenset({"seed", "split_seed", "metric", "patience"})
"""Options that decide a result, and would make scores that cannot be compared."""
_ALSO = frozenset({"max_length"})


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """What is tried of one option.

    Attributes:
        choices: values to choose from; None: a range.
        low, high: ends of the range, both in it.
        log: whether it is even in the logarithm.
        step: between two values, or None.
        whole: whether values are whole numbers.
    """

    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        if self.choices is not None:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{', by its logarithm' if self.log else ''}"


Space = dict[str, Dimension]


def read_space(words: str, options: FinetuneOptions) -> Space:
    """The dimensions of a search, by the names of their options.

    Args:
        words: a file of YAML, TOML or JSON, or dimensions as "lr=1e-5..1e-4:log batch_size=16,32".
        options: of the command, which the trials have otherwise.

    Raises:
        UsageError: no such file or words, an option that is not searched, or a value that it does
            not take.
    """
    is_file = words.lower().endswith(ENDINGS)
    place = words if is_file else "--search"
    values = _of_file(Path(words)) if is_file else _of_words(words)
    if not values:
        raise UsageError("it names nothing to try", place=place, fix="as lr=1e-5..1e-4:log")
    known = searchable()
    space = {}
    for key, value in values.items():
        name = key.removeprefix("--").replace("-", "_")
        if name not in known:
            near = nearest(name, known)
            every = f"what can be searched: {', '.join(known)}"
            raise UsageError(
                f"there is no setting {key!r} to search",
                place=place,
                fix=f"did you mean {near}? Else {every}" if near else every,
            )
        if name in space:
            raise UsageError(f"{name} stands twice", place=place, fix=f"give {name} once")
        space[name] = _dimension(name, value, place)
        _require_allowed(name, space[name], options, place)
    return space


def searchable() -> list[str]:
    """The names of the options that a search may try."""
    own = (option for option in fields(FinetuneOptions) if decides(option) is True)
    named = [option.name for option in own if option.name not in _NOT_SEARCHED]
    return list(dict.fromkeys([*named, *sorted(_ALSO)]))


def _of_words(words: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for word in words.split():
        name, joined, text = word.partition("=")
        if not (name and joined and text):
            raise UsageError(
                f"{word!r} is neither a file of {', '.join(ENDINGS)} nor a setting with values",
                place="--search",
                fix='write "lr=1e-5..1e-4:log batch_size=16,32", or name a file',
            )
        if name in values:
            raise UsageError(f"{name} stands twice", place="--search", fix=f"give {name} once")
        ends, _, scale = text.partition(":")
        low, dots, high = ends.partition("..")
        if dots:
            values[name] = {"low": low, "high": high} | ({"log": True} if scale == "log" else {})
            if scale not in ("", "log"):
                fix = f"write {name}={ends}:log, or leave :{scale} out"
                raise UsageError(f"{scale!r} is no scale", place="--search", fix=fix)
        else:
            values[name] = text.split(",")
    return values


def _of_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            "there is no such file of a search",
            place=str(path),
            fix='name one, or write "lr=1e-5..1e-4:log batch_size=16,32"',
        )
    values: dict[str, Any] = {}
    for entry in read_entries(path, "--search"):
        if entry.key in values:
            fix = f"give {entry.key} once"
            raise UsageError(f"{entry.key} stands twice", place=entry.place, fix=fix)
        value = entry.value
        if isinstance(value, dict):
            values[entry.key] = {name: _plain(each) for name, each in value.items()}
        else:
            values[entry.key] = list(map(_plain, value)) if isinstance(value, list) else value
    return values


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Word) else value


def _dimension(name: str, value: Any, place: str) -> Dimension:
    """A range of numbers, or a list of choices."""
    numbers, words = _kinds(name)
    if isinstance(value, Mapping):
        return _range(name, value, place, whole=float not in numbers, numeric=bool(numbers))
    values = value if isinstance(value, list) else [_plain(value)]
    choices = tuple(_choice(each, numbers, words) for each in values)
    if not choices:
        raise UsageError(f"{name} has no value to try", place=place, fix=f"give {name} some")
    twice = next((each for each, count in Counter(choices).items() if count > 1), None)
    if twice is not None:
        fix = f"give each value of {name} once"
        raise UsageError(f"{name} is to be {twice!r} twice", place=place, fix=fix)
    return Dimension(choices=choices)


def _range(
    name: str, value: Mapping[str, Any], place: str, *, whole: bool, numeric: bool
) -> Dimension:
    allowed = ("low", "high", "log", "step")
    unknown = [key for key in value if key not in allowed]
    ends = [_number(value.get(end)) for end in ("low", "high")]
    fix = f"write {name}: {{low: 1, high: 10}}, with log: true or a step if you like"
    if place == "--search":
        fix = f"write {name}=1..10, or {name}=1..10:log"
    if not numeric:
        raise UsageError(
            f"{name} is no number, and has no range",
            place=place,
            fix=f"list what is to be tried: {name}"
            + ("=first,second" if place == "--search" else ": [first, second]"),
        )
    if unknown:
        near = nearest(str(unknown[0]), list(allowed))
        raise UsageError(
            f"a range of {name} has no {unknown[0]!r}",
            place=place,
            fix=f"did you mean {near}? {fix}" if near else fix,
        )
    low, high = ends
    if low is None or high is None or low >= high:
        told = " to ".join(shorten(str(value.get(end)), 80) for end in ("low", "high"))
        if low is not None and high is not None and low > high:
            fix = _the_other_way_round(name, value, place)
        raise UsageError(f"{name} goes from {told}", place=place, fix=fix)
    step, log = _number(value.get("step")), value.get("log") in (True, "true")
    for key, is_read in (("step", step is not None), ("log", log)):
        if not is_read and value.get(key) not in (None, False, "false"):
            problem = f"{key} of {name} is {shorten(repr(value[key]), 80)}"
            wanted = "a number" if key == "step" else "true or false"
            raise UsageError(problem, place=place, fix=f"give {wanted}, or leave {key} out")
    if step is not None and step > high - low:
        raise UsageError(
            f"{name} goes from {low:g} to {high:g}, and a step of {step:g} is beyond that",
            place=place,
            fix="give a smaller step, or leave it out",
        )
    if (log and (low <= 0 or step is not None)) or (step is not None and step <= 0):
        raise UsageError(
            f"{name} goes from {low:g} to {high:g}{' by its logarithm' * log}",
            place=place,
            fix="begin above 0 and leave step out, or leave log out",
        )
    if whole and not all(each is None or each == int(each) for each in (low, high, step)):
        raise UsageError(f"{name} is a whole number", place=place, fix="give whole numbers")
    return Dimension(low=low, high=high, log=log, step=step, whole=whole)


def _the_other_way_round(name: str, value: Mapping[str, Any], place: str) -> str:
    """The range with its ends exchanged, as it is to be written."""
    low, high = (shorten(str(value.get(end)), 80) for end in ("high", "low"))
    if place == "--search":
        return f"write {name}={low}..{high}" + ":log" * (value.get("log") in (True, "true"))
    return f"exchange them: low: {low}, high: {high}"


def _require_allowed(name: str, space: Dimension, options: FinetuneOptions, place: str) -> None:
    """Refuse a value that the option does not take, before the first trial."""
    for value in space.choices or (space.low, space.high):
        try:
            changes: Any = {name: int(value) if space.whole else value}
            replace(options, **changes)
        except UsageError as error:
            problem = error.problem if flag(name) in error.problem else f"{name}: {error.problem}"
            raise UsageError(problem, place=place, fix=error.fix) from error


def _kinds(name: str) -> tuple[set[type], set[Any]]:
    """The kinds of numbers that an option takes, and the words, which may be True and False."""
    hint = get_type_hints(FinetuneOptions)[name]
    if hint is bool:
        return set(), {True, False}
    kinds = get_args(hint) if get_origin(hint) is not None else (hint,)
    if all(not isinstance(kind, type) and get_origin(kind) is None for kind in kinds):
        return set(), set(kinds)  # of a Literal
    words = {word for kind in kinds if get_origin(kind) is not None for word in get_args(kind)}
    return {kind for kind in kinds if kind in (int, float)}, words


def _choice(value: Any, numbers: set[type], words: set[Any]) -> Any:
    """A choice as its option takes it; what it does not take is refused later, by the option."""
    if isinstance(value, bool) or value in words:
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in ("none", "null"):
        return None
    if True in words and word in ("true", "false"):
        return word == "true"
    number = _number(value) if numbers else None
    if number is None:
        return value
    return int(number) if int in numbers and number == int(number) else number


def _number(value: Any) -> float | None:
    """A finite number, also one that is written in a text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def space_words(space: Space) -> str:
    """The same as JSON, by which two searches are told apart."""
    return json.dumps({name: each.to_dict() for name, each in space.items()}, sort_keys=True)
