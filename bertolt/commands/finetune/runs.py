"""The runs of a plan, which share what they read: each in a folder, or folds in memory alone."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.data import LoadedRows, SharedRows
from bertolt.commands.finetune.in_memory import FoldInMemory, Watch
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.out_of_fold import pooled, pooled_facts
from bertolt.commands.finetune.planned import ALL_ROWS, Goal, Outcome, Planned
from bertolt.commands.finetune.plans import fold_runs, sample_sizes
from bertolt.commands.finetune.several import Ran
from bertolt.commands.finetune.turns import Turns
from bertolt.commands.finetune.work import Finetuning
from bertolt.data.columns import by_number
from bertolt.models.precision import PrecisionChoice
from bertolt.train.events import TrainerCallback
from bertolt.train.job import Start, run_job
from bertolt.train.loop import Callback, History


class Runs:
    """Makes the runs of a plan, which share what they read.

    Args:
        files: of texts.
        callbacks: to watch each run.
        shared: what the runs read.
    """

    def __init__(
        self, files: Sequence[str], callbacks: Sequence[Callback], shared: SharedRows
    ) -> None:
        self.files, self.callbacks, self.shared = list(files), list(callbacks), shared
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
        start = Start(
            store=Store(options.out, 1),
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


def answer_folds(
    data: LoadedRows, count: int, options: FinetuneOptions, shared: SharedRows, watch: Watch
) -> list[History]:
    """Make the runs of folds in memory, and take the answers to the rows that each holds out.

    Args:
        data: the rows of all folds.
        count: of the folds.
        options: of the runs.
        shared: what `data` was read with.
        watch: takes the answers.

    Returns:
        How the training of each run went.

    Raises:
        BertoltError: the rows cannot be learned, or there are fewer rows or groups than folds.
        TrainingError: the loss of a run was not finite.
        KeyboardInterrupt: by Ctrl-C.
    """
    turns, histories = Turns(), list[History]()
    for run in fold_runs(count):
        own = replace(options, eval=None, **run.changes)
        with turns.turn(run, len(histories), count):
            fold = FoldInMemory(data, own, part=run.part, shared=shared, watch=watch)
            histories.append(fold.learn().history)
        del fold
        gc.collect()  # a trainer and what it evaluates by hold each other, and the model
        turns.count()
    return histories
