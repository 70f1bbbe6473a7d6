"""`Trainer`: a thin object that puts a model, its data and `TrainingArguments` into the loop."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.config import TrainingArguments
from bertolt.data.batch import DataCollatorWithPadding, PackedBatch, PackingCollator
from bertolt.data.sampler import BatchSampler
from bertolt.errors import UsageError
from bertolt.files import write_text
from bertolt.model.precision import PrecisionChoice, choose_precision
from bertolt.model.pretrained import PreTrainedModel
from bertolt.train.callbacks import Progress
from bertolt.train.loop import Callback, History, RowSource, fit, predict_batches
from bertolt.train.optim import AdamW, get_scheduler, parameter_groups

_FULL_LENGTH = 512


class EvalPrediction(NamedTuple):
    """What `compute_metrics` is called with; unpacks into logits and labels."""

    predictions: NDArray[Any]
    label_ids: NDArray[Any] | None


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` returns."""

    predictions: NDArray[Any]
    label_ids: NDArray[Any] | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrainOutput:
    """What `Trainer.train` returns.

    Attributes:
        global_step: steps made.
        training_loss: mean loss over all of them.
        metrics: rates and totals.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Trainer:
    """Train, evaluate and predict, under the names that the peer's Trainer has.

    Args:
        model: one of Bertolt's models.
        args: settings; None: the defaults.
        data_collator: makes a batch of rows. By default rows are packed; a
            `DataCollatorWithPadding` is replaced by packing too, which gives the same numbers.
        train_dataset: rows with `input_ids` and `label` or `labels`.
        eval_dataset: the same, held out.
        processing_class: the tokenizer, saved with the model.
        compute_metrics: gets `(logits, labels)` of the whole evaluation, returns numbers by name.
        callbacks: objects of the `Callback` protocol.
        optimizers: (optimizer, scheduler) to use instead of AdamW and `lr_scheduler_type`.

    Attributes:
        history: of the last `train`.
        optimizer, lr_scheduler: of the last `train`, or those given.
        precision: the number format that was chosen, and why.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: RowSource | None = None,
        eval_dataset: RowSource | None = None,
        processing_class: Any = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: Sequence[Callback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        tokenizer: Any = None,
    ) -> None:
        self.args = args or TrainingArguments()
        use_gpu = torch.cuda.is_available() and not self.args.use_cpu
        self.device = torch.device("cuda" if use_gpu else "cpu")
        self.model = model.move(self.device)
        self.train_dataset = train_dataset
        self.eval_dataset = eval_dataset
        self.processing_class = processing_class or tokenizer
        self.compute_metrics = compute_metrics
        self.callbacks = list(callbacks or [])
        self.precision: PrecisionChoice = choose_precision(self.args.precision, self.device)
        self._given_optimizers = optimizers
        self.optimizer, self.lr_scheduler = optimizers
        self.history = History()
        self._collate = _packing(data_collator, model.config.pad_token_id)
        self._counted: tuple[RowSource | None, NDArray[np.int64]] = (None, np.zeros(0, np.int64))

    def train(self) -> TrainOutput:
        """Train for the epochs or steps that `args` ask for.

        A first Ctrl-C ends training after the step under way; `history.interrupted` tells.

        Raises:
            UsageError: a data set that is needed is missing or empty.
            TrainingError: the loss was not finite; the model has its last good weights.
        """
        rows = _require_rows(self.train_dataset, "train_dataset")
        if self.args.eval_strategy != "no":
            _require_rows(self.eval_dataset, "eval_dataset")
        sampler = self._sampler(rows)
        per_epoch = math.ceil(sampler.num_batches / self.args.gradient_accumulation_steps)
        total = self._total_steps(per_epoch)
        optimizer, scheduler = self._create_optimizer(total)
        self.optimizer, self.lr_scheduler = optimizer, scheduler
        torch.manual_seed(self.args.seed)
        evaluates = self.args.eval_strategy != "no"
        every = self.args.eval_steps if self.args.eval_strategy == "steps" else per_epoch
        progress = [] if self.args.disable_tqdm else [Progress(self.args.logging_steps)]
        self.history = fit(
            self.model,
            self._steps(rows, sampler),
            optimizer,
            scheduler,
            total_steps=total,
            max_grad_norm=self.args.max_grad_norm,
            precision=self.precision,
            evaluate=self.evaluate if evaluates else None,
            evaluate_at=lambda step: step % every == 0 or step == total,
            callbacks=[*progress, *self.callbacks],
        )
        if self.history.failure is not None:
            raise self.history.failure
        steps = self.history.steps
        return TrainOutput(
            global_step=len(steps),
            training_loss=sum(log.loss for log in steps) / max(1, len(steps)),
            metrics={f"train_{name}": value for name, value in self.history.summary().items()},
        )

    def evaluate(
        self, eval_dataset: RowSource | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss over the evaluation rows, and what `compute_metrics` makes of their logits.

        Without `compute_metrics` no logits are kept: memory does not grow with the rows.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = _require_rows(rows, "eval_dataset")
        output = self._run(rows, keep=self.compute_metrics is not None)
        return {f"{metric_key_prefix}_{name}": value for name, value in output.metrics.items()}

    def predict(self, test_dataset: RowSource) -> PredictionOutput:
        """Logits of every row, in order, with labels and metrics where there are labels."""
        output = self._run(_require_rows(test_dataset, "test_dataset"), keep=True)
        named = {f"test_{name}": value for name, value in output.metrics.items()}
        return output._replace(metrics=named)

    def save_model(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        """Write the model, the tokenizer if there is one, and the arguments."""
        folder = Path(output_dir or self.args.output_dir)
        self.model.save_pretrained(folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        text = json.dumps(asdict(self.args), indent=2, ensure_ascii=False) + "\n"
        write_text(folder / "training_args.json", text)

    def _run(self, rows: RowSource, keep: bool) -> PredictionOutput:
        logits: list[NDArray[Any]] = []
        labels: list[NDArray[Any]] = []
        order: list[NDArray[np.int64]] = []
        loss, targets = 0.0, 0
        for batch in predict_batches(
            self.model,
            rows,
            self._row_lengths(rows),
            self._collate,
            token_budget=self.args.per_device_eval_batch_size * _FULL_LENGTH,
            precision=self.precision,
        ):
            loss += batch.loss_sum or 0.0
            targets += batch.num_targets
            if keep:
                order.append(batch.rows)
                logits.append(batch.logits.numpy())
                labels += [] if batch.labels is None else [batch.labels.numpy()]
        metrics = {"loss": loss / targets} if targets else {}
        if not keep:
            return PredictionOutput(np.zeros(0), None, metrics)
        back = np.argsort(np.concatenate(order))
        kept = np.concatenate(logits)[back]
        kept_labels = np.concatenate(labels)[back] if labels else None
        if self.compute_metrics is not None and kept_labels is not None:
            metrics |= self.compute_metrics(EvalPrediction(kept, kept_labels))
        return PredictionOutput(kept, kept_labels, metrics)

    def _sampler(self, rows: RowSource) -> BatchSampler:
        grouped = self.args.train_sampling_strategy == "group_by_length"
        return BatchSampler(
            num_rows=len(rows),
            batch_size=self.args.per_device_train_batch_size,
            seed=self.args.seed,
            strategy=self.args.train_sampling_strategy,
            lengths=self._row_lengths(rows) if grouped else None,
        )

    def _steps(self, rows: RowSource, sampler: BatchSampler) -> Iterator[list[PackedBatch]]:
        epoch = 0
        while True:
            micro: list[PackedBatch] = []
            for numbers in sampler.epoch(epoch):
                micro.append(self._collate([rows[int(number)] for number in numbers]))
                if len(micro) == self.args.gradient_accumulation_steps:
                    yield micro
                    micro = []
            if micro:
                yield micro
            epoch += 1

    def _total_steps(self, per_epoch: int) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * per_epoch)

    def _create_optimizer(self, total_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """The optimizer and scheduler that were given, or new ones: each `train` starts afresh."""
        args = self.args
        optimizer, scheduler = self._given_optimizers
        if optimizer is None:
            optimizer = AdamW(
                parameter_groups(self.model, args.weight_decay),
                lr=args.learning_rate,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
            )
        if scheduler is None:
            scheduler = get_scheduler(
                args.lr_scheduler_type,
                optimizer,
                num_warmup_steps=args.count_warmup(total_steps),
                num_training_steps=total_steps,
                scheduler_specific_kwargs=args.lr_scheduler_kwargs,
            )
        return optimizer, scheduler

    def _row_lengths(self, rows: RowSource) -> NDArray[np.int64]:
        """Tokens of each row; the last count is kept, since evaluations mostly repeat."""
        known = getattr(rows, "lengths", None)
        if known is not None:
            return np.asarray(known)
        if self._counted[0] is not rows:
            counts = (_count_tokens(rows[index]) for index in range(len(rows)))
            self._counted = (rows, np.fromiter(counts, dtype=np.int64, count=len(rows)))
        return self._counted[1]


def _count_tokens(row: Mapping[str, Any]) -> int:
    mask = row.get("attention_mask")
    return len(row["input_ids"]) if mask is None else int(np.count_nonzero(np.asarray(mask)))


def _packing(
    collator: Callable[[list[Any]], Any] | None, pad_token_id: int
) -> Callable[[list[Any]], PackedBatch]:
    if collator is None or isinstance(collator, DataCollatorWithPadding):
        return PackingCollator(pad_token_id=pad_token_id)
    if isinstance(collator, PackingCollator):
        return collator

    def collate(rows: list[Any]) -> PackedBatch:
        made = collator(rows)
        return made if isinstance(made, PackedBatch) else PackedBatch.from_padded(**made)[0]

    return collate


def _require_rows(rows: RowSource | None, name: str) -> RowSource:
    if rows is None or len(rows) == 0:
        raise UsageError(
            f"Trainer has no {name}" if rows is None else f"the {name} has no rows",
            fix=f"give it one: Trainer(..., {name}=...)",
        )
    return rows
