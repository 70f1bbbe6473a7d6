"""One reader of JSON for all files: whatever is wrong with the text is a `ValueError`."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertolt.base.errors import DataError

MOST_BYTES = 1 << 28
"""The largest file that is read whole: 256 MiB."""


class JsonError(ValueError):
    """A text that is not JSON, or not any that a file of ours could hold."""


class DuplicateKeyError(JsonError):
    """An object in which a key stands twice, so that one of its values would be lost.

    Attributes:
        key: the first 40 characters of it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the key {key!r} stands twice in one object")


def duplicate_key(key: str) -> DuplicateKeyError:
    """The error for a key that stands twice."""
    return DuplicateKeyError(key if len(key) <= 40 else f"{key[:39]}…")


def parse_json(text: str, constant: Callable[[str], Any] | None = None) -> Any:
    """The value of a text.

    Args:
        text: one JSON value.
        constant: what stands for NaN and Infinity, which are not JSON; by default, floats.

    Raises:
        JsonError: it is not JSON, nested too deeply, or has a number of too many digits.
        DuplicateKeyError: an object has a key that stands twice.
    """
    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=_object)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise JsonError(f"{error.msg} at {line}column {error.colno}") from error
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except ValueError:  # Python's own bound, by default 4,300 digits
        raise JsonError("it has a number of too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise duplicate_key(key_twice(pairs))
    return values


def key_twice(pairs: list[tuple[str, Any]]) -> str:
    """The first key that stands more than once."""
    return next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)


def read_json(
    path: Path, *, most: int = MOST_BYTES, constant: Callable[[str], Any] | None = None
) -> Any:
    """The value in a file of UTF-8 text.

    Args:
        path: of a regular file: a pipe could keep its reader waiting for ever.
        most: bytes that it may have.
        constant: as in `parse_json`.

    Raises:
        JsonError: it is not a regular file, too large, not UTF-8, or not JSON.
        OSError: it cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise JsonError("it is not a regular file")
    if about.st_size > most:
        raise JsonError(f"it has {about.st_size:,} bytes, and {most:,} are the most")
    try:
        return parse_json(path.read_text(encoding="utf-8"), constant)
    except UnicodeDecodeError as error:
        raise JsonError(
            f"it is not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}"
        ) from error


def read_object(path: Path, what: str, example: str, otherwise: str = "") -> dict[str, Any]:
    """A JSON file with an object that a user has written, with at least one key.

    Args:
        path: of the file.
        what: its values, for messages, as "weights".
        example: such an object.
        otherwise: what may be given instead of the file.

    Raises:
        DataError: there is no such file, it cannot be read, or holds something else.
    """

    def refused(problem: str) -> DataError:
        return DataError(problem, place=str(path), fix=f"give a file like {example}{otherwise}")

    if not path.exists():
        raise refused(f"there is no such file of {what}")
    try:
        values = read_json(path)
    except (JsonError, OSError) as error:
        raise refused(f"these {what} cannot be read: {error}") from error
    if not isinstance(values, dict) or not values:
        raise refused(f"this is no object of {what}")
    return values
