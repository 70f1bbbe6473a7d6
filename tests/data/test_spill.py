"""Rows and tokens that are many go to a file without a name, and are the same as in memory."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bertolt.base.errors import BertoltError, DiskFullError
from bertolt.data import spill
from bertolt.data.encode import encode_texts
from bertolt.data.load import read_table
from bertolt.data.spill import Batches, Numbers


@pytest.fixture(params=[1 << 24, 100], ids=["in memory", "on disk"])
def bound(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(spill, "IN_MEMORY", request.param)
    return int(request.param)


def test_numbers(bound: int) -> None:
    numbers, all_of_them = Numbers("i"), []
    for start in range(0, 300, 7):
        numbers.extend(range(start, start + 7))
        all_of_them += range(start, start + 7)
        assert len(numbers) == len(all_of_them)
    whole = numbers.whole()
    assert whole.dtype == np.int32
    assert whole.tolist() == all_of_them
    assert (numbers._file is not None) == (bound == 100)


def test_no_numbers(bound: int) -> None:
    assert Numbers("B").whole().tolist() == []
    assert Numbers("B").whole().dtype == np.uint8


def test_batches(bound: int) -> None:
    schema = pa.schema([("row", pa.int64()), ("text", pa.string())])
    batches = Batches(schema)
    rows = [{"row": number, "text": f"text {number}"} for number in range(60)]
    for start in range(0, 60, 9):
        batches.add(pa.RecordBatch.from_pylist(rows[start : start + 9], schema))
    assert batches.table().to_pylist() == rows
    assert (batches._file is not None) == (bound == 100)
    assert Batches(schema).table().num_rows == 0


def test_a_table_and_its_tokens(
    bound: int, tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertolt.data.load.BATCH_ROWS", 10)
    texts = [f"good film {'very ' * (number % 9)}{number}" for number in range(99)]
    lines = [f"{text},{'pos' if number % 2 else 'neg'}" for number, text in enumerate(texts)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    table = read_table(tmp_path / "rows.csv")
    assert table.texts == texts
    assert table.labels[:3] == ["neg", "pos", "neg"]
    assert [row["text"] for row in table.examples([70, 3])] == [texts[70], texts[3]]
    encoded = encode_texts(tiny_tokenizer, table.texts, 16)
    assert [row["input_ids"].tolist() for row in encoded] == [
        list(ids) for ids in tiny_tokenizer.encode_ids(texts)
    ]


@pytest.mark.parametrize("what", ["numbers", "batches"])
def test_a_temporary_folder_without_room(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        closed = False

        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    monkeypatch.setattr(spill, "_nameless", Full)
    batch = pa.RecordBatch.from_pylist([{"row": 1}])
    add: Any = Numbers("i").extend if what == "numbers" else Batches(batch.schema).add
    with pytest.raises(DiskFullError, match="No space left on device") as caught:
        add([1] if what == "numbers" else batch)
    assert "TMPDIR=FOLDER" in caught.value.fix


def test_no_temporary_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "no")])
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    with pytest.raises(BertoltError, match="No usable temporary directory") as caught:
        Numbers("i").extend([1])
    assert "TMPDIR=FOLDER" in caught.value.fix
