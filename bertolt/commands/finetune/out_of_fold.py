"""Answers to rows by models that have not seen them: one line a row, and the scores of all."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from bertolt.base.files import write_text
from bertolt.base.json_files import parse_json
from bertolt.commands.finetune.data import LoadedRows
from bertolt.commands.finetune.planned import Outcome
from bertolt.commands.finetune.record import task_part
from bertolt.data.load import Table
from bertolt.report import plain
from bertolt.tasks.base import Answer, Example, Task
from bertolt.tasks.evaluation import Scores, WrongRow

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


def pooled(task: Task, table: Table, out: Path) -> Scores:
    """The scores of all answers out of fold, with what the task chooses on them.

    Args:
        task: of the run on all rows.
        table: of the rows.
        out: the folder of all runs.
    """
    if task.tuning:
        scorer = task.scorer()
        for _, answer, example in _answers(table, out):
            scorer.add(answer, example)
        task = task.tuned(scorer)
    scorer, mistakes = task.scorer(), list[WrongRow]()
    for place, answer, example in _answers(table, out):
        weight = scorer.add(answer, example)
        if weight > 0:
            mistakes = heapq.nlargest(_MISTAKES, [*mistakes, WrongRow(weight, place, answer)])
    return Scores(task=task, scorer=scorer, loss=math.nan, mistakes=mistakes)


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


def pooled_facts(scores: Scores, data: LoadedRows, done: Sequence[Outcome]) -> dict[str, Any]:
    """What the page has of all rows, each held out once.

    Args:
        scores: of all of them.
        data: of the run on all rows.
        done: the runs.
    """
    losses = [each.metrics["loss"] for each in done if each.metrics.get("loss") is not None]
    loss = float(np.mean([loss for loss in losses if loss is not None])) if losses else math.nan
    scores = Scores(
        task=scores.task, scorer=scores.scorer, loss=loss, mistakes=scores.mistakes, tuned=True
    )
    places = [wrong.row for wrong in scores.mistakes]
    table = data.train.table
    labels = data.task.data_blocks(table, data.train.index, table, data.train.index[:0])
    facts = task_part(scores.task, scores, labels, list(table.examples(places)))
    facts["cautions"] = [*data.cautions, *facts["cautions"]]
    values: dict[str, Any] = plain(facts) | {"pooled": plain(scores.to_dict())}
    return values
