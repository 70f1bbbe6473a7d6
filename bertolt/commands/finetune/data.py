"""From a file to two parts of encoded rows with targets, and what the user is told about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.base.console import info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural, shorten
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.parts import WHOLE, Part, Split, reading_of, sampled, split_of
from bertolt.commands.wording import options_called
from bertolt.data.columns import NoColumnError, by_number
from bertolt.data.describe import describe_rows, describe_table
from bertolt.data.documents import SampledWindows
from bertolt.data.encode import SHORTEST, EncodedTexts
from bertolt.data.groups import Integers
from bertolt.data.load import Table
from bertolt.data.long import LongTexts
from bertolt.data.table_file import listing
from bertolt.models.config import BertConfig
from bertolt.tasks.base import TASKS, Reading, Task
from bertolt.tasks.cautions import Preflight, tell_cautions
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.long import chosen, encoding_name
from bertolt.tasks.registry import find_task
from bertolt.tasks.row_view import Repeats, rows_named
from bertolt.tasks.rows import (
    Columns,
    encode_rows,
    encode_windows,
    read_for_task,
    with_targets,
)
from bertolt.tokenization import BertTokenizer

# The column of the groups is kept as those of `predict` are.
_CALLED = {
    " to keep; there are": "; there are",
    "name some of them with --keep, with commas between them, or --keep all": "name one with "
    "--group",
}


class SharedRows:
    """What several runs over the same files have in common, read and encoded once.

    Args:
        group: the column whose rows stay together in those runs that hold some out.

    Attributes:
        together: (N,) rows of the training file that folds do not part either; None: each may be.
        told: whether the user knows of them.
    """

    def __init__(self, group: str | None = None) -> None:
        self.group = group
        self.together: Integers | None = None
        self.tables: dict[str, tuple[Table, type[Task]]] = {}
        self._encoded: dict[tuple[Any, ...], EncodedTexts] = {}
        self.told = False
        self._said: set[str] = set()

    def is_news(self, what: str) -> bool:
        """Whether something is to be told, since no run has been asked for it yet."""
        news = what not in self._said
        self._said.add(what)
        return news

    def at(
        self,
        task: Task,
        table: Table,
        index: Integers,
        tokenizer: BertTokenizer,
        limit: int,
        how: LongTexts,
    ) -> tuple[TaskRows, str]:
        """The rows at `index` with their targets, chosen from all rows, which are encoded once."""
        task = task.with_tokenizer(tokenizer)
        task.check(table)
        key = (id(table), tuple(task.encoded_roles), encoding_name(task, how), limit)
        origin = "as before"
        if key not in self._encoded:
            everything = np.arange(len(table))
            self._encoded[key], origin = encode_windows(
                task, table, everything, tokenizer, limit, how
            )
        return with_targets(task, table, index, self._encoded[key].at(index)), origin


@dataclass(frozen=True, kw_only=True)
class LoadedRows:
    """All that a run needs of its data.

    Attributes:
        task: with the label space of the training rows.
        train, eval: the two parts; without rows to evaluate on, the second is None.
        split: how they were parted, in words.
        max_length_source: where the limit came from, in words.
        long: what is done with longer texts.
        sampled: the training rows as they are read, where each epoch reads some of their windows.
        repeated: the evaluation rows whose texts stand among the training texts too.
        repeats: which rows repeat each other, word for word or nearly.
        group: the column whose rows stay together, as the table calls it; None: there is none.
        cautions: what of the rows cannot be learned or measured exactly: `claim` and `detail`.
        checks: what the page shows of all checks.
    """

    task: Task
    train: TaskRows
    eval: TaskRows | None
    split: str
    max_length_source: str
    long: LongTexts
    sampled: SampledWindows | None
    repeated: list[int]
    repeats: Repeats
    group: str | None
    cautions: list[dict[str, str]]
    checks: list[dict[str, Any]]

    def training_on(self, rows: TaskRows, options: FinetuneOptions) -> LoadedRows:
        """The same with other training rows."""
        return replace(self, train=rows, sampled=sampled_windows(self.task, rows, options))


def load_rows(
    paths: Sequence[Path],
    options: FinetuneOptions,
    tokenizer: BertTokenizer,
    config: BertConfig,
    source: Path,
    part: Part = WHOLE,
    shared: SharedRows | None = None,
) -> LoadedRows:
    """Read, check, label, split and encode; tell the user what was found.

    Args:
        paths: the files.
        options: of the command.
        tokenizer, config: of the model.
        part: the rows of this run, where it is one of several.
        shared: what those runs have read; only the first of them tells of it.

    Raises:
        DataError: a file, a column, a row or the labels cannot be used.
        UsageError: a limit or a share that cannot be.
    """
    _require_taught_here(options)
    _limit(options, config, None)  # told before a large file is read
    table, kind = _read(paths, options, shared)
    return rows_of(table, kind, options, tokenizer, config, source, part, shared)


def rows_of(
    table: Table,
    kind: type[Task],
    options: FinetuneOptions,
    tokenizer: BertTokenizer,
    config: BertConfig,
    source: Path,
    part: Part = WHOLE,
    shared: SharedRows | None = None,
) -> LoadedRows:
    """Label, split and encode the rows of a table; tell the user what was found.

    Raises:
        DataError: a row or the labels cannot be used.
        UsageError: a limit or a share that cannot be.
    """
    limit, limit_source = _limit(options, config, kind.folder_limit(source))
    split = _split(table, kind, options, part, shared)
    task = split.task.starting_from(source)
    _require_alone(task, options)
    task = task.to_calibrate() if options.calibrate else task
    long = chosen(task, options.long, options.stride, limit)
    _require_windows(task, long, options)
    encode = encode_rows if shared is None else shared.at
    train, origin = encode(task, table, split.train, tokenizer, limit, long)
    told = shared is not None and shared.told
    if not told:
        info(f"Training tokens: {origin}")
    held_out = None
    if options.evaluates:
        held_out, origin = encode(task, split.table, split.held_out, tokenizer, limit, long)
        if not told:
            info(f"Evaluation tokens: {origin}")
    parts = {"Training": train} | ({"Evaluation": held_out} if held_out else {})
    group = by_number(options.group, table.columns) if options.group else None
    checks = Preflight(task, parts, tokenizer, group)
    data = LoadedRows(
        task=task,
        train=train,
        eval=held_out,
        split=split.words,
        max_length_source=limit_source,
        long=long,
        sampled=sampled_windows(task, train, options),
        repeated=_repeated(train, held_out) if held_out else [],
        repeats=checks.repeats,
        group=group,
        cautions=[
            *checks.cautions,
            *([] if held_out or part.folds else [_unmeasured(task)]),
        ],
        checks=checks.blocks,
    )
    if not told:
        _describe_data(data)
    if shared is not None:
        shared.told = True
    return data


def split_again(
    data: LoadedRows,
    options: FinetuneOptions,
    tokenizer: BertTokenizer,
    source: Path,
    part: Part,
    shared: SharedRows,
) -> LoadedRows:
    """Other parts of rows that have been read, checked and told of; they are encoded already.

    Args:
        data: the rows.
        options: of the run.
        tokenizer: of the model.
        source: the folder of the model.
        part: the rows of the run.
        shared: what `data` was read with.

    Raises:
        DataError: the rows cannot be learned.
        UsageError: there are too few of them.
    """
    table, kind, limit = data.train.table, type(data.task), data.train.encoded.max_length
    split = _split(table, kind, options, part, shared)
    task = split.task.starting_from(source)
    train, _ = shared.at(task, table, split.train, tokenizer, limit, data.long)
    held_out, _ = shared.at(task, split.table, split.held_out, tokenizer, limit, data.long)
    return replace(
        data,
        task=task,
        train=train,
        eval=held_out,
        split=split.words,
        sampled=sampled_windows(task, train, options),
        repeated=_repeated(train, held_out),
    )


_FLAGS = {"pooling": "--pooling", "unnormalized": "--unnormalized", "scale": "--score-scale"}


def _require_understood(reading: Reading, kind: type[Task]) -> None:
    """Refuse options that are for other tasks.

    Raises:
        UsageError: one was given.
    """
    for name, flag in _FLAGS.items():
        if getattr(reading, name) and name not in kind.readings:
            fitting = [task.name for task in TASKS.values() if name in task.readings]
            raise UsageError(
                f"it is for {' and '.join(fitting)}, and the task is {kind.name}",
                place=flag,
                fix=f"leave {flag} out, or add --task {fitting[0]}",
            )


def _require_alone(task: Task, options: FinetuneOptions) -> None:
    """Refuse to sum gradients of batches whose rows compete, and parts of those whose do not.

    Raises:
        UsageError: one of both was asked for.
    """
    size, parts = options.batch_size, options.micro_batch
    rows = size * options.accumulate
    if task.rows_compete and options.accumulate > 1:
        raise UsageError(
            "rows compete with those of their batch alone, so several small batches are not one "
            "large one",
            place="--accumulate",
            fix=f"--batch-size {rows} --micro-batch {size} has so many rows "
            "compete, in the memory of the small batch",
        )
    if parts is not None and not task.rows_compete:
        # The most rows of which whole batches make the step.
        fits = next(part for part in range(min(parts, size), 0, -1) if rows % part == 0)
        same = f"--batch-size {fits} --accumulate {rows // fits} makes the same step"
        raise UsageError(
            f"it is for rows that compete, and those of {task.name} with these columns do not",
            place="--micro-batch",
            fix="leave it out" if fits == size else f"leave it out: {same}",
        )


def _require_taught_here(options: FinetuneOptions) -> None:
    """Refuse a task that another command teaches."""
    kind = None if options.task is None else find_task(options.task)
    if kind is not None and kind.taught_by:
        raise UsageError(
            f"{kind.name} is learned from plain text, by another command",
            place="--task",
            fix=kind.taught_by,
        )


def _require_windows(task: Task, long: LongTexts, options: FinetuneOptions) -> None:
    """Refuse a number of windows where none are chosen among."""
    if options.windows == FinetuneOptions.windows:
        return
    if long.how != "window":
        why, fix = "longer texts are not read in windows", "add --long window, or leave it out"
    elif not task.head.reads_documents:
        why, fix = f"{task.name} learns from each window by itself, and from all", "leave it out"
    else:
        return
    raise UsageError(
        f"it says of how many windows of a text an epoch learns, and {why}",
        place="--windows",
        fix=fix,
    )


def sampled_windows(task: Task, train: TaskRows, options: FinetuneOptions) -> SampledWindows | None:
    """The training texts as rows of some of their windows; None where each has one."""
    if not train.encoded.documents:
        return None
    return SampledWindows(train.encoded, options.windows, options.seed, whole=task.rows_compete)


def _read(
    paths: Sequence[Path], options: FinetuneOptions, shared: SharedRows | None
) -> tuple[Table, type[Task]]:
    """The training file with its task; several runs read it once."""
    if shared is not None and "train" in shared.tables:
        return shared.tables["train"]
    with options_called(_CALLED):
        columns = _columns(options)
        if shared is not None and shared.group is not None:
            columns = replace(columns, keep=[shared.group])
        table, kind = read_for_task(paths, columns, task=options.task)
    _require_understood(reading_of(options), kind)
    describe_table(table)
    if shared is not None:
        shared.tables["train"] = table, kind
    return table, kind


def _unmeasured(task: Task) -> dict[str, str]:
    """What a run without held-out rows does not tell."""
    tuning = f" Its {task.tuning} stay as they are without any." if task.tuning else ""
    return {
        "claim": "No rows are held out",
        "detail": "All of them train, so that there is no score, and the last weights are the "
        f"result.{tuning} Measure the model on rows of its own with bertolt evaluate",
    }


def _columns(options: FinetuneOptions) -> Columns:
    return Columns(
        text=options.text,
        text_pair=options.text_pair,
        label=options.label,
        reading=reading_of(options),
        encoding=options.encoding,
        on_bad_row=options.on_bad_row,
        keep=[] if options.group is None else [options.group],
        layout=options.layout,
    )


def _split(
    table: Table,
    kind: type[Task],
    options: FinetuneOptions,
    part: Part,
    shared: SharedRows | None,
) -> Split:
    """The rows to train on, and those to evaluate on: of the same file, or of one of their own."""
    if options.eval is None:
        together = None if shared is None else shared.together
        split = split_of(table, kind, options, part, together)
        return sampled(split, table, kind, options, part)
    # Labels come from the training rows alone, before the other file is looked at.
    everything = np.arange(len(table))
    task = kind.infer(table, everything, reading_of(options))
    other = shared.tables["eval"][0] if shared and "eval" in shared.tables else None
    other = other or _read_other(options.eval, table, kind, options)
    if shared is not None:
        shared.tables["eval"] = other, kind
    task.check(other)  # an unknown label is told before anything is tokenised
    split = Split(
        task=task,
        train=everything,
        held_out=np.arange(len(other)),
        table=other,
        words=f"evaluated on {options.eval}",
    )
    return sampled(split, table, kind, options, part)


def _read_other(path: Path, table: Table, kind: type[Task], options: FinetuneOptions) -> Table:
    """The file to evaluate on. Options name columns of both files, so its own must be called alike.

    Raises:
        DataError: it cannot be read, or has other columns than the training file.
    """
    names = [name for columns in table.roles.values() for name in columns]
    alike = f"call its columns as in {table.path}: {listing(names)}"
    try:
        other, _ = read_for_task(path, _columns(options), task=kind, prefer=table.roles)
    except NoColumnError as error:
        raise DataError(error.problem, place=error.place, fix=alike) from error
    describe_table(other)
    if ("text_pair" in other.roles) != ("text_pair" in table.roles):
        here, there = (
            "pairs" if "text_pair" in roles else "single texts"
            for roles in (other.roles, table.roles)
        )
        problem = f"it has {here}, and the training file has {there}"
        raise DataError(problem, place=str(path), fix=alike)
    return other


def _limit(
    options: FinetuneOptions, config: BertConfig, of_folder: tuple[int, str] | None
) -> tuple[int, str]:
    positions = config.max_tokens
    if options.max_length is None:
        usual = (positions, "the model's position table")
        return usual if of_folder is None else min(of_folder, usual)
    if not SHORTEST <= options.max_length <= positions:
        raise UsageError(
            f"--max-length is {options.max_length}, and the model takes {positions} tokens at most",
            fix=f"give a number from {SHORTEST} to {positions}",
        )
    return options.max_length, "--max-length"


def _repeated(train: TaskRows, held_out: TaskRows) -> list[int]:
    """The evaluation rows whose texts stand among the training texts, word for word."""
    seen = {_content(row) for row in train.table.examples(train.index.tolist())}
    rows = held_out.table.examples(held_out.index.tolist())
    return [row["row"] for row in rows if _content(row) in seen]


def _content(row: dict[str, Any]) -> bytes:
    """A digest of the texts of a row: the texts themselves would take as much room as the file."""
    text = json.dumps([row["text"], row.get("text_pair")])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _describe_data(data: LoadedRows) -> None:
    parts = [("Training", data.train)] + ([("Evaluation", data.eval)] if data.eval else [])
    for what, rows in parts:
        describe_rows(what, rows.encoded, data.task.counts(rows.table, rows.index))
    tell_cautions(data.cautions)
    info(f"Split: {data.split}")
    limit = data.train.encoded.max_length
    info(f"Limit: {limit} tokens, from {data.max_length_source}")
    if data.long.how != data.task.longs[0] or data.long.stride is not None:
        info(f"Longer texts are {data.long.words(limit)}")
    if data.sampled is not None and (some := data.sampled.texts_sampled):
        what = "row" if data.train.encoded.several_documents else "text"
        info(
            f"Each epoch learns from {plural(data.sampled.most, 'window')} of a text at most, "
            f"which are drawn anew; {plural(some, f'{what} has', f'{what}s have')} more"
        )
    if data.repeated and data.eval is not None:
        own = data.eval.table is not data.train.table
        of = f" of {shorten(Path(data.eval.table.path).name, 60)}" if own else ""
        info(
            f"Caution: {plural(len(data.repeated), 'evaluation text')} also among the training "
            f"texts, word for word ({rows_named(data.repeated)}{of}), which flatters the result"
        )
