"""The folder of a run: what it takes over, takes away and refuses, and when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.distributed import ALONE
from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.files import write_text
from bertolt.train import folder as run_folder
from bertolt.train.folder import RunFolder, require_space

OLD = ("arguments.json", "complete.json", "config.json", "metrics.json", "model.safetensors")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def folder(out: Path, *, overwrite: bool = False, resume: bool = False) -> RunFolder:
    return RunFolder(out=out, overwrite=overwrite, resume=resume)


def fill(out: Path, *given: str) -> Path:
    """Files, and folders for checkpoints, whose content is their name."""
    for name in given:
        path = out / name / "manifest.json" if "checkpoint-" in name else out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return out


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a run that was killed while it wrote its result."""
    (tmp_path / ".result.abcd1234.part").mkdir()
    (tmp_path / ".result.abcd1234.part" / "config.json").touch()
    return fill(
        tmp_path,
        *("checkpoint-10", ".checkpoint-5.ab_d1234.old", ".checkpoint-20.abcd1234.part"),
        *("log.jsonl", ".log.jsonl.abcd1234.part", ".model.safetensors.abcd1234.part"),
    )


@pytest.mark.parametrize(
    ("overwrite", "resume", "left"),
    [
        (True, False, set()),
        (False, True, {"checkpoint-10", "log.jsonl"}),
        (True, True, {"checkpoint-10", "log.jsonl"}),
    ],
)
def test_what_was_half_written_goes_when_the_folder_is_taken(
    killed: Path, overwrite: bool, resume: bool, left: set[str]
) -> None:
    taken = folder(killed, overwrite=overwrite, resume=resume)
    with taken.held():
        assert names(killed) == {"checkpoint-10", "log.jsonl"}
        taken.begin()
        assert names(killed) == left


@pytest.mark.parametrize(
    "name", [".log.jsonl.abcd1234.part", ".checkpoint-5.abcd1234.part", ".result.abcd1234.part"]
)
@pytest.mark.parametrize("resume", [False, True])
def test_what_a_run_left_that_was_killed_in_its_first_write_is_nothing(
    tmp_path: Path, name: str, resume: bool
) -> None:
    (tmp_path / name).touch()
    with folder(tmp_path, resume=resume).held():
        assert not names(tmp_path)


@pytest.mark.parametrize("name", [".thesis.tex.abcd1234.part", ".model.safetensors.part", ".env"])
def test_what_somebody_else_half_wrote_stays(killed: Path, name: str) -> None:
    (killed / name).touch()
    with (
        pytest.raises(UsageError, match="which no run has written"),
        folder(killed, overwrite=True).held(),
    ):
        pytest.fail("the block must not run")
    with folder(killed, resume=True).held():
        assert names(killed) == {"checkpoint-10", "log.jsonl", name}


@pytest.mark.parametrize(
    ("there", "how", "problem", "fix"),
    [
        (("checkpoint-3",), {}, "there are checkpoints of a run that did not", "--resume goes on"),
        ((*OLD, "checkpoint-3"), {}, "the folder is not empty", "go on with what is there"),
        (("model.safetensors",), {}, "the folder is not empty", "--overwrite"),
        (("thesis.tex",), {}, "the folder is not empty", "choose another --out"),
        (OLD[2:], {"resume": True}, "holds no run to go on with", "--overwrite"),
        (("thesis.tex",), {"resume": True}, "no run to go on with", "choose another --out"),
        ((*OLD, "thesis.tex"), {"overwrite": True}, "'thesis.tex', which no run", "another --out"),
    ],
)
def test_what_is_refused_and_how_to_go_on(
    tmp_path: Path, there: tuple[str, ...], how: dict[str, bool], problem: str, fix: str
) -> None:
    fill(tmp_path, *there)
    with pytest.raises(UsageError, match=problem) as refused, folder(tmp_path, **how).held():
        pytest.fail("the block must not run")
    assert fix in refused.value.fix
    if "thesis.tex" in there:
        assert "--overwrite" not in refused.value.fix
    assert names(tmp_path) == set(there)


def test_two_runs_to_the_same_folder_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with folder(out).held():
        with (
            pytest.raises(UsageError, match="another run is writing to this folder") as refused,
            folder(out).held(),
        ):
            pytest.fail("the block must not run")
        assert refused.value.place == str(out)
        assert out.is_dir(), "the refused run must not take the first one's folder away"
        with folder(tmp_path / "out2").held(), folder(tmp_path / "out.abcdefgh").held():
            pass
    assert names(tmp_path) == set(), "they were made for nothing"


@pytest.mark.skipif(os.name == "nt", reason="locks")
def test_a_folder_is_held_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with folder(tmp_path / "out").held():
        fill(tmp_path / "out", "config.json")
    assert names(tmp_path / "out") == {"config.json"}


# ---- the result ----


def test_the_result_appears_when_it_is_whole(tmp_path: Path) -> None:
    with folder(tmp_path).result() as stage:
        write_text(stage / "config.json", "new")
        assert names(tmp_path) == {stage.name}
    assert names(tmp_path) == {"config.json"}


def begun(out: Path) -> RunFolder:
    """A run over the folder of a complete one, which has taken away what would mix with its own."""
    run = folder(fill(out, *OLD, "report.html", "checkpoint-3"), overwrite=True)
    with run.held():
        assert run.read_complete_run(ALONE) is None, "the texts of the files are no JSON"
        run.begin()
    return run


def test_an_earlier_model_stays_until_there_is_another_and_is_not_complete(tmp_path: Path) -> None:
    run = begun(tmp_path)
    assert names(tmp_path) == {*OLD, "report.html"} - {"complete.json"}
    with run.result() as stage:
        for name in ("config.json", "model.safetensors"):
            write_text(stage / name, "new")
        assert (tmp_path / "model.safetensors").read_text() == "model.safetensors"
    assert names(tmp_path) == {"config.json", "model.safetensors"}, "no report of the other model"
    assert (tmp_path / "model.safetensors").read_text() == "new"


@pytest.mark.parametrize("error", [BertoltError("full", place="?"), KeyboardInterrupt()], ids=repr)
def test_an_earlier_model_survives_a_result_that_fails(
    tmp_path: Path, error: BaseException
) -> None:
    run = begun(tmp_path)

    def fail(stage: Path) -> None:
        write_text(stage / "model.safetensors", "half")
        raise error

    with pytest.raises(type(error)), run.result() as stage:
        fail(stage)
    assert names(tmp_path) == {*OLD, "report.html"} - {"complete.json"}
    assert (tmp_path / "model.safetensors").read_text() == "model.safetensors"


@pytest.mark.parametrize("number", range(3))
def test_a_result_that_is_put_in_place_half_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run, moved = begun(tmp_path), []
    replace = Path.replace

    def torn(self: Path, target: Path) -> Path:
        if target.parent == tmp_path:
            moved.append(target)
            if len(moved) > number:
                raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", torn)
    with pytest.raises(KeyboardInterrupt), run.result() as stage:
        fill(stage, "config.json", "bertolt.json", "model.safetensors")
    assert "config.json" not in names(tmp_path)


def test_an_error_names_the_folder_that_the_user_knows(tmp_path: Path) -> None:
    with pytest.raises(BertoltError) as caught, folder(tmp_path).result() as stage:
        raise BertoltError("cannot be written", place=str(stage / "vocab.txt"))
    assert caught.value.place == str(tmp_path / "vocab.txt")


def test_a_complete_run_is_one_with_its_settings_and_its_result(tmp_path: Path) -> None:
    run = folder(fill(tmp_path, "model.safetensors"), resume=True)
    write_text(tmp_path / "metrics.json", '{"eval": 1}')
    run.mark_complete({"--lr": 0.1})
    complete = run.read_complete_run(ALONE)
    assert complete is not None
    assert complete == ({"--lr": 0.1}, {"eval": 1}, True)
    for gone in ("model.safetensors", "metrics.json", "complete.json"):
        (tmp_path / gone).rename(tmp_path / "away")
        assert run.read_complete_run(ALONE) is None
        (tmp_path / "away").rename(tmp_path / gone)
    write_text(tmp_path / "complete.json", "{}")
    assert run.read_complete_run(ALONE) is None


def test_the_space_needed_grows_with_the_model_and_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Callable[[Path], Any] = lambda path: type("Usage", (), {"free": 5_000_000})()  # noqa: E731
    monkeypatch.setattr("bertolt.train.folder.shutil.disk_usage", usage)
    require_space(tmp_path, 250_000, checkpoints=1, beside=1_000_000)
    with pytest.raises(BertoltError, match="the run needs 8 MB, and 5 MB are free"):
        require_space(tmp_path, 250_000, checkpoints=2, beside=1_000_000)
    with pytest.raises(BertoltError, match="the run needs 9 MB"):
        require_space(tmp_path, 2_000_000, checkpoints=0, beside=1_000_000)


@pytest.mark.parametrize("but", ["", "seed-2"])
@pytest.mark.parametrize("left", range(5))
def test_runs_that_are_replaced_are_known_for_what_they_are_when_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int, but: str
) -> None:
    fill(tmp_path, "complete.json", "seed-1/metrics.json", "seed-2/metrics.json")
    write_text(tmp_path / "runs.json", '{"runs": [{"name": "seed-1"}, {"name": "seed-2"}]}')
    allowed = iter(range(left))

    def remove(entry: Path) -> None:
        next(allowed)
        _remove(entry)

    _remove = run_folder._remove
    monkeypatch.setattr(run_folder, "_remove", remove)
    with contextlib.suppress(StopIteration):
        folder(tmp_path, overwrite=True).begin(but=but)
    folder(tmp_path, overwrite=True).require_usable()
