"""One reader of JSON: all that can be wrong with a file is one kind of error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bertolt.base.json_files import JsonError, parse_json, read_json


def test_what_is_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, "é"], "b": NaN}', encoding="utf-8")
    assert read_json(path, constant=lambda name: name) == {"a": [1, "é"], "b": "NaN"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value at column 1"),
        (b'{"a": 1,\n "b"}', "line 2, column"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"9" * 5000, "too many digits"),
        (b'{"a": [{"b": 1, "c": 2, "b": 1}]}', "the key 'b' stands twice in one object"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at 7"),
        (b"\xff\xfe[\x001\x00]\x00", "not UTF-8: byte 0xff at 0"),
    ],
)
def test_what_is_not_is_one_kind_of_error(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(JsonError, match=words):
        read_json(path)


def test_a_file_larger_than_allowed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a hole, which takes no room
    with pytest.raises(JsonError, match="1,073,741,824 bytes"):
        read_json(path)


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(JsonError, match="not a regular file"):
        read_json(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json")


def test_a_value_of_its_own() -> None:
    assert parse_json("3") == 3
