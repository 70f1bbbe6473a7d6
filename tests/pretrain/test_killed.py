"""SIGKILL at any moment of pretraining: what is resumed ends with the same bits."""

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
RUNS, MOST_KILLS = 12, 4
# How many steps, batches or file operations to let pass: up to about as many as there are.
PLACES = {
    "after a step": 24,
    "at any time": 400,
    "in an evaluation": 12,
    "in a save": 250,
    "in the result": 8,
}

Bertolt = Callable[..., int]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="forks")]


@pytest.fixture(scope="module")
def bertolt() -> Iterator[Bertolt]:
    """Run a command in a process of its own, killed at a place; how it ended."""
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONUTF8": "1"}
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
def words(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """24 steps of pairs in two epochs, with dropout; 3 evaluations, a checkpoint every 3 steps."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = tmp_path_factory.mktemp("shape") / "config.json"
    config.write_text(json.dumps({**shape, "intermediate_size": 64}), encoding="utf-8")
    options = (
        "--objective mlm+nsp --steps 24 --batch-tokens 2048 --dropout 0.1 --precision fp32 "
        "--save-every 3 --eval-every 8 --resume"
    )
    return ["pretrain", str(letters), "--config", str(config), *options.split()]


def result(out: Path) -> tuple[bytes, object, list[object]]:
    """Weights bit by bit, and all that is told of the run but its times."""
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    train = {k: v for k, v in metrics["train"].items() if "second" not in k and k != "peak_share"}
    lines = [json.loads(line) for line in (out / "log.jsonl").open(encoding="utf-8")]
    log = [(line["step"], line.get("loss"), line.get("eval_loss")) for line in lines[1:]]
    return (out / "model.safetensors").read_bytes(), {**metrics, "train": train}, log


def test_killed_again_and_again(bertolt: Bertolt, words: list[str], tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "out"
    whole.parent.mkdir()
    said = tmp_path / "said.txt"
    assert bertolt([*words, "--out", str(whole)], said) == 0, said.read_text()
    wanted = result(whole)
    draw, kills, same = random.Random(0), Counter[str](), 0
    for number in range(RUNS):
        out, said = tmp_path / str(number) / "out", tmp_path / f"{number}.txt"
        for attempt in range(MOST_KILLS + 1):
            place = draw.choice(sorted(PLACES)) if attempt < MOST_KILLS else ""
            until = draw.randrange(PLACES[place]) if place else 0
            code = bertolt([*words, "--out", str(out)], said, place, until)
            assert code in (0, -signal.SIGKILL), said.read_text()
            kills[place] += code != 0
            if code == 0:
                break
        same += result(out) == wanted
    told = ", ".join(f"{count} {place}" for place, count in sorted(kills.items()) if count)
    print(f"\n{kills.total()} kills ({told}); {same} of {RUNS} ends identical")
    assert same == RUNS
    assert kills.total() >= RUNS
    resumed = sum(said.read_text().count("Resumed from") for said in tmp_path.glob("*.txt"))
    assert resumed >= RUNS // 2, "a run that begins anew each time would end so too"
    assert all(kills[place] for place in PLACES if place != "at any time")
