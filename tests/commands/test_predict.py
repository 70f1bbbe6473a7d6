"""`bertolt predict`: what it writes, what it never writes over, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from bertolt import BertTokenizer
from bertolt.commands.writers import _as_decimal, rounded
from bertolt.data.formats import open_source
from tests.commands.conftest import ROWS, write_rows

Run = Callable[..., Any]
Trained = Callable[[str], Path]


def lines(text: str) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def refused(said: Any, *words: str) -> None:
    assert said.code == 2
    for word in words:
        assert word in said.err


def test_a_missing_file_is_told_where_the_answers_have_one(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text("as it was\n")
    said = bertolt("predict", trained("labels"), tmp_path / "no.csv", "--out", out)
    refused(said, "there is no such file")
    assert out.read_text() == "as it was\n"


def test_the_file_of_the_texts_is_not_written_over(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["labels"])
    before = path.read_bytes()
    refused(bertolt("predict", trained("labels"), path, "--out", path), "--out", "another name")
    assert path.read_bytes() == before


@pytest.mark.parametrize("link", ["itself", "symlink_to", "hardlink_to"])
def test_no_leave_is_enough_to_replace_an_input(
    link: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS["labels"])
    model = Path(shutil.copytree(trained("labels"), tmp_path / "model"))
    for number, path in enumerate((rows, model / "config.json", model / "model.safetensors")):
        before, out = path.read_bytes(), path
        if link != "itself":
            out = tmp_path / f"out-{number}"
            getattr(out, link)(path)
        refused(bertolt("predict", model, rows, "--out", out, "--overwrite"), "would replace")
        assert path.read_bytes() == before


def test_a_file_that_is_there_is_replaced_where_that_is_asked_for(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["predict", trained("labels"), "--text", "good film", "--out", out]
    out.write_text("hours of work\n")
    refused(bertolt(*words), f"--out {out}: there is a file of this name", "--overwrite")
    assert out.read_text() == "hours of work\n"
    assert bertolt(*words, "--overwrite").code == 0
    assert lines(out.read_text())[0]["text"] == "good film"
    refused(bertolt(*words[:-1], tmp_path), "there is a folder of this name")
    assert bertolt(*words[:-1], "/dev/null").code == 0, "a device is not replaced"


def test_answers_may_lie_beside_the_model(
    bertolt: Run, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(trained("labels"), tmp_path / "model"))
    for more in ([], ["--overwrite"]):
        said = bertolt("predict", ".", "--text", "good film", "--out", "answers.csv", *more)
        assert said.code == 0, said.err
    refused(bertolt("predict", ".", "--text", "good", "--out", "run.json", "--overwrite"), "model")


def test_the_page_of_a_walk_replaces_no_file_either(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    page, model = tmp_path / "walk.html", Path(shutil.copytree(trained("labels"), tmp_path / "m"))
    page.write_text("mine")
    words = ["inspect", model, "--text", "good film", "--html"]
    refused(bertolt(*words, page), "--html", "there is a file of this name", "--overwrite")
    refused(bertolt(*words, model / "report.html", "--overwrite"), "--html", "part of the model")
    assert page.read_text() == "mine"
    assert bertolt(*words, page, "--overwrite").code == 0
    assert "good" in page.read_text()


def test_words_in_another_order_are_told_what_to_type(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path, model = write_rows(tmp_path / "rows.jsonl", ROWS["labels"]), trained("labels")
    for command in ("evaluate", "predict"):
        refused(bertolt(command, path, model), f"fix: bertolt {command} {model} {path}")
    refused(bertolt("predict", path), f"fix: bertolt predict MODEL {path}")
    refused(bertolt("inspect", path), "the model comes first")
    said = bertolt("predict", model, "a good film")
    refused(said, "no such file", f"bertolt predict {model} --text 'a good film'")


def test_own_columns_never_take_the_place_of_an_answer_nor_lose_theirs(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    own = {"row": 77, "text": "good film", "label": "mine", "probability": 2, "kept_row": 5}
    path = write_rows(tmp_path / "rows.jsonl", [own])
    (answer,) = lines(bertolt("predict", trained("labels"), path, "--keep", "all").out)
    assert next(iter(answer)) == "row"
    assert answer["row"] == 1
    assert answer["label"] in ("pos", "neg")
    assert answer["kept_label"] == "mine"
    assert answer["kept_probability"] == 2
    assert sorted(value for name, value in answer.items() if "kept" in name and "row" in name) == [
        5,
        77,
    ]
    said = bertolt("predict", trained("labels"), path, "--keep", "label", "--format", "csv")
    header, cells = csv.reader(said.out.splitlines())
    assert (header[:4], cells[1]) == (["row", "kept_label", "text", "label"], "mine")
    assert "the column 'label' is written as 'kept_label'" in said.err
    said = bertolt("predict", trained("labels"), path, "--keep", "all", "--format", "csv")
    header = next(csv.reader(said.out.splitlines()))
    assert len(set(header)) == len(header)


def test_own_columns_are_json_that_every_reader_takes(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good", "a": NaN, "b": {"c": [1, 1e999]}}\n', encoding="utf-8")
    (answer,) = lines(bertolt("predict", trained("labels"), path, "--keep", "all").out)
    assert answer["a"] is None
    assert answer["b"] == {"c": [1, None]}
    said = bertolt("predict", trained("labels"), path, "--keep", "b", "--format", "csv")
    header, cells = csv.reader(said.out.splitlines())
    assert json.loads(cells[header.index("b")]) == {"c": [1, None]}


def test_a_name_that_ends_in_conll_asks_for_that_format(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["tags"])
    out = tmp_path / "answers.conll"
    assert bertolt("predict", trained("tags"), path, "--out", out).code == 0
    assert [line.split("\t")[0] for line in out.read_text("utf-8").splitlines()] == [
        "good",
        "film",
        "",
    ]


def test_a_conll_file_holds_no_columns_beside_the_tags(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["tags"])
    words = ["predict", trained("tags"), path, "--keep", "all", "--format"]
    refused(bertolt(*words, "conll"), "--keep", "--format jsonl")
    assert bertolt(*words, "jsonl").code == 0


@pytest.mark.parametrize("word", ["a\tb", "a\nb", "", " ", "-DOCSTART-", "# a = b"])
def test_a_word_that_would_break_a_conll_file(
    word: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"tokens": ["good", word], "tags": ["O", "O"]}])
    out = tmp_path / "answers.conll"
    said = bertolt("predict", trained("tags"), path, "--out", out)
    refused(said, "row 1", repr(word), "--format jsonl")
    assert not out.exists()
    assert bertolt("predict", trained("tags"), path, "--format", "jsonl").code == 0


def test_fixes_name_the_options_of_this_command(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    words = write_rows(tmp_path / "words.jsonl", ROWS["tags"])
    nameless = write_rows(tmp_path / "nameless.jsonl", [{"p": "good", "q": "bad", "r": "x"}])
    empty = write_rows(tmp_path / "empty.jsonl", [{"text": ""}])
    for path in (words, nameless):
        said = bertolt("predict", trained("labels"), path)
        refused(said, "--column")
        assert "--text" not in said.err
    said = bertolt("predict", trained("labels"), empty, "--on-bad-row", "drop")
    refused(said, "--column")
    assert "--text" not in said.err
    assert "--label" not in said.err
    said = bertolt("bench", empty, "--model", trained("labels"))
    refused(said, "--column")
    assert "--text" not in said.err
    for content in ("text\ncafé\n".encode("latin-1"), b"a\0b\n"):
        (tmp_path / "bytes.csv").write_bytes(content)
        said = bertolt("bench", tmp_path / "bytes.csv", "--model", trained("labels"))
        refused(said, "fix: save it as UTF-8")


def test_a_model_of_single_texts_refuses_a_file_of_pairs(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [ROWS["pairs"][0] | {"label": "pos"}])
    said = bertolt("predict", trained("labels"), path)
    refused(said, "answers single texts", "--column premise")
    assert bertolt("predict", trained("labels"), path, "--column", "premise").code == 0
    said = bertolt("evaluate", trained("labels"), path)
    refused(said, "answers single texts", "--text premise")
    assert bertolt("evaluate", trained("labels"), path, "--text", "premise").code == 0


@pytest.mark.parametrize(
    ("line", "fault"),
    [("go\0od film", "a NUL byte at character 3"), ("\0", "a NUL byte"), ("\u200b\ufeff", "empty")],
)
def test_a_line_with_a_nul_or_without_width_is_not_answered(
    line: str, fault: str, bertolt: Run, trained: Trained
) -> None:
    stdin = f"good film\n{line}\nbad film\n".encode()
    said = bertolt("predict", trained("labels"), "--on-bad-row", "error", stdin=stdin)
    refused(said, "standard input, line 2", fault, "--on-bad-row")
    said = bertolt("predict", trained("labels"), "--on-bad-row", "drop", stdin=stdin)
    assert [answer["row"] for answer in lines(said.out)] == [1, 3]
    assert f"dropped 1 {'empty text' if fault == 'empty' else 'NUL byte'} (first:" in said.err


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.conll"])
def test_a_nul_in_a_file_is_refused_with_its_row(
    name: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    contents = {
        "a.jsonl": '{"text": "good"}\n{"text": "go\\u0000od"}\n',
        "a.csv": "text,id\ngood,1\n",
        "a.conll": "good O\n\nba\0d O\n",
    }
    path = tmp_path / name
    path.write_text(contents[name].replace("good,1", "go\0od,1"), encoding="utf-8")
    row = {"a.jsonl": "row 2", "a.csv": "row 1 (line 2)", "a.conll": "row 2 (line 3)"}[name]
    said = bertolt("predict", trained("tags" if name == "a.conll" else "labels"), path)
    refused(said, f"{path}, {row}: a NUL byte", "--on-bad-row drop")
    assert said.out == ""


@pytest.mark.parametrize("line", ["good\t", "good\t \n", "\tgood", "good", "good\tbad\tno"])
def test_a_line_that_is_no_pair(line: str, bertolt: Run, trained: Trained) -> None:
    said = bertolt("predict", trained("pairs"), "--on-bad-row", "error", stdin=line.encode())
    refused(said, "standard input, line 1", "text")


def test_an_empty_line_has_an_empty_answer(bertolt: Run, trained: Trained) -> None:
    said = bertolt("predict", trained("labels"), stdin=b"good film\n\n \nbad film\n")
    answers = lines(said.out)
    assert [answer["row"] for answer in answers] == [1, 2, 3, 4]
    assert answers[1] == {
        **{"row": 2, "text": "", "label": None, "probability": None, "probabilities": None},
        **{"tokens_cut": None, "reason": "empty text"},
    }
    assert "no answer to 2 empty texts (first: standard input, line 2)" in said.err
    answers = lines(bertolt("predict", trained("pairs"), stdin=b"good\tbad\n\tgood\n\n").out)
    assert [answer.get("reason") for answer in answers] == [None, "empty text", "empty text"]


@pytest.mark.parametrize(
    ("name", "rows", "reason"),
    [
        ("pairs", [("text_pair", ""), ("text", " ")], ["empty second text", "empty text"]),
        ("tags", [("tokens", [])], ["empty text"]),
        ("numbers", [("text", "")], ["empty text"]),
    ],
)
def test_a_row_without_a_text_has_an_empty_answer(
    name: str, rows, reason, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    usual = {
        "pairs": {"text": "good", "text_pair": "film"},
        "tags": {"tokens": ["good", "film"]},
        "numbers": {"text": "good"},
    }[name]
    names = {"pairs": {"text": "premise", "text_pair": "hypothesis"}}.get(name, {})
    records = [usual, *({**usual, key: value} for key, value in rows), usual]
    records = [{names.get(key, key): v for key, v in record.items()} for record in records]
    path = write_rows(tmp_path / "a.jsonl", [{"id": n, **r} for n, r in enumerate(records)])
    said = bertolt("predict", trained(name), path, "--keep", "id")
    answers = lines(said.out)
    assert [answer["id"] for answer in answers] == list(range(len(records)))
    assert [answer.get("reason") for answer in answers] == [None, *reason, None]
    assert "no answer to 1 row: empty text" in said.err
    out = tmp_path / "out.csv"
    assert bertolt("predict", trained(name), path, "--keep", "id", "--out", out).code == 0
    assert len(list(csv.reader(out.open(newline="")))) == len(records) + 1


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "xlsx"])
def test_half_a_surrogate_pair_in_a_kept_column_is_written_as_its_escape(
    kind: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / f"out.{kind}"
    path.write_text('{"text": "good", "id": "a\\ud83d", "\\udc00": 1}\n{"text": ""}\n', "utf-8")
    said = bertolt("predict", trained("labels"), path, "--keep", "all", "--out", out)
    assert said.code == 0, said.err
    if kind.startswith("json"):
        text = out.read_text(encoding="utf-8")
        first = json.loads(text.splitlines()[0]) if kind == "jsonl" else json.loads(text)[0]
        assert (first["id"], first["\udc00"]) == ("a\ud83d", 1)
    elif kind == "csv":
        (first, _) = csv.DictReader(out.open(newline="", encoding="utf-8"))
        assert (first["id"], first["\\udc00"]) == ("a\\ud83d", "1")
    else:
        assert out.stat().st_size


def test_answers_to_several_files_have_their_file(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    one = write_rows(tmp_path / "a.jsonl", [{"text": "good"}, {"text": ""}])
    two = write_rows(tmp_path / "b.jsonl", [{"text": "bad", "file": "mine"}])
    three = write_rows(tmp_path / "c.jsonl", [{"words": "bad"}])
    answers = lines(bertolt("predict", trained("labels"), one, two).out)
    places = [(str(one), 1), (str(one), 2), (str(two), 1)]
    assert [(answer["file"], answer["row"]) for answer in answers] == places
    said = bertolt("predict", trained("labels"), two, one, "--keep", "file")
    refused(said, str(one), "no column 'file'")
    refused(bertolt("predict", trained("labels"), one, three), str(three), "no column 'text'")


def test_empty_lines_among_pairs_can_be_left_out(bertolt: Run, trained: Trained) -> None:
    stdin = b"good\tbad\n\n\t\ngood\t\nfine\tgood\n"
    said = bertolt("predict", trained("pairs"), "--on-bad-row", "drop", stdin=stdin)
    assert [answer["row"] for answer in lines(said.out)] == [1, 5]
    assert "dropped 3 empty texts" in said.err


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("labels", ["label", "probability", "probabilities"]),
        ("several", ["labels", "probabilities"]),
        ("numbers", ["value"]),
        ("tags", ["spans"]),
    ],
)
def test_what_an_answer_holds(name: str, keys: list[str], bertolt: Run, trained: Trained) -> None:
    (answer,) = lines(bertolt("predict", trained(name), "--text", "good film").out)
    assert list(answer) == ["row", "text", *keys]
    for span in answer.get("spans", []):
        assert list(span) == ["start", "end", "label", "text", "probability"]
        assert answer["text"][span["start"] : span["end"]] == span["text"]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_outputs_that_overflow_end_every_command_with_the_row(
    name: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    """The answers before that row are written; an answer of such numbers would look like any."""
    model = Path(shutil.copytree(trained(name), tmp_path / "model"))
    _let_a_word_overflow(model, "z")
    good = ROWS[name][0]
    key = next(key for key in ("premise", "tokens", "text", "sentence1", "anchor") if key in good)
    words = ["z", *good[key][1:]] if key == "tokens" else f"{good[key]} z"
    path = write_rows(tmp_path / "rows.jsonl", [good, good, good | {key: words}])
    command = ["predict", model, path, "--precision", "fp32"]
    said = bertolt(*command)
    refused(said, "row 3", "not finite", "train the model again")
    assert [line["row"] for line in lines(said.out)] == [1, 2]
    out = tmp_path / "answers.jsonl"
    refused(bertolt(*command, "--out", out), "row 3")
    assert not out.exists()
    refused(bertolt("evaluate", model, path, "--precision", "fp32"), "row 3", "not finite")


def _let_a_word_overflow(folder: Path, word: str) -> None:
    weights = load_file(folder / "model.safetensors")
    tokens = BertTokenizer.from_pretrained(folder).get_vocab()
    key = next(key for key in weights if key.endswith("word_embeddings.weight"))
    weights[key][tokens[word]] = 3e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("value", "plain", "cell"),
    [
        (0.123456789, 0.123457, "0.123457"),
        (3.2e-8, 3.2e-8, "3.2e-08"),
        (-0.00012345678, -0.000123457, "-0.00012345678"),
        (1.5e30, 1.5e30, "1.5e+30"),
        (0.0, 0.0, "0.000000"),
        (-12.5, -12.5, "-12.500000"),
    ],
)
def test_numbers_in_small_and_large_units_keep_their_digits(
    value: float, plain: float, cell: str
) -> None:
    assert rounded({"value": [value]}) == {"value": [plain]}
    assert _as_decimal(value) == cell


def test_a_model_without_a_contract_is_told(bertolt: Run, trained: Trained, tmp_path: Path) -> None:
    model = Path(shutil.copytree(trained("numbers"), tmp_path / "model"))
    assert "bertolt.json" not in bertolt("predict", model, "--text", "good").err
    (model / "bertolt.json").rename(tmp_path / "elsewhere.json")
    said = bertolt("predict", model, "--text", "good")
    assert said.code == 0
    assert f"No bertolt.json in {model}: the answers are the model's own outputs" in said.err
    (model / "bertolt.json").symlink_to(tmp_path / "gone.json")
    refused(
        bertolt("predict", model, "--text", "good"), "not a readable contract", "copy the model"
    )


@pytest.mark.parametrize("ending", [".txt", ".conllu", ".csv.zip"])
def test_a_name_of_a_format_that_is_not_written_is_refused(
    ending: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    out = tmp_path / f"answers{ending}"
    words = ["predict", trained("labels"), "--text", "good", "--out", out]
    refused(bertolt(*words), "answers are not written as", "--format")
    assert not out.exists()
    assert bertolt(*words, "--format", "jsonl").code == 0
    assert lines(out.read_text())[0]["row"] == 1


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx"])
def test_a_table_of_answers_says_why_one_is_empty(
    ending: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / f"out.{ending}"
    rows.write_text("reason,text\nr1,good film\nr2,\n")
    words = ["predict", trained("labels"), rows, "--out", out]
    assert bertolt(*words, "--keep", "reason").code == 0
    source = open_source(out)
    assert source.columns[-1] == "reason"
    names = ["row", "kept_reason", "text", "label", "reason"]
    (_, first), (_, second) = source.rows(names)
    assert (first[1], first[4]) == ("r1", "")
    assert second == ("2", "r2", "", "", "empty text")
    # Where every row of a file has an answer there is nothing to say.
    rows.write_text("reason,text\nr1,good film\n")
    assert bertolt(*words, "--overwrite").code == 0
    assert "reason" not in open_source(out).columns


def test_standard_input_has_the_column_before_it_is_needed(bertolt: Run, trained: Trained) -> None:
    words = ["predict", trained("labels"), "-", "--format", "csv"]
    for text, more in (("good film\n", []), ("good film\n", ["--on-bad-row", "answer-all"])):
        header, answer = bertolt(*words, *more, stdin=text.encode()).out.splitlines()
        assert header.endswith(",reason")
        assert answer.endswith(",")
    said = bertolt(*words, "--on-bad-row", "error", stdin=b"good film\n")
    assert "reason" not in said.out


def test_every_row_may_have_an_answer_whatever_is_wrong_with_it(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,text\n1,good film\n2,\n3,bad,film\n4,fi\0lm\n5,bad film\n")
    words = ["predict", trained("labels"), path]
    refused(bertolt(*words), "row 3 (line 4): 3 cells", "--on-bad-row answer-all", "mend the row")
    said = bertolt(*words, "--keep", "id", "--on-bad-row", "answer-all")
    assert said.code == 0
    answers = lines(said.out)
    assert [each["row"] for each in answers] == [1, 2, 3, 4, 5]
    assert [each["id"] for each in answers] == ["1", "2", None, "4", "5"]
    reasons = [None, "empty text", "ragged row", "NUL byte", None]
    assert [each.get("reason") for each in answers] == reasons
    for reason, row in (("empty text", 2), ("ragged row", 3), ("NUL byte", 4)):
        assert f"no answer to 1 row: {reason} (row {row}; line {row + 1})" in said.err
    stdin = b"good film\n\nfi\0lm\nbad film\n"
    said = bertolt(*words[:2], "--on-bad-row", "answer-all", stdin=stdin)
    assert [each.get("reason") for each in lines(said.out)] == [
        *(None, "empty text", "NUL byte", None),
    ]
    stdin = b"a\tb\none\nx\tfi\0lm\n"
    said = bertolt("predict", trained("pairs"), "--on-bad-row", "answer-all", stdin=stdin)
    reasons = [None, "line that is no pair", "NUL byte"]
    assert [each.get("reason") for each in lines(said.out)] == reasons
    pairs = [("a", "b"), ("one", None), ("x", None)]
    assert [(each["text"], each.get("text_pair")) for each in lines(said.out)] == pairs


@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("pairs", ("premise", "hypothesis"), [("good film", ""), ("", "film"), ("good", "b\0d")]),
        ("scored", ("sentence1", "sentence2"), [("good film", ""), ("b\0d", "film")]),
        ("labels", ("text",), [("  ",), ("b\0d",)]),
        ("tags", ("tokens",), [(["", " "],), (["good", "b\0d"],)]),
    ],
)
def test_a_row_without_an_answer_has_what_there_is_of_its_texts(
    name: str,
    columns: tuple[str, ...],
    rows: list[tuple[Any, ...]],
    bertolt: Run,
    trained: Trained,
    tmp_path: Path,
) -> None:
    """In every task, whatever else is broken in it; what cannot be written alone is left out."""
    path = tmp_path / "rows.jsonl"
    good = ["good", "film"] if name == "tags" else "good film"
    values = [[good] * len(columns), *rows]
    path.write_text(
        "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in values)
    )
    roles = {"--column": columns[0]} | dict(zip(["--pair-column"], columns[1:], strict=False))
    words = [word for pair in roles.items() for word in pair]
    words += ["--on-bad-row", "answer-all"]
    said = bertolt("predict", trained(name), path, *words)
    assert said.code == 0, said.err
    first, *others = lines(said.out)
    assert "reason" not in first
    for row, told in zip(rows, others, strict=True):
        assert told["reason"]
        for role, value in zip(("text", "text_pair"), row, strict=False):
            if isinstance(value, list):
                value = " ".join(word for word in value if "\0" not in word).strip()
                assert told[role].strip() == value
            else:
                assert (told.get(role) or "") == ("" if "\0" in value else value)


@pytest.mark.parametrize("long", ["truncate", "window"])
def test_what_was_read_of_a_text_without_an_answer_is_null(
    long: str, bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    """And no number in any format: it was neither cut nor read in one window."""
    path = tmp_path / "rows.csv"
    path.write_text("text\ngood film\n \n")
    read = {"tokens_cut": 0} | ({"windows": 1} if long == "window" else {})
    for ending in ("jsonl", "json", "csv", "parquet"):
        out = tmp_path / f"{long}.{ending}"
        said = bertolt("predict", trained("labels"), path, "--long", long, "--out", out)
        assert said.code == 0, said.err
        if ending == "parquet":
            first, second = pq.read_table(out).to_pylist()
        elif ending == "csv":
            with out.open(newline="") as file:
                first, second = csv.DictReader(file)
        elif ending == "json":
            first, second = json.loads(out.read_text())
        else:
            first, second = lines(out.read_text())
        nothing = "" if ending == "csv" else None
        assert {name: second[name] for name in read} == dict.fromkeys(read, nothing)
        if ending in ("csv", "parquet"):
            assert {name: int(first[name]) for name in read} == read
        else:
            assert not read.keys() & first.keys()


def test_a_text_that_is_too_long_is_named_with_its_own_tokens(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    """Each text of a pair that is encoded by itself; of pairs that are read together, both."""
    limit = 8
    path = tmp_path / "rows.jsonl"
    long = " ".join(["good"] * 9)
    for rows, words, column in (
        ([("good", long)], "its second text has 11", "sentence2"),
        ([(long, "good")], "its first text has 11", "sentence1"),
        ([(long, f"{long} film")], "its first text has 11, its second text has 12", "sentence1"),
    ):
        path.write_text(
            "".join(
                json.dumps({"sentence1": a, "sentence2": b, "score": 1.0}) + "\n" for a, b in rows
            )
        )
        model = trained_with(limit, trained("scored"), tmp_path / f"{column}{len(words)}")
        for command in ("predict", "evaluate"):
            said = bertolt(command, model, path, "--long", "error")
            refused(said, f"row 1, column {column!r}", f"the limit of 8 tokens: {words}\n")
        pair = [
            word
            for flag, text in zip(("--text", "--pair"), rows[0], strict=True)
            for word in (flag, text)
        ]
        refused(bertolt("predict", model, *pair, "--long", "error"), "error: row 1: ", f"{words}\n")
    single = bertolt("predict", model, "--text", long, "--long", "error")
    refused(single, "error: row 1: ", "the limit of 8 tokens: it has 11\n")


def trained_with(limit: int, folder: Path, to: Path) -> Path:
    """A copy of a model with another limit."""
    shutil.copytree(folder, to)
    path = to / "bertolt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_length": limit}))
    return to


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (["a.txt"], "bertolt predict {model} - < a.txt"),
        (["a.txt.gz"], "gzip -dc a.txt.gz | bertolt predict {model} -"),
        (["a.text", "b.txt"], "cat a.text b.txt | bertolt predict {model} -"),
        (["a.txt", "b.csv"], "by itself"),
    ],
)
def test_plain_text_is_sent_to_standard_input(
    names: list[str],
    command: str,
    bertolt: Run,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).write_text("text\ngood film\n")
    model = trained("labels")
    refused(bertolt("predict", model, *names), names[0], command.format(model=model))
