"""Answers to the rows of a table by models that have not seen them: of folds, or of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bertolt.base.console import tell_caution
from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.base.json_files import parse_json
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.finetune.data import LoadedRows, SharedRows
from bertolt.commands.finetune.runs import answer_folds
from bertolt.commands.finetune.turns import require_one_process
from bertolt.commands.wording import Names, options_called
from bertolt.data.load import Table
from bertolt.tasks.base import Answer, Example

Take = Callable[[int, Answer], None]
"""Takes the place of a row and the answer to it."""

_CALLED: Names = {"a smaller learning rate, or more warmup": "a smaller --lr"}
"""What this command has in place of what messages of a training name."""


def out_of_fold(
    data: LoadedRows, options: CheckOptions, source: Path, shared: SharedRows, take: Take
) -> bool:
    """Train a model for each fold on all other rows, and take its answers to the rows of the fold.

    A row that no label can do without, since there is no other outside of its fold, has no answer.
    Rows that repeat each other, word for word or nearly, are not parted.

    Args:
        data: the rows.
        options: of the command.
        source: the folder of the model to begin with.
        shared: what `data` was read with.
        take: takes the answers.

    Returns:
        Whether each model learned: no weight changes at a learning rate of 0.

    Raises:
        DataError: the rows cannot be learned.
        UsageError: there are fewer rows or groups than folds.
        TrainingError: the loss of a model was not finite.
    """
    require_one_process("--label-errors")
    table = data.train.table
    most = -(-len(table) // options.folds)
    shared.together, parted = data.repeats.copies_in(data.repeats.views[0], most)
    if parted:
        tell_caution(
            "Models may have seen a copy of a row that they answer",
            f"More than {plural(most, 'row')}, a fold, repeat each other word for word or nearly.",
        )
    numbers = table.data["row"].to_numpy()
    places = {int(number): place for place, number in enumerate(numbers)}

    def watch(number: int, answer: Answer, example: Example) -> None:
        take(places[example["row"]], answer)

    with options_called(_CALLED):
        settings = options.of_finetune(model=str(source))
        histories = answer_folds(data, options.folds, settings, shared, watch)
    return not any(each.changed_nothing for each in histories)


def read_answers(path: Path, table: Table) -> Iterator[tuple[int, dict[str, Any]]]:
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
