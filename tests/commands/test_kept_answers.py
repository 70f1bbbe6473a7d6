"""Answers that are kept: a command that was killed goes on, and ends with the same bytes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt import BertTokenizer, SentenceEncoder
from bertolt.cli import main
from bertolt.commands import predict
from tests.commands.conftest import ROWS, write_rows

Run = Callable[..., Any]
Trained = Callable[[str], Path]
WORDS = ["good", "bad", "fine", "the film was good", "very bad plot", "awful"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertolt.tasks.predictor.WINDOW", 4)
    monkeypatch.setattr("bertolt.commands.kept_answers.EVERY", 0.0)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """19 rows with columns of their own, some of them without a text."""
    texts = [WORDS[number % 6] if number % 7 != 3 else "" for number in range(19)]
    own = [{"id": number, "note": None if number < 9 else f"é {number}"} for number in range(19)]
    rows = [{**each, "text": text} for each, text in zip(own, texts, strict=True)]
    return write_rows(tmp_path / "rows.jsonl", rows)


def folders(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each.name.startswith("."))


def killed(words: list[object], answers: int, name: str = "_write_unanswered") -> None:
    """Run a command in a process that is killed before it writes an answer of that number."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it came to its end"
        return
    usual, calls = getattr(predict._Answering, name), 0

    def step(self: Any, *more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > answers:
            more[0].flush()  # what is half a window is in the file
            os.kill(os.getpid(), signal.SIGKILL)
        usual(self, *more)

    setattr(predict._Answering, name, step)
    with contextlib.suppress(BaseException):
        main(list(map(str, words)))
    os._exit(1)


def after_kills(bertolt: Run, words: list[object], *answers: int) -> str:
    """What the command says that comes to its end after kills."""
    for number in answers:
        killed(words, number)
    said = bertolt(*words)
    assert said.code == 0, said.err
    return str(said.err)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.tsv.gz", "a.jsonl.zst", "a.parquet"]
)
def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    bertolt: Run, trained: Trained, rows: Path, tmp_path: Path, name: str
) -> None:
    whole, out = tmp_path / f"whole-{name}", tmp_path / name
    words = ["predict", trained("labels"), rows, "--keep", "all", "--precision", "fp32", "--out"]
    assert bertolt(*words, whole).code == 0
    assert folders(out) == []
    said = after_kills(bertolt, [*words, out], 9, 2, 5)
    assert "Going on behind" in said
    assert out.read_bytes() == whole.read_bytes()
    assert folders(out) == []


def test_tagged_words_go_on_too(bertolt: Run, trained: Trained, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS["tags"] * 9)
    whole, out = tmp_path / "whole.conll", tmp_path / "a.conll"
    words = ["predict", trained("tags"), rows, "--precision", "fp32", "--out"]
    assert bertolt(*words, whole).code == 0
    assert "Going on behind 8 answers" in after_kills(bertolt, [*words, out], 9)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("every", "kept"), [(0.0, 14), (60.0, 9)])
def test_vectors_go_on_too(
    bertolt: Run, tiny_folder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    every: float, kept: int,
) -> None:  # fmt: skip
    """With few notes too: a process notes its first window, and the next one after a while."""
    monkeypatch.setattr("bertolt.commands.kept_answers.EVERY", every)
    model = SentenceEncoder.from_pretrained(tiny_folder, verbose=False)
    model.save_pretrained(tmp_path / "model")
    BertTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "model")
    whole, out = tmp_path / "whole.npy", tmp_path / "a.npy"
    words = ["predict", tmp_path / "model", rows, "--out"]
    assert bertolt(*words, whole).code == 0
    assert f"Going on behind {kept} answers" in after_kills(bertolt, [*words, out], 9, 2, 5)
    assert out.read_bytes() == whole.read_bytes()
    missing = np.isnan(np.load(out)).all(axis=1)
    assert missing.tolist() == [number % 7 == 3 for number in range(19)]


def test_killed_before_a_window_is_done_nothing_is_kept(
    bertolt: Run, trained: Trained, rows: Path, tmp_path: Path
) -> None:
    words = ["predict", trained("labels"), rows, "--out", tmp_path / "a.csv"]
    assert "Going on" not in after_kills(bertolt, words, 3)
    assert folders(tmp_path / "a.csv") == []


def test_what_is_made_otherwise_is_refused_with_what_differs(
    bertolt: Run, trained: Trained, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.csv"
    words = ["predict", trained("labels"), rows, "--out", out]
    killed(words, 9)
    said = bertolt(*words, "--keep", "id")
    assert said.code == 2
    assert "9 answers of an earlier run are kept beside it, and were made otherwise: " in said.err
    assert "otherwise: --keep (not given) -> id\n" in said.err
    more = ["--long", "window", "--stride", "2", "--precision", "bf16", "--format", "jsonl"]
    said = bertolt(*words, *more)
    assert said.code == 2
    told = "--format (not given) -> jsonl, --long (not given) -> window, "
    told += "--stride (not given) -> 2, --precision auto -> bf16\n"
    assert f"otherwise: {told}" in said.err
    assert "add --overwrite to begin anew" in said.err
    for mistaken in (["predict", tmp_path / "no-model", *words[2:]], [*words, "--column", "no"]):
        said = bertolt(*mistaken)
        assert said.code == 2
        assert "9 answers kept in" in said.err
    said = bertolt("predict", trained("several"), *words[2:])
    assert said.code == 2
    assert "its task text-classification -> multi-label-classification" in said.err
    with rows.open("a") as file:
        file.write('{"text": "good"}\n')
    assert f"otherwise: the content of {rows} changed\n" in bertolt(*words).err
    said = bertolt(*words, "--overwrite")
    assert (said.code, "Beginning anew" in said.err) == (0, True)
    assert len(out.read_text().splitlines()) == 21
    assert folders(out) == []


def test_a_full_disk_keeps_what_is_answered(
    bertolt: Run, trained: Trained, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "a.csv"
    words = ["predict", trained("labels"), rows, "--precision", "fp32", "--out"]
    assert bertolt(*words, whole).code == 0
    usual, left = predict._Answering._write_unanswered, iter(range(9))

    def full(self: Any, writer: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(self, writer)

    with monkeypatch.context() as patch:
        patch.setattr(predict._Answering, "_write_unanswered", full)
        said = bertolt(*words, out)
    assert said.code == 2
    assert "No space left on device" in said.err
    assert "run the same command again: 9 answers are kept" in said.err
    said = bertolt(*words, out)
    assert "Going on behind 9 answers" in said.err
    assert out.read_bytes() == whole.read_bytes()


def test_who_stops_it_is_told_what_is_kept(
    bertolt: Run, trained: Trained, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, left = predict._Answering._write_unanswered, iter(range(9))

    def stopped(self: Any, writer: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        usual(self, writer)

    monkeypatch.setattr(predict._Answering, "_write_unanswered", stopped)
    said = bertolt("predict", trained("labels"), rows, "--out", tmp_path / "a.csv")
    assert said.code == 130
    assert "9 answers kept in" in said.err
    assert "the same command goes on from there" in said.err
