"""What a run goes on with: more processes or fewer, and those that torchrun starts again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bertolt.cli import main
from tests.distributed.starting import COMMAND, torchrun
from tests.pretrain.conftest import letters as letters  # the corpus, and not its folder's tests

pytestmark = pytest.mark.slow


@pytest.fixture
def words(letters: Path, tmp_path: Path) -> list[object]:
    return words_of(letters, tmp_path / "config.json")


def run_here(*words: object) -> None:
    """Run the command in this process, alone."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0


def words_of(letters: Path, config: Path) -> list[object]:
    """A run of 9 steps that says nothing of its batches."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config.write_text(json.dumps({**shape, "intermediate_size": 64}), encoding="utf-8")
    return ["pretrain", letters, "--config", config, "--steps", 9, "--precision", "fp32"]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").open(encoding="utf-8")]
    return [line["loss"] for line in lines if "loss" in line]


def test_two_and_three_processes_go_on_with_the_run_of_one(
    words: list[object], tmp_path: Path
) -> None:
    def run(count: int, out: str, *how: object, resume: bool = False) -> Any:
        more = ["--out", tmp_path / out, *(["--resume"] if resume else [])]
        return torchrun(COMMAND, *(how or ("well", 0, 0)), *words, *more, count=count)

    run_here(*words, "--out", tmp_path / "whole")
    stopped = run(1, "out", "term", 0, 3)
    assert "Stopped by SIGTERM after step 3" in stopped.stderr, stopped.stderr
    stopped = run(2, "out", "term", 1, 6, resume=True)
    assert "Stopped by SIGTERM after step 6" in stopped.stderr, stopped.stderr
    assert "checkpoint-3" in stopped.stderr
    assert "a step has 1 forward pass for 2 processes" in stopped.stderr
    done = run(3, "out", resume=True)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-6" in done.stderr
    assert losses(tmp_path / "out") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    again = run(2, "out", resume=True)
    assert again.returncode == 0, again.stderr
    assert "nothing is left to do" in again.stderr


def test_any_number_of_processes_begins_by_default(words: list[object], tmp_path: Path) -> None:
    done = torchrun(COMMAND, "well", 0, 0, *words, "--out", tmp_path / "out", count=3)
    assert done.returncode == 0, done.stderr
    assert "up to 4 × 1,024 tokens" in done.stderr


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def earlier(
    request: pytest.FixtureRequest,
    letters: Path,
    tiny_folder: Path,
    reviews_csv: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[object], Path]:
    """The words of a run, and the folder that it has filled and left checkpoints in."""
    folder = tmp_path_factory.mktemp("earlier")
    words = words_of(letters, folder / "config.json")
    if request.param == "finetune":
        words = ["finetune", reviews_csv, "--model", tiny_folder, "--precision", "fp32"]
        words += ["--epochs", 1, "--batch-size", 8, "--save-every", 3, "--keep-checkpoints"]
    run_here(*words, "--out", folder / "out")
    return words, folder / "out"


@pytest.fixture
def used(earlier: tuple[list[object], Path], tmp_path: Path) -> list[object]:
    """The words of a run whose folder an earlier one has filled and left checkpoints of."""
    words, folder = earlier
    shutil.copytree(folder, tmp_path / "out")
    return [*words, "--out", tmp_path / "out"]


RESTARTS = ["--max-restarts=1"]


def test_a_restart_does_not_go_on_with_what_the_run_was_to_overwrite(
    used: list[object], tmp_path: Path
) -> None:
    changed = [*used, "--overwrite", "--weight-decay", 0.5]
    done = torchrun(COMMAND, "die-early", 1, 0, *changed, options=RESTARTS)
    assert done.returncode == 0, done.stderr
    assert "Resumed from" not in done.stderr
    arguments = json.loads((tmp_path / "out" / "arguments.json").read_text(encoding="utf-8"))
    assert arguments["weight_decay"] == 0.5


@pytest.mark.parametrize("count", [1, 2])
def test_a_restart_does_not_go_on_where_the_first_start_was_refused(
    used: list[object], tmp_path: Path, count: int
) -> None:
    def content() -> dict[Path, bytes]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = content()
    done = torchrun(COMMAND, "well", 0, 0, *used, count=count, options=RESTARTS)
    assert done.returncode != 0, done.stderr
    assert done.stderr.count("the folder is not empty") == 2, done.stderr
    assert "nothing is left to do" not in done.stderr
    assert content() == before


def test_a_restart_goes_on_with_what_the_run_had_begun(words: list[object], tmp_path: Path) -> None:
    """Over the folder of an earlier run, whose checkpoints are gone by then."""
    words += ["--save-every", 2, "--out", tmp_path / "out"]
    run_here(*words)
    words += ["--overwrite", "--weight-decay", 0.5]
    done = torchrun(COMMAND, "die", 1, 6, *words, options=RESTARTS)
    assert done.returncode == 0, done.stderr
    assert f"Resumed from {tmp_path / 'out' / 'checkpoint-4'}" in done.stderr
