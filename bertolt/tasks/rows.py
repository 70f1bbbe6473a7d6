"""Files read for a task, and rows encoded for it: the same way for every command."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting, info
from bertolt.base.errors import DataError, UsageError
from bertolt.data.encode import EncodedTexts
from bertolt.data.formats import TEXTS, ending
from bertolt.data.load import Cells, OnBadRow, Sample, Table, read_table
from bertolt.data.long import LongTexts
from bertolt.data.parted import beyond_limit, too_long
from bertolt.data.table_file import AS_FOUND, BadRow, Layout, listing
from bertolt.data.tokens import encode_once
from bertolt.tasks import long
from bertolt.tasks.base import TASKS, Example, Reading, Task
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.registry import USUAL, find_task, recognise
from bertolt.tokenization import BertTokenizer

# What lists in a column may be for, where a file is surely no other task's.
_LISTS = {
    "text": "add --task token-classification if each text is a list of words with a tag each",
    "label": "add --task multi-label-classification, which reads lists and single labels",
}

_SPANS = "add --task token-classification, which reads spans and tells the row that is broken"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns the user names, and how the file is to be read.

    Attributes:
        text, text_pair, label: columns by role; None: found.
        reading: how labels are written.
        encoding: of the text kinds of file.
        on_bad_row: what to do with a row that cannot be used.
        keep: the user's own columns to keep.
        layout: of a table of cells.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    reading: Reading = field(default_factory=Reading)
    encoding: str = "utf-8"
    on_bad_row: OnBadRow = "drop"
    keep: Sequence[str] = ()
    layout: Layout = AS_FOUND


def read_for_task(
    path: Path | Sequence[Path],
    columns: Columns,
    *,
    task: type[Task] | str | None = None,
    prefer: Mapping[str, Sequence[str]] | None = None,
    need_label: bool = True,
    fault_of: Callable[[Example], BadRow | None] | None = None,
    watch: Callable[[int], None] | None = None,
) -> tuple[Table, type[Task]]:
    """Read a file for a task; a task that is not named is inferred from the columns, and said.

    Args:
        path: the file or folder, or several.
        columns: as the user names them.
        task: to read for; None: inferred.
        prefer: columns of each role to take where nothing is named.
        need_label: whether each row must have a label.
        fault_of: says more of what is wrong with a row whose cells are fine each by itself.
        watch: called now and then with the rows so far; an error of it ends the reading.

    Raises:
        DataError: the file, a column or a row cannot be used.
        UsageError: no such task or encoding.
    """
    kind = find_task(task) if isinstance(task, str) else task
    if kind is None:
        for each in [path] if isinstance(path, Path) else path:
            _require_told(each)
    chosen: list[type[Task]] = []

    def cells(sample: Sample) -> Cells:
        inferred, why = (kind, "") if kind else recognise(sample, columns.reading)
        chosen.append(inferred)
        if why:
            info(f"Task: {inferred.name} ({why}; --task names another)")
        cells = inferred.cells(sample, columns.reading)
        if kind is not None or inferred is not USUAL:
            return cells
        lists = _LISTS | ({"label": _SPANS} if _has_spans(sample) else {})
        return {role: replace(cell, lists=lists.get(role, "")) for role, cell in cells.items()}

    def check(example: Mapping[str, Any]) -> Any:
        return chosen[0].check_row(example) or (fault_of(example) if fault_of else None)

    table = read_table(
        path,
        text=columns.text,
        text_pair=columns.text_pair,
        label=columns.label,
        need_label=need_label,
        label_optional=kind is not None and kind.label_optional,
        pair_names=kind.pair_names if kind else (),
        prefer=prefer,
        encoding=columns.encoding,
        on_bad_row=columns.on_bad_row,
        cells=cells,
        check_row=check,
        kinds=kind.kinds if kind else None,
        keep=columns.keep,
        layout=columns.layout,
        watch=watch,
    )
    return table, chosen[0]


def _has_spans(sample: Sample) -> bool:
    """Whether a list of labels holds a record, as spans are."""
    lists = (row[0] for row in sample.values.get("label", []))
    return any(
        isinstance(each, Mapping)
        for value in lists
        if isinstance(value, list | tuple)
        for each in value
    )


def _require_told(path: Path) -> None:
    """Refuse a file that is read for one task alone where that task is not named."""
    for task in TASKS.values():
        if ending(path) in task.kinds and not task.taught_by:
            raise DataError(
                f"files ending in {ending(path)!r} are read for {task.name} alone",
                place=str(path),
                fix=f"say that it is one: --task {task.name}"
                + "; else give a table, as CSV" * (ending(path) in TEXTS),
            )


class _Examples(Sequence[Any]):
    """The rows at some places of a table, by the roles that are encoded; read in slices."""

    def __init__(self, table: Table, index: NDArray[np.int64], roles: Sequence[str]) -> None:
        self._table = table
        self._index = index
        self._roles = [role for role in roles if role in table.roles]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, part: Any) -> Any:
        if not isinstance(part, slice):
            return self[part : part + 1][0]
        rows = self._table.examples(self._index[part].tolist())
        return [{role: row[role] for role in self._roles} for row in rows]


def encode_rows(
    task: Task,
    table: Table,
    index: NDArray[np.int64],
    tokenizer: BertTokenizer,
    limit: int,
    how: LongTexts | None = None,
) -> tuple[TaskRows, str]:
    """Encode rows of a table with their targets, or take them from the cache; and which of both.

    Args:
        task: of the rows.
        table, index: the file, and the places of the rows in it.
        tokenizer: of the model.
        limit: most tokens of a window.
        how: what is done with longer texts; None: as the task does.

    Raises:
        DataError: a row has what training never had, or is longer than the limit where that is
            refused.
    """
    task = task.with_tokenizer(tokenizer)
    task.check(table)
    how = how or long.chosen(task, None, None, limit)
    encoded, origin = encode_windows(task, table, index, tokenizer, limit, how)
    return with_targets(task, table, index, encoded), origin


def with_targets(
    task: Task, table: Table, index: NDArray[np.int64], encoded: EncodedTexts
) -> TaskRows:
    """Encoded rows of a table with what each is to give.

    Raises:
        DataError: a row has what training never had.
    """
    encoded = in_examples(task, encoded)
    targets = task.targets(table, index, encoded)
    encoded = replace(encoded, labels=targets, label_names=task.target_names)
    return TaskRows(table=table, index=index, encoded=encoded)


def encode_windows(
    task: Task,
    table: Table,
    index: NDArray[np.int64],
    tokenizer: BertTokenizer,
    limit: int,
    how: LongTexts,
) -> tuple[EncodedTexts, str]:
    """The windows of rows of a table, or the same from the cache; and which of both.

    Raises:
        DataError: a row is longer than the limit where that is refused.
    """
    with counting("Tokenising", len(index)) as show:
        encoded, origin = encode_once(
            tokenizer,
            _Examples(table, index, task.encoded_roles),
            limit,
            progress=show,
            encode=long.encode_by(task, tokenizer, limit, how),
            key=long.encoding_name(task, how),
        )
    encoded = in_examples(task, encoded)
    if how.how == "error" and (longer := beyond_limit(encoded)).any():
        first, more = int(longer.argmax()), int(longer.sum()) - 1
        (example,) = table.examples([int(index[first])])
        words, role = long.longer_texts(task, tokenizer, example, limit)
        column = f", column {table.roles[role][0]!r}" if role else ""
        place = f"{table.place_at(int(index[first]))}{column}"
        raise too_long(encoded, first, place, task.longs, more, longer=words)
    return encoded, origin


def in_examples(task: Task, encoded: EncodedTexts) -> EncodedTexts:
    """The windows, with what those of one example are to each other."""
    parted = encoded.document if task.several_documents else encoded.example
    documents = task.head.reads_documents and parted is not None
    return replace(encoded, joint=task.several_documents or documents, documents=documents)


def require_pair(table: Table, trained_on_pairs: bool | None) -> None:
    """Refuse a file of single texts for a model of pairs, and a file of pairs for one of texts.

    Args:
        table: the file.
        trained_on_pairs: of the model; None: nobody knows.

    Raises:
        UsageError: the file does not fit.
    """
    if trained_on_pairs is False and "text_pair" in table.roles:
        columns = [table.roles["text"][0], table.roles["text_pair"][0]]
        raise UsageError(
            f"the model answers single texts, and the columns {listing(columns)} hold pairs",
            place=table.path,
            fix=f"name the one column of the texts: --text {shlex.quote(columns[0])}",
        )
    if trained_on_pairs and "text_pair" not in table.roles:
        raise UsageError(
            "the model answers pairs of texts, and no column holds the second ones",
            place=table.path,
            fix="name it with --text-pair",
        )
