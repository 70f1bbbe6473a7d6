"""A model small enough to train in a test, and what is done with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bertolt import (
    BertForSequenceClassification,
    PackedBatch,
    PackingCollator,
    TrainingArguments,
)

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
Model = BertForSequenceClassification
Rows = list[dict[str, Any]]


def random_rows(least: int = 1, first: int = 1) -> Rows:
    """26 rows of `least` to 29 ids from `first` on, with one of three classes each."""
    draw = np.random.default_rng(0)
    return [
        {"input_ids": draw.integers(first, 97, draw.integers(least, 30)).tolist(), "label": n % 3}
        for n in range(26)
    ]


def arguments(**changes: Any) -> TrainingArguments:
    """Of two epochs with batches of 8."""
    usual = {"num_train_epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.01}
    return TrainingArguments(**{**usual, "precision": "fp32", "disable_tqdm": True, **changes})


def untimed(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics without how long it took to measure them, and when."""
    times = ("_runtime", "_samples_per_second", "_steps_per_second")
    return {k: v for k, v in metrics.items() if not k.endswith(times) and k != "epoch"}


def pack(rows: list[dict[str, Any]]) -> PackedBatch:
    return PackingCollator()(rows)


def descent(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_same_weights(found: nn.Module, wanted: dict[str, torch.Tensor], atol: float = 0) -> None:
    for name, value in found.named_parameters():
        torch.testing.assert_close(value, wanted[name], atol=atol, rtol=0, msg=name)


class Tied(nn.Module):
    """An embedding that is also the decoder, a normalisation, a bias, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.decoder(self.frozen(self.norm(self.embed(ids))))
        return found


def tied(seed: int = 0) -> Tied:
    torch.manual_seed(seed)
    return Tied()
