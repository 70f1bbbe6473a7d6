"""What fine-tuning adds to the Trainer: streamed scores, and weights to go back to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bertolt.config import TrainingArguments
from bertolt.evaluation import Scores, majority, score
from bertolt.finetune.data import Prepared
from bertolt.model.pretrained import PreTrainedModel
from bertolt.tokenization import BertTokenizer
from bertolt.train.loop import Callback, History, StepLog
from bertolt.train.trainer import Data, Trainer


class ClassifierTrainer(Trainer):
    """A `Trainer` whose evaluations are whole `Scores`, counted batch by batch.

    Args:
        model: to train.
        args: settings.
        data: training and evaluation rows.
        tokenizer: saved with the model.
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
        callbacks: Sequence[Callback] = (),
    ) -> None:
        super().__init__(
            model,
            args,
            train_dataset=data.train.encoded,
            eval_dataset=data.eval.encoded,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.scores: Scores | None = None
        self._rows = data.eval.encoded
        self.majority = majority(data.train.labels(), len(data.labels))

    def evaluate(
        self, eval_dataset: Data | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the evaluation rows of the data; no others are taken."""
        assert eval_dataset is None or eval_dataset is self._rows
        self.scores = score(
            self.model, self._rows, precision=self.precision, baseline_label=self.majority
        )
        found = self.scores.confusion
        return {
            f"{metric_key_prefix}_loss": self.scores.loss,
            f"{metric_key_prefix}_accuracy": found.accuracy(),
            f"{metric_key_prefix}_f1_macro": found.f1_macro(),
        }


class GoodWeights:
    """A callback that keeps a copy of the weights at the start and at each finite evaluation.

    Training stops before the update that a loss of NaN would spoil, but the update before it may
    have led there: then the weights that it left are whole numbers and of no use.

    Attributes:
        step: after which the copy was taken.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.step = 0
        self._model = model
        self._copy = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """Nothing: a copy at each step would cost too much."""

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Copy the weights if they gave a finite loss."""
        if math.isfinite(metrics["eval_loss"]):
            self.step = step
            for name, value in self._model.state_dict().items():
                self._copy[name].copy_(value)

    def on_end(self, history: History) -> None:
        """Nothing."""

    def restore(self) -> None:
        """Give the model the copy."""
        self._model.load_state_dict(self._copy)
