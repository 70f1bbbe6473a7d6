"""Which rows of a run train and which are held out: by a share, by groups, in folds, in samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from bertolt.base.errors import UsageError
from bertolt.base.format import percent, plural
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.data.columns import by_number
from bertolt.data.folds import fold_rows, sample_rows
from bertolt.data.groups import (
    NEVER,
    Integers,
    each_learned,
    groups_by,
    joined_groups,
    shares_words,
)
from bertolt.data.labels import split_rows
from bertolt.data.load import Table
from bertolt.data.spelling import quoted
from bertolt.tasks.base import Reading, Task


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which of the rows one run of several trains and is measured on.

    Attributes:
        sample: how many of the training rows train; None: all.
        most: the largest sample of several.
        fold: the fold that is held out, from 0; None: `--test-size` decides.
        folds: how many there are; without a `fold`, the run that follows them.
    """

    sample: int | None = None
    most: int | None = None
    fold: int | None = None
    folds: int = 0


WHOLE = Part()


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rows of a run.

    Attributes:
        task: with the label space of the training rows.
        train: (N,) places of the rows that train.
        held_out: (M,) places of those to evaluate on.
        table: that has the latter.
        words: how they were parted.
    """

    task: Task
    train: Integers
    held_out: Integers
    table: Table
    words: str


def reading_of(options: FinetuneOptions) -> Reading:
    """How labels are written, and what else the user says of them."""
    return Reading(
        label_separator=options.label_separator,
        pooling=options.pooling,
        unnormalized=options.unnormalized,
        scale=options.score_scale,
    )


def split_of(
    table: Table,
    kind: type[Task],
    options: FinetuneOptions,
    part: Part = WHOLE,
    together: Integers | None = None,
) -> Split:
    """Part the rows of one file.

    Args:
        table: the file.
        kind: the task of its rows.
        options: of the command.
        part: the rows of this run, where it is one of several.
        together: (N,) rows that folds do not part, beside those of `--group` and of the task.

    Raises:
        UsageError: there are too few rows or groups.
        DataError: the rows cannot be learned.
    """
    if not options.evaluates:
        everything = np.arange(len(table))
        task = kind.infer(table, everything, reading_of(options))
        return Split(
            task=task,
            train=everything,
            held_out=everything[:0],
            table=table,
            words="all rows train",
        )
    strata = kind.strata(table)
    if part.fold is not None:
        groups = _groups(table, kind, options, together)
        return _by_fold(table, kind, options, part, strata, groups)
    groups = _groups(table, kind, options, None)
    train, held_out, moved = _by_share(table, kind, options, strata, groups)
    task = kind.infer(table, train, reading_of(options))
    words = _share_words(table, task, options, strata, held_out, groups)
    words = f"{words}{moved}, seed {options.split_seed}"
    return Split(task=task, train=train, held_out=held_out, table=table, words=words)


def sampled(
    split: Split, table: Table, kind: type[Task], options: FinetuneOptions, part: Part
) -> Split:
    """The same with as many of the training rows as the part says; all where it says nothing.

    Args:
        split: of all rows.
        table: that the training rows are in.
        kind: the task of its rows.
        options: of the command.
        part: the rows of this run, where it is one of several.

    Raises:
        UsageError: there are fewer rows, or more labels.
    """
    if part.sample is None:
        return split
    train, strata = split.train, kind.strata(table)[split.train]
    # Of each label the rows among those that may train, by their places there.
    needed = [np.searchsorted(train, rows[np.isin(rows, train)]) for rows in kind.needed(table)]
    sample = train[sample_rows(strata, part.sample, options.split_seed, part.most, needed)]
    words = f"{split.words}; {len(sample):,} of {plural(len(train), 'other row')} train"
    task = kind.infer(table, sample, reading_of(options))
    return replace(split, task=task, train=sample, words=words)


def _by_fold(
    table: Table,
    kind: type[Task],
    options: FinetuneOptions,
    part: Part,
    strata: Integers,
    groups: Integers | None,
) -> Split:
    """One fold held out; `groups` are not parted."""
    fold = fold_rows(strata, part.folds, options.split_seed, groups, kind.needed(table))
    _require_held_out(fold, part.folds)
    train, held_out = np.flatnonzero(fold != part.fold), np.flatnonzero(fold == part.fold)
    task = kind.infer(table, train, reading_of(options))
    if task.rows_compete:
        raise UsageError(
            "a text ranks among all texts that one model has answered, and each fold has "
            "a model of its own",
            place="--folds",
            fix="use --seeds, whose runs hold the same rows out",
        )
    always = int((fold == NEVER).sum())
    words = [f"fold {(part.fold or 0) + 1} of {part.folds} held out"]
    words += [f"{plural(always, 'row')} in training always"] if always else []
    if options.group is not None:
        words.append(f"each {quoted(by_number(options.group, table.columns))} in one part")
    words.append(f"seed {options.split_seed}")
    return Split(task=task, train=train, held_out=held_out, table=table, words=", ".join(words))


def _require_held_out(fold: Integers, folds: int) -> None:
    """Refuse folds of which one holds no row out, before any is trained.

    Raises:
        UsageError: there is one.
    """
    empty = np.setdiff1d(np.arange(folds), fold)
    if len(empty):
        always = plural(int((fold == NEVER).sum()), "row")
        raise UsageError(
            f"fold {empty[0] + 1} of {folds} would hold no row out, for {always} of {len(fold):,} "
            "always train: no other has their labels",
            place="--folds",
            fix="make fewer folds, or give more rows of each label",
        )


def _by_share(
    table: Table,
    kind: type[Task],
    options: FinetuneOptions,
    strata: Integers,
    groups: Integers | None,
) -> tuple[Integers, Integers, str]:
    """The rows to train on and to evaluate on, and which of them were moved, in words.

    Raises:
        UsageError: no row can be held out.
    """
    train, drawn = split_rows(strata, options.test_size, options.split_seed, groups)
    part = np.full(len(table), NEVER)
    part[drawn] = 0
    part = each_learned(part, kind.needed(table), groups)
    train, held_out = np.flatnonzero(part == NEVER), np.flatnonzero(part != NEVER)
    if not len(held_out):
        what = "label, kind of span or question without an answer that no other row has"
        tied = "" if groups is None else ", or stays together with such a row"
        raise UsageError(
            f"each of {plural(len(drawn), 'row')} to hold out has a {what}{tied}",
            place="--test-size",
            fix="give a file of its own with --eval, or --test-size 0 to train on all rows",
        )
    moved = len(drawn) - len(held_out)
    words = f", {plural(moved, 'row')} moved to training for labels that it lacked"
    return train, held_out, words if moved else ""


def _share_words(
    table: Table,
    task: Task,
    options: FinetuneOptions,
    strata: Integers,
    held_out: Integers,
    groups: Integers | None,
) -> str:
    """How a share of the rows was held out."""
    share = len(held_out) / len(table)
    if options.group is not None and groups is not None:
        column = quoted(by_number(options.group, table.columns))
        names = [str(name) for name in task.config_changes().get("id2label", {}).values()]
        shares = shares_words(strata, held_out, names)
        return (
            f"{percent(share)} held out{shares and f' ({shares})'}, each {column} in one part "
            f"({len(np.unique(groups)):,} groups)"
        )
    if groups is not None:
        texts = f"{len(np.unique(groups)):,} texts"
        return f"{share:.0%} held out, all questions on one text in one part ({texts})"
    shares = ", each label in its share" if len(np.unique(strata)) > 1 else ""
    return f"{options.test_size:.0%} held out{shares}"


def _groups(
    table: Table, kind: type[Task], options: FinetuneOptions, together: Integers | None
) -> Integers | None:
    """(N,) rows that stay together: by `--group`, by the task, and as the caller says."""
    kinds = [kind.groups(table), together]
    if options.group is not None:
        kinds.append(groups_by(table, by_number(options.group, table.columns)))
    known = [groups for groups in kinds if groups is not None]
    return reduce(joined_groups, known) if known else None
