"""SIGKILL at any moment: what is resumed ends with the bits of the run that was never killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUNS, MOST_KILLS = 14, 4
# How many steps, batches or file operations to let pass: up to about as many as there are.
PLACES = {
    "after a step": 24,
    "at any time": 250,
    "in an evaluation": 3,
    "in a save": 150,
    "in the result": 60,
}

Bertolt = Callable[..., int]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="forks")]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONUTF8": "1"}


@pytest.fixture(scope="module")
def bertolt(environment: dict[str, str]) -> Iterator[Bertolt]:
    """Run a command in a process of its own, killed at a place; how it ended."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "nursery.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None

        def run(words: list[str], said: Path, place: str = "", number: int = 0) -> int:
            nursery.stdin.write(json.dumps([words, str(said), place, number]) + "\n")
            nursery.stdin.flush()
            return int(nursery.stdout.readline())

        yield run
        nursery.stdin.close()


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
    draw, kills, same = random.Random(0), Counter(), 0
    for number in range(RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        out, said = folder / "out", folder / "said.txt"
        for attempt in range(MOST_KILLS + 1):
            place = draw.choice(sorted(PLACES)) if attempt < MOST_KILLS else ""
            until = draw.randrange(PLACES[place]) if place else 0
            code = bertolt([*words, "--out", str(out)], said, place, until)
            assert code in (0, -signal.SIGKILL), said.read_text()
            kills[place] += code != 0
            if out.exists():
                break
        same += same_result(out, wanted)
        left = {path.name for path in folder.iterdir()} - {"out", "said.txt", "out.checkpoints"}
        assert all(name.endswith(".old") for name in left), left
    told = ", ".join(f"{count} {place}" for place, count in sorted(kills.items()) if count)
    print(f"\n{kills.total()} kills ({told}); {same} of {RUNS} ends identical")
    assert same == RUNS
    assert kills.total() >= RUNS
    resumed = sum(said.read_text().count("Resumed from") for said in tmp_path.glob("*/said.txt"))
    assert resumed >= RUNS // 2, "a run that begins anew each time would end so too"
    assert all(kills[place] for place in PLACES)
