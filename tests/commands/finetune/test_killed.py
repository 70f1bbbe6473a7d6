"""SIGKILL at any moment: what is resumed ends with the bits of the run that was never killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.killing import KILLS, Bertolt, kill_again_and_again
from tests.killing import bertolt as bertolt

RUNS = 6
# How many steps, batches or file operations to let pass: up to about as many as there are.
PLACES = {
    "after a step": 24,
    "at any time": 250,
    "in an evaluation": 3,
    "in a save": 150,
    "in the result": 60,
}

pytestmark = KILLS


@pytest.fixture(scope="module")
def words(reviews_csv: Path, tiny_folder: Path) -> list[str]:
    """24 steps of a tiny model with dropout, 3 evaluations, a checkpoint every 3 steps."""
    options = "--epochs 3 --batch-size 8 --lr 3e-3 --precision fp32 --save-every 3 --resume"
    return ["finetune", str(reviews_csv), "--model", str(tiny_folder), *options.split()]


@pytest.fixture(scope="module")
def wanted(bertolt: Bertolt, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the run gives that is never killed."""
    folder = tmp_path_factory.mktemp("whole")
    assert bertolt([*words, "--out", str(folder / "out")], folder / "said.txt") == 0
    assert [path.name for path in sorted(folder.iterdir())] == ["out", "said.txt"]
    return folder / "out"


def same_result(found: Path, wanted: Path) -> bool:
    """Weights bit by bit, and all that is told of the run but its times."""
    counts = [json.loads((out / "metrics.json").read_text()) for out in (found, wanted)]
    for each in counts:
        for name in [name for name in each["train"] if "second" in name]:
            del each["train"][name]
    first, second = ((out / "model.safetensors").read_bytes() for out in (found, wanted))
    return first == second and counts[0] == counts[1]


def test_killed_again_and_again(
    bertolt: Bertolt, words: list[str], wanted: Path, tmp_path: Path
) -> None:
    done = kill_again_and_again(bertolt, words, PLACES, tmp_path, runs=RUNS)
    done.require_same(lambda out: same_result(out, wanted))
    for folder in done.folders:
        assert {path.name for path in folder.iterdir()} == {"out", "said.txt"}
        assert not [path for path in folder.rglob(".*") if path.suffix != ".old"]
    assert all(done.kills[place] for place in PLACES)


def test_a_command_of_several_runs_goes_on_with_the_one_that_was_killed(
    bertolt: Bertolt, reviews_csv: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    options = "--seeds 2 --epochs 1 --batch-size 8 --lr 3e-3 --precision fp32 --save-every 2"
    words = ["finetune", str(reviews_csv), "--model", str(tiny_folder), *options.split()]
    whole, killed = tmp_path / "whole" / "out", tmp_path / "killed" / "out"
    assert bertolt([*words, "--out", str(whole)], tmp_path / "whole.txt") == 0
    words, said = [*words, "--resume", "--out", str(killed)], tmp_path / "said.txt"
    # In the first run, as it is recorded, in the second run, and as the result is put in place.
    for place, number in (
        ("in the record", 0),
        ("after a step", 3),
        ("in the record", 9),
        ("after a step", 4),
        ("in the result", 12),
    ):
        assert bertolt(words, said, place, number) == -signal.SIGKILL, place
    assert bertolt(words, said) == 0
    told = said.read_text(encoding="utf-8")
    assert told.count("Resumed from") >= 2
    assert told.count("Run 1 of 2") <= 4
    assert same_several(killed, whole)


def same_several(found: Path, wanted: Path) -> bool:
    """The result, and what `runs.json` has of every run, but its times."""
    records = [json.loads((out / "runs.json").read_text())["runs"] for out in (found, wanted)]
    for run in (run for record in records for run in record):
        del run["seconds"]
    first, second = ((out / "model.safetensors").read_bytes() for out in (found, wanted))
    files = [
        sorted(str(path.relative_to(out)) for path in out.rglob("*")) for out in (found, wanted)
    ]
    assert files[0] == files[1]
    return first == second and records[0] == records[1]
