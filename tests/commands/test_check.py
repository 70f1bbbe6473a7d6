"""`bertolt check`: what it finds, what it writes, and its exit codes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertolt.base.distributed import World
from bertolt.base.errors import TrainingError
from bertolt.commands.finetune import in_memory, turns
from bertolt.commands.finetune.data import LoadedRows
from bertolt.commands.finetune.in_memory import FoldInMemory
from bertolt.models.families.base import read_config
from bertolt.report.build import render_check
from bertolt.tokenization import BertTokenizer
from bertolt.train.job import train_from
from bertolt.train.loop import History
from bertolt.train.trainer import Trainer
from tests.callbacks import At, press
from tests.conftest import GOOD, PLAIN, POOR
from tests.report.facts import Page
from tests.running import Said

Run = Callable[..., Said]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty texts of which nobody would say anything."""
    path = tmp_path_factory.mktemp("clean") / "clean.csv"
    rows = [
        (f"{PLAIN[n % 17]} {PLAIN[n % 13]} {(GOOD, POOR)[n % 2][n % 10]} {PLAIN[n % 11]}", n % 2)
        for n in range(30)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def checked(bertolt: Run, tiny_folder: Path, path: Path, *words: object) -> Said:
    return bertolt("check", path, "--model", tiny_folder, *words)


def test_clean_rows_end_with_0_and_findings_with_1(
    bertolt: Run, tiny_folder: Path, clean: Path, tmp_path: Path
) -> None:
    said = checked(bertolt, tiny_folder, clean, "--html", tmp_path / "page.html")
    assert (said.code, said.out) == (0, "Nothing to look at\n"), said.out
    assert "Nothing to warn about" in (tmp_path / "page.html").read_text(encoding="utf-8")
    path = tmp_path / "odd.csv"
    odd = "the film was a very good story of the end,1\n" * 4
    odd += "the film was a very good story of the ends,0\nпривет,1\n"
    path.write_text(clean.read_text(encoding="utf-8") + odd, encoding="utf-8")
    said = checked(bertolt, tiny_folder, path, "--html", tmp_path / "odd.html")
    assert said.code == 1
    assert "1 pair of texts nearly alike with different labels" in said.out
    assert said.out.endswith("worth a look\n")
    Page((tmp_path / "odd.html").read_text(encoding="utf-8"))
    assert {each.name for each in tmp_path.iterdir()} == {"page.html", "odd.csv", "odd.html"}


def test_json_has_all_of_it_and_makes_the_page(
    bertolt: Run, tiny_folder: Path, clean: Path
) -> None:
    said = checked(bertolt, tiny_folder, clean, "--json")
    facts = json.loads(said.out)
    assert facts["findings"] == 0
    assert facts["data"]["train_rows"] == 24
    assert "bertolt check" in facts["command"]
    assert "Nothing to look at in 30 rows" in render_check(facts)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--csv", "a.csv"], "--csv: it belongs to the search for wrong labels"),
        (["--folds", "3"], "--folds: it belongs"),
        (["--html", "INPUT"], "--html"),
        (["--html", "x.html", "--csv", "./x.html", "--label-errors"], "--html names it too"),
        (["--html", "MODEL/config.json", "--overwrite"], "a part of the model"),
        (["--label", "lable"], "there is no column 'lable'"),
        (["--label-errors", "--answers", "none.jsonl"], "none.jsonl"),
        (["--label-errors", "--folds", "1"], "--folds"),
        (["--label-errors", "--task", "regression", "--folds", "40"], "30 rows for 40 folds"),
    ],
)
def test_what_cannot_be_used_ends_with_2_and_leaves_nothing(
    bertolt: Run, tiny_folder: Path, clean: Path, tmp_path: Path, words: list[str], problem: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(clean.read_bytes())
    words = [str(path) if word == "INPUT" else word for word in words]
    words = [word.replace("MODEL", str(tiny_folder)) for word in words]
    said = checked(bertolt, tiny_folder, path, *words)
    assert said.code == 2
    assert problem in said.err
    assert "fix: " in said.err
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]


def test_labels_in_doubt_by_answers_that_are_there(
    bertolt: Run, tiny_folder: Path, clean: Path, tmp_path: Path
) -> None:
    lines: list[dict[str, Any]] = []
    for row in range(1, 31):
        share = 0.9 if (row - 1) % 2 else 0.1
        share = 0.01 if row == 8 else share
        lines.append({"row": row, "answer": {"probabilities": {"0": 1 - share, "1": share}}})
    answers = tmp_path / "out_of_fold.jsonl"
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    words = ("--label-errors", "--answers", answers, "--csv", tmp_path / "doubts.csv")
    said = checked(bertolt, tiny_folder, clean, *words, "--html", tmp_path / "page.html")
    assert said.code == 1
    assert "1 label may be wrong" in said.out
    assert "the least trusted first: row 8 (line 9), " in said.out
    assert "is '1', rather '0'. The further down, the more are right." in said.out
    assert "know no more" not in said.out
    with (tmp_path / "doubts.csv").open(encoding="utf-8", newline="") as file:
        first, second, *others = csv.DictReader(file)
    assert (first["row"], first["given"], first["rather"], first["in_doubt"]) == (
        "8",
        "1",
        "0",
        "yes",
    )
    assert second["in_doubt"] == "no"
    assert len(others) == 28
    assert "Labels that may be wrong" in (tmp_path / "page.html").read_text(encoding="utf-8")
    # Rows that were always in training have no line.
    some = [line for line in lines if line["row"] not in (3, 30)]
    answers.write_text("".join(json.dumps(line) + "\n" for line in some), encoding="utf-8")
    words = ("--label-errors", "--answers", answers)
    said = checked(bertolt, tiny_folder, clean, *words, "--html", tmp_path / "some.html")
    assert said.code == 1
    told = f"2 rows without an answer in {answers}, not ranked: row 3 (line 4), row 30 (line 31)"
    assert told in said.err
    assert told in (tmp_path / "some.html").read_text(encoding="utf-8")
    assert "Of 28 rows" in said.out
    answers.write_text("", encoding="utf-8")
    said = checked(bertolt, tiny_folder, clean, *words)
    assert said.code == 2
    assert f"it answers no row of {clean}" in said.err
    for line, problem in [
        (b"\xff", "line 1: this is no object with a row and an answer"),
        (b"[" * 9999, "line 1: this is no object with a row and an answer"),
        (b'{"row": 1, "answer": 5}', "the answer to row 1 is not as text-classification answers"),
        (b'{"row": 1, "answer": {"probabilities": [1]}}', "the answer to row 1 is not as"),
    ]:
        answers.write_bytes(line + b"\n")
        said = checked(bertolt, tiny_folder, clean, "--label-errors", "--answers", answers)
        assert said.code == 2
        assert problem in said.err


def answering(probabilities: dict[str, float], seen: Callable[[LoadedRows], object]) -> Any:
    """In place of a training: answers each row alike, and shows the rows of the fold."""
    answer = {"label": next(iter(probabilities)), "probabilities": probabilities}

    def learn(fold: FoldInMemory) -> SimpleNamespace:
        fold.source = Path(str(fold.options.model))
        config = read_config(fold.source)
        data = fold.read(BertTokenizer.from_pretrained(fold.source), config)
        seen(data)
        assert data.eval is not None
        for number, example in enumerate(data.eval.examples(range(len(data.eval)))):
            fold._watch()(number, answer, example)
        return SimpleNamespace(history=History())

    return learn


def test_no_model_has_seen_a_copy_of_a_row_that_it_answers(
    bertolt: Run,
    tiny_folder: Path,
    clean: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "rows.csv"
    lines = clean.read_text(encoding="utf-8").splitlines()
    text = "the film was a very good story of the end"
    lines += [lines[1], f"{text},1", f"{text}s,1", f"{text.upper()},0"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    trains: list[set[int]] = []

    def seen(data: LoadedRows) -> None:
        trains.append({row["row"] for row in data.train.examples(range(len(data.train)))})

    monkeypatch.setattr(FoldInMemory, "learn", answering({"0": 0.6, "1": 0.4}, seen))
    said = checked(bertolt, tiny_folder, path, "--label-errors", "--folds", 6)
    assert "seen a copy" not in said.err
    assert len(trains) == 6
    for rows in trains:
        assert all(len(group & rows) in (0, len(group)) for group in ({1, 31}, {32, 33, 34}))
    said = checked(bertolt, tiny_folder, path, "--label-errors", "--folds", 17)
    assert "Models may have seen a copy of a row that they answer" in said.err
    assert "The models that rank the labels know no more than the most frequent one" in said.out


def test_longer_texts_and_a_label_of_one_row_are_answered_as_finetune_reads_them(
    bertolt: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"a long text of row {row} with many words,{'ab'[row % 2]}" for row in range(12)]
    path.write_text("\n".join(["text,label", *lines, "the only one,c"]) + "\n", encoding="utf-8")
    windows = []

    def seen(data: LoadedRows) -> None:
        assert tuple(data.task.labels) == ("a", "b", "c")
        windows.append(int(data.train.encoded.windows.max()))

    monkeypatch.setattr(FoldInMemory, "learn", answering({"a": 0.6, "b": 0.3, "c": 0.1}, seen))
    long = ("--max-length", 10, "--long", "window", "--stride", 2)
    doubts = ("--label-errors", "--folds", 3, "--csv", tmp_path / "doubts.csv")
    said = checked(bertolt, tiny_folder, path, *long, *doubts)
    assert said.code == 1, said.err
    assert "1 row always in training, not ranked: row 13 (line 14)" in said.err
    assert "read in several windows" in said.err
    assert len(windows) == 3
    assert min(windows) > 1
    assert len((tmp_path / "doubts.csv").read_text(encoding="utf-8").splitlines()) == 13


TRAINED = ("--epochs", 2, "--batch-size", 8, "--lr", 5e-3, "--precision", "fp32")


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Twelve users with three texts each, all texts far from each other, labels by turns."""
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [(PLAIN[n % 17] * 5 + f" {n:x}" * 9, "ab"[n % 2], f"u{n % 12}") for n in range(36)]
        csv.writer(file).writerows([("text", "label", "user"), *rows])
    return path


@pytest.mark.parametrize("more", [(), ("--group", "user", "--split-seed", 5)])
def test_the_folds_are_those_of_finetune_and_leave_no_folder(
    bertolt: Run,
    tiny_folder: Path,
    grouped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[object, ...],
) -> None:
    run = ("--model", tiny_folder, "--folds", 3, "--text", "text", "--label", "label", *TRAINED)
    said = bertolt("finetune", grouped, *run, *more, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    # What holds for all runs alike is told by the first of them.
    for words in ("Precision fp32", "Attention ", "Loaded "):
        assert said.err.count(words) == 1
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    asked = ("--label-errors", *more, "--html", "page.html")
    said = bertolt("check", grouped, *run, *asked, "--csv", "trained.csv")
    assert said.code in (0, 1), said.err
    assert "\nRun 3 of 3: fold 3; about " in said.err
    assert "24 rows train, 12 are answered" in said.err
    assert said.err.count("Precision fp32") == 1
    assert {each.name for each in here.iterdir()} == {"page.html", "trained.csv"}
    kept = tmp_path / "out" / "out_of_fold.jsonl"
    words = ("--label-errors", "--answers", kept, "--csv", "kept.csv", "--text", "text")
    words = (*words, "--label", "label", *more)
    said = checked(bertolt, tiny_folder, grouped, *words)
    assert said.code in (0, 1), said.err
    assert (here / "trained.csv").read_bytes() == (here / "kept.csv").read_bytes()


def test_models_that_have_learned_nothing_are_told_in_options_of_this_command(
    bertolt: Run, tiny_folder: Path, clean: Path
) -> None:
    words = ("--label-errors", "--folds", 2, "--epochs", 1, "--batch-size", 32)
    said = checked(bertolt, tiny_folder, clean, *words)
    assert said.code == 1
    assert "The models that rank the labels have learned nothing. " in said.out
    assert "by more --epochs or a smaller --batch-size, at an --lr above 0" in said.out
    assert "warmup" not in said.out + said.err
    said = checked(bertolt, tiny_folder, clean, *words, "--lr", 0)
    assert said.err.count("Caution: with --lr 0 no weight changes") == 1


def test_a_loss_that_is_not_finite_ends_the_check_and_names_its_own_options(
    bertolt: Run, tiny_folder: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = checked(bertolt, tiny_folder, clean, "--label-errors", "--lr", 1e30, "--epochs", 20)
    assert said.code == TrainingError.exit_code
    assert "fix: use a smaller --lr\n" in said.err
    assert "saved" not in said.err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_a_fold_ends_the_check(
    bertolt: Run, tiny_folder: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(trainer: Trainer, checkpoint: Path | None) -> None:
        trainer.callbacks.append(At(1, press))
        train_from(trainer, checkpoint)

    monkeypatch.setattr(in_memory, "train_from", interrupted)
    path = tmp_path / "doubts.csv"
    said = checked(bertolt, tiny_folder, clean, "--label-errors", *TRAINED, "--csv", path)
    assert (said.code, path.exists(), "Run 2 of" in said.err) == (130, False, False)


def test_several_processes_and_folds_without_rows_are_refused(
    bertolt: Run, tiny_folder: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\ngood film,a\nbad plot,b\nvery slow,c\nfine cast,a\n")
    said = checked(bertolt, tiny_folder, path, "--label-errors", "--folds", 4, "--test-size", 0)
    assert said.code == 2
    assert re.search("--folds: fold . of 4 would hold no row out", said.err), said.err
    monkeypatch.setattr(turns, "join", lambda: World(rank=0, size=2))
    said = checked(bertolt, tiny_folder, clean, "--label-errors")
    assert said.code == 2
    assert "--label-errors: --label-errors makes its runs in one process" in said.err


def test_the_head_of_another_model_is_told_once(bertolt: Run, tuned: Path, clean: Path) -> None:
    said = checked(bertolt, tuned, clean, "--label-errors", "--folds", 2, "--epochs", 0.1)
    assert said.err.count("Head: a new one for text-classification") == 1, said.err


@pytest.mark.slow
def test_planted_errors_are_found_by_models_that_have_not_seen_them(
    bertolt: Run, tiny_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    with reviews_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for at in (11, 40):
        rows[at]["label"] = {"pos": "neg", "neg": "pos"}[rows[at]["label"]]
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["review", "label"])
        writer.writeheader()
        writer.writerows(rows)
    settings = ("--epochs", 12, "--batch-size", 8, "--lr", 5e-3, "--precision", "fp32")
    words = ("--label-errors", "--folds", 4, *settings, "--csv", tmp_path / "doubts.csv")
    said = checked(bertolt, tiny_folder, path, *words)
    assert said.code == 1, said.err
    with (tmp_path / "doubts.csv").open(encoding="utf-8", newline="") as file:
        first = [int(row["row"]) for row in csv.DictReader(file) if row["in_doubt"] == "yes"]
    assert len(first) <= 12
    assert {12, 41} <= set(first)
