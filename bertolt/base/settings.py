"""Files of settings: those that a user writes are read, and a run leaves its own.

YAML, TOML and JSON give the same: keys whose values are a word or a number, a list of such, or a
mapping of such. Nothing is nested deeper, so a file of a few bytes cannot become a large value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bertolt.base.errors import UsageError
from bertolt.base.json_files import DuplicateKeyError, JsonError, key_twice, parse_json

if TYPE_CHECKING:
    from yaml import Node

SETTINGS = "settings.yaml"
ENDINGS = (".yaml", ".yml", ".toml", ".json")
"""Of files of settings."""

_MOST_BYTES = 1 << 20

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


class Word(NamedTuple):
    """A value of YAML as it is written: `5e-5` is a number, and `no` and `2024-01-01` are texts.

    Attributes:
        text: without its quotes.
        plain: whether it has none.
    """

    text: str
    plain: bool

    @property
    def value(self) -> str | bool | None:
        """True, False or None where that is written; else the text."""
        if self.plain and self.text in ("", "~", "null", "Null", "NULL"):
            return None
        words = {"true": True, "false": False} if self.plain else {}
        return words.get(self.text.lower(), self.text)


@dataclass(frozen=True)
class Entry:
    """A key of a file of settings.

    Attributes:
        key: as it is written.
        value: a text, a number, True, False, None or a `Word`; or a list of such, or a dict.
        place: for messages.
    """

    key: str
    value: Any
    place: str


def read_entries(path: Path, option: str) -> Iterator[Entry]:
    """The keys of a file of settings with their values, in their order.

    They come one by one, so that one which is not known ends the reading.

    Args:
        path: of YAML, TOML or JSON, by its ending.
        option: that names the file.

    Raises:
        UsageError: there is no such file, it is too large, is not of its kind or not UTF-8, or has
            a value that is nested deeper, or a key twice in one mapping.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            "a file of settings ends in .yaml, .yml, .toml or .json",
            place=str(path),
            fix="call it so, by what is in it",
        )
    fix = f"name the file of settings behind {option}"
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file of settings"
        raise UsageError(there, place=str(path), fix=fix)
    size = path.stat().st_size
    if size > _MOST_BYTES:
        problem = f"it has {size:,} bytes, and settings have {_MOST_BYTES:,} at most"
        raise UsageError(problem, place=str(path), fix=fix)
    try:
        yield from reader(path.read_text(encoding="utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"it is not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}",
            place=str(path),
            fix="save it as UTF-8",
        ) from error
    except RecursionError:
        raise UsageError(
            "it is nested too deeply", place=str(path), fix="write keys without sections"
        ) from None


def _yaml(text: str, path: str) -> Iterator[Entry]:
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = path if mark is None else f"{path}, line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(
            f"this is no YAML: {problem}", place=place, fix="write a line for each: key: value"
        ) from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise _not_keys(path)
    for node, behind in root.value:
        place = f"{path}, line {node.start_mark.line + 1}"
        key = _word(node, "a key", place).text
        value: Any = [_word(each, key, place) for each in _items(behind)]
        if isinstance(behind, yaml.MappingNode):
            pairs = [(_word(one, key, place).text, two) for one, two in behind.value]
            value = {name: _word(two, key, place) for name, two in pairs}
            if len(value) < len(pairs):
                raise _twice(key_twice(pairs), place)
        yield Entry(key, value if behind.id != "scalar" else value[0], place)


def _items(node: Node) -> list[Node]:
    """The values of a list, or the one that is no list; of a mapping nothing."""
    items: dict[str, list[Node]] = {"sequence": node.value, "mapping": []}
    return items.get(node.id, [node])


def _word(node: Node, key: str, place: str) -> Word:
    own = node.tag.startswith("tag:yaml.org,2002:") and "/" not in node.tag
    if node.id != "scalar" or not own:
        raise nested(key, place)
    return Word(str(node.value), node.style is None)


def _toml(text: str, path: str) -> Iterator[Entry]:
    import tomllib

    try:
        values = tomllib.loads(text)
    except ValueError as error:  # its own, or that of a number with too many digits
        raise UsageError(
            f"this is no TOML: {error}", place=path, fix='write a line for each: key = "value"'
        ) from error
    yield from _typed(values, path)


def _json(text: str, path: str) -> Iterator[Entry]:
    try:
        values = parse_json(text)
    except DuplicateKeyError as error:
        raise _twice(error.key, path) from error
    except JsonError as error:
        raise UsageError(
            f"this is no JSON: {error}", place=path, fix='write an object: {"key": "value"}'
        ) from error
    if not isinstance(values, dict):
        raise _not_keys(path)
    yield from _typed(values, path)


def _typed(values: Mapping[str, Any], path: str) -> Iterator[Entry]:
    """The entries of values that have a type."""
    for key, value in values.items():
        several = list(value.values()) if isinstance(value, dict) else value
        items = several if isinstance(several, list) else [several]
        if not all(isinstance(item, str | bool | int | float | None) for item in items):
            raise nested(key, path)
        yield Entry(key, value, path)


def nested(key: str, place: str) -> UsageError:
    """The error for a value that holds more than a setting can have."""
    return UsageError(
        f"{key} is neither a text, a number, true, false, nor a list of such",
        place=place,
        fix="write keys without sections, and a date or a tag in quotes, as a text",
    )


def _twice(key: str, place: str) -> UsageError:
    return UsageError(f"{key} stands twice", place=place, fix=f"give {key} once")


def _not_keys(path: str) -> UsageError:
    return UsageError("there are no keys with values in it", place=path, fix="write key: value")


_READERS = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml, ".json": _json}
