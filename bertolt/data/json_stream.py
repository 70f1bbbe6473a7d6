"""A JSON file value by value, from text that comes in pieces: an array is never held whole.

In memory is the text of one value of an array, and that value; both are bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bertolt.base.json_files import JsonError, duplicate_key, key_twice
from bertolt.data.lines import LINE_LIMIT

CONTAINERS = 1 << 20
"""Objects and lists in one record."""
_SMALL = CONTAINERS  # no shorter text has as many of them
_GROWTH = 1 << 24  # characters that are read at most before a value is tried again
_SPACE = " \t\n\r"
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")  # before an object


def require_few(text: str) -> None:
    """Refuse a record of so many objects and lists that they would fill the memory.

    Raises:
        JsonError: it has more than `CONTAINERS`, or so many brackets in its texts.
    """
    if len(text) > _SMALL and text.count("{") + text.count("[") > CONTAINERS:
        raise JsonError(f"a record has more than {CONTAINERS:,} objects and lists in it")


class JsonStream:
    """Goes through one JSON value.

    Args:
        pieces: of the text.

    Attributes:
        twice: of the value that was read last, a key that stands twice in an object; or None.
    """

    def __init__(self, pieces: Iterator[str]) -> None:
        self.twice: str | None = None
        self._pieces = pieces
        self._text, self._at = "", 0
        self._ended = False
        self._line, self._column = 1, 1  # of the first character of `_text`
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._read_on(1):
                return ""

    def take(self, character: str) -> bool:
        """Whether the next character is this one, which is gone then."""
        if self.peek() != character:
            return False
        self._at += 1
        return True

    def expect(self, character: str) -> None:
        """Pass over a character.

        Raises:
            JsonError: another one is there.
        """
        if not self.take(character):
            raise self._error(f"Expecting {character!r} delimiter", self._at)

    def require_end(self) -> None:
        """Refuse what stands behind the value.

        Raises:
            JsonError: something does.
        """
        if self.peek():
            raise self._error("Extra data", self._at)

    def value(self) -> Any:
        """The next value, whole.

        Raises:
            JsonError: it is not JSON, longer than `LINE_LIMIT` characters, nested too deeply, has a
                number of too many digits or too many objects and lists.
        """
        self.peek()
        while True:
            self.twice = None
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                length = end - self._at
                # What ends with the piece may go on in the next, as a number does.
                if end < len(self._text) or not self._read_on(1):
                    self._at += length
                    return value
            except json.JSONDecodeError as error:
                held = len(self._text) - self._at
                if held > LINE_LIMIT:
                    raise JsonError(f"a record has more than {LINE_LIMIT:,} characters") from error
                require_few(self._text[self._at :] if held > _SMALL else "")
                place = error.pos - self._at
                if not self._read_on(min(held + 1, _GROWTH)):
                    raise self._error(error.msg, self._at + place) from error
            except RecursionError:
                raise JsonError("it is nested too deeply") from None
            except ValueError as error:  # of a number
                raise JsonError(str(error)) from error

    def items(self) -> Iterator[Any]:
        """The values of an array, each whole, one after the other.

        Raises:
            JsonError: as in `value`.
        """
        self.expect("[")
        if self.take("]"):
            return
        while True:
            yield self.value()
            yield from self._objects()
            if self.take("]"):
                return
            self.expect(",")

    def _objects(self) -> Iterator[Any]:
        """The objects that follow with commas in front, as far as they are whole in the text that
        is at hand. Whatever else comes is left for `value`, which reads on or says what it is."""
        decode = self._decoder.raw_decode
        while comma := _COMMA.match(self._text, self._at):
            self.twice = None
            try:
                value, end = decode(self._text, comma.end())
            except (ValueError, RecursionError):
                return
            self._at = end
            yield value

    def names(self) -> Iterator[str]:
        """The keys of an object; who takes one reads its value before the next.

        Raises:
            JsonError: as in `value`, or a key stands twice.
        """
        self.expect("{")
        seen: set[str] = set()
        if self.take("}"):
            return
        while True:
            if self.peek() != '"':
                message = "Expecting property name enclosed in double quotes"
                raise self._error(message, self._at)
            name = self.value()
            self.expect(":")
            if name in seen:
                raise duplicate_key(name)
            seen.add(name)
            yield name
            if self.take("}"):
                return
            self.expect(",")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs) and self.twice is None:
            self.twice = key_twice(pairs)
        return values

    def _read_on(self, count: int) -> bool:
        """Read so many characters more, about; whether there were any."""
        more: list[str] = []
        while not self._ended and sum(map(len, more)) < count:
            piece = next(self._pieces, None)
            self._ended = piece is None
            more.append(piece or "")
        gone = self._text[: self._at]
        self._line, self._column = self._place(len(gone))
        self._text, self._at = "".join([self._text[self._at :], *more]), 0
        return any(more)

    def _place(self, at: int) -> tuple[int, int]:
        """The line and the column of a character of `_text`."""
        lines = self._text.count("\n", 0, at)
        if not lines:
            return self._line, self._column + at
        return self._line + lines, at - self._text.rfind("\n", 0, at)

    def _error(self, message: str, at: int) -> JsonError:
        line, column = self._place(at)
        where = f"line {line}, " if line > 1 else ""
        return JsonError(f"{message} at {where}column {column}")
