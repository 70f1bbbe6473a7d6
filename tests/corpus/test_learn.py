"""`bertolt tokenizer`: a vocabulary from a corpus, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bertolt.tokenization import BertTokenizer
from tests.corpus.texts import WORDS, bytes_below
from tests.running import Said

Run = Callable[..., Said]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_learns_the_words_of_the_corpus(corpus: Path, bertolt: Run, tmp_path: Path) -> None:
    out = tmp_path / "tokenizer"
    said = bertolt("tokenizer", corpus, "--vocab-size", 130, "--out", out)
    assert said.code == 0
    assert "Corpus: 2 files" in said.err
    assert f"Saved to {out}" in said.err
    tokenizer = BertTokenizer.from_pretrained(out)
    assert f"Learned {len(tokenizer)} tokens from " in said.err
    assert set(WORDS) <= set(tokenizer.get_vocab())
    assert tokenizer.do_lower_case
    assert tokenizer.tokenize("The FILM 今天") == ["the", "film", "今", "天"]


def test_the_same_corpus_gives_the_same_bytes(corpus: Path, bertolt: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        bertolt("tokenizer", corpus, "--vocab-size", 130, "--out", tmp_path / name)
    assert bytes_below(tmp_path / "one") == bytes_below(tmp_path / "two")


def test_cased(corpus: Path, bertolt: Run, tmp_path: Path) -> None:
    out = tmp_path / "tokenizer"
    assert bertolt("tokenizer", corpus, "--cased", "--vocab-size", 200, "--out", out).code == 0
    tokenizer = BertTokenizer.from_pretrained(out)
    assert not tokenizer.do_lower_case
    assert {"Film", "film"} <= set(tokenizer.get_vocab())


def test_a_text_that_runs_out_is_told(corpus: Path, bertolt: Run, tmp_path: Path) -> None:
    said = bertolt("tokenizer", corpus, "--vocab-size", 9999, "--out", tmp_path / "out")
    assert "fewer than 9,999: nothing else is seen often enough" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vocab-size", "20"], "--vocab-size 20 cannot hold"),
        (["--vocab-size", "20"], "pass --limit-alphabet"),
        (["--vocab-size", "5"], "--vocab-size is 5"),
        (["--min-frequency", "0"], "--min-frequency is 0"),
    ],
)
def test_what_it_refuses(
    corpus: Path, bertolt: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    said = bertolt("tokenizer", corpus, "--out", tmp_path / "out", *words)
    assert said.code == 2
    assert message in said.err
    assert names(tmp_path) == {"corpus"}


def test_no_text(bertolt: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n", encoding="utf-8")
    said = bertolt("tokenizer", tmp_path / "a.txt", "--out", tmp_path / "out")
    assert said.code == 2
    assert "there is no text in the corpus" in said.err
    assert names(tmp_path) == {"a.txt"}


def test_an_output_that_is_in_use(corpus: Path, bertolt: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["tokenizer", corpus, "--vocab-size", 130, "--out", out]
    assert bertolt(*command).code == 0
    assert "not empty" in bertolt(*command).err
    assert bertolt(*command, "--overwrite").code == 0


@pytest.mark.parametrize("command", ["tokenizer", "prepare"])
def test_a_table_without_texts_is_told_as_such(
    command: str, bertolt: Run, tmp_path: Path, tiny_folder: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,score\n1,2\n")
    more = ["--tokenizer", tiny_folder] if command == "prepare" else []
    said = bertolt(command, tmp_path / "a.csv", "--out", tmp_path / "o", *more)
    assert said.code == 2
    error = said.err[said.err.index("bertolt: error: ") :]
    assert error == (
        f"bertolt: error: {tmp_path / 'a.csv'}: no column is surely the text; there are 'id', "
        "'score'\n  fix: name one of them with --text\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.csv: there is nothing in it"),
        (b"\x89PNG\r\n\x1a\n", "a.csv: its first bytes are those of a PNG image"),
        (b"text\ncaf\xe9\n", "--encoding latin-1"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_as_everywhere(
    bertolt: Run, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    said = bertolt("tokenizer", path, "--out", tmp_path / "out")
    assert said.code == 2
    assert message in said.err
    assert "something to learn from" not in said.err
