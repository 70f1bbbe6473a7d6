"""What every command does around its training: the folder, resuming, the result, the report."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from bertolt.base.console import held_interrupts, info, tell_caution
from bertolt.base.distributed import World, is_restarted_in, join
from bertolt.base.errors import (
    BertoltError,
    CheckpointError,
    DiskFullError,
    TrainingError,
)
from bertolt.base.files import require_apart, write_text
from bertolt.base.options import flag
from bertolt.base.settings import SETTINGS, settings_of_run, settings_text
from bertolt.checkpoint.state import read_run_facts
from bertolt.checkpoint.store import Store
from bertolt.models.precision import PrecisionChoice
from bertolt.report import RUN, write_facts, write_report
from bertolt.report.findings import cautions
from bertolt.train.folder import ARGUMENTS, LOG, METRICS, REPORT, Complete, RunFolder, require_space
from bertolt.train.loop import History
from bertolt.train.saving import plain, require_same_settings
from bertolt.train.trainer import Trainer


class _Options(Protocol):
    """The options that every such command has."""

    @property
    def model(self) -> str | None: ...
    @property
    def out(self) -> Path: ...
    @property
    def overwrite(self) -> bool: ...
    @property
    def resume(self) -> bool: ...
    @property
    def keep(self) -> int | Literal["best"]: ...
    @property
    def precision(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with.

    Attributes:
        store: for its checkpoints; None: a run in memory, without any.
        checkpoint: to go on from, or None.
        complete: the run that came to its end before, or None.
        settings: that decided the run that it goes on with; empty for a new one.
        precision: the number format of that run, where the user leaves it to us.
    """

    store: Store | None
    checkpoint: Path | None
    complete: Complete | None
    settings: dict[str, Any]
    precision: PrecisionChoice | None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of a run.

    Attributes:
        metrics: the content of `metrics.json`.
        complete: the run came to its end, so nothing is left to do.
        failure: why it did not; raised after everything is saved.
    """

    metrics: dict[str, Any]
    complete: bool
    failure: BertoltError | None = None


class Work(Protocol):
    """The part of a run that is particular to a command; methods are called in this order.

    Attributes:
        keeps_checkpoints: whether they stay when the run is complete.
        room: bytes that logs, tokenizers and reports may take.
        reads: the argument, among its `arguments`, that stands before the options.
    """

    keeps_checkpoints: bool
    room: int
    reads: str

    def set_up(self, start: Start) -> Trainer:
        """Read everything, tell the user, and return the Trainer, with the store of `start`."""

    def measure(self) -> Measured | None:
        """Measure the trained model; None: there is no result to write."""

    def write(self, folder: Path) -> None:
        """Write files beside the model; only the first process calls this and the methods below."""

    def arguments(self) -> dict[str, Any]:
        """Every argument with the value that was used, from the user or resolved."""

    def facts(self, command: str, started: float) -> dict[str, Any]:
        """What `run.json` holds, and the report is drawn from."""

    def describe_next_step(self) -> None:
        """Tell the user what can be done with the result."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run gives back.

    Attributes:
        out: the folder it wrote.
        history: of training; empty if the run was complete before.
        metrics: the content of `metrics.json`; empty if nothing was written.
        interrupted: Ctrl-C came, in training or while the result was saved.
    """

    out: Path
    history: History
    metrics: dict[str, Any]
    interrupted: bool = False


def run_job(
    work: Work,
    options: _Options,
    positional: Sequence[str],
    inputs: Sequence[str | os.PathLike[str] | None],
) -> RunResult:
    """Make a run, or the rest of one: its folder, training, result, report and `complete.json`.

    The result is put in place whole; then comes the report, and `complete.json` last.

    Args:
        work: of a command.
        options: its settings, a dataclass.
        positional: of its command line, without the options.
        inputs: files and folders that it reads, beside `--model`.

    Raises:
        BertoltError: something cannot be used, and nothing was touched then; or the disk is full.
        TrainingError: the loss was not finite.
        SystemExit: after SIGTERM, with 143, when the run has been saved.
    """
    started, world, out = time.monotonic(), join(), options.out
    require_apart(out, [options.model, *inputs])
    resume = is_restarted_in(out, world) or options.resume
    folder = RunFolder(out=out, overwrite=options.overwrite, resume=resume)
    store = Store(out, 1 if options.keep == "best" else options.keep)
    # The first process holds the folder for all of them.
    with folder.held() if world.first else contextlib.nullcontext(), _resumable(store):
        start = _start(folder, store, options, world)
        trainer = work.set_up(start)
        settings = plain(trainer.deciding_settings())
        if start.complete is not None:
            require_same_settings(out, start.settings, settings)
            if world.first and not start.complete.keeps_checkpoints and store.steps():
                store.clear()  # as the run would have done if it had not been killed
            info(f"The run is complete, and nothing is left to do: its result is in {out}")
            return RunResult(out=out, history=History(), metrics=start.complete.metrics)
        if start.checkpoint is not None:
            require_same_settings(start.checkpoint, start.settings, settings)
        if world.first:
            parameters, new = trainer.model.num_parameters(), _new_checkpoints(trainer, options)
            require_space(out, parameters, checkpoints=new, beside=work.room)
            folder.begin()
        world.wait()
        train_from(trainer, start.checkpoint)
        # A signal from here on would lose what was trained: it waits until that is in place.
        with held_interrupts(terminate=True) as signal_asked:
            measured = work.measure()
            if measured is not None:
                measured = _with_weights(measured, trainer, out)
                command = command_line(positional, options)
                _write(
                    work,
                    trainer,
                    folder,
                    measured,
                    lambda: work.facts(command, started),
                    lambda: _settings(work, options, positional[0]),
                )
            history = trainer.history
            interrupted = history.interrupted or signal_asked() == signal.SIGINT
    metrics = measured.metrics if measured else {}
    return RunResult(out=out, history=history, metrics=metrics, interrupted=interrupted)


def _start(folder: RunFolder, store: Store, options: _Options, world: World) -> Start:
    """What the folder holds to go on with; --overwrite leaves a complete result out."""
    complete, checkpoint, settings = None, None, dict[str, Any]()
    if folder.resume and not folder.overwrite:
        complete = folder.read_complete_run(world)
    if complete is not None:
        settings = complete.settings
    elif folder.resume and not store.steps():
        info(f"No checkpoint in {folder.out} yet: starting from the beginning")
    elif folder.resume:
        checkpoint = store.require_last()
        settings = read_run_facts(checkpoint).values["settings"]
    world.require_same(checkpoint, "checkpoint to go on from")
    precision = None
    if options.precision == "auto" and "precision" in settings:
        where = f"as in {checkpoint or folder.out}"
        precision = PrecisionChoice(str(settings["precision"]), where)
    return Start(
        store=store,
        checkpoint=checkpoint,
        complete=complete,
        settings=settings,
        precision=precision,
    )


def train_from(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train; a loss that is not finite stays in the history, for the command to decide."""
    try:
        trainer.train(resume_from_checkpoint=checkpoint or False)
    except TrainingError as error:
        if error is not trainer.history.failure:
            raise


def _with_weights(measured: Measured, trainer: Trainer, out: Path) -> Measured:
    """The result, with which weights it has where the best ones were to be chosen.

    Without the best ones the run does not end well, and stays as it is: who brings their checkpoint
    back can go on with it.
    """
    last, best, lost = trainer.history.step, trainer.best_step, trainer.lost_best
    if best is None and lost is None:
        return measured
    weights = {"step": last if best is None else best, "best": lost is None}
    metrics = {**measured.metrics, "weights": weights}
    if lost is None:
        return replace(measured, metrics=metrics)
    failure = CheckpointError(
        f"{lost.problem}; so the weights of the last step, {last}, are saved in {out}, and not "
        "those of the best evaluation",
        place=lost.place,
        fix="bring that checkpoint back and --resume, use the last weights, or train again",
    )
    return Measured(metrics=metrics, complete=False, failure=measured.failure or failure)


def _settings(work: Work, options: _Options, command: str) -> str:
    """The resolved settings of a run, as `--config` takes them again."""
    arguments = work.arguments()
    before = {work.reads: arguments[work.reads]}
    return settings_text(command, settings_of_run(options, arguments, **before))


def _caution(trainer: Trainer) -> list[dict[str, str]]:
    """What the report says of best weights that are lost."""
    if trainer.lost_best is None:
        return []
    claim = f"The weights are those of the last step, {trainer.history.step}, not the best ones"
    return [{"claim": claim, "detail": f"{trainer.lost_best}."}]


def _new_checkpoints(trainer: Trainer, options: _Options) -> int:
    """How many more checkpoints there will be at most, the one in the making included."""
    if trainer.args.save_strategy == "no":
        return 0
    most = 3 if options.keep == "best" else options.keep + 1
    return max(1, most - len(trainer.store.steps()))


def _write(
    work: Work,
    trainer: Trainer,
    folder: RunFolder,
    measured: Measured,
    facts_of: Callable[[], dict[str, Any]],
    settings_of: Callable[[], str],
) -> None:
    """Write the result, then the report, and at last that the run is complete."""
    out, store = folder.out, trainer.store
    if not trainer.world.first:
        trainer.save_model(out)  # its part of a model that is split
    else:
        with folder.result() as stage:
            trainer.save_model(stage)
            work.write(stage)
            for name, values in ((METRICS, measured.metrics), (ARGUMENTS, work.arguments())):
                text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
                write_text(stage / name, text + "\n")
            write_text(stage / SETTINGS, settings_of())
        also = f", {METRICS} and {LOG}" if (out / LOG).is_file() else f" and {METRICS}"
        info(f"Saved to {out}: the model, its tokenizer{also}")
        facts = facts_of()
        facts["cautions"] = [*_caution(trainer), *facts.get("cautions", ())]
        write_facts(facts, out / RUN)
        write_report(facts, out / REPORT)
        if measured.complete:
            settings = plain(trainer.deciding_settings())
            folder.mark_complete(settings, keeps_checkpoints=work.keeps_checkpoints)
        info(f"Report: {out / REPORT}")
        for caution in cautions(facts):
            tell_caution(caution.claim, caution.detail)
        if measured.complete and not work.keeps_checkpoints:
            store.clear()
        elif store.steps():
            on = "" if measured.complete else "; --resume goes on from the last"
            info(f"Checkpoints: {out}{on}")
    if measured.failure is not None:
        raise measured.failure
    work.describe_next_step()


@contextlib.contextmanager
def _resumable(store: Store) -> Iterator[None]:
    """Let the error of a full disk name the checkpoint to go on from, once there is room."""
    try:
        yield
    except DiskFullError as error:
        saved = store.steps()
        if not saved:
            raise
        fix = f"free some space; {store.path(saved[-1]).name} is there to resume from"
        raise DiskFullError(error.problem, place=error.place, fix=fix) from error


def command_line(positional: Sequence[str], options: Any) -> str:
    """A command line that repeats a run.

    Args:
        positional: without its options.
        options: a dataclass; those with another value than their default are named.
    """
    argv = ["bertolt", *positional]
    for option in fields(options):
        value = getattr(options, option.name)
        if value != option.default and option.name != "resume":
            argv += [flag(option.name)] if value is True else [flag(option.name), str(value)]
    return shlex.join(argv)
