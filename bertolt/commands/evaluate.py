"""What `bertolt evaluate` does: measure a model on a file whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting, info
from bertolt.base.errors import DataError, UsageError
from bertolt.checkpoint.contract import Contract
from bertolt.commands import label_names
from bertolt.commands.arguments import require_model_first, tell_missing_contract
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.wording import options_called
from bertolt.data.columns import by_number
from bertolt.data.describe import describe_rows, describe_table
from bertolt.data.load import Table
from bertolt.data.table_file import listing
from bertolt.tasks.base import Further, Reading, Scorer, Task
from bertolt.tasks.cautions import cautions_of, tell_cautions
from bertolt.tasks.evaluation import Scores, TaskRows, evaluate
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.rows import Columns, encode_rows, read_for_task, require_pair
from bertolt.tasks.slices import LENGTH, Slices, require_few_values

_SAMPLE = 100  # rows for what takes a run for each token
# The columns that part the rows are kept as those of `predict` are.
_CALLED = {" to keep; there are": "; there are", ", or --keep all": "", "--keep": "--by"}

_MAPPED = ", train with such rows, or say what the file calls the model's labels with --label-map"
_RENAME = {", or train with such rows": _MAPPED}
WITHOUT_MAP: dict[str | re.Pattern[str], str] = {
    re.compile(re.escape(_MAPPED)): ", or train with such rows",
    re.compile(r"^.*--label-map.*$"): "write the labels in the file as the model has them",
}
"""For commands that measure and have no `--label-map`."""


def evaluate_file(
    model: str | Predictor,
    file: Path | Sequence[Path],
    options: EvaluateOptions | None = None,
    *,
    keep_answers: bool = False,
    part: Callable[[Table], NDArray[np.int64]] | None = None,
) -> Scores:
    """Measure a fine-tuned model on a file whose answers are known.

    Args:
        model: folder of the model, or an id on the hub; or what was opened of it.
        file: texts and labels; or several files.
        options: settings; columns that they do not name are as in training if they are there, else
            found.
        keep_answers: keep what each row was answered, in a few numbers and words.
        part: gives the places of the rows to measure; None: all of them.

    Raises:
        DataError: the file cannot be used, or has a label that training never had.
        CheckpointError: the model cannot be used.
        UsageError: the two are in the wrong order, or the file is not of the model's task.
    """
    options = options or EvaluateOptions()
    files = [file] if isinstance(file, Path) else list(file)
    predictor = model if isinstance(model, Predictor) else _opened(model, str(files[0]), options)
    task, rows, by, group = rows_to_measure(predictor, files, options, part=part)
    info(f"Precision {predictor.precision.name}: {predictor.precision.reason}")
    lengths = rows.encoded.full_lengths if LENGTH in by else None
    answer = partial(
        evaluate,
        predictor.model,
        precision=predictor.precision,
        engine=predictor.engine,
        require_finite=True,
    )
    with counting("Evaluating", rows.to_answer) as show:
        slices = Slices(task, by, lengths, group) if by else None
        scores = answer(
            task, rows, progress=show, slices=slices, keep_answers=keep_answers, group=group
        )
    return replace(scores, further=_further(answer, task, rows, options.sample))


def rows_to_measure(
    predictor: Predictor,
    files: Sequence[Path],
    options: EvaluateOptions,
    *,
    part: Callable[[Table], NDArray[np.int64]] | None = None,
) -> tuple[Task, TaskRows, list[str], str | None]:
    """The rows of files with what each is to be answered, all checked; nothing is answered.

    Args:
        predictor: of the model.
        files: with the rows.
        options: as of `evaluate_file`.
        part: gives the places of the rows; None: all of them.

    Returns:
        The task as these rows have it, the rows, the columns that part them, and that of groups.

    Raises:
        DataError: the files cannot be used, or have a label that training never had.
        UsageError: the files are not of the model's task.
    """
    by = [name for each in (options.by or "").split(",") if (name := each.strip())]
    _check_sample(options.sample, predictor.task)
    predictor.tell_long()
    table = read_rows(files, options, predictor.task, predictor.contract, by)
    task, table = _with_names(predictor, table, options.label_map)
    by = _parting(by, table)
    group = None if options.group is None else by_number(options.group, table.columns)
    describe_table(table)
    require_pair(table, predictor.trained_on_pairs)
    index = np.arange(len(table)) if part is None else part(table)
    require_few_values(table, index, by)
    task, limit = task.for_table(table), predictor.max_length
    with options_called(_RENAME):
        rows, origin = encode_rows(task, table, index, predictor.tokenizer, limit, predictor.long)
    info(f"Evaluation tokens: {origin}")
    describe_rows("Evaluation", rows.encoded, task.counts(table, index))
    tell_cautions(cautions_of(task, {"Evaluation": rows}, predictor.tokenizer))
    return task, rows, by, group


def read_rows(
    files: Sequence[Path],
    options: EvaluateOptions,
    task: Task,
    contract: Contract | None,
    by: Sequence[str] = (),
) -> Table:
    """Rows whose answers are known, for a trained model.

    Args:
        files: with the rows.
        options: settings.
        task: of the model.
        contract: of the model, whose columns are taken where nothing is named.
        by: columns to keep.

    Raises:
        DataError: the files cannot be used.
    """
    group = [options.group] if options.group else []
    columns = Columns(
        text=options.text,
        text_pair=options.text_pair,
        label=options.label,
        reading=Reading(label_separator=options.label_separator),
        encoding=options.encoding,
        on_bad_row=options.on_bad_row,
        keep=list(dict.fromkeys([*(name for name in by if name != LENGTH), *group])),
        layout=options.layout,
    )
    with options_called(_CALLED if by else _CALLED | {"--keep": "--group"}):
        table, _ = read_for_task(
            files,
            as_trained(columns, task),
            task=type(task),
            prefer=contract.columns if contract else {},
            need_label=task.has_labels,
        )
    return table


def _opened(model: str, file: str, options: EvaluateOptions) -> Predictor:
    require_model_first("evaluate", model, file)
    predictor = Predictor.from_pretrained(
        model,
        task=options.task,
        precision=options.precision,
        engine=options.engine,
        long=options.long,
        stride=options.stride,
    )
    tell_missing_contract(predictor, model)
    return predictor


def _with_names(predictor: Predictor, table: Table, label_map: str | None) -> tuple[Task, Table]:
    """The task with the names that the file has for its labels, or the table with the model's."""
    task, config = predictor.task, predictor.model.config
    if label_map is not None:
        settings = predictor.contract.settings if predictor.contract else {}
        return label_names.renamed(task, table, config, settings, label_map)
    if predictor.contract is None and task.head.outputs_have_names:
        table = label_names.by_number(table, config)
        label_names.require_known(table, config)
    return task, table


def _further(
    answer: Callable[..., Scores], task: Task, rows: TaskRows, sample: int | Literal["all"] | None
) -> Further | None:
    """What the task measures on some of the rows beside their scores, where it does."""

    def again(form: Task, others: TaskRows, progress: Callable[[int], None]) -> Scorer:
        return answer(form, others, progress=progress, keep_mistakes=0).scorer

    size = _SAMPLE if sample is None else sample
    return task.further(again, rows, None if size == "all" else size)


def _check_sample(sample: int | Literal["all"] | None, task: Task) -> None:
    """Refuse a sample for a task that measures nothing on one."""
    if sample is not None and not task.sampled:
        raise UsageError(
            f"it says how many rows a slow measure takes, and {task.name} has no such measure",
            place="--sample",
            fix="leave --sample out: all rows are measured",
        )


def _parting(by: Sequence[str], table: Table) -> list[str]:
    """The columns that part the rows, by their own names; `all` keeps all, and is none."""
    names = [by_number(name, table.columns) for name in by]
    for name in names:
        if name != LENGTH and name not in table.columns:
            raise DataError(
                f"there is no column {name!r}; there are {listing(table.columns)}",
                place=table.path,
                fix="name some of them with --by, with commas between them",
            )
    return names


def trained_columns(predictor: Predictor) -> dict[str, list[str]]:
    """The columns of the training file, by role."""
    return predictor.contract.columns if predictor.contract is not None else {}


def as_trained(columns: Columns, task: Task) -> Columns:
    """The columns, with labels parted as in training where nothing else is said of them."""
    several = "," in (columns.label or "")
    if several or columns.reading != Reading():
        return columns
    return replace(columns, reading=task.reading)
