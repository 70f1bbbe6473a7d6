"""Weights to go back to when a run has diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from bertolt.train.loop import Callback
from bertolt.train.step import StepLog


class LastFiniteWeights(Callback):
    """A callback that keeps a copy of the weights at the start and at each finite evaluation.

    Training stops before the update that a loss of NaN would spoil, but the update before it may
    have led there: then the weights that it left are finite and of no use.

    Attributes:
        step: after which the copy was taken.
        every_process: each copies its own part of a model that is split.
    """

    every_process = True

    def __init__(self, model: torch.nn.Module) -> None:
        self.step = 0
        self._model = model
        self._copy = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._last_step = 0

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """No copy at each step, which would cost too much."""
        self._last_step = log.step

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Copy the weights if they gave a finite loss."""
        if math.isfinite(metrics["eval_loss"]):
            self.step = step
            for name, value in self._model.state_dict().items():
                self._copy[name].copy_(value)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The copy, unless the weights of this moment or of the start are the same."""
        known = self.step in (0, self._last_step)
        return {"step": torch.tensor(self.step), **({} if known else self._copy)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state_dict` gave, or the weights that the model has now."""
        self.step = int(state["step"])
        if self.step:
            now = self._model.state_dict()
            for name, value in self._copy.items():
                value.copy_(state[name] if name in state else now[name])

    def restore(self) -> None:
        """Give the model the copy."""
        self._model.load_state_dict(self._copy)
