"""Saving a run and going on: the same bits as without the stop, and refusals by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import (
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)
from bertolt.train.loop import StepLog

Rows = list[dict[str, Any]]


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the run does comes after it."""


class KillAt:
    """A callback that kills the run after a step or in an evaluation."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, log: StepLog, total_steps: int) -> None:
        if log.step == self.step:
            raise Killed

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None: ...

    def on_end(self, history: Any) -> None: ...


@pytest.fixture(scope="module")
def rows() -> Rows:
    draw = np.random.default_rng(0)
    return [
        {"input_ids": draw.integers(5, 97, draw.integers(2, 30)).tolist(), "label": number % 3}
        for number in range(26)
    ]


@pytest.fixture
def trainer(tiny_config: Any, rows: Rows, tmp_path: Path) -> Callable[..., Trainer]:
    """A Trainer that saves every 2 steps of 8, with dropout on."""

    def make(callbacks: Any = (), train: Any = None, **changes: Any) -> Trainer:
        torch.manual_seed(0)
        model = BertForSequenceClassification(tiny_config(num_labels=3, initializer_range=0.1))
        settings = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 8,
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "warmup_steps": 2,
            "precision": "fp32",
            "disable_tqdm": True,
            "save_strategy": "steps",
            "save_steps": 2,
            "eval_strategy": "epoch",
        }
        args = TrainingArguments(**{**settings, **changes})
        given = rows if train is None else train
        return Trainer(
            model, args, train_dataset=given, eval_dataset=rows[:8], callbacks=list(callbacks)
        )

    return make


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same_bits(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name].view(torch.uint8), wanted[name].view(torch.uint8))
        for name in wanted
    )


@pytest.fixture
def never_killed(trainer: Callable[..., Trainer], tmp_path: Path) -> Trainer:
    whole = trainer(output_dir=str(tmp_path / "whole"))
    whole.train()
    return whole


@pytest.mark.parametrize("step", [3, 4, 5, 8])
def test_a_resumed_run_ends_with_the_same_bits(
    trainer: Callable[..., Trainer], never_killed: Trainer, step: int
) -> None:
    with pytest.raises(Killed):
        trainer([KillAt(step)]).train()
    torch.rand(5)  # whatever another program draws before
    resumed = trainer()
    output = resumed.train(resume_from_checkpoint=True)
    assert same_bits(weights(resumed), weights(never_killed))
    assert output.global_step == 8
    for found, wanted in zip(resumed.history.steps, never_killed.history.steps, strict=True):
        assert (found.step, found.loss, found.grad_norm, found.learning_rate, found.tokens) == (
            wanted.step,
            wanted.loss,
            wanted.grad_norm,
            wanted.learning_rate,
            wanted.tokens,
        )
    assert resumed.history.evaluations == never_killed.history.evaluations
    assert resumed.lr_scheduler.state_dict() == never_killed.lr_scheduler.state_dict()
