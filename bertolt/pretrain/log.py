"""Callbacks of a pretraining run: its log of JSON lines, and the plateau's caution."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertolt.base.console import info
from bertolt.base.files import disk_errors, write_text
from bertolt.base.json_files import JsonError, parse_json
from bertolt.pretrain.measure import masked_loss
from bertolt.train.loop import Callback, History
from bertolt.train.step import StepLog

NEAR = 0.93
"""A loss above this share of the entropy of single tokens has learned next to nothing else."""

_STILL = 0.985  # of the loss before: what falls by less is standing still
_EVALUATIONS = 3  # that stand still before a plateau is named


@dataclass(frozen=True)
class Work:
    """Operations of a step, and the peak of the machine.

    Attributes:
        flops: operations of training for each token, by the step.
        peak: operations a second of the machine's matrix products, of all devices.
    """

    flops: Callable[[int], float]
    peak: float

    def rate(self, log: StepLog) -> float:
        """Operations a second that a step reached, counting its real tokens alone."""
        return log.tokens * self.flops(log.step) / log.seconds if log.seconds else 0.0

    def of_step(self, log: StepLog) -> dict[str, float]:
        """The logged numbers of a step, by name."""
        seconds = log.seconds or 1e-9
        rate = self.rate(log)
        return {
            "loss": log.loss,
            "learning_rate": log.learning_rate,
            "grad_norm": log.grad_norm,
            "sequences": log.sequences,
            "tokens": log.tokens,
            "seconds": log.seconds,
            "tokens_per_second": log.tokens / seconds,
            "filler_share": 1 - log.tokens / max(1, log.rows),
            "flops_per_second": rate,
            "peak_share": rate / self.peak,
        }


class JsonLines:
    """The run's own log: a JSON object a line for each step and each evaluation.

    A run that is resumed goes on with the log, from the step that it goes on from.

    Args:
        path: of the log.
        work: what steps compute.
        about: the first line, after which the lines of the run follow.

    Raises:
        BertoltError: the file system refused, at the begin or at a later line.
    """

    def __init__(self, path: Path, work: Work, about: Mapping[str, Any]) -> None:
        self._path, self._work, self._about = path, work, about

    def on_begin(self, history: History) -> None:
        """Begin the log, or go on with it after the last step of the history."""
        lines = _lines_up_to(self._path, history.step) if history.step else []
        if not lines:
            lines = [json.dumps(dict(self._about), ensure_ascii=False, default=str)]
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        with disk_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """Write the step."""
        self._write({"step": log.step, **self._work.of_step(log)})

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Write the evaluation."""
        self._write({"step": step, **metrics})

    def on_end(self, history: History) -> None:
        """Close the file."""
        with disk_errors(self._path):
            self._file.close()

    def _write(self, values: Mapping[str, Any]) -> None:
        short = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in values.items()}
        with disk_errors(self._path):
            self._file.write(json.dumps(short) + "\n")


def _lines_up_to(path: Path, step: int) -> list[str]:
    """The lines of a log that is there, up to a step; a line that a kill has torn is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            values = parse_json(line)
        except JsonError:
            continue
        if isinstance(values, dict) and values.get("step", 0) <= step:
            lines.append(line)
    return lines


class Plateau(Callback):
    """Says so when the held-out loss stays near the entropy of single tokens.

    There a model guesses frequent tokens whatever stands around them. Every run passes it; some
    never leave it, and their loss curves look calm.

    Args:
        entropy: of single tokens, in nats.
        warmup: steps in which the learning rate still rises, and nothing is expected.
        patience: steps that a loss may stand still, and not fewer than three evaluations.

    Attributes:
        since: the step of the first evaluation that was near it without a fall since, or None.
        left: the step of the first evaluation that was below it, or None.
    """

    def __init__(self, entropy: float, warmup: int, patience: int) -> None:
        self.since: int | None = None
        self.left: int | None = None
        self._entropy, self._warmup, self._patience = entropy, warmup, patience
        self._still: list[float] = []
        self._named = False

    def on_begin(self, history: History) -> None:
        """Take in the evaluations of the run that this one goes on with, without a message."""
        for step, metrics in history.evaluations:
            self._see(step, masked_loss(metrics))

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """See where the loss is, and say it where it stands still."""
        if message := self._see(step, masked_loss(metrics)):
            info(message)

    def _see(self, step: int, loss: float) -> str:
        """Take a loss in; returns a message for the user, or an empty string."""
        if loss < NEAR * self._entropy:
            named, self._named = self._named, False
            self.left = step if self.left is None else self.left
            self.since, self._still = None, []
            left = f"The loss has left the entropy of single tokens behind, by step {step:,}"
            return left if named else ""
        if step <= self._warmup:
            return ""
        if self._still and loss < _STILL * self._still[-1]:
            self.since, self._still = None, []
        self.since = step if self.since is None else self.since
        self._still.append(loss)
        patient = len(self._still) < _EVALUATIONS or step - self.since < self._patience
        if patient or self._named:
            return ""
        self._named = True
        return f"Caution: {self.describe(loss)}"

    def describe(self, loss: float) -> str:
        """A message about a loss that is near the entropy."""
        since = f" since step {self.since:,}" if self.since is not None else ""
        return (
            f"The held-out loss {loss:.2f} stays near {self._entropy:.2f}{since}, the entropy of "
            "single tokens: the model knows how frequent words are and nothing of their context "
            "yet. If it does not fall soon, try another --lr, or more --warmup"
        )
