"""JSON files, an array of objects, and JSON lines, an object a line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bertolt.base.errors import DataError
from bertolt.base.json_files import MOST_BYTES, JsonError, parse_json
from bertolt.data.lines import Seen, empty_file, require_plain, text_lines
from bertolt.data.squad import is_nested, questions_of
from bertolt.data.table_file import BadRow, Row, TableFile, listing

# Lists that one record may hold.
_OF_ONE_RECORD = ("spans", "tags", "labels", "label", "tokens", "answers")
COLUMN_SAMPLE = 1000  # JSON lines that are read to learn the columns


def open_json(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """Records of one array; lines if the first line is a whole object and others follow."""
    first, second = _first_two_lines(path, encoding)
    if second and not _is_array(first) and isinstance(_parse_json(first), dict):
        return _lines_source(path, encoding, seen)
    return _records_source(path, encoding)


def open_json_lines(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """Lines; the records of one array if that is what is in it."""
    if _is_array(_first_two_lines(path, encoding)[0]):
        return _records_source(path, encoding)
    return _lines_source(path, encoding, seen)


def _first_two_lines(path: Path, encoding: str) -> tuple[str, str]:
    """The first lines that are not blank; the second is empty where there is one alone."""
    filled = (line for line in text_lines(path, encoding, limit=MOST_BYTES) if line.strip())
    first, second = next(filled, ""), next(filled, "")
    if not first:
        raise empty_file(path)
    require_plain(first[:4], path)
    return first, second


def _is_array(first_line: str) -> bool:
    return first_line.lstrip().startswith("[")


def _lines_source(path: Path, encoding: str, seen: Seen) -> TableFile:
    columns = _line_columns(path, encoding)
    return TableFile(columns=columns, rows=partial(_json_line_rows, path, encoding, seen))


def _records_source(path: Path, encoding: str) -> TableFile:
    records = _json_records(path, encoding)
    return TableFile(columns=_all_names(records), rows=partial(_json_rows, records))


def _parse_json(text: str) -> Any:
    """The value, or a `BadRow` that says where the text stops being JSON."""
    try:
        return parse_json(text)
    except JsonError as error:
        return BadRow("broken JSON", f"broken JSON: {error}")


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


def _json_records(path: Path, encoding: str) -> list[dict[str, Any]]:
    """The records of a whole JSON file: an array, or the one list that its object holds."""
    value = _parse_json(_whole_text(path, encoding))
    if isinstance(value, BadRow):
        raise DataError(value.detail, place=str(path), fix="mend the file")
    if isinstance(value, dict):
        value = _inner_list(value, path)
    if not isinstance(value, list):
        raise _no_record(value, str(path))
    if not value:
        raise empty_file(path)
    for number, record in enumerate(value, start=1):
        if not isinstance(record, dict):
            raise _no_record(record, f"{path}, record {number}")
    return _questions(value, path) if is_nested(value) else value


def _questions(articles: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The questions of a file that nests them in articles."""
    try:
        questions = questions_of(articles)
    except ValueError as error:
        fix = 'each paragraph has a "context" and "qas", each of these a "question" and "answers"'
        raise DataError(str(error), place=str(path), fix=fix) from error
    if not questions:
        raise empty_file(path)
    return questions


def _whole_text(path: Path, encoding: str) -> str:
    lines: list[str] = []
    size = 0
    for line in text_lines(path, encoding, limit=MOST_BYTES):
        lines.append(line)
        size += len(line)
        if size > MOST_BYTES:
            raise DataError(
                f"JSON is read whole, and it has more than {MOST_BYTES:,} characters",
                place=str(path),
                fix="write an object a line in a file that ends in .jsonl, which has no limit",
            )
    return "".join(lines)


def _inner_list(value: dict[str, Any], path: Path) -> list[Any]:
    lists = [name for name, inner in value.items() if isinstance(inner, list)]
    has_text = any(isinstance(inner, str) for inner in value.values())
    if len(lists) == 1 and not (has_text and lists[0] in _OF_ONE_RECORD):
        inner: list[Any] = value[lists[0]]
        return inner
    if has_text or (not lists and not any(isinstance(each, dict) for each in value.values())):
        return [value]  # JSON lines of one line
    held = f"holds several lists ({listing(lists)})" if lists else "holds no list"
    raise DataError(
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


def _json_rows(records: list[dict[str, Any]], names: Sequence[str]) -> Iterator[Row]:
    for record in records:
        yield None, tuple([record.get(name) for name in names])
