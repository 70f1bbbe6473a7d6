"""SIGKILL at any moment of pretraining: what is resumed ends with the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.killing import KILLS, Bertolt, kill_again_and_again
from tests.killing import bertolt as bertolt

RUNS = 6
# How many steps, batches or file operations to let pass: up to about as many as there are.
PLACES = {
    "after a step": 24,
    "at any time": 400,
    "in an evaluation": 12,
    "in a save": 250,
    "in the log": 4,
    "in the result": 60,
}

pytestmark = KILLS


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
    done = kill_again_and_again(bertolt, words, PLACES, tmp_path, runs=RUNS)
    done.require_same(lambda out: result(out) == wanted)
    assert not [path for out in done.folders for path in out.rglob(".*")]
    assert all(done.kills[place] for place in PLACES if place != "at any time")
