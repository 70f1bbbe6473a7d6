"""The training loop in plain functions: one evaluation and one run, of steps from `step.py`."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.console import Stopped, held_interrupts, stoppable
from bertolt.base.distributed import ALONE, LossOf, World
from bertolt.base.errors import TrainingError
from bertolt.base.machine import keep_freed_memory, survive_forks
from bertolt.base.randomness import random_state, set_random_state
from bertolt.data.batch import PackedBatch
from bertolt.data.prefetch import (
    RandomStateLog,
    ToHost,
    prefetch_batches,
    prefetched,
    uses_background,
)
from bertolt.data.sampler import batches_by_tokens
from bertolt.models.engine import Engine, GraphEngine
from bertolt.models.evaluating import evaluating
from bertolt.models.frozen import freeze
from bertolt.models.losses import LossTerm
from bertolt.models.precision import FP32, PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.captured import CapturedSteps, captured_steps
from bertolt.train.micro_batches import MicroBatches
from bertolt.train.step import StepLog, StepWatch, train_step


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
        logits: from the model's `logits_of`, fp32, on the CPU.
        labels: from its `labels_for`, to compare them with, or None.
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

    def add(self, batch: EvaluatedBatch) -> None:
        """Add the terms of one more batch."""
        for name, total in batch.loss_sums.items():
            self.totals[name] += total
            self.counts[name] += batch.counts[name]

    def summed(self, names: Iterable[str], world: World) -> RunningLoss:
        """The loss summed over all processes, for the targets in `names`."""
        ordered = sorted(names)
        totals = world.sum([self.totals[name] for name in ordered])
        counts = world.sum([self.counts[name] for name in ordered])
        total_loss = RunningLoss()
        for name, total, count in zip(ordered, totals, counts, strict=True):
            if count:
                total_loss.totals[name], total_loss.counts[name] = total, int(count)
        return total_loss

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
    engine: Engine | None = None,
    world: World = ALONE,
    loss_of: Callable[[PackedBatch, Any], Tensor] | None = None,
) -> Iterator[EvaluatedBatch]:
    """Run the model over all rows, batched by length under a token budget, each row once.

    Of several processes each gets its own rows, and every row is one of theirs. Memory grows with
    the budget alone. The model's training mode is restored at the end.

    Args:
        model: to answer with its present weights.
        rows: a map-style data set.
        lengths: (N,) tokens of each row.
        collate: makes a batch of rows.
        token_budget: most tokens of a batch, filler included.
        precision: number format.
        engine: what answers for `model`, as the model that was frozen before, with those weights;
            None: it is frozen now, for these rows alone.
        world: the processes that share the rows.
        loss_of: the mean loss of a batch that has labels, from it and the model's outputs, in place
            of the model's own.

    Raises:
        Stopped: by SIGTERM, in an evaluation while training.
    """
    keep_freed_memory()
    survive_forks()
    engine = freeze(model, precision.name) if engine is None else engine
    device = engine.device
    waiting: _Answered | None = None
    with (
        # Of a graph's model no module runs.
        contextlib.nullcontext() if isinstance(engine, GraphEngine) else evaluating(model),
        _collated(rows, lengths, collate, token_budget, device, world) as batches,
    ):
        for numbers, own, batch in batches:
            with torch.inference_mode(), precision.autocast(device):
                moved = batch.to(device, non_blocking=True)
                output = engine(moved)
                # A mean of no label is not a number.
                if loss_of is not None and (count := sum(model.count_targets(batch).values())):
                    term = LossTerm(
                        loss_of(moved, output) * count, torch.tensor(count, device=device)
                    )
                    output.loss_terms = {min(model.targets): term}
                answered = _Answered(model, numbers, batch, output) if own else None
            if uses_background(device):
                # A GPU answers the next batch while this one is read.
                answered, waiting = waiting, answered
            if answered is not None:
                yield answered.read(model)
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
    """All rows in batches; for a GPU they are made ahead in the background, in pinned memory."""

    def make(dealt: tuple[NDArray[np.int64], bool]) -> _Dealt:
        numbers, own = dealt
        batch = collate([rows[int(number)] for number in numbers])
        return numbers, own, batch.pin_memory() if uses_background(device) else batch

    dealt = world.deal_out(batches_by_tokens(lengths, token_budget), may_stop=True)
    if not uses_background(device):
        yield map(make, dealt)
        return
    with prefetched(make, dealt, initializer=lambda: torch.cuda.set_device(device)) as ahead:
        yield ahead


class _Answered:
    """The answers of a model to one batch, on their way to the host."""

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
        """The results, once they have arrived on the host."""
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


@dataclass(kw_only=True)
class History:
    """What happened in a run.

    Attributes:
        steps: one entry a step.
        evaluations: (step, metrics) of each evaluation while training.
        interrupted: Ctrl-C was pressed; the run stopped after the step under way.
        terminated: the same, by SIGTERM.
        failure: why it stopped early, if it did.
        stopped: a callback ended it.
    """

    steps: list[StepLog] = field(default_factory=list)
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    interrupted: bool = False
    terminated: bool = False
    failure: TrainingError | None = None
    stopped: bool = False

    def note(self, asked: signal.Signals | None) -> None:
        """Record which signal asked the run to end, if one did."""
        self.interrupted = asked == signal.SIGINT
        self.terminated = asked == signal.SIGTERM

    def evaluated(self, step: int) -> bool:
        """Whether there was an evaluation after this step."""
        return any(known == step for known, _ in self.evaluations)

    @property
    def step(self) -> int:
        """Number of the last step; 0 before the first."""
        return self.steps[-1].step if self.steps else 0

    @property
    def changed_nothing(self) -> bool:
        """Whether no step had a learning rate above 0: warmup begins at 0, and may be all of it."""
        return bool(self.steps) and not any(log.learning_rate for log in self.steps)

    @property
    def mean_loss(self) -> float:
        """Mean of the losses of all steps."""
        return sum(log.loss for log in self.steps) / max(1, len(self.steps))

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
    """Something that watches a run; a subclass defines what it needs of these.

    One that has `on_begin(history)` too is called with the history of the run that goes on, or an
    empty one, before the first step; `on_step_begin(step)` is called before each step, and
    `on_save(folder)` after each checkpoint.
    """

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """After each step."""
        return

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """After each evaluation."""
        return

    def on_end(self, history: History) -> None:
        """After the last step, or when the run stops early."""
        return


class Steering(Protocol):
    """Changes the course of a run from step to step; the same on every process."""

    def asks(self) -> tuple[bool, bool]:
        """Whether to evaluate and whether to save after this step."""

    def stopped(self) -> bool:
        """Whether the run ends after this step."""


class Saver(Protocol):
    """Saves a run so that it can go on when it was killed."""

    def due(self, history: History) -> bool:
        """Whether to save after the last step of the history."""

    def save(self, history: History, generators: Mapping[str, Tensor]) -> object:
        """Save, and say where; `generators` is the random state to go on with."""


def _begin(callbacks: Sequence[Callback], history: History, world: World) -> list[Callback]:
    """Those that this process calls, told that the run begins."""
    # One process prints and writes; what has to watch on all of them says so.
    own = [each for each in callbacks if world.first or getattr(each, "every_process", False)]
    _tell(own, "on_begin", history)
    return own


def _tell(callbacks: Sequence[Callback], event: str, *values: object) -> None:
    """Call a method of those that have it."""
    for callback in callbacks:
        if (method := getattr(callback, event, None)) is not None:
            method(*values)


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
    loss_of: LossOf | None = None,
    step_of: Callable[[Any], Tensor] | None = None,
    in_background: bool = True,
    steering: Steering | None = None,
    fitting: MicroBatches | None = None,
    watch: StepWatch | None = None,
) -> History:
    """Train up to `total_steps`, evaluating where `evaluate_at(step)` says so.

    A first Ctrl-C ends the run after the step under way, with whole weights; a second one at once.
    With a saver the same holds for SIGTERM, which does not wait for the end of an evaluation: that
    is made again by the run that goes on. A loss that is not finite ends it before the step that
    it would have spoiled. The returned history tells how the run ended. The seconds of a step
    include making its batches.

    It is long because a run is to be read from top to bottom, in the one order that it has.

    Args:
        batches: of each step that is still to be made.
        saver: called after each step and its evaluation.
        history: of a run to go on with; model, optimizer and scheduler are as after its last step.
        callbacks: called on the first process alone, unless they have `every_process = True`.
        world, loss_of, step_of, fitting, watch: see `train_step`.
        in_background: on a GPU, make batches ahead of their use.
        steering: decides after each step, in place of `evaluate_at` and beside the saver.
    """
    history = History() if history is None else history
    callbacks = _begin(callbacks, history, world)
    begun, device = history.step, next(model.train().parameters()).device
    keep_freed_memory()
    survive_forks()
    source: Iterator[Sequence[PackedBatch]] = itertools.islice(batches, total_steps - begun)
    how: dict[str, Any] = {"max_grad_norm": max_grad_norm, "precision": precision, "world": world}
    own_way = loss_of or step_of or fitting or watch
    captured = None if own_way else captured_steps(model, optimizer, **how)
    source = source if captured is None else _padded_to_buckets(source, captured)
    ahead = device if in_background else torch.device("cpu")
    noted = RandomStateLog(source) if saver is not None and uses_background(ahead) else None
    how |= {"captured": captured, "loss_of": loss_of, "step_of": step_of, "fitting": fitting}
    how |= {"watch": watch}
    with (
        held_interrupts(terminate=saver is not None) as stop_asked,
        _ended(callbacks, history),
        prefetch_batches(noted or source, ahead) as steps,
    ):
        # The first round makes no step: only what a killed run had not come to after its last one.
        for step in range(begun, total_steps + 1):
            if step > begun:
                _tell(callbacks, "on_step_begin", step)
                start = time.perf_counter()
                try:
                    log = train_step(model, next(steps), optimizer, scheduler, step=step, **how)
                except TrainingError as error:
                    history.failure = error
                    break
                history.steps.append(replace(log, seconds=time.perf_counter() - start))
                _tell(callbacks, "on_step", history.steps[-1], total_steps)
            asked = world.pending_signal(stop_asked())
            due, save = step > 0 and evaluate_at(step), False
            if steering is not None and step > begun:
                due, save = steering.asks()
            if evaluate is not None and due and not asked and not history.evaluated(step):
                _note_evaluation(
                    history, callbacks, _unless_stopped(evaluate, stop_asked, device), step
                )
                asked = world.pending_signal(stop_asked())
            history.note(asked)
            history.stopped = steering is not None and steering.stopped()
            if saver is not None and step > begun and (save or saver.due(history)):
                folder = saver.save(history, _generators(noted, step - begun, device))
                _tell(callbacks, "on_save", folder)
            if history.interrupted or history.terminated or history.stopped:
                break
    return history


def _padded_to_buckets(
    steps: Iterator[Sequence[PackedBatch]], captured: CapturedSteps
) -> Iterator[Sequence[PackedBatch]]:
    """The batches of each step in sizes that come again, so that steps can be replayed."""
    return ([captured.pad_to_bucket(batch) for batch in step] for step in steps)


def _note_evaluation(
    history: History,
    callbacks: Sequence[Callback],
    metrics: dict[str, float] | None,
    step: int,
) -> None:
    """Note what an evaluation gave; None: it was broken off."""
    if metrics is not None:
        history.evaluations.append((step, metrics))
        _tell(callbacks, "on_evaluate", step, metrics)


def _unless_stopped(
    evaluate: Callable[[], dict[str, float]],
    asked: Callable[[], signal.Signals | None],
    device: torch.device,
) -> dict[str, float] | None:
    """The metrics of an evaluation; None if SIGTERM stopped it, with the random state as before."""
    before = random_state(device)
    try:
        with stoppable(asked):
            return evaluate()
    except Stopped:
        set_random_state(before, device)
        return None


def _generators(
    noted: RandomStateLog[Sequence[PackedBatch]] | None, number: int, device: torch.device
) -> dict[str, Tensor]:
    """The random state after step `number`, without the draws of batches made ahead."""
    state = random_state(device)
    return state if noted is None else state | noted.after(number)


@contextlib.contextmanager
def _ended(callbacks: Sequence[Callback], history: History) -> Iterator[None]:
    """Tell the callbacks that the run has ended, however it did."""
    try:
        yield
    finally:
        _tell(callbacks, "on_end", history)
