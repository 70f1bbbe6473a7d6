"""The out folder: whole or not there, never someone else's, whatever the disk does."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.errors import BertoltError, UsageError
from bertolt.commands.finetune.run import finetune
from bertolt.train.folder import RESULT
from tests.disks import file_system
from tests.running import Said

Run = Callable[..., Any]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_holds_what_it_should_and_nothing_is_beside_it(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    assert finetune_command(reviews_csv).code == 0
    assert names(tmp_path) == {"out"}
    written = names(tmp_path / "out")
    assert written <= RESULT
    assert written >= {"config.json", "model.safetensors", "bertolt.json", "report.html"}
    assert written >= {"tokenizer.json", "tokenizer_config.json", "metrics.json", "arguments.json"}


def test_a_folder_that_is_not_empty(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    assert finetune_command(reviews_csv).code == 0
    first = (tmp_path / "out" / "metrics.json").read_bytes()
    refused = finetune_command(reviews_csv, "--seed", "7")
    assert refused.code == 2
    assert f"{tmp_path / 'out'}: the folder is not empty" in refused.err
    assert "--overwrite" in refused.err
    assert (tmp_path / "out" / "metrics.json").read_bytes() == first
    assert finetune_command(reviews_csv, "--seed", "7", "--overwrite").code == 0
    assert (tmp_path / "out" / "metrics.json").read_bytes() != first
    assert names(tmp_path) == {"out"}


def test_overwrite_does_not_take_what_no_run_wrote(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    refused = finetune_command(reviews_csv, "--overwrite")
    assert refused.code == 2
    assert "'thesis.tex'" in refused.err
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_an_overwrite_that_fails_leaves_the_old_model(
    finetune_command: Run, reviews_csv: Path, write_csv: Any, tmp_path: Path
) -> None:
    assert finetune_command(reviews_csv).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert finetune_command(write_csv([], name="none.csv"), "--overwrite").code == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_out_that_is_a_file(finetune_command: Run, reviews_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    refused = finetune_command(reviews_csv, "--out", tmp_path / "taken")
    assert refused.code == 2
    assert "taken: there is a file of this name" in refused.err
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_parent_that_cannot_be_written(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused = finetune_command(reviews_csv, "--out", tmp_path / "file" / "out")
    assert refused.code == 2
    assert f"{tmp_path / 'file' / 'out'}: cannot be written" in refused.err
    assert "rows read" not in refused.err, "it must be told before anything is done"


def test_parents_are_made_and_taken_away_again_when_nothing_comes_of_it(
    finetune_command: Run, reviews_csv: Path, write_csv: Any, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "and" / "deep"
    assert finetune_command(write_csv([]), "--out", out).code == 2
    assert names(tmp_path) == {"data.csv"}
    assert finetune_command(reviews_csv, "--out", out).code == 0
    assert (out / "config.json").is_file()


def test_too_little_space_is_told_before_training(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bertolt.train.folder.shutil.disk_usage",
        lambda path: type("Usage", (), {"free": 2_000_000})(),
    )
    refused = finetune_command(reviews_csv)
    assert refused.code == 2
    assert "4 MB, and 2 MB are free" in refused.err
    assert str(tmp_path / "out") in refused.err
    assert "step 1/" not in refused.err
    assert names(tmp_path) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "metrics.json"])
def test_a_disk_that_fills_up_during_the_save_leaves_nothing(
    finetune_command: Run,
    reviews_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    fsync = os.fsync

    def full(handle: int) -> None:
        if name in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("bertolt.base.files.os.fsync", full)
    refused = finetune_command(reviews_csv)
    assert refused.code == 2
    assert f"{tmp_path / 'out' / name}: cannot be written (No space left on device)" in refused.err
    assert "free some space" in refused.err
    assert names(tmp_path) == set()


def test_a_report_that_cannot_be_written_does_not_cost_the_model(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: Any, path: Path) -> None:
        raise BertoltError("cannot be written", place=str(path), fix="free some space")

    monkeypatch.setattr("bertolt.train.job.write_report", full)
    refused = finetune_command(reviews_csv)
    assert refused.code == 2
    assert "Saved to" in refused.err
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB, where this may be made."""
    with file_system(tmp_path / "disk", kilobytes=128) as folder:
        yield folder


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_real_disk_that_is_too_small(
    finetune_command: Run, reviews_csv: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = finetune_command(reviews_csv, "--out", small_disk / "out")
    assert refused.code == 2
    assert "0 MB are free" in refused.err
    monkeypatch.setattr("bertolt.train.job.require_space", lambda *_, **__: None)
    refused = finetune_command(reviews_csv, "--out", small_disk / "out")
    assert refused.code == 2
    assert "No space left on device" in refused.err
    assert ".part" not in refused.err
    assert names(small_disk) == set()


def test_the_library_gives_the_same_errors(reviews_csv: Path, quick: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(UsageError, match="the folder is not empty"):
        finetune(reviews_csv, quick())


def test_damaged_weights_are_told_before_the_file_is_read(
    bertolt: Callable[..., Said], tiny_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.truncate(30_000)
    words = ("finetune", reviews_csv, "--model", tmp_path / "model", "--out", tmp_path / "out")
    said = bertolt(*words)
    assert said.code == 2
    assert "the weights are truncated" in said.err
    assert "rows read" not in said.err
    assert not (tmp_path / "out").exists()
