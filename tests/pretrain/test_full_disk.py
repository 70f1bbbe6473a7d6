"""A disk that fills up: the last checkpoint stays whole, and with room the run comes to its end."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.errors import BertoltError
from bertolt.checkpoint.store import Store, require_whole
from bertolt.cli import main
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.run import pretrain
from bertolt.train.job import RunResult
from bertolt.train.loop import Callback
from bertolt.train.step import StepLog
from tests.disks import file_system

Make = Callable[..., PretrainOptions]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and mounts a tmpfs")


@pytest.fixture
def wanted(letters: Path, options: Make, tmp_path: Path) -> RunResult:
    """The run whose disk is large enough."""
    return pretrain(letters, options(out=tmp_path / "whole"))


def same_result(found: RunResult, wanted: RunResult) -> bool:
    first, second = ((done.out / "model.safetensors").read_bytes() for done in (found, wanted))
    return first == second and found.metrics["eval"] == wanted.metrics["eval"]


def words(shards: Path, options: PretrainOptions) -> list[str]:
    """The command of a run, by the options that are not the default."""
    given = ["pretrain", str(shards)]
    for option in fields(options):
        value = getattr(options, option.name)
        if value != option.default:
            given += ["--" + option.name.replace("_", "-"), str(value)]
    return given


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "tokenizer.json",
        "metrics.json",
        "run.json",
        "report.html",
        "complete.json",
    ],
)
def test_while_the_result_is_written(
    letters: Path,
    options: Make,
    wanted: RunResult,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    settings, fsync = options(), os.fsync

    def full(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        staged = path.parent.name.startswith(".result.")
        if (staged or path.parent == settings.out) and path.name.startswith(f".{name}."):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as disk:
        disk.setattr("bertolt.base.files.os.fsync", full)
        with pytest.raises(SystemExit) as ended:
            main(words(letters, settings))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{settings.out / name}: cannot be written (No space left on device)" in said
    assert "fix: free some space; checkpoint-30 is there to resume from" in said
    assert "Traceback" not in said
    assert ("Saved to" in said) == (name in ("run.json", "report.html", "complete.json"))
    assert not [path for path in settings.out.iterdir() if path.suffix == ".part"]
    store = Store(settings.out)
    assert store.steps() == [20, 30]
    for step in store.steps():
        require_whole(store.path(step))
    done = pretrain(letters, options(resume=True))
    assert f"Resumed from {store.path(30)}" in capsys.readouterr().err
    assert same_result(done, wanted)
    assert {path.name for path in done.out.iterdir()} == {
        path.name.replace("whole", "out") for path in wanted.out.iterdir()
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where this may be made: room for four checkpoints."""
    with file_system(tmp_path / "disk", kilobytes=3000) as folder:
        yield folder


class Fill(Callback):
    """Somebody else's file takes what is free after a step."""

    def __init__(self, step: int, ballast: Path) -> None:
        self.step, self.ballast = step, ballast

    def on_step(self, log: StepLog, total_steps: int) -> None:
        if log.step == self.step:
            with self.ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))


@pytest.mark.parametrize("step", [15, 30])
def test_a_real_disk(
    letters: Path,
    options: Make,
    wanted: RunResult,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    monkeypatch.setattr("bertolt.train.job.require_space", lambda *_, **__: None)
    settings = options(out=small_disk / "out")
    ballast = small_disk / "ballast"
    with pytest.raises(BertoltError, match="No space left on device") as caught:
        pretrain(letters, settings, callbacks=[Fill(step, ballast)])
    last = 10 if step == 15 else 20
    assert f"checkpoint-{last} is there to resume from" in caught.value.fix
    require_whole(Store(settings.out).path(last))
    ballast.unlink()
    done = pretrain(letters, options(out=small_disk / "out", resume=True))
    assert same_result(done, wanted)
    lines = (done.out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 30 + 3


def test_the_log_too(
    letters: Path, options: Make, monkeypatch: pytest.MonkeyPatch, wanted: RunResult
) -> None:
    """A line that does not fit is an error with a fix, as any other write."""
    from bertolt.pretrain.log import JsonLines

    write = JsonLines._write

    class Full:
        def write(self, line: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self.write("")

    def fill(self: JsonLines, values: Any) -> None:
        if values["step"] == 15:
            self._file = Full()  # type: ignore[assignment]
        write(self, values)

    with monkeypatch.context() as disk:
        disk.setattr(JsonLines, "_write", fill)
        with pytest.raises(BertoltError, match="No space left on device") as caught:
            pretrain(letters, options())
    assert caught.value.place == str(options().out / "log.jsonl")
    assert caught.value.fix == "free some space; checkpoint-10 is there to resume from"
    assert same_result(pretrain(letters, options(resume=True)), wanted)
