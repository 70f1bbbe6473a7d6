"""Choices of training: which loss, which layers, and when to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt import BertForSequenceClassification
from bertolt.base.errors import UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.report import read_facts
from tests.commands.conftest import ROWS, write_rows


def run(folder: Path, model: Path, **choices: Any) -> Any:
    path = write_rows(folder / "rows.jsonl", ROWS["labels"] * 4)
    options = FinetuneOptions(
        model=str(model), out=folder / "out", precision="fp32", lr=1e-3, **choices
    )
    return finetune(path, options)


def test_frozen_layers_stay_as_they_were_and_the_report_says_it(
    tmp_path: Path, tiny_folder: Path
) -> None:
    run(tmp_path, tiny_folder, epochs=4, freeze=1, layer_decay=0.5, accumulate=2, focal=1.0)
    before = BertForSequenceClassification.from_pretrained(tiny_folder, verbose=False)
    after = BertForSequenceClassification.from_pretrained(tmp_path / "out", verbose=False)
    old = before.bert.state_dict()
    same = {name for name, each in after.bert.state_dict().items() if torch.equal(each, old[name])}
    assert {name for name in same if "layer.1" in name} == set()
    assert {name for name in old if "layer.0" in name or "embeddings" in name} <= same
    arguments = read_facts(tmp_path / "out")["arguments"]
    assert {"freeze": "1", "layer_decay": "0.5", "accumulate": "2"}.items() <= arguments.items()


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path, tiny_folder: Path) -> None:
    result = run(tmp_path, tiny_folder, epochs=9, patience=1, metric="accuracy", freeze="all")
    evaluations = result.history.evaluations
    assert 2 <= len(evaluations) < 9
    best = max(values["eval_accuracy"] for _, values in evaluations)
    assert result.scores.to_dict()["accuracy"] == best


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"metric": "rmse", "keep": "best"}, "text-classification give no 'rmse'"),
        ({"freeze": 40}, "40 are to be frozen"),
        ({"class_weights": "weights.json"}, "no such file of weights"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    tmp_path: Path, tiny_folder: Path, choices: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        run(tmp_path, tiny_folder, **choices)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("choices", "place"),
    [
        ({"metric": "accuracy"}, "--metric"),
        ({"patience": 2, "test_size": 0.0}, "--patience"),
        ({"keep": "best", "test_size": 0.0}, "--keep"),
    ],
)
def test_choices_that_do_not_go_together(choices: dict[str, Any], place: str) -> None:
    with pytest.raises(UsageError) as refused:
        FinetuneOptions(**choices)
    assert refused.value.place == place


def test_less_of_an_error_is_better(tmp_path: Path, tiny_folder: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["numbers"] * 4)
    options = FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path / "out",
        keep="best",
        metric="rmse",
        epochs=3,
        lr=1e-3,
        task="regression",
    )
    result = finetune(path, options)
    best = min(values["eval_rmse"] for _, values in result.history.evaluations)
    assert result.scores is not None
    assert result.scores.to_dict()["rmse"] == pytest.approx(best, rel=1e-2)
