"""The loss, optimizer and schedule of a Trainer, which a subclass may define."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.data.batch import PackedBatch
from bertolt.data.padded import Batch, PaddedBatch
from bertolt.models.losses import problem_type
from bertolt.models.own_forward import has_own_forward, loss_in, padded_inputs
from bertolt.models.own_module import accepted_names, inner, no_loss
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.optim import AdamW, layered_groups, parameter_groups
from bertolt.train.overrides import scalar_loss
from bertolt.train.schedules import get_scheduler
from bertolt.train.smoothing import LabelSmoother, smoothed_loss
from bertolt.train.telling import Telling


class Methods(Telling):
    """The part of a Trainer that a subclass may change: its loss, optimizer and schedule.

    Attributes:
        label_smoother: spreads labels as `label_smoothing_factor` says, or None.
    """

    loss_is_scaled_for_ga: bool | None = None
    model: Any
    _own_module: bool
    compute_loss_func: Callable[..., Tensor] | None
    optimizer: torch.optim.Optimizer | None
    lr_scheduler: Any
    optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None
    label_smoother: LabelSmoother | None
    _given_optimizers: tuple[torch.optim.Optimizer | None, Any]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Any:
        """The loss of a batch, for a subclass to define; evaluations report it too.

        A loss of a subclass is a mean over the labels of its batch. The Trainer weights it by the
        batch's share of all labels of the step, so that several batches and processes give the
        mean over all their labels, as one large batch would. With `loss_is_scaled_for_ga = True`
        in the class it gets `num_items_in_batch`, the labels of the whole step, to divide a sum
        by; such losses, and those of `compute_loss_func`, are added up as they are. An evaluation
        gives None, and expects a mean.

        Args:
            model: to call: `model(**inputs)`.
            inputs: a padded batch by name, `labels` or other targets included.
            return_outputs: whether to return the model's outputs too.
            num_items_in_batch: labels of all batches of the step, over all processes, or None.

        Returns:
            The loss, a scalar; with `return_outputs` (loss, outputs).
        """
        other = self.compute_loss_func or self.label_smoother
        labels = inputs.pop("labels", None) if other is not None else None
        if self._own_module and (names := accepted_names(self.model)) is not None:
            inputs = {name: value for name, value in inputs.items() if name in names}
        # Where nobody reads them, a language model gives the logits of labelled tokens alone.
        unread = other is None and not return_outputs and not self._own_module
        chooses = unread and not has_own_forward(model) and model.chooses_logits
        outputs = model(**inputs, **({"logits": "labelled"} if chooses else {}))
        if self.compute_loss_func is not None:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif self.label_smoother is not None and labels is not None:
            shift = bool(getattr(getattr(model, "config", None), "is_decoder", False))
            loss = self.label_smoother(outputs, labels, shift, num_items_in_batch)
        else:
            loss = loss_in(outputs)
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the caller, or AdamW by the arguments; kept as `optimizer`."""
        args = self.args
        if self.optimizer is None and self.optimizer_cls_and_kwargs is not None:
            kind, options = self.optimizer_cls_and_kwargs
            self.optimizer = kind(parameter_groups(self.model, args.weight_decay), **options)
        if self.optimizer is None:
            groups = (
                parameter_groups(self.model, args.weight_decay)
                if args.layer_decay == 1
                else layered_groups(
                    self.model, args.weight_decay, args.learning_rate, args.layer_decay
                )
            )
            self.optimizer = AdamW(
                groups,
                lr=args.learning_rate,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
            )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """The scheduler of the caller, or the one that the arguments name; kept as `lr_scheduler`.

        Args:
            num_training_steps: of the whole run.
            optimizer: whose rates it sets; None: `self.optimizer`.
        """
        if self.lr_scheduler is None:
            self.lr_scheduler = get_scheduler(
                self.args.lr_scheduler_type,
                optimizer or self.create_optimizer(),
                num_warmup_steps=self.args.count_warmup(num_training_steps),
                num_training_steps=num_training_steps,
                scheduler_specific_kwargs=self.args.schedule_options,
            )
        return self.lr_scheduler

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Set `optimizer` and `lr_scheduler` for a run of so many steps."""
        self.optimizer = self.create_optimizer() or self.optimizer
        scheduler = self.create_scheduler(num_training_steps, optimizer=self.optimizer)
        self.lr_scheduler = scheduler or self.lr_scheduler

    def _takes_smoothing(self) -> LabelSmoother | None:
        """What spreads the labels, if the arguments ask for it.

        Raises:
            UsageError: the model's answers are no shares of classes.
        """
        factor, model = self.args.label_smoothing_factor, self.model
        if not factor:
            return None
        if self._has_own_loss():
            return LabelSmoother(factor)
        name = type(model).__name__
        if "labels" not in model.targets:
            info(
                f"Caution: label_smoothing_factor spreads `labels`, and a {name} learns "
                f"{', '.join(sorted(model.targets))}: its loss stays as it is"
            )
            return None
        kind = problem_type(model.config) if hasattr(model, "loss_of") else ""
        if model.targets != {"labels"} or kind in _NO_SHARES:
            raise UsageError(
                f"label_smoothing_factor is {factor:g}, and a {name} learns "
                f"{kind or ' and '.join(sorted(model.targets))}",
                place="TrainingArguments",
                fix="leave it out, or define compute_loss in a subclass of Trainer",
            )
        return LabelSmoother(factor)

    def _has_other_loss(self) -> bool:
        """Whether the loss is another one than the model's as it stands."""
        return self._has_own_loss() or self.label_smoother is not None

    def _has_own_loss(self) -> bool:
        """Whether the loss is another one than that of Bertolt's heads."""
        overridden = type(self).compute_loss is not Methods.compute_loss
        own = self._own_module or has_own_forward(self.model)
        return overridden or own or self.compute_loss_func is not None

    def _part_of_loss(self, model: Any, batch: Batch) -> Tensor:
        """The part of a step's loss that one of its batches has, by `compute_loss`."""
        assert batch.loss_counts is not None
        items = sum(batch.loss_counts.values())
        if isinstance(self.model, PreTrainedModel):
            self.model.has_learned = True  # by a loss that it does not see, too
        smoothed = self.label_smoother is not None and not self._has_own_loss()
        if smoothed and isinstance(batch, PackedBatch):
            return smoothed_loss(model, batch, model(batch), self.label_smoother) / items
        scaled = self.loss_is_scaled_for_ga
        if scaled is None:
            overridden = type(self).compute_loss is not Methods.compute_loss
            scaled = self.compute_loss_func is not None and not overridden
        inputs, called = self._inputs(batch), inner(model)
        if scaled:
            return scalar_loss(self.compute_loss(called, inputs, num_items_in_batch=items))
        count: int = sum(model.count_targets(batch).values())
        if not count:  # a mean of no label is not a number, and the model's own loss is 0
            ours = isinstance(batch, PackedBatch) and not self._own_module
            if ours and not has_own_forward(model):
                return scalar_loss(model(batch).loss) * 0.0
            return no_loss(model)
        mean = scalar_loss(self.compute_loss(called, inputs))
        return mean * (count / items)

    def _mean_loss(self, batch: PackedBatch, outputs: Any) -> Tensor:
        """The mean loss of a batch that was answered with these outputs."""
        if self.label_smoother is not None and not self._has_own_loss():
            items: int = sum(self.model.count_targets(batch).values())
            return smoothed_loss(self.model, batch, outputs, self.label_smoother) / items
        return scalar_loss(self.compute_loss(self.model, self._inputs(batch)))

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """A batch as the arguments of a padded call, to be changed as one likes."""
        return (
            batch.padded() if isinstance(batch, PaddedBatch) else padded_inputs(self.model, batch)
        )

    def _fresh_optimizer(self, total_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """The optimizer and scheduler of the caller, or new ones for each `train`."""
        self.optimizer, self.lr_scheduler = self._given_optimizers
        if self.optimizer is not None and self.world.sharded:
            raise UsageError(
                "fsdp splits the parameters, and the optimizer given was made for whole ones",
                place="Trainer",
                fix="leave optimizers out, or fsdp",
            )
        self.create_optimizer_and_scheduler(total_steps)
        if self.optimizer is None:
            raise UsageError(
                "create_optimizer made no optimizer",
                place=type(self).__name__,
                fix="return one, or set self.optimizer",
            )
        return self.optimizer, self.lr_scheduler


_NO_SHARES = ("regression", "multi_label_classification")
"""Problem types whose labels are no classes, so that there is nothing to spread."""
