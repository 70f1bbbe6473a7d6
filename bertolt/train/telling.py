"""What a Trainer tells while it runs and afterwards: to callbacks, and in files of metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from bertolt.base.console import info
from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.base.files import write_text
from bertolt.base.json_files import JsonError, read_json
from bertolt.train.arguments import TrainingArguments
from bertolt.train.events import (
    Events,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    require_events,
)
from bertolt.train.loop import Callback
from bertolt.train.results import plain

AnyCallback = Callback | TrainerCallback | type[TrainerCallback]


class Telling:
    """The part of a Trainer that tells what happens: its base, without training."""

    args: TrainingArguments
    world: World
    callbacks: list[Callback]
    _events: Events

    @property
    def state(self) -> TrainerState:
        """Where the last `train` stands, and what was logged in it."""
        return self._events.state

    @property
    def control(self) -> TrainerControl:
        """What callbacks ask of the run."""
        return self._events.control

    def add_callback(self, callback: AnyCallback) -> None:
        """Let a callback watch, behind those that are there; of a class an object is made.

        Raises:
            UsageError: it is no callback, or defines an event that no run tells.
        """
        each = callback() if isinstance(callback, type) else callback
        require_events(each)
        if isinstance(each, TrainerCallback):
            self._events.callbacks.append(each)
        else:
            self.callbacks.append(each)

    def pop_callback(self, callback: AnyCallback) -> AnyCallback | None:
        """Take a callback out, the first of its class if a class is given; None: there is none."""
        for callbacks in (self._events.callbacks, self.callbacks):
            for each in callbacks:
                if each is callback or (isinstance(callback, type) and isinstance(each, callback)):
                    callbacks.remove(each)  # type: ignore[arg-type]
                    return each
        return None

    def remove_callback(self, callback: AnyCallback) -> None:
        """Take a callback out, as `pop_callback`.

        Raises:
            UsageError: there is none such.
        """
        if self.pop_callback(callback) is None:
            name = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            raise UsageError(f"there is no callback {name} to remove", fix="leave it out")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep numbers in `state.log_history`, and tell the callbacks.

        Args:
            logs: each `logging_steps`: "loss", "grad_norm", "learning_rate" and "epoch", the loss
                as the mean since the last call; after each evaluation: its metrics, and "epoch".
            start_time: None; the peer gives it.
        """
        self._events.record(logs)

    def _tell_evaluated(self, metrics: dict[str, float]) -> None:
        if self.state.global_step:
            metrics["epoch"] = self.state.epoch or 0.0
        self.log(metrics)
        self._events.tell("on_evaluate", metrics=metrics)
        self._events.note_best(metrics)

    def is_world_process_zero(self) -> bool:
        """Whether this is the first process of all: the one that writes."""
        return self.world.first

    def is_local_process_zero(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.world.first or os.environ.get("LOCAL_RANK", "0") == "0"

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Show metrics in the terminal, one a line, in the order of their names.

        Args:
            split: what they are of: "train", "eval" or "test".
            metrics: as `train`, `evaluate` and `predict` give them; seconds are shown as a time.
        """
        shown = {name: _shown(name, metrics[name]) for name in sorted(metrics)}
        names, values = (max(map(len, words), default=0) for words in (shown, shown.values()))
        lines = [f"  {name:<{names}} = {value:>{values}}" for name, value in shown.items()]
        info("\n".join([f"***** {split} metrics *****", *lines]))

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Write metrics to `{split}_results.json` of `args.output_dir`; the first process does.

        Args:
            split: what they are of: "train", "eval", "test" or "all".
            metrics: as `train`, `evaluate` and `predict` give them.
            combined: put them into `all_results.json` too, beside what other splits have there.

        Raises:
            UsageError: a value that JSON cannot hold, or an `all_results.json` without metrics.
        """
        if not self.is_world_process_zero():
            return
        try:
            values = plain(metrics)
        except TypeError as error:
            raise UsageError(
                f"save_metrics got {error}", fix="give numbers, texts, or lists of them"
            ) from error
        folder = Path(self.args.output_dir)
        everything = folder / "all_results.json"
        before = _metrics_in(everything) if combined else {}
        _write(folder / f"{split}_results.json", values)
        if combined:
            _write(everything, {**before, **values})

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | Sequence[str] | None = None,
        dataset_tags: str | Sequence[str] | None = None,
        dataset: str | Sequence[str] | None = None,
        dataset_args: str | Sequence[str] | None = None,
    ) -> None:
        """Write `README.md` in `args.output_dir`: these facts, the arguments and the last metrics.

        The first process does. A text is used as it is, several are a list.
        """
        if not self.is_world_process_zero():
            return
        name = model_name or Path(self.args.output_dir).name
        about = {
            "language": language,
            "license": license,
            "base_model": finetuned_from,
            "tags": tags,
            "pipeline_tag": tasks if isinstance(tasks, str) or not tasks else tasks[0],
            "datasets": dataset_tags,
            "model_name": name,
        }
        head = [f"{key}: {json.dumps(value)}" for key, value in about.items() if value]
        evaluations = [e for e in self.state.log_history if any(k.startswith("eval_") for k in e)]
        metrics = [
            f"- {key}: {_shown(key, value)}" for key, value in (evaluations or [{}])[-1].items()
        ]
        settings = [f"- {key}: {value}" for key, value in self.args.to_dict().items()]
        learned = (
            [f"Fine-tuned on {dataset or dataset_tags}.", ""] if dataset or dataset_tags else []
        )
        lines = ["---", *head, "library_name: bertolt", "---", "", f"# {name}", "", *learned]
        lines += ["## Evaluation", "", *metrics, "", "## Training", "", *settings]
        if dataset_args:
            lines += ["", f"Arguments of the data set: {dataset_args}"]
        path = Path(self.args.output_dir) / "README.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "\n".join(lines) + "\n")

    def save_state(self) -> None:
        """Write `state` to `trainer_state.json` of `args.output_dir`; the first process does."""
        if self.is_world_process_zero():
            self.state.save_to_json(Path(self.args.output_dir) / "trainer_state.json")


def _metrics_in(path: Path) -> dict[str, Any]:
    """The metrics that a file has so far."""
    if not path.exists():
        return {}
    try:
        values = read_json(path)
        problem = "" if isinstance(values, dict) else f"it is a {type(values).__name__}"
    except JsonError as error:
        problem = str(error)
    if problem:
        raise UsageError(
            f"metrics cannot be added to what is there: {problem}",
            place=str(path),
            fix="move it away, or give save_metrics combined=False",
        )
    return cast("dict[str, Any]", values)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=4, sort_keys=True) + "\n")


def _shown(name: str, value: Any) -> str:
    if isinstance(value, float):
        seconds = name.endswith(("_runtime", "_seconds"))
        if seconds:
            return f"{timedelta(seconds=int(value))}.{int(value % 1 * 100):02}"
        return str(round(value, 4))
    return str(value)
