"""No command writes over what it reads, however the two are spelt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bertolt.base.errors import UsageError
from bertolt.base.files import require_apart
from bertolt.cli import main


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `in` with a file and a folder in it, links to them, and an empty folder beside."""
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    for name in ("in/file", "in/deep/file"):
        (tmp_path / name).write_text("text")
    (tmp_path / "to-in").symlink_to("in")
    (tmp_path / "to-file").symlink_to("in/file")
    os.link(tmp_path / "in/file", tmp_path / "same-file")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("out", "read"),
    [
        ("in/file", "in/file"),
        ("in/../in/./file", "in/file"),
        ("to-file", "in/file"),
        ("in/file", "to-file"),
        ("to-in/file", "in/file"),
        ("same-file", "in/file"),
        ("in", "in"),
        ("to-in", "in/"),
        ("in", "in/file"),
        ("in", "in/deep"),
        ("to-in", "in/deep/file"),
        (".", "to-in/deep"),
    ],
)
def test_an_output_that_is_an_input_is_refused(tree: Path, out: str, read: str) -> None:
    for path, other in (
        (Path(out), Path(read)),
        (tree / out, Path(read)),
        (Path(out), tree / read),
    ):
        with pytest.raises(UsageError, match="which is read and would be lost") as refused:
            require_apart(path, [None, "no/such", other], "--html")
        assert refused.value.place == f"--html {path}"
        assert "--html" in refused.value.fix


@pytest.mark.parametrize(
    ("out", "read"),
    [("in/deep", "in/file"), ("in/new", "in"), ("beside", "in"), ("inn", "in"), ("new", "in/file")],
)
def test_what_lies_beside_or_inside_is_fine(tree: Path, out: str, read: str) -> None:
    require_apart(Path(out), [read])


COMMANDS: dict[str, tuple[list[str], str]] = {
    "finetune": (["finetune", "d/data.csv", "--out", "d", "--overwrite"], "d/data.csv"),
    "finetune eval": (["finetune", "x.csv", "--eval", "d/data.csv", "--out", "d"], "d/data.csv"),
    "finetune model": (["finetune", "x.csv", "--model", "d", "--out", "to-d", "--overwrite"], "d"),
    "finetune checkpoint": (
        ["finetune", "x.csv", "--model", "d/checkpoint-1", "--out", "d", "--overwrite"],
        "d/checkpoint-1",
    ),
    "pretrain": (["pretrain", "d", "--out", "to-d", "--overwrite"], "d"),
    "pretrain model": (["pretrain", "x.csv", "--model", "d", "--out", "d", "--resume"], "d"),
    "pretrain config": (
        ["pretrain", "x.csv", "--config", "d/config.json", "--out", "d", "--overwrite"],
        "d/config.json",
    ),
    "tokenizer": (
        ["tokenizer", "d/vocab.txt", "--vocab-size", "100", "--out", "to-d", "--overwrite"],
        "d/vocab.txt",
    ),
    "tokenizer folder": (["tokenizer", "d", "--vocab-size", "100", "--out", "d"], "d"),
    "prepare": (
        ["prepare", "d/*.txt", "--tokenizer", "x.csv", "--out", "d", "--overwrite"],
        "d/vocab.txt",
    ),
    "prepare tokenizer": (
        ["prepare", "x.csv", "--tokenizer", "d/tokenizer", "--out", "d", "--overwrite"],
        "d/tokenizer",
    ),
    "predict folder": (
        ["predict", "x", "d", "--out", "to-d/data.csv", "--overwrite"],
        "d/data.csv",
    ),
    "predict": (["predict", "d", "x.csv", "--out", "same.csv", "--overwrite"], "x.csv"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_replaces_what_it_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("d/checkpoint-1", "d/tokenizer"):
        Path(folder).mkdir(parents=True)
    for path in ("x.csv", "d/data.csv", "d/vocab.txt", "d/config.json", "d/model.safetensors"):
        Path(path).write_text("text,label\ngood,pos\nbad,neg\n")
    Path("to-d").symlink_to("d")
    os.link("x.csv", "same.csv")
    before = sorted((str(path), path.stat().st_ino) for path in tmp_path.rglob("*"))
    words, read = COMMANDS[name]
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "it would replace" in said
    assert f" {read}" in said
    assert "fix: choose another name for --out" in said
    assert sorted((str(path), path.stat().st_ino) for path in tmp_path.rglob("*")) == before
