"""Loaders and steps of a Trainer that a subclass may define, and what makes a run call them.

A run packs its rows by itself. Where a subclass brings a loader or a step, or where the model is no
model of Bertolt's, it goes by the padded door: batches by name, as the peer's Trainer has them.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from bertolt.base.errors import AbsentNameError, UsageError
from bertolt.base.randomness import OwnRandomness
from bertolt.data.batch import PackedBatch
from bertolt.data.masking import DataCollatorForLanguageModeling
from bertolt.data.padded import Batch, PaddedBatch, moved
from bertolt.data.sampler import BatchSampler
from bertolt.models.evaluating import evaluating
from bertolt.models.own_forward import padded_inputs
from bertolt.models.own_module import (
    OwnModule,
    accepted_names,
    models_inside,
    outputs_by_name,
)
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.loaders import (
    LoaderBatches,
    RowOrder,
    make_loader,
    padded_rows,
    reading,
    require_loader,
)
from bertolt.train.methods import Methods
from bertolt.train.overrides import instead_of_method, scalar_loss
from bertolt.train.packing import Collator, is_bertolts
from bertolt.train.padded import PaddedResults
from bertolt.train.results import (
    EvalPrediction,
    PredictionOutput,
    metrics_by_name,
    prefixed,
)
from bertolt.train.sources import RowLengths, is_stream, require_rows
from bertolt.train.speed import speed

_LABELS = ("labels", "label", "label_ids")
_FOR_BOTH = ("_prepare_inputs", "compute_loss_context_manager")
_FOR_TRAINING = ("training_step", "get_train_dataloader", "_get_train_sampler", *_FOR_BOTH)
_FOR_EVALUATION = (
    "prediction_step",
    "get_eval_dataloader",
    "get_test_dataloader",
    "_get_eval_sampler",
    *_FOR_BOTH,
)


class Accelerator:
    """The few things that a `training_step` asks the peer's accelerator for."""

    def __init__(self, device: torch.device, rank: int, size: int) -> None:
        self.device, self.process_index, self.num_processes = device, rank, size

    @property
    def is_main_process(self) -> bool:
        """Whether this is the first process."""
        return self.process_index == 0

    def backward(self, loss: Tensor, **_: Any) -> None:
        """Add the gradients of a loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The model itself: nothing is wrapped around it."""
        return model


class Doors(Methods):
    """The part of a Trainer that makes batches by name, and steps with them."""

    device: torch.device
    precision: PrecisionChoice
    data_collator: Collator
    _given_collator: Collator | None
    train_dataset: Any
    eval_dataset: Any
    processing_class: Any
    compute_metrics: Callable[[EvalPrediction], Any] | None
    preprocess_logits_for_metrics: Callable[..., Any] | None
    _collate: Callable[[list[Any]], PackedBatch]
    _eval_collate: Callable[[list[Any]], PackedBatch]
    _row_lengths: RowLengths

    @property
    def accelerator(self) -> Accelerator:
        """What `training_step` calls `backward` of."""
        return Accelerator(self.device, self.world.rank, self.world.size)

    def __getattr__(self, name: str) -> Any:
        """Tell what to write instead of a method of the peer's Trainer.

        Raises:
            AbsentNameError: there is no such name; an AttributeError too.
        """
        kind = type(self).__name__
        advice = instead_of_method(Doors, name)
        raise AbsentNameError(f"{kind} has no {name}", fix=advice or "see dir(trainer)")

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Move another model, such as a teacher, to where the run is; subclasses call it."""
        model.to(device)

    # ---- loaders ----

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A loader of the train_dataset: padded batches by name, in the order of the seed.

        Defined in a subclass, it gives what is trained on, in the order in which it gives it.

        Raises:
            UsageError: there is no train_dataset.
        """
        rows = require_rows(self.train_dataset, "train_dataset")
        order = None if is_stream(rows) else self._get_train_sampler(rows)
        size = self.args.per_device_train_batch_size
        return make_loader(rows, size, self._padding(evaluates=False), order)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """A loader of these rows, those of that name, or the Trainer's: padded batches in order.

        Raises:
            UsageError: there are no rows.
        """
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        return self._loader_of(self._evaluation_rows(data), "eval_dataset")

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """A loader of rows to predict: padded batches in order.

        Raises:
            UsageError: there are no rows.
        """
        return self._loader_of(test_dataset, "test_dataset")

    def _loader_of(self, rows: Any, name: str) -> DataLoader[Any]:
        rows = require_rows(rows, name)
        order = None if is_stream(rows) else self._get_eval_sampler(rows)
        size = self.args.per_device_eval_batch_size
        return make_loader(rows, size, self._padding(evaluates=True), order)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """The order of the training rows, as `train_sampling_strategy` has it."""
        rows, args = self.train_dataset if train_dataset is None else train_dataset, self.args
        by_length = args.train_sampling_strategy == "group_by_length"
        return RowOrder(
            BatchSampler(
                num_rows=len(rows),
                batch_size=args.per_device_train_batch_size * self.world.size,
                seed=args.seed if args.data_seed is None else args.data_seed,
                strategy=args.train_sampling_strategy,
                lengths=self._row_lengths(rows) if by_length else None,
            )
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:
        """The order of rows to evaluate; None: as they come."""
        return None

    def _evaluation_rows(self, data: Any) -> Any:
        """Rows, or those of the `eval_dataset` that have this name."""
        if not isinstance(data, str):
            return data
        sets = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {}
        if data not in sets:
            raise UsageError(
                f"the eval_dataset has no {data!r}",
                fix=f"name one of {', '.join(map(str, sets))}" if sets else "give it the rows",
            )
        return sets[data]

    def _padding(self, *, evaluates: bool) -> Callable[[list[Any]], Any]:
        """The collator as one that gives padded batches by name."""
        collator = self._given_collator
        if self._own_module:
            return self._padding_of_accepted(evaluates=evaluates)
        if collator is not None and not is_bertolts(collator):
            return collator

        def collate(rows: list[Any]) -> Any:
            packed = (self._eval_collate if evaluates else self._collate)(rows)
            return padded_inputs(self.model, packed)

        return collate

    def _padding_of_accepted(self, *, evaluates: bool) -> Callable[[list[Any]], Any]:
        """The same for a module of the user's own, from what it takes of the rows."""
        collator, names = self._given_collator, accepted_names(self.model)
        if names is not None:
            names |= {*_LABELS, *(self.args.label_names or ())}
        if collator is None:
            return lambda rows: padded_rows(rows, names, self._pad_token_id())
        masks = isinstance(collator, DataCollatorForLanguageModeling)
        if evaluates and masks and getattr(collator, "seed", 0) is None:
            collator = copy.copy(collator)
            collator.seed = self.args.seed  # type: ignore[attr-defined]
        if names is None or not self.args.remove_unused_columns:
            return collator
        wanted, made = names, collator

        def collate(rows: list[Any]) -> Any:
            return made(
                [
                    {name: row[name] for name in row if name in wanted}
                    if isinstance(row, Mapping)
                    else row
                    for row in rows
                ]
            )

        return collate

    def _pad_token_id(self) -> int:
        configs = [each.config for each in models_inside(self.model)]
        found = getattr(self.processing_class, "pad_token_id", None)
        return int(configs[0].pad_token_id if found is None and configs else found or 0)

    # ---- steps ----

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: int | Tensor | None = None,
    ) -> Tensor:
        """Forward and backward through a batch: its part of the loss of the step, detached.

        Defined in a subclass, it is called for each batch of a step, and adds the gradients itself;
        what it returns is added up to the loss of the step.

        Args:
            model: to call.
            inputs: a padded batch by name.
            num_items_in_batch: labels of all batches of the step; None: those of this batch.
        """
        model.train()
        batch = self._named(self._prepare_inputs(inputs))
        items = batch.count_labels() if num_items_in_batch is None else int(num_items_in_batch)
        batch = PaddedBatch(
            inputs=batch.inputs, label_names=batch.label_names, loss_counts={"labels": items}
        )
        with self.compute_loss_context_manager():
            loss = self._part_of_loss(OwnModule(model), batch)
        self.accelerator.backward(loss)
        return loss.detach()

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: Sequence[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """The loss of a batch, what the model gives beside it, and its labels; None where missing.

        Args:
            model: to call.
            inputs: a padded batch by name.
            prediction_loss_only: whether the loss is all that is wanted.
            ignore_keys: outputs to leave out.
        """
        inputs = self._prepare_inputs(inputs)
        labels = tuple(self._named(inputs).labels.values())
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = None
            if labels:
                loss, outputs = self.compute_loss(model, dict(inputs), return_outputs=True)
            else:
                outputs = model(**inputs)
                if isinstance(outputs, Mapping):  # a model may need no labels for its loss
                    loss = outputs.get("loss")
        if prediction_loss_only:
            return loss, None, None
        named = outputs_by_name(outputs, with_loss=bool(labels))
        left = {"past_key_values", *(ignore_keys or ())}
        values = tuple(value for name, value in named.items() if name not in left)
        return (
            loss,
            values[0] if len(values) == 1 else values,
            labels[0] if len(labels) == 1 else labels or None,
        )

    def _prepare_inputs(self, inputs: Any) -> dict[str, Any]:
        """The inputs on the device of the model."""
        return dict(moved(inputs, self.device))

    def compute_loss_context_manager(self) -> contextlib.AbstractContextManager[Any]:
        """Around a forward pass: the number format of the run."""
        return self.precision.autocast(self.device)

    # ---- how a run goes by them ----

    def _defines(self, names: Sequence[str]) -> bool:
        """Whether the subclass defines one of these methods."""
        return any(getattr(type(self), name) is not getattr(Doors, name) for name in names)

    def _hands_on_batches(self) -> bool:
        """Whether a loss of the user's gets the batches of a collator of the user's."""
        own = self._given_collator is not None and not is_bertolts(self._given_collator)
        return own and self._has_own_loss() and not self._own_module

    def _trains_padded(self) -> bool:
        own = self._own_module or self._hands_on_batches()
        return own or self._defines(_FOR_TRAINING)

    def _evaluates_padded(self) -> bool:
        own = self._own_module or self._hands_on_batches()
        return own or self._defines(_FOR_EVALUATION)

    def _named(self, inputs: Any) -> PaddedBatch:
        names = self.args.label_names
        return PaddedBatch.of(inputs, None if names is None else tuple(names))

    def _take(self, values: Any) -> Batch:
        """What a loader gave, as the model takes it."""
        if self._steps_by_name():
            if isinstance(values, PackedBatch) and not self._own_module:
                values = padded_inputs(self.model, values)
            return self._named(self._only_accepted(values))
        if isinstance(values, PackedBatch):
            return values
        tensors = self._named(values).inputs
        packed: PackedBatch = self.model.enter(self.model.inputs_of(None, **tensors))[0]
        return packed

    def _steps_by_name(self) -> bool:
        """Whether training steps get batches by name, and not packed."""
        return self._own_module or self._has_own_loss() or self._makes_steps()

    def _only_accepted(self, values: Any) -> Any:
        """A batch without what the model's own `forward` would not take."""
        plain = type(self).compute_loss is Methods.compute_loss
        if self._defines(("training_step", "prediction_step")) or not plain:
            return values
        names = accepted_names(self.model)
        if not isinstance(values, Mapping) or names is None:
            return values
        kept = names | set(self._named(values).labels)
        return {name: value for name, value in values.items() if name in kept}

    def _makes_steps(self) -> bool:
        """Whether `training_step` makes the passes of a batch."""
        return self._defines(("training_step", *_FOR_BOTH))

    def _loader(self, make: Callable[..., Any], *rows: Any) -> Any:
        """A loader by a method that a subclass may define; its draws are apart from all others."""
        with OwnRandomness(self.args.seed).inside():
            return require_loader(make(*rows), make.__name__)

    def _loader_batches(self) -> LoaderBatches:
        """The source of a run that goes by the padded door."""
        if self._makes_steps() and not self.world.alone:
            raise UsageError(
                "a training step of its own is not shared by several processes",
                place=type(self).__name__,
                fix="define compute_loss, or start one process",
            )
        loader = self._loader(self.get_train_dataloader)
        return LoaderBatches(loader=loader, args=self.args, take=self._take, world=self.world)

    def _step_of(self, batch: PaddedBatch) -> Tensor:
        """One batch of a step by `training_step`."""
        assert batch.loss_counts is not None
        items = sum(batch.loss_counts.values())
        if isinstance(self.model, PreTrainedModel):
            self.model.has_learned = True
        with self.compute_loss_context_manager():
            loss = self.training_step(self.model, batch.padded(), num_items_in_batch=items)
        return scalar_loss(loss).detach().to(self.device)

    def _run_padded(
        self,
        loader: Iterable[Any],
        prefix: str,
        keep: bool,
        ignore_keys: Sequence[str] | None = None,
    ) -> PredictionOutput:
        """Answer all batches of a loader by `prediction_step`."""
        begun, ends = time.perf_counter(), getattr(self.model, "answers_with_ends", False)
        logits = PaddedResults("outputs", _LOWEST if ends else -100)
        labels = PaddedResults("labels")
        total, count, rows, steps = 0.0, 0, 0, 0
        batches = enumerate(reading(loader, self.args.seed))
        with evaluating(self.model):
            for (number, values), own in self.world.deal_out(batches, may_stop=True):
                batch = self._named(self._only_accepted(values))
                loss, answers, golds = self.prediction_step(
                    self.model, batch.padded(), not keep, ignore_keys
                )
                if not own:  # where a model is split, all take part in every round
                    continue
                if loss is not None and (weight := batch.count_labels()):
                    total += float(loss.detach().float().mean()) * weight
                    count += weight
                rows, steps = rows + batch.num_sequences, steps + 1
                if keep and answers is not None:
                    if self.preprocess_logits_for_metrics is not None:
                        answers = self.preprocess_logits_for_metrics(answers, golds)
                    logits.add(number, batch.num_sequences, answers)
                if keep and golds is not None:
                    labels.add(number, batch.num_sequences, golds)
                self._events.tell("on_prediction_step")
        total, count, rows, steps = self.world.sum([total, count, rows, steps])  # type: ignore[assignment]
        metrics: dict[str, Any] = {"loss": total / count} if count else {}
        predictions: Any = np.zeros(0)
        label_ids = None
        if keep:
            predictions, label_ids = logits.in_order(self.world), labels.in_order(self.world)
            if self.compute_metrics is not None and label_ids is not None:
                found = self.compute_metrics(EvalPrediction(predictions, label_ids))
                metrics |= metrics_by_name(found)
        times = speed(prefix, time.perf_counter() - begun, int(rows), int(steps))
        return PredictionOutput(predictions, label_ids, prefixed(metrics, prefix) | times)


_LOWEST = float(torch.finfo(torch.float32).min)
"""A logit beyond a row's end that may win makes an answer of nothing."""
