"""Fine-tuning as one command: a run, or several that share what they read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.data import SharedRows
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.out_of_fold import pooled, pooled_facts
from bertolt.commands.finetune.parts import Part
from bertolt.commands.finetune.planned import ALL_ROWS, Goal, Outcome, Planned
from bertolt.commands.finetune.plans import plan_of, sample_sizes
from bertolt.commands.finetune.several import Ran, run_several
from bertolt.commands.finetune.spread import Summary
from bertolt.commands.finetune.work import Finetuning
from bertolt.data.columns import by_number
from bertolt.data.several import require_no_model
from bertolt.models.precision import PrecisionChoice
from bertolt.report.shown import listed
from bertolt.tasks.evaluation import Scores
from bertolt.train.events import TrainerCallback
from bertolt.train.folder import RUNS
from bertolt.train.job import RunResult, Start, run_job
from bertolt.train.loop import Callback


@dataclass(frozen=True, kw_only=True)
class FinetuneResult(RunResult):
    """What a run gives back.

    Attributes:
        scores: of the final model on the evaluation rows; None if training was stopped.
        several: what all runs came to, where the options ask for several; the rest is that of the
            run whose model is the result.
    """

    scores: Scores | None
    several: Summary | None = None


def finetune(
    train: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    options: FinetuneOptions | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> FinetuneResult:
    """Fine-tune a model on a file, measure it, and write it with its report.

    Args:
        train: CSV, TSV, JSON, JSON lines, Parquet, Excel, or tagged words in a CoNLL file; a folder
            with a folder of texts for each class; or several files with the same columns.
        options: settings.
        callbacks: to watch the run.

    Returns:
        The scores and the history; a run that Ctrl-C stopped before its end has no scores, and what
        there was has been saved. One that is resumed and was complete before has its metrics alone.

    Raises:
        BertoltError: something in the data, the model or the options cannot be used; nothing has
            been written then.
        TrainingError: the loss was not finite; the last good weights have been saved.
        SystemExit: with code 143, after SIGTERM; a checkpoint of that step has been written.
    """
    options = options or FinetuneOptions()
    named = [train] if isinstance(train, str | os.PathLike) else list(train)
    files, plan = list(map(str, named)), plan_of(options)
    require_texts(files, options.model)
    if plan is not None:
        if plan.kind == "samples":
            info(f"Learning curve: runs on {listed([*map(str, plan.settings['--sample'])])} rows")
        several = run_several(plan, options, _Runner(files, callbacks, options.group), files)
        return FinetuneResult(
            **vars(several.result), scores=several.scores, several=several.summary
        )
    if options.resume and (options.out / RUNS).is_file():
        raise UsageError(
            "it holds several runs, and this command makes one",
            place=str(options.out),
            fix="name what made them, as --seeds 5, or choose another --out",
        )
    part = Part(sample=next(iter(sample_sizes(options.sample)), None))
    work = Finetuning(list(map(Path, named)), options, callbacks, part=part)
    result = run_job(work, options, ["finetune", *files], [*named, options.eval, options.distil])
    return FinetuneResult(**vars(result), scores=work.final_scores)


class _Runner:
    """Makes the runs of a plan, which share what they read.

    Args:
        files: of texts.
        callbacks: to watch each run.
        group: the column whose rows stay together, if there is one.
    """

    def __init__(
        self, files: Sequence[str], callbacks: Sequence[Callback], group: str | None
    ) -> None:
        self.files, self.callbacks, self.shared = list(files), list(callbacks), SharedRows(group)
        self._last: Finetuning | None = None

    def run(
        self,
        run: Planned,
        options: FinetuneOptions,
        callbacks: Sequence[TrainerCallback],
        ready: Callable[[Goal, dict[str, Any]], None],
        beside: int,
    ) -> Ran:
        """Make a run, as `Runner` says."""
        self._last = work = self._work(run, options)
        work.callbacks, work.ready, work.beside = [*self.callbacks, *callbacks], ready, beside
        if run.name == ALL_ROWS:
            work.retune = lambda task, table: pooled(task, table, options.out.parent, None).task
        result = run_job(work, options, ["finetune", *self.files], [*self.files, options.eval])
        return Ran(result=result, scores=work.final_scores, rows=work.data.train)

    def _work(self, run: Planned, options: FinetuneOptions) -> Finetuning:
        sample = next(iter(sample_sizes(options.sample)), None)
        part = replace(run.part, sample=run.part.sample or sample)
        return Finetuning(
            list(map(Path, self.files)), options, [], part=part, shared=self.shared, fold=run.fold
        )

    def settings(self, run: Planned, options: FinetuneOptions, precision: str) -> dict[str, Any]:
        """What would decide a run, without making it."""
        known = PrecisionChoice(precision, "as before") if options.precision == "auto" else None
        store = Store(options.out, 1)
        start = Start(
            store=store,
            checkpoint=None,
            complete=None,
            settings={},
            precision=known if precision else None,
        )
        return self._work(run, options).set_up(start).deciding_settings()

    def whole(self, done: Sequence[Outcome], out: Path) -> Mapping[str, Any]:
        """Facts of all rows, where each was held out once; empty for other plans."""
        work = self._last
        if work is None or not any(each.name == ALL_ROWS for each in done):
            return {}
        table, task = work.data.train.table, work.data.task
        group = self.shared.group and by_number(self.shared.group, table.columns)
        scores = pooled(task, table, out, group)
        return pooled_facts(scores, work.data, done, out, work.loss_facts)


def require_texts(names: Sequence[str], model: str | None) -> None:
    """Refuse a model among the files of texts.

    Raises:
        DataError: there is one; the fix is the command that names it by its option.
    """
    for name in names:
        others = [shlex.quote(other) for other in names if other != name] or ["FILE"]
        known = "" if model is not None else f" --model {shlex.quote(name)}"
        require_no_model(Path(name), f"bertolt finetune {' '.join(others)}{known}")
