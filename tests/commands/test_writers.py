"""Answers in every format: what is written is read back as it was, by our own readers."""

from __future__ import annotations

import dataclasses
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from openpyxl import load_workbook

from bertolt import Predictor
from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.commands import excel_writer
from bertolt.commands.outputs import file_writer, format_of
from bertolt.commands.questions import Question
from bertolt.data.formats import open_source
from bertolt.data.long import LongTexts
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.regression import Regression
from bertolt.tasks.text_classification import TextClassification
from tests.commands.conftest import ROWS

Trained = Callable[[str], Path]
NESTED = [".jsonl", ".json", ".jsonl.gz", ".json.zst", ".parquet"]
FLAT = [".csv", ".tsv", ".csv.gz", ".tsv.zst", ".xlsx"]

HARD = [
    'a "quote", a comma; and 中文',
    "two\nlines\tand a tab",
    '"begins with one\nand\tgoes on',
    "one\rline end of old, and\r\none of Windows",
    "=1+1",
    " spaces around ",
    "_x0041_ and \x07 a bell",
    "#N/A",
    "-5",
    "007",
]


@pytest.fixture(scope="module")
def answered(trained: Trained) -> Callable[[str], tuple[Predictor, list[Any]]]:
    """Predictors, each with questions and answers."""
    known: dict[str, tuple[Predictor, list[Any]]] = {}

    def answer(name: str) -> tuple[Predictor, list[Any]]:
        if name not in known:
            predictor = Predictor.from_pretrained(trained(name), precision="fp32")
            pair = "good =film" if name == "pairs" else None
            rows = [(row, text) for row, text in enumerate(HARD, start=1)]
            if name == "tags":
                rows.append((len(rows) + 1, ROWS["tags"][0]["tokens"]))
            asked = [{"text": t} | ({"text_pair": pair} if pair else {}) for _, t in rows]
            own = [{"id": f"+{row}", "number": row * 1.5, "count": row} for row, _ in rows]
            questions = [
                Question(row, text, pair, json.dumps(kept | {"list": [row], "mixed": text or 1}))
                for (row, text), kept in zip(rows, own, strict=True)
            ]
            known[name] = predictor, list(zip(questions, predictor.predict(asked), strict=True))
        return known[name]

    return answer


def write(path: Path, predictor: Predictor, answers: list[Any], **options: bool) -> Path:
    with file_writer(path, predictor, format_of(path, **options)) as writer:
        for question, prediction in answers:
            writer.write(question, prediction)
        writer.end()
    return path


def read(path: Path) -> list[dict[str, Any]]:
    source = open_source(path)
    rows = []
    for _, values in source.rows(source.columns):
        assert isinstance(values, tuple), values
        rows.append(dict(zip(source.columns, values, strict=True)))
    return rows


@pytest.mark.parametrize("ending", NESTED)
@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_is_nested_is_read_back(name: str, ending: str, answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered(name)
    path = write(tmp_path / f"a{ending}", predictor, answers)
    with file_writer(tmp_path / "b.jsonl", predictor, format_of(tmp_path / "b.jsonl")) as writer:
        expected = [writer.record(question, prediction) for question, prediction in answers]
    if ending == ".parquet":
        read_as = {"tokens_cut": 0} | ({"windows": 1} if name == "tags" else {})
        expected = [record | read_as for record in expected]
        for record in expected:
            if "vector" in record:  # in JSON the shortest digits that give the same float32
                record["vector"] = np.float32(record["vector"]).tolist()
    if ending == ".parquet" and name == "tags":
        expected[-1]["mixed"] = json.dumps(expected[-1]["mixed"])
    assert read(path) == expected
    assert list(expected[0])[:2] == ["row", "id"]


@pytest.mark.parametrize("ending", FLAT)
@pytest.mark.parametrize("name", sorted(ROWS))
def test_cells_are_read_back(name: str, ending: str, answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered(name)
    path = write(tmp_path / f"a{ending}", predictor, answers)
    with file_writer(tmp_path / "b.jsonl", predictor, format_of(tmp_path / "b.jsonl")) as writer:
        expected = [writer.cells(question, prediction) for question, prediction in answers]
    rows = read(path)
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, cells in zip(rows, expected, strict=True):
        for column, value in cells.items():
            if isinstance(value, str):
                assert row[column] == value, column
            else:
                assert float(row[column]) == pytest.approx(value, abs=1e-6), column
    if name == "tags":
        assert isinstance(json.loads(rows[0]["spans"]), list)


@pytest.mark.parametrize("ending", [*NESTED, *FLAT])
@pytest.mark.parametrize("name", ["labels", "tags"])
def test_no_answer_is_a_whole_file_too(
    name: str, ending: str, answered: Any, tmp_path: Path
) -> None:
    predictor, _ = answered(name)
    path = write(tmp_path / f"a{ending}", predictor, [])
    names = ["row", "text"]
    if ending == ".parquet":
        assert pq.read_schema(path).names[:2] == names
    elif ending == ".xlsx":
        assert [cell.value for cell in load_workbook(path).active[1]][:2] == names
    elif ending in FLAT:
        assert open_source(path).columns[:2] == names
    elif "json." in ending or ending == ".json":
        with pytest.raises(DataError, match="there is nothing in it"):
            open_source(path)


def test_parquet_keeps_types(answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered("tags")
    schema = pq.read_schema(write(tmp_path / "a.parquet", predictor, answers))
    types = {field.name: str(field.type) for field in schema}
    assert types["row"] == types["count"] == types["tokens_cut"] == "int64"
    assert types["number"] == "double"
    assert types["id"] == types["text"] == "string"
    assert types["list"].startswith("list<")
    assert types["spans"].startswith("list<")
    assert "struct<start: int64, end: int64, label: string" in types["spans"]


@pytest.mark.parametrize(
    ("values", "type_", "back"),
    [
        ([1, None, 2.5], "double", [1.0, None, 2.5]),
        ([1, 2**60], "int64", [1, 2**60]),
        ([2**60 + 1, 0.5], "string", [str(2**60 + 1), "0.5"]),
        ([2**70], "string", [str(2**70)]),
        ([1, "a"], "string", ["1", "a"]),
        ([True, 0], "string", ["true", "0"]),
        (
            [{"a": 1}, {"b": [None, "x"]}],
            None,
            [{"a": 1, "b": None}, {"a": None, "b": [None, "x"]}],
        ),
        ([{}, {"a": {}}], "string", ["{}", '{"a": {}}']),
        ([None, None], "null", [None, None]),
        ([[], []], None, [[], []]),
        (["\ud800", "2020-01-01"], "string", ["\\ud800", "2020-01-01"]),
    ],
)
def test_own_columns_have_the_type_of_all_their_values(
    values: list[Any], type_: str | None, back: list[Any], answered: Any, tmp_path: Path
) -> None:
    predictor, answers = answered("labels")
    rows = [
        (question._replace(kept=json.dumps({"own": value})), prediction)
        for value, (question, prediction) in zip(values, answers, strict=False)
    ]
    table = pq.read_table(write(tmp_path / "a.parquet", predictor, rows))
    assert table["own"].to_pylist() == back
    assert type_ is None or str(table.schema.field("own").type) == type_


def test_texts_of_excel_are_texts(answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered("labels")
    sheet = load_workbook(write(tmp_path / "a.xlsx", predictor, answers)).active
    head, *rows = sheet.iter_rows()
    names = [cell.value for cell in head]
    for row in rows:
        for name, cell in zip(names, row, strict=True):
            kind = "s" if name in ("id", "text", "label", "list", "mixed") else "n"
            assert cell.data_type == kind, (name, cell.value)
    assert rows[4][names.index("text")].value == "=1+1"
    assert rows[6][names.index("text")].value == "_x005F_x0041_ and _x0007_ a bell"


def test_what_excel_cannot_hold_is_refused(
    answered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, answers = answered("labels")
    question, prediction = answers[0]
    long = question._replace(text="a" * 32_768, place="a.csv, row 1 (line 2)")
    with pytest.raises(DataError, match="32,767 characters, and this one has 32,768") as refused:
        write(tmp_path / "a.xlsx", predictor, [(long, prediction)])
    assert refused.value.place == "a.csv, row 1 (line 2)"
    assert ".csv" in refused.value.fix
    big = question._replace(kept=json.dumps({"id": 2**60, "small": 2**40}))
    sheet = load_workbook(write(tmp_path / "b.xlsx", predictor, [(big, prediction)])).active
    assert [cell.value for cell in sheet[2]][1:3] == [str(2**60), 2**40]
    monkeypatch.setattr(excel_writer, "ROWS", len(answers))
    with pytest.raises(DataError, match="rows"):
        write(tmp_path / "c.xlsx", predictor, answers)


def test_a_spreadsheet_runs_nothing_of_a_safe_file(answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered("labels")
    texts = ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "-5", "+1.5e3", "a=b", ""]
    rows = [
        (question._replace(text=text, kept=json.dumps({"=own": -2, "b": text})), prediction)
        for text, (question, prediction) in zip(texts, answers, strict=True)
    ]
    for ending in (".csv", ".tsv"):
        plain = read(write(tmp_path / f"a{ending}", predictor, rows))
        assert [row["text"] for row in plain] == texts
        safe = read(write(tmp_path / f"b{ending}", predictor, rows, safe=True, bom=True))
        assert [row["text"] for row in safe] == [f"'{t}" for t in texts[:6]] + texts[6:]
        assert [row["b"] for row in safe] == [row["text"] for row in safe]
        assert (safe[0]["'=own"], safe[0]["label"]) == ("-2", plain[0]["label"])
        assert (tmp_path / f"b{ending}").read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("label", ["B-a\tb", "B-a\nb", "B-\r"])
def test_a_tag_that_would_break_a_conll_file(label: str, answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered("tags")
    question, prediction = answers[0]
    words = [[0, 1, "O"], [2, 7, label]]
    odd = dataclasses.replace(prediction, answer=prediction.answer | {"words": words})
    with pytest.raises(DataError, match=r"the tag .* which a CoNLL file cannot hold"):
        write(tmp_path / "a.conll", predictor, [(question, odd)])


def test_parquet_names_labels_that_are_no_unicode_by_their_escapes(tmp_path: Path) -> None:
    labels = ("a", "\ud800")
    for task in (
        TextClassification(labels),
        MultiLabelClassification(labels, thresholds=(0.5, 0.5)),
        Regression(labels, (0.0, 0.0), (1.0, 1.0)),
    ):
        writer = SimpleNamespace(task=task, takes_pairs=False, long=LongTexts(how="truncate"))
        path = write(tmp_path / "a.parquet", writer, [])
        schema = pq.read_schema(path)
        shares = next(field.type for field in schema if str(field.type).startswith("struct"))
        assert [shares.field(at).name for at in range(2)] == ["a", "\\ud800"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
@pytest.mark.parametrize("ending", [".csv", ".jsonl.zst", ".parquet", ".xlsx"])
def test_a_name_that_is_no_utf_8(ending: str, answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered("labels")
    assert len(read(write(tmp_path / f"\udcff{ending}", predictor, answers))) == len(answers)


def test_packed_answers_are_the_same_bytes_each_time(answered: Any, tmp_path: Path) -> None:
    predictor, answers = answered("labels")
    plain = write(tmp_path / "a.csv", predictor, answers).read_bytes()
    packed = write(tmp_path / "a.csv.gz", predictor, answers).read_bytes()
    assert gzip.decompress(packed) == plain
    assert write(tmp_path / "b.csv.gz", predictor, answers).read_bytes() == packed


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.txt", {}, "not written as .txt"),
        ("a.conllu", {}, "not written as .conllu"),
        ("a.csv.zip", {}, "not written as .zip"),
        ("a.dat.gz", {}, "not written as .dat.gz"),
        ("a.parquet.gz", {}, "packed in itself"),
        ("a.xlsx.zst", {}, "packed in itself"),
        (None, {"style": "parquet"}, "--out answers.parquet"),
        ("a.jsonl", {"bom": True}, "--bom: it is for CSV and TSV"),
        ("a.xlsx", {"safe": True}, "--safe-csv: it is for CSV and TSV"),
    ],
)
def test_names_and_forms_that_are_refused(
    name: str | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BertoltError) as refused:
        format_of(None if name is None else Path(name), **options)
    assert words in str(refused.value)
    assert refused.value.fix


def test_without_openpyxl_the_fix_is_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError, match=r"pip install 'bertolt\[excel\]'"):
        format_of(Path("a.xlsx"))


def test_the_format_is_as_the_name_ends(tmp_path: Path) -> None:
    assert format_of(Path("a.NDJSON.GZ")).style == "jsonl"
    assert format_of(Path("a.CSV.zst")).packing == ".zst"
    assert format_of(Path("a.txt"), "csv").style == "csv"
    assert format_of(Path("answers")).style == "jsonl"
    assert format_of(Path("/dev/null")).style == "jsonl"
    assert format_of(Path("a.iob2")).style == "conll"
