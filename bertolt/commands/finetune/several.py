"""Several runs of fine-tuning by one command: one after the other, recorded, and gone on with.

Each is a run as any other, in a folder of its own inside `--out`. `runs.json` there has what came
of those that are done, and names the one under way; the model of the best is the result. A command
that was killed goes on with the run that was broken off, as that run would by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from bertolt.base.checks import is_real
from bertolt.base.console import held_interrupts, info, tell_caution
from bertolt.base.distributed import join
from bertolt.base.errors import DataError, TrainingError, UsageError
from bertolt.base.files import require_apart, write_text
from bertolt.base.json_files import JsonError, read_json
from bertolt.base.options import check_options, flag
from bertolt.base.settings import SETTINGS, settings_of_run, settings_text
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.planned import Goal, Outcome, Plan, Planned
from bertolt.commands.finetune.runs_page import summary_facts
from bertolt.commands.finetune.spread import (
    Summary,
    outcome_of,
    readable,
    summarise,
)
from bertolt.commands.finetune.turns import Turns, require_one_process
from bertolt.report import RUN, read_facts, write_facts, write_report
from bertolt.report.findings import cautions
from bertolt.report.shown import listed
from bertolt.tasks.evaluation import Scores, TaskRows
from bertolt.tasks.row_answers import ANSWERS, join_answers
from bertolt.train.events import TrainerCallback
from bertolt.train.folder import (
    ARGUMENTS,
    COMPLETE,
    METRICS,
    REPORT,
    RESULT,
    RUNS,
    Complete,
    RunFolder,
)
from bertolt.train.job import RunResult, command_line
from bertolt.train.loop import History
from bertolt.train.saving import plain, require_same_settings

_ANEW = frozenset({ARGUMENTS, COMPLETE, METRICS, REPORT, RUN, SETTINGS})
"""Of the result of a run, what the command writes anew for all of them."""
_TOLD = _ANEW | {"out_of_fold.jsonl", ANSWERS}
"""What stays in the folder of a run whose model is not kept."""
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run gives back.

    Attributes:
        result: as one command would have it.
        scores: of the final model, where it was measured in this process.
        rows: that it trained on, of the task.
    """

    result: RunResult
    scores: Scores | None
    rows: TaskRows


class Runner(Protocol):
    """Makes single runs."""

    def run(
        self,
        run: Planned,
        options: FinetuneOptions,
        callbacks: Sequence[TrainerCallback],
        ready: Callable[[Goal, dict[str, Any]], None],
        beside: int,
    ) -> Ran:
        """Make a run.

        Args:
            run: which.
            options: its own.
            callbacks: that watch it, beside those of the caller.
            ready: called before anything is written, with the goal and what decides the run.
            beside: further models for which there has to be room on the disk.
        """

    def settings(self, run: Planned, options: FinetuneOptions, precision: str) -> dict[str, Any]:
        """What would decide a run, without making it."""

    def whole(self, done: Sequence[Outcome], out: Path) -> Mapping[str, Any]:
        """Facts of all rows, where each was held out once; empty for other plans."""


@dataclass(frozen=True, kw_only=True)
class SeveralResult:
    """What several runs give back.

    Attributes:
        summary: of them; None: none has come to its end.
        result: of the run whose model is the result.
        scores: of that model, where it was measured in this process.
    """

    summary: Summary | None
    result: RunResult
    scores: Scores | None


@dataclass
class _Record:
    """What `runs.json` holds.

    Attributes:
        out: the folder.
        plan: the settings of the plan.
        settings: what decided the first run.
        goal: the metric to go by, once the first run has told it.
        outcomes: those that are done, and the one under way.
    """

    out: Path
    plan: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    goal: Goal | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def done(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.done]

    @property
    def begun(self) -> Outcome | None:
        return next((each for each in self.outcomes if not each.done), None)

    def put(self, outcome: Outcome) -> None:
        """Take in what is known of a run, in place of what was, and write all of it."""
        others = [each for each in self.outcomes if each.name != outcome.name]
        self.outcomes = [*others, outcome]
        values = {
            "format": _FORMAT,
            "plan": self.plan,
            "settings": self.settings,
            "goal": None if self.goal is None else asdict(self.goal),
            "runs": [asdict(each) for each in self.outcomes],
        }
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        write_text(self.out / RUNS, text + "\n")

    @classmethod
    def read(cls, out: Path) -> _Record | None:
        """The record of a folder; None: there is none.

        Raises:
            UsageError: it cannot be read.
        """
        path = out / RUNS
        if not path.is_file():
            return None
        try:
            values = read_json(path)
            goal = None if values["goal"] is None else Goal(**values["goal"])
            outcomes = [Outcome(**each) for each in values["runs"]]
            for each in filter(None, [goal, *outcomes]):
                check_options(each, shown=str)
            for each in outcomes:
                numbers = [*each.metrics.values(), *each.evaluations, *(each.interval or ())]
                if not all(number is None or is_real(number) for number in numbers):
                    raise TypeError(f"{each.name} has scores that are no numbers")
            if not isinstance(values["plan"], dict) or not isinstance(values["settings"], dict):
                raise TypeError("its settings are none")
            return cls(out, values["plan"], values["settings"], goal, outcomes)
        except (JsonError, KeyError, TypeError, UsageError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            why = error.problem if isinstance(error, UsageError) else why
            raise UsageError(
                f"it is no record of runs: {why}",
                place=str(path),
                fix="begin anew: --overwrite, or another --out",
            ) from error


def run_several(
    plan: Plan,
    options: FinetuneOptions,
    runner: Runner,
    files: Sequence[str],
) -> SeveralResult:
    """Make the runs of a plan, or those that are left of them, and the result of all.

    Args:
        plan: which runs there are.
        options: of the command.
        runner: makes each of them.
        files: of texts, as the user named them.

    Raises:
        BertoltError: as of one run; or the folder holds runs of other settings.
        TrainingError: no run came to a score.
        SystemExit: after SIGTERM, with 143, when the run under way has been saved.
    """
    require_one_process(_option(plan))
    require_apart(options.out, [options.model, *files, *options.also_read])
    folder = RunFolder(out=options.out, overwrite=options.overwrite, resume=options.resume)
    with folder.held():
        return _Several(plan, options, runner, files, folder).make()


def _option(plan: Plan) -> str:
    return next(iter(plan.settings))


class _Several:
    """The runs of a plan in the folder that holds them."""

    def __init__(
        self,
        plan: Plan,
        options: FinetuneOptions,
        runner: Runner,
        files: Sequence[str],
        folder: RunFolder,
    ) -> None:
        self.plan, self.options, self.runner = plan, options, runner
        self.files, self.out = files, options.out
        self.record = self._going_on()
        self.folder = replace(folder, resume=bool(self.record.outcomes))
        self._begun = False
        self._ran: dict[str, Ran] = {}
        self.turns = Turns()

    def _going_on(self) -> _Record:
        """What the folder has of an earlier command to go on with, or an empty record.

        Raises:
            UsageError: it has runs of other settings, or of no such plan.
        """
        new = _Record(self.out, plain(self.plan.settings))
        if not self.options.resume:
            return new
        old = _Record.read(self.out)
        complete = (self.out / COMPLETE).is_file()
        if old is None and (complete or any(self.out.glob("checkpoint-*"))):
            raise UsageError(
                f"it holds a single run, and {_option(self.plan)} makes several",
                place=str(self.out),
                fix=f"leave {_option(self.plan)} out to go on with it, or choose another --out",
            )
        if old is None or (complete and self.options.overwrite):
            return new
        require_same_settings(self.out, old.plan, new.plan)
        # A name decides which folder is read, and of which one a model is taken away.
        for number, each in enumerate(old.outcomes):
            ends = number == len(old.outcomes) - 1
            if each.name != self.plan.name(number) or (not each.done and not ends):
                raise UsageError(
                    f"it is no record of these runs: {each.name!r} is none, or out of its order",
                    place=str(self.out / RUNS),
                    fix="begin anew: --overwrite, or another --out",
                )
        if old.goal is not None:
            self.plan.know(old.goal)
        return old

    def make(self) -> SeveralResult:
        """The runs, and their result."""
        record, plan = self.record, self.plan
        if record.settings:
            self._require_same()
        if plan.next(record.done, record.begun) is None and self._complete() is not None:
            info(f"All runs are complete, and nothing is left to do: the result is in {self.out}")
            return self._result(interrupted=False)
        while (run := plan.next(record.done, record.begun)) is not None:
            with self.turns.turn(run, len(record.done), plan.total):
                interrupted = self._make(run)
            if interrupted:
                break
        else:
            interrupted = False
        with held_interrupts(terminate=True) as asked:
            self._finish(complete=not interrupted)
            interrupted = interrupted or asked() == signal.SIGINT
        return self._result(interrupted=interrupted)

    def _require_same(self) -> None:
        """Refuse to go on with other settings than the first run had."""
        first = self.plan.next([], self.record.outcomes[0])
        assert first is not None
        precision = str(self.record.settings.get("precision", ""))
        now = self.runner.settings(first, self._own(first), precision)
        require_same_settings(self.out, self.record.settings, plain(now))

    def _own(self, run: Planned) -> FinetuneOptions:
        """The options of one run."""
        folder = self.out / run.name
        resumable = self.folder.resume and (
            (folder / COMPLETE).is_file() or any(folder.glob("checkpoint-*"))
        )
        own = {
            "seeds": None,
            "folds": None,
            "search": None,
            "prune": False,
            "keep_models": False,
            "out": folder,
            "resume": resumable,
            "overwrite": not resumable,
        }
        sample = {"sample": None} if "," in str(self.options.sample) else {}
        return replace(self.options, **(own | sample | dict(run.changes)))

    def _make(self, run: Planned) -> bool:
        """Make a run, record what came of it, and take away what is not kept; whether Ctrl-C came.

        A loss that is not finite ends that run alone; so do values of a search that cannot be.
        """
        problem = ""
        before = self.record.begun or Outcome(**_of(run))

        def note_pruned() -> None:
            self.record.put(replace(self.record.begun or before, pruned=True))

        def goal() -> Goal:
            assert self.record.goal is not None
            return self.record.goal

        callbacks = self.plan.callbacks(goal, note_pruned)
        try:
            # A disk that gives no file a second name has the best model twice in the end.
            beside = self.plan.total - len(self.record.done) if self.options.keep_models else 1
            ran = self.runner.run(run, self._own(run), callbacks, self._ready(run), beside)
        except TrainingError as error:
            if not (self.out / run.name / METRICS).is_file():
                raise
            problem, ran = error.problem.split(";")[0], None
            info(f"Run {len(self.record.done) + 1} of {self.plan.total} came to no score: {error}")
        except (DataError, UsageError) as error:
            if not self._is_refused_trial():
                self._require_space_fits(run, error)
                raise
            info(f"Run {len(self.record.done) + 1} of {self.plan.total} cannot be made: {error}")
            self.record.put(replace(before, done=True, problem=error.problem))
            return False
        if ran is not None:
            if ran.result.interrupted and not (self.out / run.name / COMPLETE).is_file():
                return True
            self._ran[run.name] = ran
        self.turns.count()
        known = self.record.begun or before
        with readable(self.out / run.name):
            outcome = outcome_of(known, self.out / run.name, goal(), problem)
        self.record.put(outcome)
        self._drop_models()
        return ran is not None and ran.result.interrupted

    def _is_refused_trial(self) -> bool:
        """Whether a run that was refused before it began is one of a search, whose values do not
        fit the model or the rows as those of earlier trials did."""
        return self.plan.kind == "search" and bool(self.record.done) and self.record.begun is None

    def _require_space_fits(self, run: Planned, error: DataError | UsageError) -> None:
        """Refuse a search whose first trial has a value that the model or the rows do not take.

        Raises:
            UsageError: in place of what was said of an option that nobody gave.
        """
        if self.plan.kind != "search" or self.record.done:
            return
        told = f"{error.place} {error.problem}"
        named = [name for name in run.changes if flag(name) in told]
        if named:
            where = f"{error.place}: " if error.place else ""
            raise UsageError(
                f"{run.title} cannot be made: {where}{error.problem}",
                place="--search",
                fix=f"{error.fix}, as a value of {listed(named)} in --search",
            ) from error

    def _ready(self, run: Planned) -> Callable[[Goal, dict[str, Any]], None]:
        """What is done when all of a run is known, and nothing is written yet."""

        def ready(goal: Goal, settings: dict[str, Any]) -> None:
            if not self._begun:
                self.folder.begin(but=run.name)
                self._begun = True
            if self.record.goal is None:
                self.record.goal, self.record.settings = goal, plain(settings)
                self.plan.know(goal)
            self.record.put(self.record.begun or Outcome(**_of(run)))

        return ready

    def _drop_models(self) -> None:
        """Take away the models of runs that are not the best so far, unless all are kept."""
        goal = self.record.goal
        if self.options.keep_models or goal is None:
            return
        winner = self.plan.winner(self.record.done, goal)
        for each in self.record.done:
            if winner is None or each.name != winner.name:
                drop_model(self.out / each.name)

    def _complete(self) -> Complete | None:
        return self.folder.read_complete_run(join())

    def _finish(self, *, complete: bool) -> None:
        """Put the best run's model in place, with the metrics and the report of all.

        Raises:
            TrainingError: there is none.
        """
        record, goal = self.record, self.record.goal
        self._drop_models()  # of the last run, if it was killed before it could
        winner = None if goal is None else self.plan.winner(record.done, goal)
        if goal is None or winner is None:
            if not complete:
                info("Stopped by Ctrl-C before a run was complete; --resume goes on")
                return
            problems = "; ".join(f"{each.title}: {each.problem}" for each in record.done)
            raise TrainingError(
                f"no run came to a score ({problems})",
                place=str(self.out),
                fix="use a smaller learning rate, or more warmup",
            )
        own = self.out / winner.name
        with readable(own):
            whole = self.runner.whole(record.done, self.out)
            summary = summarise(self.plan, record.done, goal, winner, self.options)
            facts = read_facts(own)
            facts |= summary_facts(facts, summary, whole)
        facts["command"] = command_line(["finetune", *self.files], self.options)
        facts["duration_seconds"] = sum(each.seconds for each in record.done)
        arguments = read_json(own / ARGUMENTS) | self._arguments()
        facts["arguments"] = {name: str(value) for name, value in arguments.items()}
        if not complete:
            count = f"{len(record.done)} of {self.plan.total} runs are complete"
            facts["stopped_early"] = f"By Ctrl-C: {count}; --resume goes on."
        pooled = {name: whole[name] for name in ("pooled",) if name in whole}
        metrics = read_json(own / METRICS) | pooled | {"several": summary.to_dict()}
        with self.folder.result() as stage:
            for path in own.iterdir():
                if path.name not in _ANEW and path.is_file() and not path.name.startswith("."):
                    _link(path, stage / path.name)
            for name, values in ((METRICS, metrics), (ARGUMENTS, arguments)):
                text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
                write_text(stage / name, text + "\n")
            values = settings_of_run(self.options, arguments, train=arguments["train"])
            write_text(stage / SETTINGS, settings_text("finetune", values))
            with readable(own):
                self._gather_answers(stage)
        write_facts(facts, self.out / RUN)
        write_report(facts, self.out / REPORT)
        if complete:
            self.folder.mark_complete(record.settings | record.plan)
        info("\n" + "\n".join(summary.lines()))
        info(f"Saved to {self.out}: the model of {winner.title}, and {METRICS} of all runs")
        info(f"Report: {self.out / REPORT}")
        for caution in cautions(facts):
            tell_caution(caution.claim, caution.detail)

    def _arguments(self) -> dict[str, Any]:
        """The arguments that are of all runs, and not of the best one."""
        names = (
            "seeds",
            "folds",
            "search",
            "trials",
            "prune",
            "keep_models",
            "sample",
            "test_size",
        )
        return {name: getattr(self.options, name) for name in (*names, "seed", "out", "overwrite")}

    def _gather_answers(self, stage: Path) -> None:
        """Put the answers of all folds into one file of each kind, in the order of the rows."""
        parts = [self.out / each.name / "out_of_fold.jsonl" for each in self.record.done]
        there = [path for path in parts if path.is_file()]
        if there:
            lines = [line for path in there for line in _lines(path)]
            lines.sort(key=lambda line: json.loads(line)["row"])
            write_text(stage / "out_of_fold.jsonl", "".join(lines))
        kept = [path.with_name(ANSWERS) for path in there if path.with_name(ANSWERS).is_file()]
        if kept and len(kept) == len(there):
            join_answers(kept, stage / ANSWERS)

    def _result(self, *, interrupted: bool) -> SeveralResult:
        record, goal = self.record, self.record.goal
        winner = None if goal is None else self.plan.winner(record.done, goal)
        if goal is None or winner is None:
            empty = RunResult(out=self.out, history=History(), metrics={}, interrupted=interrupted)
            return SeveralResult(summary=None, result=empty, scores=None)
        ran = self._ran.get(winner.name)
        result = RunResult(
            out=self.out,
            history=ran.result.history if ran else History(),
            metrics=read_json(self.out / METRICS),
            interrupted=interrupted,
        )
        with readable(self.out / winner.name):
            summary = summarise(self.plan, record.done, goal, winner, self.options)
        return SeveralResult(summary=summary, result=result, scores=ran.scores if ran else None)


def _of(run: Planned) -> dict[str, Any]:
    """What an outcome has of its plan."""
    return {
        "name": run.name,
        "title": run.title,
        "changes": dict(run.changes),
        "values": dict(run.values),
    }


def _lines(path: Path) -> list[str]:
    """The lines of a file with their ends; U+2028 and the like end none."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return list(file)


def drop_model(folder: Path) -> None:
    """Take the model of a run away, and leave its metrics, its report and what it answered."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name != COMPLETE):
        model = path.name.startswith("model") and path.is_file()
        if (path.name in RESULT - _TOLD or path.name == COMPLETE or model) and path.is_file():
            path.unlink()


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, which takes no room; a copy where the disk has no such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
