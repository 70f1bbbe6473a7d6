"""Answers to all rows of a table, each by a model that was trained without it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.base.console import counting, info, tell_caution
from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.base.json_files import parse_json
from bertolt.base.version import __version__
from bertolt.checkpoint.contract import Contract
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.finetune.data import sampled_windows
from bertolt.data.folds import fold_rows
from bertolt.data.groups import Integers, groups_by, joined_groups
from bertolt.data.load import Table
from bertolt.data.long import LongTexts
from bertolt.tasks.base import Reading, Task
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.long import kept
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.row_view import Repeats
from bertolt.tasks.rows import encode_rows
from bertolt.tasks.start import started
from bertolt.tokenization import BertTokenizer
from bertolt.train.trainer import Trainer

Answered = Iterator[tuple[int, dict[str, Any]]]
"""Places of rows, and the answers to them."""


def out_of_fold(
    kind: type[Task],
    table: Table,
    options: CheckOptions,
    tokenizer: BertTokenizer,
    source: Path,
    limit: int,
    long: LongTexts,
    repeats: Repeats,
) -> Answered:
    """Train a model for each fold on all other rows, and answer the rows of the fold.

    A row that no label can do without, since there is no other outside of its fold, has no answer.

    Args:
        kind: the task.
        table: of the rows.
        options: of the command.
        tokenizer: of the model.
        source: the folder of the model to begin with.
        limit: most tokens of a text.
        long: what is done with longer texts.
        repeats: rows that repeat each other, word for word or nearly, which are not parted.

    Raises:
        DataError: the rows cannot be learned.
        UsageError: there are fewer rows or groups than folds.
    """
    groups = _groups(kind, table, options, repeats)
    fold = fold_rows(kind.strata(table), options.folds, options.seed, groups, kind.needed(table))
    for number in range(options.folds):
        train, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        task = kind.infer(table, train, Reading(label_separator=options.label_separator))
        rows, _ = encode_rows(task, table, train, tokenizer, limit, long)
        info(
            f"Fold {number + 1} of {options.folds}: {plural(len(train), 'row')} train, "
            f"{len(held_out):,} are answered"
        )
        predictor = trained(task, rows, options, tokenizer, source, long, say=number == 0)
        examples = table.examples(held_out.tolist())
        texts = ({role: row[role] for role in row if role.startswith("text")} for row in examples)
        with counting("Answering", len(held_out)) as show:
            for done, (place, answered) in enumerate(
                zip(held_out.tolist(), predictor.predict(texts), strict=True)
            ):
                yield place, answered.answer
                show(done + 1)


def _groups(
    kind: type[Task], table: Table, options: CheckOptions, repeats: Repeats
) -> Integers | None:
    """(N,) rows that stay together: by the task, by `--group`, and as copies of each other."""
    most = -(-len(table) // options.folds)
    copies, parted = repeats.copies_in(repeats.views[0], most)
    if parted:
        tell_caution(
            "Models may have seen a copy of a row that they answer",
            f"More than {plural(most, 'row')}, a fold, repeat each other word for word or nearly.",
        )
    kinds = [kind.groups(table), copies]
    if options.group is not None:
        kinds.append(groups_by(table, options.group))
    known = [groups for groups in kinds if groups is not None]
    return reduce(joined_groups, known) if known else None


def trained(
    task: Task,
    rows: TaskRows,
    options: CheckOptions,
    tokenizer: BertTokenizer,
    source: Path,
    long: LongTexts,
    *,
    say: bool = True,
) -> Predictor:
    """A model that has learned some rows, by the settings of a check; `say` as of `started`."""
    training = options.of_finetune()
    settings = training.training_arguments()
    settings.eval_strategy = "no"
    model = started(task, source, say=say, verbose=False, seed=options.seed)
    trainer = Trainer(
        model,
        settings,
        train_dataset=sampled_windows(task, rows, training) or rows.encoded,
        processing_class=tokenizer,
    )
    trainer.train()
    contract = Contract(
        task=task.name,
        columns=rows.table.roles,
        settings=task.settings(),
        max_length=rows.encoded.max_length,
        long=kept(task, long),
        library_version=__version__,
    )
    model = trainer.world.full_model(trainer.model)
    return Predictor(model, tokenizer, contract, task=task, device=trainer.device)


def read_answers(path: Path, table: Table) -> Answered:
    """Answers of a file with a JSON object a line, which has a `row` and its `answer`; rows may
    lack one, as those that no fold has held out.

    Raises:
        DataError: it cannot be read, has several answers to a row, or none to any.
    """
    numbers = table.data["row"].to_numpy()
    places = {int(number): place for place, number in enumerate(numbers)}
    fix = "write it anew from this very file, or leave --answers out"
    with path.open("rb") as file:
        for at, line in enumerate(file, 1):
            try:
                value = parse_json(line.decode())
                place, answer = places.pop(value["row"], None), value["answer"]
            except (ValueError, KeyError, TypeError) as error:
                problem = "this is no object with a row and an answer"
                raise DataError(problem, place=f"{path}, line {at}", fix=fix) from error
            if place is None:
                raise DataError(
                    f"row {value['row']} is not among the rows of {table.path}, or comes twice",
                    place=f"{path}, line {at}",
                    fix=fix,
                )
            yield place, answer
    if len(places) == len(numbers):
        raise DataError(f"it answers no row of {table.path}", place=str(path), fix=fix)
