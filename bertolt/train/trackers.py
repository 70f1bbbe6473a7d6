"""Trackers by name: TensorBoard, MLflow and Weights & Biases, each on this machine alone.

What they need is imported when one is asked for, and nothing here is heavy.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bertolt.base.console import info
from bertolt.base.errors import UsageError, meant

if TYPE_CHECKING:
    from bertolt.train.loop import History
    from bertolt.train.step import StepLog

_NONE = ("", "none")
_ALL = "all"  # the peer's word for those that are installed
_SHORTEST = 250  # characters of a parameter that every MLflow takes
_WAIT = 5.0  # seconds after which MLflow gets what has come together


class Tracker(Protocol):
    """What is told of a run. Values are numbers by name, as "train/loss" and "eval/accuracy"."""

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        """Begin, or go on after `step` with the run that is in the folder."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step, or of an evaluation after it."""

    def end(self, state: str) -> None:
        """End: "finished", "stopped" by a signal or a callback, or "failed"."""


class _TensorBoard:
    """Event files in `tensorboard`."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "tensorboard"

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Curves that go beyond the step that a run goes on from are cut there.
        self._writer: Any = SummaryWriter(str(self._folder), purge_step=step + 1)
        if not step:
            lines = "\n".join(f"    {name}: {value}" for name, value in settings.items())
            self._writer.add_text("settings", lines)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if any(name.startswith("eval/") for name in values):
            self._writer.flush()

    def end(self, state: str) -> None:
        self._writer.add_text("state", state)
        self._writer.close()


class _MLflow:
    """A run in the database `mlflow.db`."""

    def __init__(self, out: Path) -> None:
        self._out = out.absolute()
        self._waiting: list[Any] = []
        self._sent = time.monotonic()

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        import mlflow
        from mlflow.entities import Metric, Param

        self._metric, self._param = Metric, Param
        for name in ("mlflow.store.db.utils", "alembic"):  # which tell how a database is made
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client: Any = mlflow.MlflowClient(tracking_uri=f"sqlite:///{self._out / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name("bertolt")
        if experiment is None:
            place = (self._out / "mlflow").as_uri()
            number = self._client.create_experiment("bertolt", artifact_location=place)
        else:
            number = experiment.experiment_id
        newest = ["attributes.start_time DESC"]
        runs = self._client.search_runs([number], order_by=newest, max_results=1) if step else []
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(number, run_name=self._out.name).info.run_id
        items = [self._param(name, str(value)[:_SHORTEST]) for name, value in settings.items()]
        for start in range(0, len(items), 100):
            self._client.log_batch(self._run, params=items[start : start + 100])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [
            self._metric(name, float(value), now, step) for name, value in values.items()
        ]
        # A database takes a while for each call, and more for each step than a step may.
        if len(self._waiting) > 500 or time.monotonic() - self._sent > _WAIT:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), 1000):
            self._client.log_batch(self._run, metrics=waiting[start : start + 1000])
        self._sent = time.monotonic()

    def end(self, state: str) -> None:
        self._send()
        states = {"finished": "FINISHED", "stopped": "KILLED"}
        self._client.set_terminated(self._run, states.get(state, "FAILED"))


class _WandB:
    """An offline run in `wandb`, for `wandb sync`."""

    def __init__(self, out: Path) -> None:
        self._out = out.absolute()

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # it would tell its makers of errors
        import wandb

        before = sorted((self._out / "wandb").glob("offline-run-*")) if step else []
        self._run: Any = wandb.init(
            mode="offline",
            dir=str(self._out),
            project="bertolt",
            name=self._out.name,
            id=before[-1].name.rpartition("-")[2] if before else None,
            resume="allow",
            config=dict(settings),
            settings=wandb.Settings(
                console="off", disable_git=True, save_code=False, silent=True, x_disable_stats=True
            ),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self, state: str) -> None:
        self._run.summary["state"] = state
        self._run.finish(exit_code=0 if state == "finished" else 1)


_KINDS: dict[str, Callable[[Path], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _WandB,
}
FILES = frozenset({"tensorboard", "mlflow.db", "mlflow", "wandb"})
"""What trackers leave in the folder of a run."""


def tracker_names(given: str | Sequence[str] | None, option: str) -> tuple[str, ...]:
    """The trackers that are asked for, each once.

    Args:
        given: names, with commas between them or as a list; none: no tracker; all: the installed.
        option: that names them, for messages.

    Raises:
        UsageError: another name.
    """
    parts = given.split(",") if isinstance(given, str) else list(given or ())
    names = [name for each in parts if (name := str(each).strip().lower()) not in _NONE]
    for name in names:
        if name not in _KINDS and name != _ALL:
            raise UsageError(
                f"there is no tracker {name!r}",
                place=option,
                fix=meant(name, list(_KINDS), f"give some of {', '.join(_KINDS)}, or none"),
            )
    if _ALL in names:
        names = [name for name in _KINDS if _missing(name) is None]
    return tuple(dict.fromkeys(names))


def _missing(name: str) -> ImportError | None:
    """Why the package of a tracker cannot be used; None: it can."""
    try:
        if name == "tensorboard":
            import torch.utils.tensorboard  # noqa: F401
        elif name == "wandb":
            import wandb  # noqa: F401
        else:
            os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it is read when mlflow is imported
            import alembic  # noqa: F401
            import mlflow  # noqa: F401
            import sqlalchemy  # noqa: F401
    except ImportError as error:
        return error
    return None


def require_trackers(names: Sequence[str], option: str) -> None:
    """Refuse a run that asks for a tracker whose package is not installed.

    Args:
        names: of `tracker_names`.
        option: that named them, for messages.

    Raises:
        UsageError: a package is not there.
    """
    for name in names:
        if (error := _missing(name)) is not None:
            raise UsageError(
                f"{option} needs the package {name} ({error})",
                fix=f"pip install 'bertolt[{name}]', or leave {name} out",
            ) from error


def step_values(log: StepLog) -> dict[str, float]:
    """The numbers of a step, by name."""
    values = asdict(log)
    del values["step"]
    return values


class Tracking:
    """A callback that tells trackers of a run. One that fails is told of once, and no more.

    Args:
        names: of the trackers.
        out: the folder of the run, where they write.
        settings: what the run begins with, by name.
        values: makes the numbers of a step.

    Raises:
        UsageError: as `tracker_names`.
    """

    def __init__(
        self,
        names: Sequence[str],
        out: Path,
        settings: Callable[[], Mapping[str, Any]],
        values: Callable[[StepLog], Mapping[str, float]] = step_values,
    ) -> None:
        self._trackers = {name: _KINDS[name](out) for name in tracker_names(names, "trackers")}
        self._settings, self._numbers_of, self._out = settings, values, out
        self._whole = False

    def on_begin(self, history: History) -> None:
        """Begin, or go on with what the trackers have up to the last step of the history."""
        settings = {name: _plain(value) for name, value in self._settings().items()}
        self._out.mkdir(parents=True, exist_ok=True)
        self._tell(history.step, lambda tracker: tracker.begin(settings, history.step))
        if self._trackers:
            info(f"Tracked in {self._out}: {', '.join(self._trackers)}")

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """Tell of a step."""
        self._whole = log.step >= total_steps
        values = {f"train/{name}": value for name, value in self._numbers_of(log).items()}
        self._tell(log.step, lambda tracker: tracker.log(log.step, values))

    def on_evaluate(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Tell of an evaluation; what is no number is left out."""
        values = {
            f"eval/{name.removeprefix('eval_')}": value
            for name, value in metrics.items()
            if isinstance(value, int | float)
        }
        self._tell(step, lambda tracker: tracker.log(step, values))

    def on_end(self, history: History) -> None:
        """Tell how the run ended."""
        asked = history.stopped or history.interrupted or history.terminated
        state = "stopped" if asked else "finished" if self._whole else "failed"
        state = "failed" if history.failure is not None else state
        self._tell(history.step, lambda tracker: tracker.end(state))

    def _tell(self, step: int, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 - whatever a tracker does, training goes on
                del self._trackers[name]
                why = next(iter(str(error).splitlines()), "") or type(error).__name__
                info(f"Caution: {name} failed at step {step} and is told no more: {why[:200]}")


def _plain(value: Any) -> Any:
    """A setting as every tracker can keep it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
