"""`torchrun … -m bertolt finetune` and `pretrain`: results, voice, and failures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertolt.cli import main
from tests.distributed.starting import COMMAND, torchrun
from tests.pretrain.conftest import letters as letters  # the corpus, and not its folder's tests

pytestmark = pytest.mark.slow
Started = subprocess.CompletedProcess[str]


@pytest.fixture
def finetune_words(tiny_folder: Path, reviews_csv: Path, tmp_path: Path) -> list[object]:
    """A run of 24 steps without dropout, which draws other numbers in each process."""
    folder = tmp_path / "encoder"
    copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return [
        *("finetune", reviews_csv, "--model", folder, "--epochs", 3, "--batch-size", 8),
        *("--lr", 1e-3, "--precision", "fp32"),
    ]


@pytest.fixture
def pretrain_words(letters: Path, tmp_path: Path) -> list[object]:
    """A run of 8 steps of two passes."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"intermediate_size": 64, "max_position_embeddings": 64}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(shape), encoding="utf-8")
    return [
        *("pretrain", letters, "--config", config, "--steps", 8, "--batch-tokens", 1024),
        *("--pass-tokens", 512, "--lr", 1e-3, "--eval-every", 4, "--precision", "fp32"),
    ]


@pytest.fixture
def alone() -> Callable[..., None]:
    """Run the command in this process."""

    def run(*words: object) -> None:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert ended.value.code == 0

    return run


def together(*words: object, how: Sequence[object] = ("well", 0, 0), **options: Any) -> Started:
    return torchrun(COMMAND, *how, *words, **options)


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def numbers(values: Any) -> list[float]:
    """Every number of nested values, in order."""
    if isinstance(values, dict):
        return [number for key in sorted(values) for number in numbers(values[key])]
    if isinstance(values, list):
        return [number for value in values for number in numbers(value)]
    return [float(values)] if isinstance(values, int | float) else []


@pytest.mark.parametrize("flags", [(), ("--shard", "--save-every", "10")])
def test_finetune_gives_the_result_of_one_process(
    flags: tuple[str, ...], finetune_words: list[object], alone: Callable[..., None], tmp_path: Path
) -> None:
    done = together(*finetune_words, *flags, "--out", tmp_path / "two", anew=not flags)
    assert done.returncode == 0, done.stderr
    alone(*finetune_words, "--out", tmp_path / "one")
    found, wanted = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    assert numbers(found["eval"]) == pytest.approx(numbers(wanted["eval"]), abs=2e-3)
    assert found["train"]["samples"] == wanted["train"]["samples"] == 3 * 64
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    config = json.loads((tmp_path / "two" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    alone("inspect", tmp_path / "two", "--selftest")
    for line in ("80 rows read", "step 1/24", "evaluated at step 24", "\nAccuracy 0.", "Report: "):
        assert done.stderr.count(line) == 1, done.stderr
    assert not list((tmp_path / "two").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("objective", "flags", "count"),
    [("mlm", (), 3), ("mlm+nsp", ("--shard",), 2)],
)
def test_pretrain_makes_the_steps_of_one_process(
    objective: str,
    flags: tuple[str, ...],
    count: int,
    pretrain_words: list[object],
    alone: Callable[..., None],
    tmp_path: Path,
) -> None:
    words = (*pretrain_words, "--objective", objective)
    done = together(*words, *flags, "--out", tmp_path / "more", count=count, anew=bool(flags))
    assert done.returncode == 0, done.stderr
    alone(*words, "--out", tmp_path / "one")
    logs = [steps_of(tmp_path / name / "log.jsonl") for name in ("one", "more")]
    assert len(logs[0]) == len(logs[1]) == 8
    for one, other in zip(*logs, strict=True):
        for key in ("loss", "grad_norm", "tokens", "sequences"):
            assert other[key] == pytest.approx(one[key], rel=1e-4), key
    found, wanted = metrics(tmp_path / "more")["eval"], metrics(tmp_path / "one")["eval"]
    assert found == pytest.approx(wanted, rel=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "more")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # The bias of the keys has no gradient but rounding, which Adam makes whole steps of.
        allowed = 2 * 8 * 1e-3 if name.endswith("key.bias") else 1e-5
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=allowed, msg=name)
    assert done.stderr.count("step 1/8") == done.stderr.count("Saved to") == 1


def steps_of(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "grad_norm" in line]


@pytest.mark.parametrize(
    ("command", "checkpoint", "flags"),
    [
        ("finetune", "died/checkpoint-5", ()),
        ("pretrain", "died/checkpoint-5", ("--shard",)),
    ],
)
def test_a_process_that_dies_is_restarted_and_the_run_goes_on(
    command: str,
    checkpoint: str,
    flags: tuple[str, ...],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    words = (*request.getfixturevalue(f"{command}_words"), *flags, "--save-every", 5)
    undisturbed = together(*words, "--out", tmp_path / "well")
    assert undisturbed.returncode == 0, undisturbed.stderr
    done = together(
        *words, "--out", tmp_path / "died", how=("die", 1, 7), options=["--max-restarts=2"]
    )
    assert done.returncode == 0, done.stderr
    # Whichever of the two is faster: the process that is left notices, or torchrun ends it.
    noticed = "another process of this run has ended" in done.stderr
    assert noticed or "closing signal SIGTERM" in done.stderr, done.stderr
    assert f"Resumed from {tmp_path / checkpoint}" in done.stderr
    found, wanted = (load_file(tmp_path / n / "model.safetensors") for n in ("died", "well"))
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_ends_all_with_one_message(
    rank: int, finetune_words: list[object], tmp_path: Path
) -> None:
    done = together(*finetune_words, "--out", tmp_path / "out", how=("fail", rank, 3))
    assert done.returncode != 0
    assert done.stderr.count("bertolt: error:") == 1, done.stderr
    assert "bertolt: error: data.csv: row 7 cannot be used\n  fix: mend it" in done.stderr
    assert "Traceback" not in done.stderr.split("torch/distributed/elastic")[0]
    assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]


def test_a_fault_is_told_once_with_its_traceback(
    finetune_words: list[object], tmp_path: Path
) -> None:
    done = together(*finetune_words, "--out", tmp_path / "out", how=("crash", 1, 3))
    assert done.returncode != 0
    assert done.stderr.count("AssertionError: a fault of the program") == 1, done.stderr
    assert "bertolt: error:" not in done.stderr


def test_an_error_of_all_processes_is_told_once(tmp_path: Path) -> None:
    done = together("finetune", tmp_path / "none.csv", "--out", tmp_path / "out", count=3)
    assert done.returncode != 0
    assert done.stderr.count("there is no such file") == 1, done.stderr


@pytest.mark.parametrize(("how", "rank", "step"), [("term", 1, 7), ("term-measuring", 0, 8)])
def test_sigterm_to_one_process_saves_the_run_of_all(
    how: str, rank: int, step: int, finetune_words: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = together(*finetune_words, "--out", out, how=(how, rank, step))
    assert done.returncode != 0
    assert done.stderr.count(f"Stopped by SIGTERM after step {step}") == 1, done.stderr
    assert "evaluated at step" not in done.stderr
    assert "exitcode  : 143" in done.stderr
    words = (*finetune_words, "--out", out, "--resume")
    again = together(*words)
    assert again.returncode == 0, again.stderr
    assert f"checkpoint-{step}" in again.stderr
    assert again.stderr.count("evaluated at step 8:") == 1
    assert metrics(out)["train"]["steps"] == 24
