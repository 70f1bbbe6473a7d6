"""The peer's callbacks: what a run tells them, and what they may ask of it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertolt.base.console import info
from bertolt.base.distributed import ALONE, World
from bertolt.base.errors import UsageError
from bertolt.base.files import write_text
from bertolt.base.json_files import read_json
from bertolt.train.arguments import TrainingArguments
from bertolt.train.loop import History
from bertolt.train.saving import Best
from bertolt.train.speed import flos, speed
from bertolt.train.step import StepLog


@dataclass
class TrainerState:
    """Where a run stands, under the names of the peer.

    Attributes:
        epoch: passes over the training rows so far, with its fraction.
        global_step: optimizer steps so far.
        max_steps: of the whole run.
        num_train_epochs: passes that the run comes to, rounded up.
        logging_steps, eval_steps, save_steps: of the arguments.
        train_batch_size: rows of a batch, for each process.
        num_input_tokens_seen: real tokens so far.
        total_flos: floating-point operations of the whole run, when it has ended.
        log_history: what was logged: numbers by name, with "step" and "epoch".
        best_metric, best_global_step, best_model_checkpoint: of the best evaluation so far.
        is_local_process_zero, is_world_process_zero: whether this is the first process.
    """

    epoch: float | None = 0.0
    global_step: int = 0
    max_steps: int = 0
    num_train_epochs: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_input_tokens_seen: int = 0
    total_flos: float = 0.0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True

    def save_to_json(self, json_path: str | os.PathLike[str]) -> None:
        """Write the state to a file."""
        write_text(Path(json_path), json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load_from_json(cls, json_path: str | os.PathLike[str]) -> TrainerState:
        """Read a state that `save_to_json` wrote; what others wrote beside it is left out.

        Raises:
            JsonError: it is no JSON.
        """
        values = read_json(Path(json_path))
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


@dataclass
class TrainerControl:
    """What callbacks ask of a run, from one step to the next.

    Attributes:
        should_training_stop: end the run after this step.
        should_epoch_stop: not possible here; `should_training_stop` is.
        should_evaluate, should_log: do so after this step. They are set by the arguments before
            `on_step_end`, and may be set and taken back there.
        should_save: write a checkpoint after this step, beside those of the arguments.
    """

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class TrainerCallback:
    """Watches a run by the events of the peer's `Trainer`; a subclass defines what it needs.

    Each method is called on every process with the arguments, the state and the control, and by
    name with `model`, `processing_class`, `tokenizer` (the same), `optimizer` and `lr_scheduler`;
    `on_log` with `logs`, `on_evaluate` and `on_predict` with `metrics` too. It may change the
    control, or return another one.
    """

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """The Trainer has been made."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """Before the first step."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """Before the first step of a pass over the rows."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """Before each step."""

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each batch of a step that has several, but the last."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """Before the update of a step; gradients are clipped."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After the update of a step; its gradients are still there."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each step, before it is logged, evaluated and saved."""

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After the last step of a pass over the rows, or of a run that a callback ends in it."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each entry of the log."""

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each batch of an evaluation or a prediction."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each evaluation."""

    def on_predict(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each prediction."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After each checkpoint."""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """After the last step, or when the run stops early."""


EVENTS = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))


class EarlyStoppingCallback(TrainerCallback):
    """Ends a run whose best metric has not improved for some evaluations.

    Args:
        early_stopping_patience: evaluations in a row without an improvement.
        early_stopping_threshold: an improvement is more than this.

    Raises:
        UsageError: a patience below 1, or a threshold below 0.
    """

    def __init__(
        self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0
    ) -> None:
        if early_stopping_patience < 1 or (early_stopping_threshold or 0.0) < 0:
            raise UsageError(
                f"early_stopping_patience is {early_stopping_patience}, and "
                f"early_stopping_threshold {early_stopping_threshold}",
                place="EarlyStoppingCallback",
                fix="give a patience of 1 or more, and a threshold of 0 or more",
            )
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse a run whose evaluations could not decide.

        Raises:
            UsageError: there are none, or no metric is named.
        """
        needs = {"eval_strategy": args.eval_strategy != "no"}
        needs["metric_for_best_model"] = bool(
            args.metric_for_best_model or args.load_best_model_at_end
        )
        for name, there in needs.items():
            if not there:
                raise UsageError(
                    f"{name} is {getattr(args, name)!r}",
                    place="EarlyStoppingCallback",
                    fix='give eval_strategy="epoch" or "steps", and metric_for_best_model',
                )
        if not args.load_best_model_at_end:
            info("Early stopping leaves the last weights: load_best_model_at_end takes the best")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count evaluations without an improvement; one of several rows may lack the metric."""
        best = Best.of(args)
        if best.metric not in kwargs["metrics"]:
            return
        value = best.value(kwargs["metrics"])
        gain = math.inf
        if state.best_metric is not None:
            gain = (value - state.best_metric) * (1 if best.greater else -1)
        better = gain > max(0.0, self.early_stopping_threshold)
        self.early_stopping_patience_counter = (
            0 if better else self.early_stopping_patience_counter + 1
        )
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def state_dict(self) -> dict[str, Tensor]:
        """The count, for a checkpoint."""
        return {"counter": torch.tensor(self.early_stopping_patience_counter)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the count of a checkpoint."""
        self.early_stopping_patience_counter = int(state["counter"])


_INSIDE = ("on_substep_end", "on_pre_optimizer_step", "on_optimizer_step")
"""Events inside a step, which is made in parts where a callback has one of them."""

_CALLED = ("on_step", "on_evaluate", "on_end")
_CALLED_WHERE_DEFINED = ("on_begin", "on_step_begin", "on_save")
"""What `fit` calls of a `Callback`: it has all of the first, and what it likes of the second."""


def require_events(callback: object) -> None:
    """Refuse a callback that a run would not call, or with an event that no run tells.

    Raises:
        UsageError: naming the method, or the class.
    """
    kind, place = type(callback), type(callback).__name__
    names = [name for name in dir(callback) if name.startswith("on_")]
    known = EVENTS if isinstance(callback, TrainerCallback) else _CALLED + _CALLED_WHERE_DEFINED
    for name in names:
        if name in known or not callable(getattr(callback, name)):
            continue
        fix = f"define one of {', '.join(known)}"
        if name in EVENTS:
            fix = f"let {place} be a subclass of bertolt.TrainerCallback"
        raise UsageError(f"{name} is defined, and no run calls it here", place=place, fix=fix)
    missing = [] if known is EVENTS else [name for name in _CALLED if name not in names]
    if missing:
        raise UsageError(
            f"a callback is a {place} without {' and '.join(missing)}",
            place=kind.__module__,
            fix="give an object or a class that is a bertolt.TrainerCallback, or one with "
            f"{', '.join(_CALLED)}",
        )


class Events:
    """Tells callbacks of the peer's kind what happens in a run, and the run what they ask.

    Args:
        args: of the Trainer.
        parts: gives what callbacks get by name: the model, the optimizer and so on.
        log: called with numbers by name when it is time to; `record` is told of them in the end.
        world: the processes of the run.

    Attributes:
        callbacks: to tell, in this order.
        state, control: what they get.
    """

    every_process = True

    def __init__(
        self,
        args: TrainingArguments,
        parts: Callable[[], dict[str, Any]],
        log: Callable[[dict[str, Any]], object],
        world: World = ALONE,
    ) -> None:
        self.callbacks: list[TrainerCallback] = []
        self.state, self.control = TrainerState(), TrainerControl()
        self._args, self._parts, self._log, self._world = args, parts, log, world
        self._losses: list[float] = []
        self._started, self._begun, self._totals = 0.0, 0, dict[str, Any]()
        self._steps_per_epoch, self._saves = 1, False
        self._evaluates_at: Callable[[int], bool] = lambda step: False

    def tell(self, event: str, **values: Any) -> None:
        """Call a method of every callback."""
        for callback in self.callbacks:
            method = getattr(callback, event)
            answer = method(self._args, self.state, self.control, **self._parts(), **values)
            self.control = answer or self.control
        if self.control.should_epoch_stop:
            raise UsageError(
                "a callback set should_epoch_stop, and a pass over the rows cannot be cut short",
                place=event,
                fix="set should_training_stop, or give TrainingArguments max_steps",
            )

    @property
    def watch(self) -> Events | None:
        """Itself, where a callback looks into steps."""
        usual = vars(TrainerCallback)
        looks = any(
            getattr(type(each), event, None) is not usual[event]
            for each in self.callbacks
            for event in _INSIDE
        )
        return self if looks else None

    def part_made(self) -> None:
        """After a batch of a step that has more."""
        self.tell("on_substep_end")

    def before_update(self) -> None:
        """Before the update of a step."""
        self.tell("on_pre_optimizer_step")

    def after_update(self) -> None:
        """After the update of a step."""
        self.tell("on_optimizer_step")

    def plan(
        self,
        steps_per_epoch: int,
        total: int,
        *,
        evaluates_at: Callable[[int], bool],
        saves: bool,
    ) -> None:
        """Take over what the arguments say of the run that is about to begin."""
        self._steps_per_epoch, self._saves = max(1, steps_per_epoch), saves
        self._evaluates_at, args = evaluates_at, self._args
        self._losses.clear()
        self.control = TrainerControl()
        self.state = TrainerState(
            max_steps=total,
            num_train_epochs=math.ceil(total / self._steps_per_epoch),
            logging_steps=args.logging_steps,
            eval_steps=args.eval_steps,
            save_steps=args.save_steps,
            train_batch_size=args.per_device_train_batch_size,
            is_local_process_zero=self._world.first,
            is_world_process_zero=self._world.first,
        )

    def on_begin(self, history: History) -> None:
        """Go on from what the history has, and tell that the run begins."""
        self._started, self._begun = time.perf_counter(), len(history.steps)
        evaluations = dict(history.evaluations)
        for log in history.steps:
            self._count(log)
            if self._logs_at(log.step):
                self.state.log_history.append(self._numbers(log) | self._place())
                self._losses.clear()
            if log.step in evaluations:
                self.state.log_history.append(dict(evaluations[log.step]) | self._place())
                self.note_best(evaluations[log.step])
        self.tell("on_train_begin")

    def on_step_begin(self, step: int) -> None:
        """Before a step."""
        self.control.should_log = self.control.should_evaluate = self.control.should_save = False
        if (step - 1) % self._steps_per_epoch == 0:
            self.tell("on_epoch_begin")
        self.tell("on_step_begin")

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """After a step; the log is written if it is time to."""
        self._count(log)
        self.control.should_log = self._logs_at(log.step)
        self.control.should_evaluate = self._evaluates_at(log.step)
        self.tell("on_step_end")
        if self._ends_epoch(log.step):
            self.tell("on_epoch_end")
        if self.control.should_save and not self._saves:
            raise UsageError(
                "a callback set should_save, and this run writes no checkpoints",
                place="on_step_end",
                fix='give TrainingArguments save_strategy="steps" or "epoch"',
            )
        if self.control.should_log:
            self._log(self._numbers(log))
            self._losses.clear()

    def on_evaluate(self, step: int, metrics: Mapping[str, Any]) -> None:
        """`Trainer.evaluate` has told of it."""

    def on_save(self, folder: Path) -> None:
        """After a checkpoint."""
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder)
        self.tell("on_save")

    def on_end(self, history: History) -> None:
        """Log what the run came to unless an error ended it, and tell that it has ended."""
        self._totals = self._totalled(history)
        asked = history.stopped or history.interrupted or history.terminated
        if history.step == self.state.max_steps or asked:
            self._log(dict(self._totals))
        self.tell("on_train_end")

    def totals(self, history: History) -> dict[str, Any]:
        """The whole run in numbers, under names that begin with "train_"."""
        numbers = {f"train_{name}": value for name, value in history.summary().items()}
        return {**numbers, **self._totals}

    def _totalled(self, history: History) -> dict[str, Any]:
        """What the peer tells at the end of a run."""
        made = history.steps[self._begun :]
        seconds = time.perf_counter() - self._started
        numbers = speed("train", seconds, sum(log.sequences for log in made), len(made))
        self.state.total_flos = flos(self._parts()["model"], history.steps)
        about = {"total_flos": self.state.total_flos, "train_loss": history.mean_loss}
        return {**numbers, **about, "epoch": self.state.epoch}

    def asks(self) -> tuple[bool, bool]:
        """Whether to evaluate now and whether to save, on every process if it is so on one."""
        wishes = (self.control.should_evaluate, self.control.should_save)
        if not self.callbacks:
            return wishes
        evaluate, save = self._world.sum([float(wish) for wish in wishes])
        return evaluate > 0, save > 0

    def stopped(self) -> bool:
        """Whether a callback ends the run here."""
        ends = bool(self.callbacks) and self._world.any_true(self.control.should_training_stop)
        if ends and not self._ends_epoch(self.state.global_step):
            self.tell("on_epoch_end")
        return ends

    def record(self, logs: dict[str, Any]) -> None:
        """Keep numbers in the history of logs, and tell that they were logged."""
        self.state.log_history.append(logs | self._place())
        self.tell("on_log", logs=logs)

    def note_best(self, metrics: Mapping[str, Any]) -> None:
        """Keep the best metric so far, if one is to be followed."""
        args, best = self._args, Best.of(self._args)
        if not (args.metric_for_best_model or args.load_best_model_at_end):
            return
        value = metrics.get(best.metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return
        known = self.state.best_metric
        if known is None or (value > known if best.greater else value < known):
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step

    def _ends_epoch(self, step: int) -> bool:
        return step % self._steps_per_epoch == 0 or step == self.state.max_steps

    def _logs_at(self, step: int) -> bool:
        """Whether the arguments ask for an entry of the log after a step."""
        args = self._args
        if step == 1 and args.logging_first_step:
            return True
        if args.logging_strategy == "epoch":
            return self._ends_epoch(step)
        return args.logging_strategy == "steps" and step % args.logging_steps == 0

    def _count(self, log: StepLog) -> None:
        self._losses.append(log.loss)
        self.state.global_step = log.step
        self.state.epoch = log.step / self._steps_per_epoch
        self.state.num_input_tokens_seen += log.tokens

    def _numbers(self, log: StepLog) -> dict[str, Any]:
        return {
            "loss": sum(self._losses) / len(self._losses),
            "grad_norm": log.grad_norm,
            "learning_rate": log.learning_rate,
            "epoch": self.state.epoch,
        }

    def _place(self) -> dict[str, Any]:
        return {"step": self.state.global_step, "epoch": self.state.epoch}
