"""One training step: the update from a batch or several.

The `Trainer`, the command line and a loop written by hand all call this `train_step`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bertolt.base.distributed import ALONE, LossOf, World
from bertolt.base.errors import DataError, TrainingError
from bertolt.data.batch import PackedBatch
from bertolt.data.prefetch import ToHost
from bertolt.models import fused
from bertolt.models.precision import FP32, PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.captured import CapturedSteps
from bertolt.train.gradients import (
    can_hold_back,
    clip_and_step,
    gradient_norm,
    sparse_word_gradient,
    update_if_finite,
)
from bertolt.train.micro_batches import MicroBatches
from bertolt.train.optim import AdamW


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One optimizer step.

    Attributes:
        step: its number, from 1.
        loss: mean over the step's targets.
        grad_norm: of all gradients, before clipping.
        learning_rate: that the step was made with.
        sequences, tokens: real ones, of all its batches.
        rows: tokens and filler together.
        seconds: it took.
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    sequences: int
    tokens: int
    rows: int
    seconds: float


class StepWatch(Protocol):
    """Looks into a step, as callbacks of the peer's kind do.

    Gradients are whole and clipped before the update then, and steps are not replayed.
    """

    def part_made(self) -> None:
        """After the passes of each micro-batch but the last."""

    def before_update(self) -> None:
        """Gradients are as the optimizer takes them."""

    def after_update(self) -> None:
        """Parameters are new, and the gradients still there."""


def train_step(
    model: PreTrainedModel,
    batches: PackedBatch | Sequence[PackedBatch],
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    *,
    max_grad_norm: float = 1.0,
    precision: PrecisionChoice = FP32,
    step: int = 1,
    world: World = ALONE,
    captured: CapturedSteps | None = None,
    loss_of: LossOf | None = None,
    step_of: Callable[[Any], Tensor] | None = None,
    fitting: MicroBatches | None = None,
    watch: StepWatch | None = None,
) -> StepLog:
    """Forward, backward, check, clip, step: one update from one batch or several.

    Several batches act as one large batch: every loss is divided by all of their labels. So do
    those of several processes, each of which calls this with as many. It is long because it runs
    for each step, and its parts share what is at hand.

    Args:
        model: in training mode; returns an output with `loss`.
        batches: one batch, or the micro-batches of gradient accumulation.
        optimizer: updates the parameters; its gradients are cleared after.
        scheduler: stepped after the optimizer, if given.
        max_grad_norm: gradients are scaled down to this norm; 0: not clipped.
        precision: number format of the forward pass.
        step: its number, for the log and for errors.
        world: the processes that make the step together; `world.replicate(model)` or `.shard` it.
        captured: replays steps of few tokens on a GPU; see `bertolt.train.captured`.
        loss_of: computes from (model, batch) the batch's part of the loss of the whole step, which
            has `batch.loss_counts` labels; None: `model(batch).loss`.
        step_of: makes the passes forward and backward of one batch by itself, of one process, and
            gives its part of the loss; instead of `loss_of`.
        fitting: cuts the batches where memory runs out, of one process; not with `captured`.
        watch: told what happens inside the step; not with `captured`.

    Returns:
        The log of the whole step, the same on every process.

    Raises:
        TrainingError: the loss or a gradient is not finite; nothing has been updated.
        DataError: no label of the batches takes part in the loss.
    """
    start = time.perf_counter()
    micro = [batches] if isinstance(batches, PackedBatch) else list(batches)
    counts, sizes = _totals(model, micro, world)
    if not any(counts.values()):
        raise _unlabelled(model, micro, step)
    learning_rate = float(optimizer.param_groups[0]["lr"])
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    numbers = None
    if captured is not None:
        assert captured.belongs_to(model, optimizer, max_grad_norm)
        micro = [captured.bucket_bounds(batch) for batch in micro]
        numbers = captured.make(micro)
    if numbers is None:
        with fused.preferred(captured is not None):
            how: Callable[[Any], Tensor] = _Passes(model, precision, world, loss_of)

            def compute(parts: Sequence[PackedBatch]) -> Tensor:
                return _add_gradients(model, parts, optimizer, counts, world, step_of or how, watch)

            device = next(model.parameters()).device
            loss = (
                compute(micro)
                if fitting is None
                else fitting.add_gradients(micro, compute, optimizer, device)
            )
        numbers = _update_if_finite(optimizer, parameters, loss, max_grad_norm, world, watch)
    loss_value, norm_value = numbers
    _require_finite(loss_value, norm_value, step, learning_rate, optimizer)
    if scheduler is not None:
        scheduler.step()
    optimizer.zero_grad(set_to_none=True)
    return StepLog(
        step=step,
        loss=loss_value,
        grad_norm=norm_value,
        learning_rate=learning_rate,
        sequences=sizes.sequences,
        tokens=sizes.tokens,
        rows=sizes.rows,
        seconds=time.perf_counter() - start,
    )


def _unlabelled(model: PreTrainedModel, micro: Sequence[PackedBatch], step: int) -> DataError:
    """What is wrong with the batches of a step that have no label."""
    packed = [batch for batch in micro if isinstance(batch, PackedBatch)]
    if packed and all(getattr(batch, name) is None for batch in packed for name in model.targets):
        return DataError(
            f"the rows have none of what the model learns: {', '.join(sorted(model.targets))}",
            place=f"step {step}",
            fix='give each row its answer under such a name; "label" is "labels" too',
        )
    return DataError(
        "no label of this step takes part in the loss",
        place=f"step {step}",
        fix="give the rows labels that are not all ignored",
    )


def _add_gradients(
    model: PreTrainedModel,
    micro: Sequence[PackedBatch],
    optimizer: torch.optim.Optimizer,
    counts: Mapping[str, int],
    world: World,
    step_of: Callable[[Any], Tensor],
    watch: StepWatch | None,
) -> Tensor:
    """Forward and backward through all batches of a step; its loss, a scalar on the device."""
    device = next(model.parameters()).device
    loss = torch.zeros((), device=device)
    # What several processes exchange is dense.
    rows_alone = world.alone and model.get_output_embeddings() is None and watch is None
    table = model.get_input_embeddings()
    with sparse_word_gradient(table, optimizer) if rows_alone else contextlib.nullcontext():
        for number, batch in enumerate(micro, 1):
            with world.accumulating(model, last=number == len(micro)):
                loss = loss + step_of(replace(batch, loss_counts=counts))
            if watch is not None and number < len(micro):
                watch.part_made()
    return world.sum_tensor(loss)


@dataclass(frozen=True)
class _Passes:
    """Forward and backward through one batch of a step, as Bertolt makes them."""

    model: PreTrainedModel
    precision: PrecisionChoice
    world: World
    loss_of: LossOf | None

    def __call__(self, batch: PackedBatch) -> Tensor:
        """Add the gradients of a batch; its part of the loss of the step, detached."""
        device = next(self.model.parameters()).device
        with self.precision.autocast(device):
            moved = batch.to(device, non_blocking=True)
            part = self.world.loss(self.model, moved, self.loss_of)
        part = part * 0.0 if batch.is_placeholder else part
        part.backward()  # type: ignore[no-untyped-call]
        return part.detach()


def _update_if_finite(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    loss: Tensor,
    max_grad_norm: float,
    world: World,
    watch: StepWatch | None,
) -> tuple[float, float]:
    """The update of a step, unless its loss or the norm of its gradients is not finite; both."""
    norm = gradient_norm(parameters).to(loss.device)
    checked = torch.stack([loss.double(), norm.double()])
    if watch is None and world.alone and can_hold_back(optimizer, loss.device):
        assert isinstance(optimizer, AdamW)
        sent = ToHost(checked)
        update_if_finite(optimizer, parameters, checked, norm, max_grad_norm)
        # On a GPU this is the one place of a step that waits for it, and not for the update.
        loss_value, norm_value = sent.wait()[0].tolist()
    else:
        loss_value, norm_value = checked.tolist()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            if watch is None:
                clip_and_step(optimizer, parameters, norm, max_grad_norm)
            else:
                _watched_update(optimizer, parameters, norm, max_grad_norm, watch)
    return loss_value, norm_value


def _watched_update(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    norm: Tensor,
    max_grad_norm: float,
    watch: StepWatch,
) -> None:
    """Clip and update apart, so that somebody may look at the gradients between."""
    if max_grad_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    watch.before_update()
    optimizer.step()
    watch.after_update()


class _Sizes(NamedTuple):
    sequences: int
    tokens: int
    rows: int


def _totals(
    model: PreTrainedModel, batches: Sequence[PackedBatch], world: World
) -> tuple[Counter[str], _Sizes]:
    """Labels of each target and sizes, of all batches of all processes; stand-ins count nothing."""
    own = [batch for batch in batches if not batch.is_placeholder]
    counts: Counter[str] = Counter()
    for batch in own:
        counts.update(model.count_targets(batch))
    names = sorted(model.targets | counts.keys())
    numbers = world.sum(
        [
            *(counts[name] for name in names),
            sum(batch.num_documents - batch.empty_sequences for batch in own),
            sum(batch.num_tokens for batch in own),
            sum(batch.num_rows for batch in own),
        ]
    )
    *labels, sequences, tokens, rows = map(int, numbers)
    return Counter(dict(zip(names, labels, strict=True))), _Sizes(sequences, tokens, rows)


def _require_finite(
    loss: float, norm: float, step: int, learning_rate: float, optimizer: torch.optim.Optimizer
) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    optimizer.zero_grad(set_to_none=True)
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient norm is {norm}"
    raise TrainingError(
        f"{what}; the update was not made, so the weights are those of step {step - 1}",
        place=f"step {step}, learning rate {learning_rate:g}",
        fix="use a smaller learning rate, or more warmup",
    )
