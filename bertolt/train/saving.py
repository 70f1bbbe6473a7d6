"""Saving a run while it trains, and going on from where a killed one was saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from bertolt.base.console import info
from bertolt.base.distributed import ALONE, World
from bertolt.base.errors import CheckpointError, NoMetricError, UsageError
from bertolt.base.process import TERMINATED
from bertolt.checkpoint.state import (
    RunFacts,
    TrainingState,
    everybodys_generators,
    read_run_facts,
    restore_state,
    restore_weights,
    write_state,
)
from bertolt.checkpoint.store import Store, require_whole
from bertolt.train.arguments import TrainingArguments
from bertolt.train.loop import History
from bertolt.train.step import StepLog


@runtime_checkable
class StatefulCallback(Protocol):
    """A callback whose state is saved in checkpoints."""

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors to keep, by name."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the state to a saved one; the model has the checkpoint's weights by then."""


@dataclass(frozen=True)
class Best:
    """Which evaluation of a run is the best.

    Attributes:
        metric: its name, as the evaluation gives it.
        greater: whether more is better.
    """

    metric: str
    greater: bool = False

    @classmethod
    def of(cls, args: TrainingArguments) -> Best:
        """The choice of the arguments, by default the lowest loss."""
        name = args.metric_for_best_model or "loss"
        greater = args.greater_is_better
        metric = name if name.startswith("eval_") else f"eval_{name}"
        return cls(metric, not name.endswith("loss") if greater is None else greater)

    def step(self, history: History) -> int | None:
        """The step of the best evaluation so far, the first of several; None before any."""
        ranked = []
        for step, metrics in history.evaluations:
            value = self.value(metrics)
            if math.isfinite(value):
                ranked.append((-value if self.greater else value, step))
        return min(ranked)[1] if ranked else None

    def value(self, metrics: Mapping[str, Any]) -> float:
        """The metric of one evaluation.

        Raises:
            UsageError: the evaluation has none of that name, or it is no number.
        """
        if self.metric not in metrics:
            raise NoMetricError(
                f"the evaluation gives no {self.metric}; it gives {', '.join(metrics)}",
                place="metric_for_best_model",
                fix="name one of these",
            )
        value = metrics[self.metric]
        if not isinstance(value, int | float):
            raise UsageError(
                f"{self.metric} is {value!r}, and no number to choose the best evaluation by",
                place="metric_for_best_model",
                fix="name a metric that is a number",
            )
        return value


class Saving:
    """The checkpoints of one run: when to write them, what is in them, how to go on from one.

    Args:
        store: where they lie.
        parts: model, optimizer and scheduler, saved and restored.
        settings: all that decides the result, by the names that the user knows. A checkpoint that
            was made with other ones is refused.
        every: save after so many steps, and after Ctrl-C; 0: only when SIGTERM ends the run.
        best: keep the checkpoint of the best evaluation, and write one there.
        beside: writes more files into each checkpoint, such as the tokenizer.
        callbacks: of the run; a `StatefulCallback` is saved with it.
        world: the processes of the run, all of which save and load.

    Attributes:
        lost_best: why the weights of the best evaluation could not be taken; None if nothing
            hindered it.
    """

    def __init__(
        self,
        store: Store,
        parts: TrainingState,
        *,
        settings: Mapping[str, Any],
        every: int,
        best: Best | None = None,
        beside: Callable[[Path], object] | None = None,
        callbacks: Sequence[object] = (),
        world: World = ALONE,
    ) -> None:
        self.store = store
        self._world = world
        self.parts = parts
        self.best = best
        self.lost_best: CheckpointError | None = None
        self._settings = plain(settings)
        self._every = every
        self._beside = beside
        self._keeping = [each for each in callbacks if isinstance(each, StatefulCallback)]

    def due(self, history: History) -> bool:
        """Whether the run has to be saved after the last step of its history."""
        if history.terminated or history.step == self._best_step(history):
            return True
        return self._every > 0 and (history.interrupted or history.step % self._every == 0)

    def save(self, history: History, generators: Mapping[str, Tensor]) -> Path:
        """Write a checkpoint of the run as it is.

        Args:
            history: up to now.
            generators: the random state to go on with.

        Raises:
            BertoltError: the disk is full, for instance; older checkpoints are as they were.
        """
        tensors = _steps_as_tensors(history.steps)
        for number, each in enumerate(self._keeping):
            tensors |= {f"callback.{number}.{k}": value for k, value in each.state_dict().items()}
        extra = RunFacts(
            values={
                "step": history.step,
                "settings": self._settings,
                "machine": _machine(next(self.parts.model.parameters()).device),
                "evaluations": history.evaluations,
            },
            tensors=tensors,
        )

        world = self._world
        everybodys = everybodys_generators(generators, world)

        def fill(folder: Path) -> None:
            write_state(folder, self.parts, extra, everybodys, first=world.first)
            if self._beside is not None and world.first:
                self._beside(folder)

        best = self._best_step(history)
        spare = () if best is None else (best,)
        if world.sharded:
            return self.store.write(history.step, fill, spare=spare, world=world)
        if world.first:
            self.store.write(history.step, fill, spare=spare)
        world.wait()
        return self.store.path(history.step)

    def load(self, checkpoint: Path) -> History:
        """Set model, optimizer, scheduler, callbacks and random generators to a checkpoint's.

        Returns:
            The history of the run up to there.

        Raises:
            UsageError: it was made with other settings; the message names the first.
            CheckpointError: it is no checkpoint of a run like this one.
        """
        extra = read_run_facts(checkpoint)
        require_same_settings(checkpoint, extra.values["settings"], self._settings)
        restore_state(checkpoint, self.parts, rank=self._world.rank)
        for number, each in enumerate(self._keeping):
            start = f"callback.{number}."
            each.load_state_dict(
                {
                    name.removeprefix(start): value
                    for name, value in extra.tensors.items()
                    if name.startswith(start)
                }
            )
        evaluations = [(int(step), dict(metrics)) for step, metrics in extra.values["evaluations"]]
        steps = _steps_from_tensors(extra.tensors)
        _warn_of_machine(
            checkpoint,
            extra.values["machine"],
            _machine(next(self.parts.model.parameters()).device),
        )
        return History(steps=steps, evaluations=evaluations)

    def restore_best(self, history: History) -> int | None:
        """Give the model the weights of the best evaluation, and say so.

        Where their checkpoint is gone or damaged, which `lost_best` then says, the last weights
        stay: they are all that is left of the run.

        Returns:
            The step of the weights that the model has; None if it has the last ones, since no
            evaluation gave a finite value or the best ones are lost.
        """
        best = self._best_step(history)
        if best is None:
            info("No evaluation gave a finite value to choose by: the last weights are kept")
        elif best != history.step:
            self.lost_best = self._lost(best)
            if self.lost_best is not None:
                info(f"Caution: {self.lost_best}: the last weights are kept")
                return None
            restore_weights(self.store.path(best), self.parts.model)
            info(
                f"The best evaluation was at step {best}: its weights are taken, and what is "
                "measured on the rows that chose them flatters them a little"
            )
        return best

    def _lost(self, step: int) -> CheckpointError | None:
        """What is wrong with the checkpoint of a step, on any process; None if nothing is."""
        fault = None
        try:
            require_whole(self.store.path(step))
        except CheckpointError as error:
            fault = CheckpointError(error.problem, place=error.place)
        if self._world.any_true(fault is not None) and fault is None:
            path = str(self.store.path(step))
            fault = CheckpointError("another process found it damaged", place=path)
        return fault

    def exit_if_terminated(self, history: History) -> None:
        """End the program if SIGTERM ended the run.

        Raises:
            SystemExit: with code 143.
        """
        if not history.terminated:
            return
        saved = self.store.steps()
        left = f"{self.store.path(saved[-1])} is there to resume from" if saved else "nothing saved"
        info(f"Stopped by SIGTERM after step {history.step}: {left}")
        raise SystemExit(TERMINATED)

    def _best_step(self, history: History) -> int | None:
        return None if self.best is None else self.best.step(history)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file, where a tuple is a list."""
    values: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return values


def require_same_settings(
    source: Path, made_with: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Refuse to mix runs that differ in what decides their result.

    Args:
        source: of the checkpoint or the result that is there.
        made_with: its settings.
        settings: of this run, as `plain` gives them.

    Raises:
        UsageError: naming the first difference.
    """
    for name in {**settings, **made_with}:
        now, then = settings.get(name), made_with.get(name)
        if now != then:
            raise UsageError(
                f"it was made with {name} {_shown(then)}, and now it is {_shown(now)}",
                place=str(source),
                fix="resume with the same settings, or begin a run of its own elsewhere",
            )


def _machine(device: torch.device) -> dict[str, Any]:
    """What a result depends on beside the settings."""
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _warn_of_machine(checkpoint: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    info(f"Resumed from {checkpoint}")
    for name, value in now.items():
        if (before := then.get(name, value)) != value:  # older checkpoints say less
            # It draws the order of the rows, and may draw another in another version.
            where = "the order of its rows" if name == "numpy" else "its last bits"
            info(
                f"Caution: it was saved with {name} {before}, and now it is {value}: the "
                f"result may differ in {where} from that of a run that was never stopped"
            )


def _steps_as_tensors(steps: Sequence[StepLog]) -> dict[str, Tensor]:
    """A column for each field: (S,) float64."""
    return {
        f"steps.{field.name}": torch.tensor(
            [getattr(log, field.name) for log in steps], dtype=torch.float64
        )
        for field in fields(StepLog)
    }


def _steps_from_tensors(tensors: Mapping[str, Tensor]) -> list[StepLog]:
    whole = {field.name for field in fields(StepLog) if field.type == "int"}
    names = [field.name for field in fields(StepLog)]
    columns = [tensors[f"steps.{name}"].tolist() for name in names]
    return [
        StepLog(
            **{
                name: int(value) if name in whole else value
                for name, value in zip(names, row, strict=True)
            }
        )
        for row in zip(*columns, strict=True)
    ]


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
