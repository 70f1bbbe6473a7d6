"""Questions with choices: the shapes of such files, the ways to write a label, what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt import Predictor
from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.data.choices import (
    choices_cell,
    choices_of,
    is_list,
    label_fault,
    readings,
    series_in,
)
from bertolt.data.describe import describe_rows
from bertolt.data.table_file import BadRow
from bertolt.tasks.base import Reading
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.rows import Columns, encode_rows, read_for_task

Write = Callable[..., Path]
NAMES = st.sampled_from(["text", "label", "start"])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif name.endswith(".csv"):
            cells = [list(rows[0]), *([row.get(k, "") for k in rows[0]] for row in rows)]
            lines = [",".join('"' + str(c).replace('"', '""') + '"' for c in row) for row in cells]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


def learned(path: Path, **columns: Any) -> tuple[Any, Any]:
    """The task of a file, by its columns alone, and its rows."""
    table, kind = read_for_task(path, Columns(**columns))
    assert kind is MultipleChoice
    return kind.infer(table, np.arange(len(table)), Reading()), table


ENDS = ["dull", "warm", "cold", "fresh"]
SHAPES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a list, as RACE": (
        [
            {"article": "the film", "question": "it was", "options": ENDS, "answer": letter}
            for letter in "ABCD"
        ],
        "letters",
    ),
    "records, as ARC": (
        [
            {
                "id": name,
                "question": "the film was",
                "choices": {"text": ENDS, "label": names},
                "answerKey": names[place],
            }
            for place, (name, names) in enumerate(
                [("a", list("ABCD")), ("b", list("1234")), ("c", list("ABCD")), ("d", list("ABCD"))]
            )
        ],
        "names",
    ),
    "a list of records": (
        [
            {
                "question": "the film was",
                "choices": [{"label": n, "text": t} for n, t in zip("ABCD", ENDS, strict=True)],
                "answerKey": letter,
            }
            for letter in "ABCD"
        ],
        "names",
    ),
    "columns, as SWAG": (
        [
            {
                "sent1": "the film",
                "sent2": "it was",
                **{f"ending{number}": text for number, text in enumerate(ENDS)},
                "label": place,
            }
            for place in range(4)
        ],
        "from 0",
    ),
    "two columns from 1, as Winogrande": (
        [
            {"sentence": "the film was _", "option1": "dull", "option2": "warm", "answer": answer}
            for answer in ("1", "2")
        ],
        "from 1",
    ),
    "letters as columns": (
        [
            {"question": "the film was", **dict(zip("ABCD", ENDS, strict=True)), "answer": letter}
            for letter in "abcd"
        ],
        "letters",
    ),
    "texts as labels": (
        [{"question": "the film was", "choices": ENDS, "answer": text} for text in ENDS],
        "texts",
    ),
}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_file_is_recognised(write: Write, shape: str, ending: str) -> None:
    rows, form = SHAPES[shape]
    if ending == "csv":
        rows = [
            {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()}
            for row in rows
        ]
    task, table = learned(write(rows, f"rows.{ending}"))
    assert task.labels == form
    assert len(table) == len(rows)
    examples = list(table.examples())
    assert [task.right(each) for each in examples] == list(range(len(rows)))
    choices = choices_of(examples[0]["text_pair"])
    assert choices.texts == (ENDS if len(rows) == 4 else ["dull", "warm"])
    starts = {"a list, as RACE": "it was", "columns, as SWAG": "it was"}
    assert choices.start == starts.get(shape, "")


def test_each_choice_is_read_behind_the_text_and_its_beginning(
    write: Write, tiny_tokenizer: Any
) -> None:
    task, table = learned(write(SHAPES["columns, as SWAG"][0]))
    rows, _ = encode_rows(task, table, np.array([2]), tiny_tokenizer, 20)
    wanted = tiny_tokenizer(["the film"] * 4, [f"it was {text}" for text in ENDS])
    (row,) = list(rows.encoded)
    assert [ids.tolist() for ids in row["input_ids"]] == wanted["input_ids"]
    assert [each.tolist() for each in row["token_type_ids"]] == wanted["token_type_ids"]
    assert row["labels"] == 2


def test_rows_may_have_fewer_choices_at_the_end(write: Write) -> None:
    rows = [
        {"question": "it was", "A": "dull", "B": "warm", "C": "cold", "D": "", "answer": "A"},
        {"question": "it is", "A": "dull", "B": "warm", "C": "", "D": "", "answer": "B"},
        {"question": "it is", "A": "dull", "B": "warm", "C": "a", "D": "b", "answer": "D"},
    ]
    task, table = learned(write(rows, "rows.csv"))
    sizes = [len(choices_of(each["text_pair"]).texts) for each in table.examples()]
    assert sizes == [3, 2, 4]
    assert task.counts(table, np.arange(3)).startswith("2 to 4 choices")


GOOD = {"question": "the film was", "choices": ["dull", "warm", "cold"], "label": 0}


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"label": 7}, "label beyond the choices", "the label is '7', and there are 3 choices"),
        ({"label": "E"}, "label beyond the choices", "the label is 'E'"),
        ({"label": "9" * 5000}, "label beyond the choices", "there are 3 choices"),
        ({"label": "hot"}, "label in no choice", "'hot' is none of ['dull', 'warm', 'cold']"),
        ({"label": None}, "empty label", "label in column 'label' is empty"),
        ({"choices": ["dull"]}, "fewer than two choices", "there is one choice in column"),
        ({"choices": []}, "fewer than two choices", "there is no choice in column"),
        ({"choices": ["dull", " "]}, "empty choice", "choice 2 of 2 in column 'choices' is empty"),
        ({"choices": ["dull", None]}, "empty choice", "choice 2 of 2 in column 'choices' is"),
        ({"choices": ["dull", 5]}, "choices of different kinds", "is 5, and the first one 'dull'"),
        ({"choices": ["dull", ["a"]]}, "choice that is no text", "choice 2 of 2"),
        ({"choices": None}, "no choices", "there are no choices"),
        ({"choices": "dull; warm"}, "choices that are no list", "the choices are 'dull; warm'"),
        ({"choices": ["dull", "dull"]}, "right choice twice", "'dull', stands there twice"),
        ({"choices": ["dull", "a\0b"]}, "NUL byte", "a NUL byte in choice 2"),
        ({"question": ""}, "empty text", "the text in column 'question' is empty"),
    ],
)
def test_bad_rows_are_named_with_column_and_reason(
    write: Write, changes: dict[str, Any], reason: str, detail: str
) -> None:
    path = write([GOOD, {**GOOD, "label": 2}, {**GOOD, **changes}])
    _, table = learned(path)
    assert list(table.dropped.items()) == [(reason, [3])]
    with pytest.raises(DataError) as refused:
        read_for_task(path, Columns(on_bad_row="error"))
    assert detail in refused.value.problem
    assert "row 3" in refused.value.place
    assert "--on-bad-row drop" in refused.value.fix


@pytest.mark.parametrize(
    ("choices", "label", "reason"),
    [
        ({"text": ["a", "b"], "label": ["A"]}, "A", "broken choices"),
        ({"text": ["a", "b"], "label": ["A", "A"]}, "A", "names of choices that name none"),
        ({"text": ["a", "b"], "label": ["A", ""]}, "A", "names of choices that name none"),
        ({"text": "a"}, "A", "broken choices"),
        ({"text": ["a", "b"], "label": ["A", "B"]}, "C", "label beyond the choices"),
    ],
)
def test_bad_records_of_choices(write: Write, choices: Any, label: str, reason: str) -> None:
    good = {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
    _, table = learned(write([good, good, {**good, "choices": choices, "answerKey": label}]))
    assert list(table.dropped) == [reason]


def test_a_missing_choice_between_others(write: Write) -> None:
    rows = [{"question": "q", "A": "a", "B": "b", "C": "c", "answer": "A"}] * 2
    _, table = learned(write([*rows, {**rows[0], "B": ""}], "rows.csv"))
    assert table.dropped == {"missing choice": [3]}


@pytest.mark.parametrize(
    ("labels", "choices", "words"),
    [
        ([1, 2, 1], ["x", "y", "z"], "a number, 0 for the first choice, or a number, 1 for"),
        ([1, 2, 3], ["3", "1", "2"], "the text of a choice, or a number, 1 for the first"),
        ([0, 3, 1], ["x", "y", "z"], "the label is not a number, "),
    ],
)
def test_labels_that_may_mean_several_choices_are_refused(
    write: Write, labels: list[int], choices: list[str], words: str
) -> None:
    path = write([{"question": "q", "choices": choices, "label": label} for label in labels])
    with pytest.raises(DataError) as refused:
        learned(path)
    assert words in refused.value.problem
    assert "column 'label'" in refused.value.place
    assert "letters" in refused.value.fix


def test_a_label_is_read_as_in_training(write: Write) -> None:
    task = MultipleChoice("from 1")
    table, _ = read_for_task(
        write([{**GOOD, "label": name} for name in (1, "B", "cold")]), Columns()
    )
    assert [task.right(each) for each in table.examples()] == [0, 1, 2]
    _, table = learned(write([GOOD, {**GOOD, "label": 1}]))
    with pytest.raises(DataError, match="'0' is not a number, 1 for the first") as refused:
        task.check(table)
    assert refused.value.place.endswith("row 1, column 'label'")


def test_readings_of_a_label() -> None:
    three = choices_of(["x", "y", "z"])
    assert readings("C", three) == {"letters": 2}
    assert readings("2", three) == {"from 0": 2, "from 1": 1}
    assert readings(" y ", three) == {"texts": 1}
    named = choices_of({"text": ["x", "y"], "label": ["1", "2"]})
    assert readings("2", named) == {"names": 1}
    assert label_fault("2", named) is None
    assert series_in(["id", "choice2", "choice1", "label"]) == ["choice1", "choice2"]
    assert series_in(["text1", "text2", "2", "3"]) == series_in(["b", "c"]) == []


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a film", "options": "new", "label": "x"}] * 4,
        [{"text": "a film", "a": 1, "b": 2, "label": "x"}] * 4,
    ],
)
def test_other_files_are_not_taken_for_choices(write: Write, rows: list[Any]) -> None:
    _, kind = read_for_task(write(rows), Columns())
    assert kind.name == "text-classification"


def test_choices_that_the_limit_makes_alike_are_told(
    write: Write, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    long = " ".join(["very"] * 30)
    rows = [{**GOOD, "choices": [f"{long} good", f"{long} bad"]}, {**GOOD, "label": 2}]
    task, table = learned(write(rows))
    encoded, _ = encode_rows(task, table, np.arange(2), tiny_tokenizer, 16)
    (told,) = task.cautions(table, np.arange(2), encoded.encoded)
    assert told["claim"] == "1 row has choices that the model sees alike"
    assert "row 1" in told["detail"]
    describe_rows("Training", encoded.encoded)
    said = capsys.readouterr().err
    assert "Training: 2 rows\n  tokens a row, all its texts together: median" in said
    assert "1 of 2 rows has texts that are longer than 16 tokens" in said


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(cell=anything, label=st.text(max_size=4), columns=st.sampled_from([["choices"], ["q", "c"]]))
def test_any_cell_is_read_or_named(cell: Any, label: str, columns: list[str]) -> None:
    """Whatever stands in a column of choices gives two texts or more, or a reason."""
    cells = ("q", cell)[-len(columns) :]
    found = choices_cell(columns, [cells]).read(cells)
    if isinstance(found, BadRow):
        assert found.reason
        assert found.detail
        return
    choices = choices_of(found)
    assert len(choices.texts) >= 2
    assert all(isinstance(text, str) and text.strip() for text in choices.texts)
    fault = label_fault(label, choices)
    assert fault is not None or readings(label, choices)


# ---- commands


@pytest.fixture(scope="module")
def tuned(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that has learned which ending is warm, and its file."""
    draw = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("choices")
    rows = []
    for number in range(60):
        ends = draw.permutation(["dull", "bad", "cold", "poor"])[: 1 + number % 3].tolist()
        place = int(draw.integers(len(ends) + 1))
        ends.insert(place, "warm and good")
        rows.append({"question": "the film was", "choices": ends, "answer": "ABCD"[place]})
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = FinetuneOptions(
        model=str(tiny_folder), out=folder / "out", epochs=6, batch_size=8, lr=5e-3,
        precision="fp32", test_size=0.25,
    )  # fmt: skip
    metrics = finetune(path, options).metrics["eval"]
    assert metrics["accuracy"] > 0.9 > 0.6 > metrics["chance_accuracy"]
    assert {each["choices"] for each in metrics["per_number_of_choices"]} <= {2, 3, 4}
    return folder / "out", path


def test_every_command_knows_the_choices(
    tuned: tuple[Path, Path], bertolt: Callable[..., Any], tmp_path: Path
) -> None:
    out, path = tuned
    code, told, err = bertolt("evaluate", out, path, "--json")
    assert code == 0, err
    assert json.loads(told)["accuracy"] > 0.9
    code, _, err = bertolt("evaluate", out, path, "--label-map", "LABEL_0=A")
    assert (code, "leave --label-map out" in err) == (2, True)
    stranger = tmp_path / "stranger"
    shutil.copytree(out, stranger, ignore=shutil.ignore_patterns("bertolt.json"))
    code, told, err = bertolt("evaluate", stranger, path, "--json")
    assert (code, json.loads(told)["accuracy"] > 0.9) == (0, True), err
    typed = ("--text", "the film was", "--pair", "dull", "--pair", "warm and good")
    code, told, err = bertolt("predict", out, *typed)
    answer = json.loads(told)
    assert (code, answer["choice"], answer["label"], answer["index"]) == (
        0,
        "warm and good",
        "B",
        1,
    )
    assert answer["text_pair"] == ["dull", "warm and good"]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    line = b"the film was\tdull\twarm and good\n"
    code, lines, _ = bertolt("predict", out, "-", stdin=line)
    assert (code, json.loads(lines)["index"]) == (0, 1)
    for ending in ("csv", "parquet", "jsonl"):
        code, _, err = bertolt("predict", out, path, "--out", tmp_path / f"answers.{ending}")
        assert code == 0, err
    table = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    first = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert table[0]["text_pair"] == first["text_pair"]
    assert bertolt("inspect", out, "--selftest")[0] == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--text", "a", "--pair", "b"), "the model chooses between two texts or more"),
        (("--text", "a"), "the model chooses between texts, and --text gives none"),
        (("--text", "a", "--text", "b", "--pair", "c", "--pair", "d"), "--text is given 2 times"),
        (("--text", "a", "--pair", "b", "--pair", " "), "choice 2 is empty"),
    ],
)
def test_what_cannot_be_chosen_from(
    tuned: tuple[Path, Path], bertolt: Callable[..., Any], words: tuple[str, ...], problem: str
) -> None:
    code, told, err = bertolt("predict", tuned[0], *words)
    assert (code != 0, told) == (True, "")
    assert problem in err
    assert "fix:" in err


def test_a_line_without_choices(tuned: tuple[Path, Path], bertolt: Callable[..., Any]) -> None:
    code, _, err = bertolt("predict", tuned[0], "-", stdin=b"the film was\tdull\n")
    assert code != 0
    assert "the line has 1 choice" in err
    assert "by a tab" in err


WHOLE = {"question": "it was", "choices": ["dull", "warm"]}


@pytest.mark.parametrize(
    ("choices", "left"),
    [
        (None, None),
        ([], None),
        (["warm"], ["warm"]),
        (["warm", ""], ["warm", ""]),
        (["warm", None, 3], ["warm", None, "3"]),
        (["warm", "co\0ld"], ["warm", None]),
        ("warm; cold", ["warm; cold"]),
        (7, ["7"]),
    ],
)
def test_a_row_without_an_answer_has_what_there_is_of_it(
    tuned: tuple[Path, Path],
    bertolt: Callable[..., Any],
    tmp_path: Path,
    choices: Any,
    left: Any,
) -> None:
    """The question stays, and the choices are a list as those of other rows in every format."""
    path = tmp_path / "rows.jsonl"
    rows = [WHOLE, {"question": "the film was", "choices": choices}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for ending in ("jsonl", "parquet", "csv"):
        out = tmp_path / f"answers.{ending}"
        code, _, err = bertolt(
            "predict", tuned[0], path, "--on-bad-row", "answer-all", "--out", out
        )
        assert code == 0, err
        if ending == "parquet":
            good, bad = pq.read_table(out).to_pylist()
        elif ending == "jsonl":
            good, bad = map(json.loads, out.read_text().splitlines())
        else:
            with out.open(newline="") as file:
                good, bad = csv.DictReader(file)
            bad["text_pair"] = json.loads(bad["text_pair"] or "null")
            good["text_pair"] = json.loads(good["text_pair"])
        assert good["text_pair"] == WHOLE["choices"]
        assert (bad["text"], bad.get("text_pair")) == ("the film was", left)
        assert bad["reason"]


def test_choices_in_columns_are_kept_behind_what_they_go_on_from(
    tuned: tuple[Path, Path], bertolt: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "passage,question,A,B,C\na film,it was,dull,warm,\na book,it is,,warm,\na plot,,cold,,\n"
    )
    words = ("--on-bad-row", "answer-all", "--out", tmp_path / "answers.parquet")
    words += ("--column", "passage", "--pair-column", "question,A,B,C")
    code, _, err = bertolt("predict", tuned[0], path, *words)
    assert code == 0, err
    good, *others = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert good["text_pair"] == {"start": "it was", "text": ["dull", "warm"], "label": None}
    assert [(each["text"], each["text_pair"]) for each in others] == [
        ("a book", {"start": "it is", "text": ["", "warm"], "label": None}),
        ("a plot", {"start": "", "text": ["cold"], "label": None}),
    ]
    line = b"the film was\n"
    code, told, _ = bertolt("predict", tuned[0], "-", *words[:2], stdin=line)
    assert (code, json.loads(told)["text"]) == (0, "the film was")


def test_a_choice_that_is_too_long_is_named(
    tuned: tuple[Path, Path], bertolt: Callable[..., Any], tmp_path: Path
) -> None:
    """With its own tokens, and not with those of all choices."""
    folder = tmp_path / "model"
    shutil.copytree(tuned[0], folder)
    contract = folder / "bertolt.json"
    contract.write_text(json.dumps(json.loads(contract.read_text()) | {"max_length": 8}))
    path = tmp_path / "rows.jsonl"
    rows = [
        WHOLE | {"answer": "A"},
        WHOLE | {"choices": ["dull", "very " * 6, "b " * 9], "answer": "A"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = "its text with choice B has 11, its text with choice C has 14\n"
    for command in ("predict", "evaluate"):
        code, _, err = bertolt(command, folder, path, "--long", "error")
        assert code == 2
        assert f"row 2: it is longer than the limit of 8 tokens: {words}" in err


def test_python_takes_lists_and_records(tuned: tuple[Path, Path]) -> None:
    predictor = Predictor.from_pretrained(tuned[0], precision="fp32")
    ends = ["dull", "warm and good"]
    asked: list[Any] = [
        ("the film was", ends),
        {"text": "the film was", "text_pair": {"text": ends, "label": ["i", "ii"]}},
    ]
    plain, named = predictor.predict(asked)
    assert (plain.index, plain.label, named.label) == (1, "B", "ii")
    assert plain.probabilities == named.probabilities
    for wrong in ("dull", ["dull"], [1, 2]):
        with pytest.raises(UsageError, match="chooses between two texts or more"):
            list(predictor.predict([{"text": "the film was", "text_pair": wrong}]))


def test_a_task_that_has_no_choices_is_told(write: Write) -> None:
    path = write([{"review": "a film", "label": "x"}])
    with pytest.raises(UsageError, match="needs choices") as refused:
        read_for_task(path, Columns(), task="multiple-choice")
    assert "--text-pair" in refused.value.place
    several = write(SHAPES["letters as columns"][0], "more.jsonl")
    with pytest.raises(BertoltError, match="second text is read from one column"):
        read_for_task(several, Columns(), task="text-classification")


def test_a_cell_of_brackets_is_a_text() -> None:
    assert not is_list("[" * 60_000)
    assert is_list("[1]")


def test_one_choice_is_refused_in_python_too(tiny_tokenizer: Any) -> None:
    with pytest.raises(UsageError, match="chooses between two texts or more"):
        list(MultipleChoice().encode([{"text": "a", "text_pair": ["b"]}], tiny_tokenizer, 64))
