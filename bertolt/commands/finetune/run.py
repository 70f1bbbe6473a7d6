"""Fine-tuning as one command: a run, or several that share what they read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.commands.finetune.data import SharedRows
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.parts import Part
from bertolt.commands.finetune.plans import plan_of, sample_sizes
from bertolt.commands.finetune.runs import Runs
from bertolt.commands.finetune.several import run_several
from bertolt.commands.finetune.spread import Summary
from bertolt.commands.finetune.work import Finetuning
from bertolt.data.several import require_no_model
from bertolt.report.shown import listed
from bertolt.tasks.evaluation import Scores
from bertolt.train.folder import RUNS
from bertolt.train.job import RunResult, run_job
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
        several = run_several(
            plan, options, Runs(files, callbacks, SharedRows(options.group)), files
        )
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
    result = run_job(work, options, ["finetune", *files], [*named, *options.also_read])
    return FinetuneResult(**vars(result), scores=work.final_scores)


def require_texts(names: Sequence[str], model: str | None) -> None:
    """Refuse a model among the files of texts.

    Raises:
        DataError: there is one; the fix is the command that names it by its option.
    """
    for name in names:
        others = [shlex.quote(other) for other in names if other != name] or ["FILE"]
        known = "" if model is not None else f" --model {shlex.quote(name)}"
        require_no_model(Path(name), f"bertolt finetune {' '.join(others)}{known}")
