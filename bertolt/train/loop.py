"""The training loop in plain functions: one step, one evaluation, one run.

The `Trainer`, the command line and a loop written by hand all call this `train_step`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertolt.console import Stopped, held_interrupts, stoppable
from bertolt.data.batch import PackedBatch
from bertolt.data.prefetch import Noted, ToHost, ahead_of, feeding, made_ahead
from bertolt.data.sampler import batches_by_tokens
from bertolt.distributed import ALONE, World
from bertolt.errors import DataError, TrainingError
from bertolt.machine import keep_freed_memory
from bertolt.model import fused
from bertolt.model.inference import prepare
from bertolt.model.precision import PrecisionChoice
from bertolt.model.pretrained import PreTrainedModel
from bertolt.randomness import random_state, set_random_state
from bertolt.train.captured import CapturedSteps, captured_steps
from bertolt.train.gradients import (
    can_hold_back,
    clip_and_step,
    gradient_norm,
    sparse_word_gradient,
    update_if_finite,
)
from bertolt.train.optim import AdamW

FP32 = PrecisionChoice("fp32", "the default")


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
) -> StepLog:
    """Forward, backward, check, clip, step: one update from one batch or several.

    Several batches act as one large batch: every loss is divided by all of their labels. So do
    those of several processes, each of which calls this with as many.

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
        raise DataError(
            "no label of this step takes part in the loss",
            place=f"step {step}",
            fix="give the rows labels that are not all ignored",
        )
    learning_rate = float(optimizer.param_groups[0]["lr"])
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    made = None
    if captured is not None:
        assert captured.belongs_to(model, optimizer, max_grad_norm)
        micro = [captured.bounded(batch) for batch in micro]
        made = captured.make(micro)
    if made is None:
        with fused.preferred(captured is not None):
            loss = _add_gradients(model, micro, optimizer, counts, precision, world)
        made = _update_if_finite(optimizer, parameters, loss, max_grad_norm, world)
    loss_value, norm_value = made
    _require_finite(loss_value, norm_value, step, learning_rate, optimizer)
    # Torch's fused update leaves a tensor's count of writes as it was, by which others go.
    torch.autograd.graph.increment_version(parameters)
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


def _add_gradients(
    model: PreTrainedModel,
    micro: Sequence[PackedBatch],
    optimizer: torch.optim.Optimizer,
    counts: Mapping[str, int],
    precision: PrecisionChoice,
    world: World,
) -> Tensor:
    """Forward and backward through all batches of a step; its loss, a scalar on the device."""
    device = next(model.parameters()).device
    loss = torch.zeros((), device=device)
    # What several processes exchange is dense.
    rows_alone = world.alone and model.get_output_embeddings() is None
    table = model.get_input_embeddings()
    with sparse_word_gradient(table, optimizer) if rows_alone else contextlib.nullcontext():
        for number, batch in enumerate(micro, 1):
            with world.accumulating(model, last=number == len(micro)):
                with precision.autocast(device):
                    counted = replace(batch, loss_counts=counts)
                    part = world.loss(model, counted.to(device, non_blocking=True))
                part = part * 0.0 if batch.stand_in else part
                part.backward()  # type: ignore[no-untyped-call]
            loss = loss + part.detach()
    return world.sum_tensor(loss)


def _update_if_finite(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    loss: Tensor,
    max_grad_norm: float,
    world: World,
) -> tuple[float, float]:
    """The update of a step, unless its loss or the norm of its gradients is not finite; both."""
    norm = gradient_norm(parameters).to(loss.device)
    found = torch.stack([loss.double(), norm.double()])
    if world.alone and can_hold_back(optimizer, loss.device):
        assert isinstance(optimizer, AdamW)
        sent = ToHost(found)
        update_if_finite(optimizer, parameters, found, norm, max_grad_norm)
        # On a GPU this is the one place of a step that waits for it, and not for the update.
        loss_value, norm_value = sent.wait()[0].tolist()
    else:
        loss_value, norm_value = found.tolist()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            clip_and_step(optimizer, parameters, norm, max_grad_norm)
    return loss_value, norm_value


class _Sizes(NamedTuple):
    sequences: int
    tokens: int
    rows: int


def _totals(
    model: PreTrainedModel, batches: Sequence[PackedBatch], world: World
) -> tuple[Counter[str], _Sizes]:
    """Labels of each target and sizes, of all batches of all processes; stand-ins count nothing."""
    own = [batch for batch in batches if not batch.stand_in]
    counts: Counter[str] = Counter()
    for batch in own:
        counts.update(model.count_targets(batch))
    names = sorted(model.targets | counts.keys())
    numbers = world.sum(
        [
            *(counts[name] for name in names),
            sum(batch.num_sequences - batch.empty_sequences for batch in own),
            sum(batch.num_tokens for batch in own),
            sum(batch.input_ids.shape[0] for batch in own),
        ]
    )
    *found, sequences, tokens, rows = map(int, numbers)
    return Counter(dict(zip(names, found, strict=True))), _Sizes(sequences, tokens, rows)


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


class RowSource(Protocol):
    """A map-style data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class EvaluatedBatch:
    """Results of one evaluated batch.

    Attributes:
        rows: (B,) row numbers in the data set.
        batch: they were made into, on the CPU.
        logits: what the model's `logits_of` takes from its output, fp32, on the CPU.
        labels: what its `labels_for` compares them with, or None.
        loss_sums: sum of each term of the loss, by the name of its target; none without labels.
        counts: labels that took part in each.
    """

    rows: NDArray[np.int64]
    batch: PackedBatch
    logits: Tensor
    labels: Tensor | None
    loss_sums: dict[str, float]
    counts: dict[str, int]


@dataclass
class RunningLoss:
    """The loss over many batches, as if they were one.

    Attributes:
        totals: sum of each term.
        counts: labels of each.
    """

    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, found: EvaluatedBatch) -> None:
        """Take one more batch in."""
        for name, total in found.loss_sums.items():
            self.totals[name] += total
            self.counts[name] += found.counts[name]

    def summed(self, names: Iterable[str], world: World) -> RunningLoss:
        """That of all processes together, of the targets in `names`."""
        ordered = sorted(names)
        totals = world.sum([self.totals[name] for name in ordered])
        counts = world.sum([self.counts[name] for name in ordered])
        found = RunningLoss()
        for name, total, count in zip(ordered, totals, counts, strict=True):
            if count:
                found.totals[name], found.counts[name] = total, int(count)
        return found

    def mean(self) -> float | None:
        """The sum of the terms' means; None without a label."""
        if not any(self.counts.values()):
            return None
        return sum(total / max(1, self.counts[name]) for name, total in self.totals.items())


def predict_batches(
    model: PreTrainedModel,
    rows: RowSource,
    lengths: NDArray[np.int64],
    collate: Callable[[list[Any]], PackedBatch],
    *,
    token_budget: int,
    precision: PrecisionChoice = FP32,
    keep_prepared: bool = False,
    world: World = ALONE,
) -> Iterator[EvaluatedBatch]:
    """Run the model over all rows, batched by length under a token budget, each row once.

    Of several processes each gets its own rows, and every row is one of theirs. Memory grows with
    the budget alone. The model's training mode is restored at the end. On a CPU its layers are made
    ready for answering before; with `keep_prepared`, for the next call too.

    Raises:
        Stopped: by SIGTERM, in an evaluation while training.
    """
    keep_freed_memory()
    device = next(model.parameters()).device
    lend = prepare(model, precision.name, keep=keep_prepared)
    waiting: _Answered | None = None
    with (
        _evaluating(model),
        _collated(rows, lengths, collate, token_budget, device, world) as batches,
    ):
        for numbers, own, batch in batches:
            with torch.inference_mode(), precision.autocast(device), lend():
                output = model(batch.to(device, non_blocking=True))
                found = _Answered(model, numbers, batch, output) if own else None
            if made_ahead(device):
                # A GPU answers the next batch while this one is read.
                found, waiting = waiting, found
            if found is not None:
                yield found.read(model)
        if waiting is not None:
            yield waiting.read(model)


_Dealt = tuple[NDArray[np.int64], bool, PackedBatch]
"""Numbers of rows, whether they are this process's own, and the batch that they make."""


@contextlib.contextmanager
def _collated(
    rows: RowSource,
    lengths: NDArray[np.int64],
    collate: Callable[[list[Any]], PackedBatch],
    token_budget: int,
    device: torch.device,
    world: World,
) -> Iterator[Iterator[_Dealt]]:
    """All rows in batches; for a GPU made while it works on those before, in pinned memory."""

    def make(dealt: tuple[NDArray[np.int64], bool]) -> _Dealt:
        numbers, own = dealt
        batch = collate([rows[int(number)] for number in numbers])
        return numbers, own, batch.pin_memory() if made_ahead(device) else batch

    dealt = world.deal(batches_by_tokens(lengths, token_budget), may_stop=True)
    if not made_ahead(device):
        yield map(make, dealt)
        return
    with ahead_of(make, dealt) as ahead:
        yield ahead


class _Answered:
    """What a model has answered to a batch, on its way to the host."""

    def __init__(
        self, model: PreTrainedModel, numbers: NDArray[np.int64], batch: PackedBatch, output: Any
    ) -> None:
        self.numbers, self.batch = numbers, batch
        self.names = list(output.loss_terms)
        terms = [output.loss_terms[name] for name in self.names]
        self._sent = ToHost(
            model.logits_of(output).float(),
            *(term.total for term in terms),
            *(term.count for term in terms),
        )

    def read(self, model: PreTrainedModel) -> EvaluatedBatch:
        """All of it, once it is there."""
        logits, *numbers = self._sent.wait()
        if logits.is_pinned():
            logits = logits.clone()  # it may be kept, and pinned memory is for what is on its way
        count = len(self.names)
        return EvaluatedBatch(
            rows=self.numbers,
            batch=self.batch,
            logits=logits,
            labels=model.labels_for(self.batch),
            loss_sums=dict(zip(self.names, map(float, numbers[:count]), strict=True)),
            counts=dict(zip(self.names, map(int, numbers[count:]), strict=True)),
        )


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module is then as it was.

    A model that is in it already, as for one prediction after the other, is only looked at: 22 µs
    for 6 layers, where setting it anew and back took 470 µs, and `model.modules()` takes 75 µs.
    """
    modules = [model]
    for module in modules:  # which grows
        modules.extend(filter(None, module._modules.values()))
    training = [module for module in modules if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(kw_only=True)
class History:
    """What happened in a run.

    Attributes:
        steps: one entry a step.
        evaluations: (step, metrics) of each evaluation while training.
        interrupted: Ctrl-C was pressed; the run stopped after the step under way.
        terminated: the same, by SIGTERM.
        failure: why it stopped early, if it did.
    """

    steps: list[StepLog] = field(default_factory=list)
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    interrupted: bool = False
    terminated: bool = False
    failure: TrainingError | None = None

    def note(self, asked: signal.Signals | None) -> None:
        """Take down by which signal the run was asked to end, if it was."""
        self.interrupted = asked == signal.SIGINT
        self.terminated = asked == signal.SIGTERM

    def evaluated(self, step: int) -> bool:
        """Whether there was an evaluation after this step."""
        return any(known == step for known, _ in self.evaluations)

    @property
    def step(self) -> int:
        """Number of the last step; 0 before the first."""
        return self.steps[-1].step if self.steps else 0

    def summary(self) -> dict[str, float | int]:
        """Loss and rates of the whole run, evaluations left out."""
        seconds = sum(log.seconds for log in self.steps)
        sequences = sum(log.sequences for log in self.steps)
        tokens = sum(log.tokens for log in self.steps)
        tail = self.steps[-max(1, len(self.steps) // 10) :]
        return {
            "loss": sum(log.loss for log in tail) / max(1, len(tail)),
            "steps": len(self.steps),
            "samples": sequences,
            "tokens": tokens,
            "seconds": seconds,
            "samples_per_second": sequences / seconds if seconds else 0.0,
            "tokens_per_second": tokens / seconds if seconds else 0.0,
            "filler_share": 1 - tokens / max(1, sum(log.rows for log in self.steps)),
        }


class Callback(Protocol):
    """Something that watches a run."""

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """After each step."""

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """After each evaluation."""

    def on_end(self, history: History) -> None:
        """After the last step, or when the run stops early."""


class Saver(Protocol):
    """Saves a run so that it can go on when it was killed."""

    def due(self, history: History) -> bool:
        """Whether to save after the last step of the history."""

    def save(self, history: History, generators: Mapping[str, Tensor]) -> object:
        """Save; `generators` is the random state to go on with."""


def fit(
    model: PreTrainedModel,
    batches: Iterator[Sequence[PackedBatch]],
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    *,
    total_steps: int,
    max_grad_norm: float,
    precision: PrecisionChoice,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_at: Callable[[int], bool] = lambda step: False,
    callbacks: Sequence[Callback] = (),
    saver: Saver | None = None,
    history: History | None = None,
    world: World = ALONE,
) -> History:
    """Train up to `total_steps`, evaluating where `evaluate_at(step)` says so.

    A first Ctrl-C ends the run after the step under way, with whole weights; a second one at once.
    With a saver the same holds for SIGTERM, which does not wait for the end of an evaluation: that
    is made again by the run that goes on. A loss that is not finite ends it before the step that
    it would have spoiled. All are told by the returned history. The seconds of a step include
    making its batches.

    Args:
        batches: of each step that is still to be made.
        saver: called after each step and its evaluation.
        history: of a run to go on with, whose parts are those of its last step.
        callbacks: called on the first process alone, unless they have `every_process = True`.
        world: the processes that train together; see `train_step`.
    """
    history = History() if history is None else history
    # One process prints and writes; what has to watch on all of them says so.
    callbacks = [each for each in callbacks if world.first or getattr(each, "every_process", False)]
    begun = history.step
    model.train()
    keep_freed_memory()
    device = next(model.parameters()).device
    source: Iterator[Sequence[PackedBatch]] = itertools.islice(batches, total_steps - begun)
    captured = captured_steps(model, optimizer, precision, max_grad_norm, world)
    if captured is not None:
        source = ([captured.rounded(batch) for batch in step] for step in source)
    noted = Noted(source) if saver is not None and made_ahead(device) else None
    with (
        held_interrupts(terminate=saver is not None) as stop_asked,
        _ended(callbacks, history),
        feeding(noted or source, device) as steps,
    ):
        # The first round makes no step: only what a killed run had not come to after its last one.
        for step in range(begun, total_steps + 1):
            if step > begun:
                start = time.perf_counter()
                try:
                    log = train_step(
                        model,
                        next(steps),
                        optimizer,
                        scheduler,
                        max_grad_norm=max_grad_norm,
                        precision=precision,
                        step=step,
                        world=world,
                        captured=captured,
                    )
                except TrainingError as error:
                    history.failure = error
                    break
                history.steps.append(replace(log, seconds=time.perf_counter() - start))
                for callback in callbacks:
                    callback.on_step(history.steps[-1], total_steps)
            asked = world.asked(stop_asked())
            due = step > 0 and evaluate_at(step) and not history.evaluated(step)
            if evaluate is not None and due and not asked:
                found = _unless_stopped(evaluate, stop_asked, device)
                if found is not None:
                    history.evaluations.append((step, found))
                    for callback in callbacks:
                        callback.on_evaluate(step, found)
                asked = world.asked(stop_asked())
            history.note(asked)
            if saver is not None and step > begun and saver.due(history):
                saver.save(history, _generators(noted, step - begun, device))
            if history.interrupted or history.terminated:
                break
    return history


def _unless_stopped(
    evaluate: Callable[[], dict[str, float]],
    asked: Callable[[], signal.Signals | None],
    device: torch.device,
) -> dict[str, float] | None:
    """What an evaluation finds; None if SIGTERM stopped it, and then it has drawn no numbers."""
    before = random_state(device)
    try:
        with stoppable(asked):
            return evaluate()
    except Stopped:
        set_random_state(before, device)
        return None


def _generators(
    noted: Noted[Sequence[PackedBatch]] | None, number: int, device: torch.device
) -> dict[str, Tensor]:
    """The random state to go on with after step `number`, whatever was made ahead of it."""
    state = random_state(device)
    return state if noted is None else state | noted.after(number)


@contextlib.contextmanager
def _ended(callbacks: Sequence[Callback], history: History) -> Iterator[None]:
    """Tell the callbacks that the run has ended, however it did."""
    try:
        yield
    finally:
        for callback in callbacks:
            callback.on_end(history)
