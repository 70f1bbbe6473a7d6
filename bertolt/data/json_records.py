"""JSON files, an array of objects, and JSON lines, an object a line."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bertolt.base.errors import DataError
from bertolt.base.json_files import DuplicateKeyError, JsonError, duplicate_key, parse_json
from bertolt.data.json_stream import CONTAINERS, JsonStream, require_few
from bertolt.data.lines import (
    LongLineError,
    Seen,
    empty_file,
    require_plain,
    text_lines,
    text_pieces,
)
from bertolt.data.squad import COLUMNS, is_article, questions_of
from bertolt.data.table_file import BadRow, Row, TableFile, listing

# Lists that one record may hold.
_OF_ONE_RECORD = ("spans", "tags", "labels", "label", "tokens", "answers")
COLUMN_SAMPLE = 1000  # JSON lines that are read to learn the columns


def open_json(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """Records of one array; lines if the first line is a whole object and others follow."""
    if _begins_with(path, encoding) == "{" and _is_lines(path, encoding):
        return _lines_source(path, encoding, seen)
    return _records_source(path, encoding)


def open_json_lines(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """Lines; the records of one array if that is what is in it."""
    if _begins_with(path, encoding) == "[":
        return _records_source(path, encoding)
    return _lines_source(path, encoding, seen)


def _begins_with(path: Path, encoding: str) -> str:
    """The first character of a file that is no white space."""
    first = next((text for each in text_pieces(path, encoding) if (text := each.lstrip())), "")
    if not first:
        raise empty_file(path)
    require_plain(first[:4], path)
    return first[0]


def _records_source(path: Path, encoding: str) -> TableFile:
    records = _Records(path, encoding)
    return TableFile(columns=list(records.columns), rows=records.rows)


def _is_lines(path: Path, encoding: str) -> bool:
    """Whether the first line is a whole object, and others follow."""
    filled = (line for line in text_lines(path, encoding) if line.strip())
    try:
        first, second = next(filled, ""), next(filled, "")
    except LongLineError:
        return False
    return bool(second) and isinstance(_parse_json(first), dict)


def _lines_source(path: Path, encoding: str, seen: Seen) -> TableFile:
    columns = _line_columns(path, encoding)
    return TableFile(columns=columns, rows=partial(_json_line_rows, path, encoding, seen))


def _parse_json(text: str) -> Any:
    """The value, or a `BadRow` that says where the text stops being JSON."""
    try:
        require_few(text)
        return parse_json(text)
    except DuplicateKeyError as error:
        return _duplicate(error)
    except JsonError as error:
        return BadRow("broken JSON", f"broken JSON: {error}")


def _duplicate(error: DuplicateKeyError) -> BadRow:
    return BadRow(f"duplicate key {error.key!r}", str(error), "leave one of the two out")


def _json_line_rows(path: Path, encoding: str, seen: Seen, names: Sequence[str]) -> Iterator[Row]:
    for number, record in _json_lines(path, encoding, seen):
        if isinstance(record, BadRow):
            yield number, record
        else:
            yield number, tuple([record.get(name) for name in names])


def _json_lines(
    path: Path, encoding: str, seen: Seen = None
) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """The objects with their lines; empty lines are passed over."""
    for number, line in enumerate(text_lines(path, encoding, seen), start=1):
        if not line.strip():
            continue
        record = _parse_json(line.rstrip())
        if not isinstance(record, (dict, BadRow)):
            raise _no_record(record, f"{path}, line {number}")
        yield number, record


def _line_columns(path: Path, encoding: str) -> list[str]:
    sample = itertools.islice(_json_lines(path, encoding), COLUMN_SAMPLE)
    records = [record for _, record in sample if isinstance(record, dict)]
    if not records:
        number, bad = next(_json_lines(path, encoding))
        raise DataError(
            bad.detail if isinstance(bad, BadRow) else "no JSON lines",
            place=f"{path}, line {number}",
            fix='write one object a line, like {"text": "…", "label": "…"}',
        )
    return _all_names(records)


def _all_names(records: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


class _Survey(NamedTuple):
    """What the records of a list are.

    Attributes:
        names: their keys.
        fault: why they are no records; None: they are.
        nested: whether they are articles, with the records inside.
    """

    names: dict[str, None]
    fault: DataError | None
    nested: bool


class _Records:
    """The records of a JSON file: of its array, or of the one list that its object holds.

    They are read anew each time, and never all in memory.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, encoding
        self.columns: dict[str, None] = {}
        self._list: str | None = None  # its key, where an object holds it
        self._nested = False  # the list is one of articles, and they hold the records
        self._alone: dict[str, Any] | None = None  # an object that is one record
        with self._errors():
            stream = self._open()
            if stream.peek() == "[":
                self._take(self._survey(stream))
            elif stream.peek() == "{":
                self._look_inside(stream)
            else:
                raise _no_record(stream.value(), str(path))
            stream.require_end()

    def _take(self, survey: _Survey) -> None:
        """Read the records of this list.

        Raises:
            DataError: they are none.
        """
        if survey.fault is not None:
            raise survey.fault
        self.columns, self._nested = survey.names, survey.nested

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Some of the columns of every record."""
        for record in [self._alone] if self._alone is not None else self._records():
            if isinstance(record, BadRow):
                yield None, record
            else:
                yield None, tuple([record.get(name) for name in names])

    def _open(self) -> JsonStream:
        return JsonStream(text_pieces(self.path, self.encoding))

    def _records(self) -> Iterator[dict[str, Any] | BadRow]:
        with self._errors():
            stream = self._open()
            if self._list is not None:
                for name in stream.names():
                    if name == self._list:
                        break
                    deque(stream.items() if stream.peek() == "[" else [stream.value()], maxlen=0)
            for record in stream.items():
                if stream.twice is not None:
                    yield _duplicate(duplicate_key(stream.twice))
                elif self._nested:
                    yield from questions_of(record)
                else:
                    yield record

    def _survey(self, stream: JsonStream) -> _Survey:
        """The keys of all records in the list that follows, or why they are none."""
        names, number, questions = dict[str, None](), 0, 0
        fault: DataError | None = None
        nested = True
        for number, record in enumerate(stream.items(), start=1):
            place = f"{self.path}, record {number}"
            nested = nested and is_article(record)
            if fault is not None:
                continue
            if not isinstance(record, dict):
                fault = _no_record(record, place)
            elif nested:
                try:
                    questions += sum(1 for _ in questions_of(record))
                except ValueError as error:
                    fault = _no_questions(error, place)
            if fault is None and not record.keys() <= names.keys():
                names |= dict.fromkeys(record)
                if len(names) > CONTAINERS:
                    fault = _too_many_keys(place)
        if nested and number:
            fault = fault or (None if questions else empty_file(self.path))
            return _Survey(dict.fromkeys(COLUMNS), fault, True)
        return _Survey(names, fault if number else empty_file(self.path), False)

    def _look_inside(self, stream: JsonStream) -> None:
        """Find the one list of an object; or else the object is a record itself, or nobody knows.

        Whether its texts make it a record is known behind the last of them, so that what is wrong
        with a list waits until then.
        """
        lists: dict[str, _Survey] = {}
        kinds = set[type]()  # of the other values
        for name in stream.names():
            if stream.peek() == "[":
                lists[name] = self._survey(stream)
            else:
                kinds.add(type(stream.value()))
            if stream.twice is not None:
                raise duplicate_key(stream.twice)
        name, has_text = next(iter(lists), ""), str in kinds
        if len(lists) == 1 and not (has_text and name in _OF_ONE_RECORD):
            self._list = name
            self._take(lists[name])
        elif has_text or not (lists or dict in kinds):
            self._alone = self._open().value()  # JSON lines of one line
            assert self._alone is not None
            self.columns = dict.fromkeys(self._alone)
        else:
            raise _no_list(list(lists), self.path)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Where the text stops being JSON, as an error of ours."""
        try:
            yield
        except JsonError as error:
            twice = isinstance(error, DuplicateKeyError)
            raise DataError(
                str(error) if twice else f"broken JSON: {error}",
                place=str(self.path),
                fix="leave one of the two out" if twice else "mend the file",
            ) from error


def _no_questions(error: ValueError, place: str) -> DataError:
    fix = 'each paragraph has a "context" and "qas", and each of these a "question" and "answers"'
    return DataError(str(error), place=place, fix=fix)


def _too_many_keys(place: str) -> DataError:
    return DataError(
        f"the records have more than {CONTAINERS:,} different keys",
        place=place,
        fix="give all records the same keys",
    )


def _no_list(lists: Sequence[str], path: Path) -> DataError:
    held = f"holds several lists ({listing(lists)})" if lists else "holds no list"
    return DataError(
        f"the JSON object {held}, so its records cannot be told",
        place=str(path),
        fix='write an array of objects, like [{"text": "…", "label": "…"}]; if it is one record, '
        "put it into [ ]",
    )


def _no_record(value: object, place: str) -> DataError:
    kinds = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return DataError(
        f"this is {kinds.get(type(value), 'a number')}, not a record",
        place=place,
        fix='each record is an object, like {"text": "…", "label": "…"}',
    )
