"""Answers to rows by models that have not seen them: one line a row, and the scores of all."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from bertolt.base.files import write_text
from bertolt.base.json_files import parse_json, read_json
from bertolt.commands.finetune.data import LoadedRows
from bertolt.commands.finetune.planned import ALL_ROWS, Outcome
from bertolt.commands.finetune.record import data_facts, task_part
from bertolt.data.load import Table
from bertolt.report import plain, read_facts
from bertolt.tasks.base import Answer, Example, Task
from bertolt.tasks.evaluation import Scores, WrongRow
from bertolt.tasks.repeats import near_in_folds
from bertolt.tasks.row_answers import RowAnswers
from bertolt.tasks.row_view import NAMED, InBoth
from bertolt.train.folder import METRICS

OUT_OF_FOLD = "out_of_fold.jsonl"
"""A line for each row, in the order of the file: its `row`, the `fold` that held it out, counted
from 1, the `gold` label, the whole `answer`, and its `probability` where answers have one."""

_MISTAKES = 12


class FoldAnswers:
    """The answers of the last evaluation of a fold."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, Any, Answer]] = []

    def anew(self) -> Self:
        """Itself, emptied for another evaluation."""
        self._rows = []
        return self

    def add(self, number: int, answer: Answer, example: Example) -> None:
        """Keep one answer."""
        self._rows.append((example["row"], example.get("label"), answer))

    def write(self, folder: Path, fold: int) -> None:
        """Write a line for each row, in the order of the file."""
        lines = []
        for row, gold, answer in sorted(self._rows, key=lambda each: each[0]):
            line = {"row": row, "fold": fold + 1, "gold": gold, "answer": answer}
            line |= {"probability": answer["probability"]} if "probability" in answer else {}
            lines.append(json.dumps(plain(line), ensure_ascii=False) + "\n")
        write_text(folder / OUT_OF_FOLD, "".join(lines))


def pooled(task: Task, table: Table, out: Path, group: str | None) -> Scores:
    """The scores of all answers out of fold, with what the task chooses on them.

    Args:
        task: of the run on all rows.
        table: of the rows.
        out: the folder of all runs.
        group: the column whose rows stay together, if there is one.
    """
    if task.tuning:
        scorer = task.scorer()
        for _, answer, example in _answers(table, out):
            scorer.add(answer, example)
        task = task.tuned(scorer)
    scorer, mistakes = task.scorer(), list[WrongRow]()
    answers = RowAnswers(task, group) if group else None
    for place, answer, example in _answers(table, out):
        weight = scorer.add(answer, example)
        if answers is not None:
            answers.add(place, answer, example)
        if weight > 0:
            mistakes = heapq.nlargest(_MISTAKES, [*mistakes, WrongRow(weight, place, answer)])
    if answers is not None:
        answers.complete(scorer)
    return Scores(
        task=task,
        scorer=scorer,
        loss=math.nan,
        mistakes=mistakes,
        answers=answers,
        group=group,
    )


def _answers(table: Table, out: Path) -> Iterator[tuple[int, Answer, Example]]:
    """Places, answers and rows of a table, fold after fold."""
    numbers = table.data["row"].to_numpy()
    place_of = {int(number): place for place, number in enumerate(numbers)}
    for path in sorted(out.glob(f"fold-*/{OUT_OF_FOLD}")):
        with path.open(encoding="utf-8", newline="\n") as file:
            lines = [parse_json(line) for line in file]
        places = [place_of[line["row"]] for line in lines]
        for place, line, example in zip(places, lines, table.examples(places), strict=True):
            yield place, line["answer"], example


def pooled_facts(
    scores: Scores,
    data: LoadedRows,
    done: Sequence[Outcome],
    out: Path,
    criterion: Mapping[str, Any],
) -> dict[str, Any]:
    """What the page has of all rows, each held out once.

    Args:
        scores: of all of them.
        data: of the run on all rows.
        done: the runs.
        out: the folder of all runs.
        criterion: how the loss of the run on all rows differs from the plain one, if it does.
    """
    folds = [out / each.name for each in done if each.name != ALL_ROWS and not each.problem]
    together = scores.scorer.loss()
    loss = _loss([read_json(fold / METRICS) for fold in folds]) if together is None else together
    scores = replace(scores, loss=loss, tuned=True)
    places = [wrong.row for wrong in scores.mistakes]
    table = data.train.table
    labels = data.task.data_blocks(table, data.train.index, table, data.train.index[:0])
    facts = task_part(scores.task, scores, labels, list(table.examples(places)), criterion)
    seen, near = _seen_in_training([read_facts(fold)["data"] for fold in folds])
    cautions = [near_in_folds(near)] if near.rows else []
    facts["cautions"] = [*data.cautions, *cautions, *facts["cautions"]]
    facts["data"] = data_facts(data) | seen
    values: dict[str, Any] = plain(facts) | {"pooled": plain(scores.to_dict())}
    return values


def _loss(folds: Sequence[Mapping[str, Any]]) -> float:
    """The loss of all rows: of each fold by what its own is the mean of."""
    pairs = [(each["eval"]["loss"], each["loss_targets"]) for each in folds if each.get("eval")]
    if not pairs or any(loss is None for loss, _ in pairs):
        return math.nan
    total = math.fsum(loss * count for loss, count in pairs)
    return total / float(sum(count for _, count in pairs))


def _seen_in_training(folds: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], InBoth]:
    """What of the rows the models of their folds had seen: word for word, and nearly."""
    near = [each["nearly_repeated"] for each in folds]
    seen = {
        "repeated": sum(each["repeated"] for each in folds),
        "repeated_rows": sorted(row for each in folds for row in each["repeated_rows"])[:NAMED],
        "measured_rows": sum(each["eval_rows"] for each in folds),
    }
    first = sorted((row, other) for each in near for row, other in each["first"])
    group = near[0].get("group") if near else None
    return seen, InBoth(sum(each["rows"] for each in near), first[:NAMED], group)
