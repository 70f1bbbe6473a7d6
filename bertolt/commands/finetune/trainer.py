"""What fine-tuning adds to the Trainer: streamed scores, and weights to go back to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.data import Prepared
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.data.encode import EncodedTexts
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.evaluation import Scores, majority, score
from bertolt.tokenization import BertTokenizer
from bertolt.train.arguments import TrainingArguments
from bertolt.train.loop import Callback, History
from bertolt.train.saving import Saving
from bertolt.train.step import StepLog
from bertolt.train.trainer import Data, Trainer

# Options that may change when a run is resumed: those of its output, and those whose effect is seen
# in the rows and the weights themselves.
_DECIDE_NOTHING = frozenset(
    {
        *("model", "text", "label", "eval", "precision", "on_bad_row", "encoding"),
        *("out", "overwrite", "save_every", "keep", "resume", "keep_checkpoints", "shard"),
    }
)


class ClassifierTrainer(Trainer):
    """A `Trainer` whose evaluations are whole `Scores`, counted batch by batch.

    Args:
        model: to train.
        args: settings.
        data: training and evaluation rows.
        tokenizer: saved with the model.
        options: of the command.
        callbacks: to watch the run.

    Attributes:
        scores: of the last evaluation, or None before the first.
        majority: the most frequent class of the training rows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        data: Prepared,
        tokenizer: BertTokenizer,
        options: FinetuneOptions,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._settings = settings_of(options, data, model)  # before the model is split
        super().__init__(
            model,
            args,
            train_dataset=data.train.encoded,
            eval_dataset=data.eval.encoded,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.step_rows = args.per_device_train_batch_size  # the command's batch is everybody's
        self.scores: Scores | None = None
        self._rows = data.eval.encoded
        self.majority = majority(data.train.labels(), len(data.labels))
        self.store = Store(options.checkpoints, args.save_total_limit)
        self.saves = True

    def evaluate(
        self, eval_dataset: Data | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the evaluation rows of the data; no others are taken."""
        assert eval_dataset is None or eval_dataset is self._rows
        self.scores = score(
            self.model,
            self._rows,
            precision=self.precision,
            baseline_label=self.majority,
            world=self.world,
        )
        found = self.scores.confusion
        return {
            f"{metric_key_prefix}_loss": self.scores.loss,
            f"{metric_key_prefix}_accuracy": found.accuracy(),
            f"{metric_key_prefix}_f1_macro": found.f1_macro(),
        }

    def hold_store(self) -> AbstractContextManager[object]:
        """Nothing: who holds the out folder holds that of its checkpoints too."""
        return nullcontext()

    def deciding_settings(self, rows: Data) -> dict[str, Any]:
        """As the command's user knows them."""
        return {**self._settings, "precision": self.precision.name}

    def take_best(self, saving: Saving) -> None:
        """The scores of the last weights are not those of the best ones."""
        super().take_best(saving)
        if self.best_step not in (None, self.history.step):
            self.scores = None


def settings_of(options: FinetuneOptions, data: Prepared, model: PreTrainedModel) -> dict[str, Any]:
    """All that decides what a run learns: the options, the rows, and the weights it starts from."""
    named = {
        f"--{item.name.replace('_', '-')}": getattr(options, item.name)
        for item in fields(options)
        if item.name not in _DECIDE_NOTHING
    }
    # Sums of the bits: enough to tell one model from another, and fast.
    weights = [int(v.float().view(torch.int32).sum()) for v in model.state_dict().values()]
    return named | {
        "--keep": "best" if options.keep == "best" else "a number",
        "labels": list(data.labels.names),
        "training rows": _fingerprint(data.train.encoded),
        "evaluation rows": _fingerprint(data.eval.encoded),
        "weights of --model": hashlib.sha256(str(weights).encode()).hexdigest()[:12],
    }


def _fingerprint(rows: EncodedTexts) -> str:
    assert rows.labels is not None
    found = hashlib.sha256()
    for values in (rows.ids, rows.offsets, rows.labels):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:12]


class GoodWeights:
    """A callback that keeps a copy of the weights at the start and at each finite evaluation.

    Training stops before the update that a loss of NaN would spoil, but the update before it may
    have led there: then the weights that it left are whole numbers and of no use.

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

    def on_end(self, history: History) -> None:
        """Nothing."""

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
