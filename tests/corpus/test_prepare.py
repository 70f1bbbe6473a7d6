"""The whole run: what it makes, what it says, what it refuses, and that it goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.corpus import engine, prepare, read
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.parts import tokenize_part
from bertolt.corpus.sentences import split_sentences
from bertolt.corpus.shards import Corpus, Shard
from bertolt.corpus.staging import FILES
from bertolt.tokenization import BertTokenizer
from tests.corpus.texts import bytes_below, text_of
from tests.running import Said

Options = Callable[..., PrepareOptions]
Run = Callable[..., Said]


def all_documents(shards: tuple[Shard, ...]) -> list[list[list[int]]]:
    return [
        [
            shard.tokens[shard.sentence_starts[s] : shard.sentence_starts[s + 1]].tolist()
            for s in range(shard.document_starts[d], shard.document_starts[d + 1])
        ]
        for shard in shards
        for d in range(len(shard.sources))
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parts that are tokenized from now on."""
    done: list[int] = []

    def counting(part: Any, setup: Any) -> Any:
        done.append(part.number)
        return tokenize_part(part, setup)

    monkeypatch.setattr(engine, "tokenize_part", counting)
    return done


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    """Let the run end when it comes to a part."""

    def stopping(part: Any, setup: Any) -> Any:
        if part.number == number:
            raise error
        return tokenize_part(part, setup)

    monkeypatch.setattr(engine, "tokenize_part", stopping)


# ---- what it makes ----


def test_nothing_is_lost_and_the_manifest_tells_it(
    corpus: Path, options: Options, tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    result = prepare.tokenize_corpus([corpus], options())
    opened = Corpus.open(tmp_path / "out")
    assert opened.manifest == result.manifest
    texts = [text for part in (text_of(40), text_of(20, seed=1)) for text in part.split("\n\n")]
    wanted = [
        [tokenizer.encode(s, add_special_tokens=False) for s in split_sentences(text)]
        for text in texts
    ]
    train, held_out = all_documents(opened.train), all_documents(opened.held_out)
    assert sorted(train + held_out) == sorted(wanted)
    assert train == [document for document in wanted if document in train]  # in order
    assert 0 < len(held_out) < 20
    manifest = opened.manifest
    assert manifest.train.documents == len(train)
    assert manifest.held_out.tokens == sum(len(s) for document in held_out for s in document)
    assert [Path(source.name).name for source in manifest.sources] == ["a.txt", "b.txt.gz"]
    assert [source.documents for source in manifest.sources] == [40, 20]
    sources = np.concatenate([shard.sources for shard in opened.train + opened.held_out])
    assert np.bincount(sources).tolist() == [40, 20]
    assert len(manifest.shards) == result.parts >= 5
    assert manifest.vocab_size == len(tokenizer)
    assert (manifest.objective, manifest.max_length) == ("mlm", 512)
    same = BertTokenizer.from_pretrained(opened.tokenizer_folder)
    assert same.get_vocab() == tokenizer.get_vocab()
    assert names(tmp_path) == {"corpus", "out"}
    assert names(tmp_path / "out") == {"manifest.json", "shards", "tokenizer"}


def test_the_same_text_gives_the_same_bytes_whatever_the_workers(
    corpus: Path, options: Options, tmp_path: Path
) -> None:
    folders = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        prepare.tokenize_corpus([corpus], options(out=out, workers=workers))
        folders.append(bytes_below(out))
    assert folders[0] == folders[1]


def test_the_fingerprint_is_of_the_content(corpus: Path, options: Options, tmp_path: Path) -> None:
    def fingerprint(folder: Path, **changes: Any) -> str:
        out = tmp_path / "made" / str(len(list(tmp_path.glob("made/*"))))
        return prepare.tokenize_corpus([folder], options(out=out, **changes)).manifest.fingerprint

    usual = fingerprint(corpus)
    moved = shutil.copytree(corpus, tmp_path / "elsewhere")
    assert fingerprint(moved) == usual
    assert fingerprint(corpus, held_out=0.0) != usual
    (moved / "a.txt").write_text(text_of(41), encoding="utf-8")
    assert fingerprint(moved) != usual


def test_what_it_says(corpus: Path, bertolt: Run, tokenizer_folder: Path, tmp_path: Path) -> None:
    (corpus / "image.png").write_bytes(b"x")
    (corpus / "more.jsonl").write_text('{"text": "good film."}\n{"text": ""}\n', encoding="utf-8")
    out = tmp_path / "out"
    said = bertolt("prepare", corpus, "--tokenizer", tokenizer_folder, "--out", out)
    assert said.code == 0
    assert said.out == ""
    for line in (
        "Corpus: 3 files, ",
        "left out in folders, for they are no text by their names: 1 .png",
        "more.jsonl: column 'text', by its name",
        "left out: 1 for empty text",
        "Prepared 6",
        "  held out: ",
        "  unknown tokens 0.00%, repeated lines ",
        "  longest sentence ",
        "  tokens by source: ",
        f"Saved to {out}: 1 shard in ",
    ):
        assert line in said.err, line
    assert "earlier run" not in said.err


# ---- warnings ----


@pytest.mark.parametrize(
    ("texts", "changes", "words"),
    [
        (["good film.\n" * 40], {}, "of the lines were there before"),
        (["\n\n".join("☃" * n for n in range(1, 40))], {}, "are unknown to the tokenizer"),
        (["a good film.\n\n" * 99, "a"], {}, "of the tokens are from .*0.txt"),
        (["good.\n\nbad."], {"held_out": 1e-6}, "no document is held out at --held-out 1e-06"),
        (["good.\nbad."], {}, "many lines and no blank one, taken as one document"),
        (["good film.\n" * 40], {}, "is longer than 100 characters and divided.* a document$"),
        (
            ["good film.\n" * 40, "bad.\n\n" * 99],
            {"held_out": 0.01, "objective": "mlm+nsp"},
            "a document, and one may be held out while the others are trained on, and a pair of two"
            " of them is one of different documents$",
        ),
    ],
)
def test_warnings(
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: list[str],
    changes: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setattr(read.Reader.__init__, "__kwdefaults__", {"piece": 100})
    monkeypatch.setattr("bertolt.corpus.statistics.PIECE", 100)
    paths = [tmp_path / f"{number}.txt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    result = prepare.tokenize_corpus(paths, options(**{"held_out": 0.0, **changes}))
    assert any(re.search(words, line) for line in result.manifest.warnings)


def test_a_good_corpus_has_no_warnings(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text_of(40), encoding="utf-8")
    assert prepare.tokenize_corpus([path], options()).manifest.warnings == ()


# ---- what it refuses ----


def test_next_sentences_need_two_documents(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("good.\nbad.\nlong.", encoding="utf-8")
    nsp = options(objective="mlm+nsp", held_out=0.0)
    with pytest.raises(DataError, match="single document, and half of the sentence pairs") as told:
        prepare.tokenize_corpus([path], nsp)
    assert "--documents lines" in told.value.fix
    assert not (tmp_path / "out").exists()
    path.write_text("good.\n\nbad.", encoding="utf-8")
    assert prepare.tokenize_corpus([path], nsp).manifest.objective == "mlm+nsp"


def test_pieces_of_one_document_are_one(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read.Reader.__init__, "__kwdefaults__", {"piece": 20})
    path = tmp_path / "one.txt"
    path.write_text("a good film.\n" * 20, encoding="utf-8")
    with pytest.raises(DataError, match="single document"):
        prepare.tokenize_corpus([path], options(objective="mlm+nsp", held_out=0.0))


@pytest.mark.parametrize(("text", "kind"), [("\n\n \n", DataError), ("good.\n\nbad.", UsageError)])
def test_no_text_and_none_to_train_on(
    options: Options, tmp_path: Path, text: str, kind: type[BertoltError]
) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=r"no text in the corpus|none is left to train on"):
        prepare.tokenize_corpus([tmp_path / "a.txt"], options(held_out=0.999999))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_is_not_there(corpus: Path, options: Options, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        prepare.tokenize_corpus([corpus], options(tokenizer=str(tmp_path / "nowhere")))
    assert names(tmp_path) == {"corpus"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-length", "4"], "--max-length is 4"),
        (["--held-out", "1"], "--held-out is 1"),
        (["--workers", "0"], "--workers is 0"),
        (["--shard-size", "1"], "--shard-size is 1"),
        (["--engine", "spark"], "spark"),
        (["--text", "nothing"], "no column 'nothing'"),
        (["--encoding", "utf-16"], "not utf-16 text"),
        (["--encoding", "klingon"], "no text encoding named 'klingon'"),
    ],
)
def test_options_that_cannot_be(
    bertolt: Run, tokenizer_folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n', encoding="utf-8")
    out = tmp_path / "new" / "out"
    said = bertolt("prepare", path, "--tokenizer", tokenizer_folder, "--out", out, *words)
    assert said.code == 2
    assert message in said.err
    assert "fix: " in said.err
    assert names(tmp_path) == {"a.jsonl"}


def test_an_output_that_is_in_use(corpus: Path, options: Options, tmp_path: Path) -> None:
    prepare.tokenize_corpus([corpus], options())
    before = bytes_below(tmp_path / "out")
    with pytest.raises(UsageError, match="not empty"):
        prepare.tokenize_corpus([corpus], options())
    (corpus / "a.txt").write_text(text_of(3), encoding="utf-8")
    (corpus / "b.txt.gz").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(DataError, match="gzip file is damaged"):
        prepare.tokenize_corpus([corpus], options(overwrite=True))
    assert bytes_below(tmp_path / "out") == before
    (corpus / "b.txt.gz").unlink()
    prepare.tokenize_corpus([corpus], options(overwrite=True))
    assert Corpus.open(tmp_path / "out").manifest.sources[0].documents == 3
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"mine\.txt.*would be lost"):
        prepare.tokenize_corpus([corpus], options(overwrite=True))


# ---- stopped, and going on ----


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BertoltError("killed", fix="again")])
def test_a_stopped_run_goes_on_where_it_was(
    corpus: Path,
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    whole = prepare.tokenize_corpus([corpus], options(out=tmp_path / "whole"))
    with monkeypatch.context() as stopped:
        stop_at(stopped, 3, error)
        with pytest.raises(type(error)):
            prepare.tokenize_corpus([corpus], options())
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr().err
    assert f"3 parts kept in {tmp_path / '.out.preparing'}; the same command goes on" in said
    result = prepare.tokenize_corpus([corpus], options())
    assert (result.reused, result.parts) == (3, whole.parts)
    said = capsys.readouterr().err
    assert "3 parts done by an earlier run; going on from there" in said
    assert f"3 of {whole.parts} parts had been done by an earlier run" in said
    assert bytes_below(tmp_path / "out") == bytes_below(tmp_path / "whole")
    assert names(tmp_path) == {"corpus", "out", "whole"}


@pytest.fixture
def stopped(
    corpus: Path, options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """The folder that a run of `corpus` has left when it was stopped after three parts."""
    with monkeypatch.context() as stopped:
        stop_at(stopped, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare.tokenize_corpus([corpus], options())
    return tmp_path / ".out.preparing"


def test_only_what_has_changed_is_done_again(
    stopped: Path, corpus: Path, options: Options, counted: list[int]
) -> None:
    path = corpus / "a.txt"
    text = path.read_text(encoding="utf-8")
    # The first part ends soon after 1,000 characters and the second after 2,000: a letter more in
    # the second does not move where it ends.
    path.write_text(text[:1800] + "x" + text[1800:], encoding="utf-8")
    result = prepare.tokenize_corpus([corpus], options())
    assert result.reused == 2
    assert counted == [1, *range(3, result.parts)]


def test_other_settings_and_damaged_shards_are_done_again(
    stopped: Path, corpus: Path, options: Options, counted: list[int], tmp_path: Path
) -> None:
    shard = next((stopped / "corpus" / "shards").glob("00001-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (stopped / "parts" / "00002.json").write_text('{"key": ', encoding="utf-8")
    (stopped / "parts" / ".00003.json.x.part").write_text("half", encoding="utf-8")
    (stopped / "corpus" / "tokenizer" / "added.txt").write_text("stale", encoding="utf-8")
    result = prepare.tokenize_corpus([corpus], options())
    assert counted[:2] == [1, 2]
    assert result.reused == 1
    Corpus.open(tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer" / "added.txt").exists()


def test_after_other_settings_nothing_stale_is_left(
    stopped: Path, corpus: Path, options: Options, tmp_path: Path
) -> None:
    result = prepare.tokenize_corpus([corpus], options(held_out=0.2))
    assert result.reused == 0
    assert names(tmp_path / "out" / "shards") == {s.file for s in result.manifest.shards}


def test_a_manifest_that_was_half_written_is_no_part_of_the_corpus(
    stopped: Path, corpus: Path, options: Options, tmp_path: Path
) -> None:
    (stopped / "corpus" / ".manifest.json.abcdefgh.part").write_text("half", encoding="utf-8")
    prepare.tokenize_corpus([corpus], options())
    assert names(tmp_path / "out") == FILES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["00000", "00002", "manifest.json", "tokenizer.json"])
def test_a_disk_that_fills_up(
    corpus: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fsync = os.fsync

    def full(handle: int) -> None:
        if name in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as disk:
        disk.setattr("bertolt.base.files.os.fsync", full)
        with pytest.raises(BertoltError, match=r"cannot be written.*No space left") as told:
            prepare.tokenize_corpus([corpus], options())
    assert "free some space" in told.value.fix
    assert not (tmp_path / "out").exists()
    kept = {"00000": 0, "00002": 2, "manifest.json": 10, "tokenizer.json": 0}[name]
    assert list(tmp_path.rglob("*.part")) == []
    result = prepare.tokenize_corpus([corpus], options())
    assert result.reused == min(kept, result.parts)


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks")
def test_two_runs_for_one_folder(
    corpus: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []

    def second(part: Any, setup: Any) -> Any:
        if not part.number:
            with pytest.raises(UsageError, match="another run is writing") as told:
                prepare.tokenize_corpus([corpus], options())
            seen.append(told.value)
        return tokenize_part(part, setup)

    monkeypatch.setattr(engine, "tokenize_part", second)
    prepare.tokenize_corpus([corpus], options())
    assert len(seen) == 1
    Corpus.open(tmp_path / "out")


def test_the_manifest_has_no_times_and_no_machine(corpus: Path, options: Options) -> None:
    result = prepare.tokenize_corpus([corpus], options())
    content = json.loads((result.folder / "manifest.json").read_text(encoding="utf-8"))
    assert set(content["settings"]) == {"documents", "encoding", "held_out", "shard_size", "text"}
