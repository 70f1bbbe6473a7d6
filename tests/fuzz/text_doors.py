"""Doors of what Bertolt writes: programs that are migrated, and answers that are read back."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bertolt.base.errors import BertoltError
from bertolt.commands.migrate import migrate
from bertolt.commands.outputs import file_writer, format_of
from bertolt.commands.questions import Question
from bertolt.commands.writers import Writer, rounded
from bertolt.data.formats import open_source
from bertolt.data.long import LongTexts
from bertolt.data.table_file import BadRow
from bertolt.tasks.base import Output, Task
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.predictor import Prediction
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.token_classification import TokenClassification
from bertolt.tasks.words import join_words
from tests.fuzz.doors import Door, files_below
from tests.fuzz.mutations import hostile_text, mutate_program

PROGRAMS = {
    "train.py": '''"""A program."""
import os, transformers as tr
from transformers import (AutoTokenizer, AutoModelForSequenceClassification as Model,
    Trainer, TrainingArguments, pipeline)  # names
from transformers.trainer_utils import set_seed

class Weighted(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False): return 0
    def odd_method(self): pass

def main(argument: "str" = "ü") -> None:
    tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased", use_fast=True)
    model = Model.from_pretrained(argument, num_labels=2); model.cuda()
    made = TrainingArguments("out", num_train_epochs=3, evaluation_strategy="epoch")
    trainer = Weighted(model, made, tokenizer=tokenizer)
    trainer.train(); tr.logging.set_verbosity_error()
    print(f"{tokenizer.pad_token!r:>{10}}", *[x for x in pipeline("ner")("a")])

if __name__ == "__main__": main()
''',
    "small.py": "\ufefffrom transformers import BertModel; BertModel.from_pretrained('x')\r\n"
    "try:\r\n\timport transformers\r\nexcept ImportError: transformers = None\r\n",
}
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".conll")
PACKED = (".jsonl.gz", ".csv.zst", ".tsv.gz", ".json.zst", ".conll.gz")


def text_doors(folder: Path) -> dict[str, Door]:
    """Doors by name, with their examples below `folder`."""
    folder.mkdir()
    return {"programs": _programs(folder / "programs"), "answers": _answers(folder / "answers")}


# ---- programs


def _programs(folder: Path) -> Door:
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return Door(folder, files_below(folder), _migrate, damage=mutate_program, alone=True)


def _migrate(folder: Path) -> None:
    """What is written has to be Python still, with the same statements beside the imports."""
    (path,) = folder.iterdir()
    before = path.read_bytes()
    try:
        str(migrate(path, write=True))
    except BertoltError:
        assert path.read_bytes() == before
        raise
    after = path.read_bytes()
    assert _beside_imports(after) == _beside_imports(before)
    migrate(path, write=True)
    assert path.read_bytes() == after, "a second time it changes again"


def _beside_imports(program: bytes) -> str:
    class Without(ast.NodeTransformer):
        def visit_Import(self, node: ast.Import) -> ast.AST | None:
            return None

        def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
            return None

    return ast.dump(Without().visit(ast.parse(program.decode("utf-8-sig"))))


# ---- answers


def _answers(folder: Path) -> Door:
    folder.mkdir()
    rows = [{"text": "good film", "kept": {"id": "7"}}, {"text": "bad\nplot", "kept": {"id": "8"}}]
    shapes = {"tags": {"labels": ["O", "B-X"], "rows": rows}}
    shapes |= {name: {"labels": ["pos", "neg"], "rows": rows} for name in ("labels", "sets")}
    for name, content in shapes.items():
        content = {"endings": [*ENDINGS, *PACKED], **content}
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return Door(folder, files_below(folder), _write_and_read, damage=_make_hostile, alone=True)


def _make_hostile(choose: random.Random, path: Path) -> None:
    """Other texts, labels, and names and values of the user's own columns."""

    def texts(count: int) -> list[str]:
        return list(dict.fromkeys(hostile_text(choose) for _ in range(count)))

    def value() -> Any:
        values = (None, True, 7, -0.0, 2**53 + 1, 2**70, 1e-9, [], {}, [None, 1], {"": "a"})
        return hostile_text(choose) if choose.random() < 0.7 else choose.choice(values)

    tags = path.stem == "tags"
    labels = texts(choose.randint(2, 4)) or ["a"]
    own = list({name.strip(): name for name in texts(choose.randint(0, 3))}.values())
    content = {
        "endings": choose.sample([*ENDINGS, *PACKED], 2),
        "labels": ["O", *(f"B-{label}" for label in labels)] if tags else labels,
        "rows": [
            {
                "text": texts(4) if tags and choose.random() < 0.5 else hostile_text(choose),
                "kept": {name: value() for name in own},
            }
            for _ in range(choose.randint(1, 4))
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_and_read(folder: Path) -> None:
    (path,) = folder.iterdir()
    content = json.loads(path.read_text(encoding="utf-8"))
    task = _task(path.stem, tuple(content["labels"]))
    predictor: Any = SimpleNamespace(task=task, takes_pairs=False, long=LongTexts(how="truncate"))
    asked = [_asked(task, number, row) for number, row in enumerate(content["rows"], start=1)]
    for ending in content["endings"]:
        if (".conll" in ending) != (path.stem == "tags"):
            continue
        out = folder / f"answers{ending}"
        with (
            contextlib.suppress(BertoltError),  # refused, as a text of 40,000 characters for Excel
            contextlib.redirect_stderr(io.StringIO()),
        ):
            with file_writer(out, predictor, format_of(out)) as writer:
                for question, prediction in asked:
                    writer.write(question, prediction)
                writer.end()
            _CHECKS[ending.split(".")[1]](out, writer, asked)


Asked = tuple[Question, Prediction]


def _task(name: str, labels: tuple[str, ...]) -> Task:
    if name == "tags":
        return TokenClassification(labels)
    if name == "sets":
        return MultiLabelClassification(labels, thresholds=(0.3,) * len(labels))
    return TextClassification(labels)


def _asked(task: Any, number: int, row: dict[str, Any]) -> Asked:
    text, count = row["text"], len(task.labels)
    shares = np.roll(np.linspace(0.1, 0.9, count), number)
    places = []
    if isinstance(task, TokenClassification):
        words = text.split() if isinstance(text, str) else [word for word in text if word]
        joined, places = join_words(words)
        text = joined if isinstance(text, str) else words
        window = np.array([np.roll(shares, at) for at in range(len(words))]).reshape(-1, count)
    else:
        window = shares
    output = Output([window], [np.array(places, dtype=np.int32).reshape(-1, 2)])
    answer = task.decode(output, {"text": text})
    question = Question(number, text, None, json.dumps(row["kept"]))
    return question, Prediction(answer=answer, tokens=4, tokens_cut=0)


Read = list[list[tuple[str, Any]]]


def _read(path: Path) -> Read:
    """Rows as our own reader gives them, with their columns."""
    source = open_source(path)
    rows = []
    for _, values in source.rows(source.columns):
        assert not isinstance(values, BadRow), values
        rows.append(list(zip(source.columns, values, strict=True)))
    return rows


def _escaped(value: Any) -> Any:
    """Half surrogate pairs as the files of text have them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escaped(name): _escaped(inner) for name, inner in value.items()}
    return [_escaped(inner) for inner in value] if isinstance(value, list) else value


def _same_records(path: Path, writer: Writer, asked: list[Asked]) -> None:
    expected = [writer.record(*each) for each in asked]
    rows = list(map(dict, _read(path)))
    assert rows == expected, (rows, expected)


def _same_parquet(path: Path, writer: Writer, asked: list[Asked]) -> None:
    rows, expected = map(dict, _read(path)), [_escaped(writer.record(*each)) for each in asked]
    for row, record in zip(rows, expected, strict=True):
        for name, value in record.items():
            if row[name] != value and not _alike(row[name], value):
                assert json.loads(row[name]) == value, (name, row[name], value)


def _alike(found: Any, value: Any) -> bool:
    """Whether values are the same but for parts of records that other rows have."""
    if isinstance(value, dict) and isinstance(found, dict):
        return all(_alike(found[n], value.get(n)) for n in found) and value.keys() <= found.keys()
    if isinstance(value, list) and isinstance(found, list) and len(found) == len(value):
        return all(map(_alike, found, value))
    return bool(found == value)


def _same_cells(path: Path, writer: Writer, asked: list[Asked]) -> None:
    expected = [writer.cells(*each) for each in asked]
    excel = path.suffix == ".xlsx"
    tables = [_read(path)]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file)
        tables.append([list(zip(head, line, strict=True)) for line in lines])
    for rows in tables:
        for row, cells in zip(rows, expected, strict=True):
            _require_same_cells(row, cells if excel else _escaped(cells))


def _require_same_cells(row: list[tuple[str, Any]], cells: dict[str, Any]) -> None:
    assert len(row) == len(cells), (row, cells)
    for (column, found), (name, value) in zip(row, cells.items(), strict=True):
        assert column.strip() == name.strip(), (column, name)
        if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
            assert abs(float(found) - rounded(value)) <= 1e-6 * max(1, abs(value)), (name, found)
        elif isinstance(value, bool):
            assert found.upper() == str(value).upper(), (name, found)
        else:
            assert found == (value or ""), (name, found, value)


def _same_words(path: Path, writer: Writer, asked: list[Asked]) -> None:
    expected = []
    for question, prediction in asked:
        pairs = list(writer.task.tagged(prediction.answer, {"text": question.text}))
        if pairs:
            expected.append(
                [[_escaped(part) for part in parts] for parts in zip(*pairs, strict=True)]
            )
    if expected:
        rows = [[words for _, words in row] for row in _read(path)]
        assert rows == expected, (rows, expected)


_CHECKS: dict[str, Callable[[Path, Writer, list[Asked]], None]] = {
    **dict.fromkeys(("json", "jsonl"), _same_records),
    **dict.fromkeys(("csv", "tsv", "xlsx"), _same_cells),
    "parquet": _same_parquet,
    "conll": _same_words,
}
