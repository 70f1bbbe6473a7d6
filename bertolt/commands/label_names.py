"""What a file calls the labels of a model that another library wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertolt.base.checks import is_real
from bertolt.base.console import info
from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.format import shorten
from bertolt.base.json_files import read_object
from bertolt.data.arrow import pa, pc
from bertolt.data.load import Table
from bertolt.data.table_file import listing
from bertolt.models.config import BertConfig
from bertolt.tasks.base import Task

OPTION = "--label-map"


def renamed(
    task: Task, table: Table, config: BertConfig, settings: Mapping[str, Any], words: str
) -> tuple[Task, Table]:
    """The task with its outputs called as the file calls them, and the table with one name a label.

    Args:
        task: of the model.
        table: whose labels they are.
        config: of the model.
        settings: of its contract, or empty.
        words: "LABEL_0=bad,LABEL_1=good,LABEL_1=Good", or a JSON file with an object of such names.
            Where a label has several names, answers are called by the first.

    Raises:
        UsageError: words of another form, or a name that the model does not have; or two labels
            would have one name, or the task knows its labels by itself.
        DataError: the file cannot be read.
    """
    if not task.head.outputs_have_names:
        raise UsageError(
            f"the outputs of {task.name} have no names of their own",
            place=OPTION,
            fix=f"leave {OPTION} out",
        )
    pairs = _pairs(words)
    names = [config.id2label[index] for index in range(config.num_labels)]
    for name, _ in pairs:
        if name not in names:
            near = nearest(name, names)
            raise UsageError(
                f"the model has no label {name!r}; it has {listing(names)}",
                place=OPTION,
                fix=f"perhaps {near!r} is meant" if near else f"write {_example(names, [])}",
            )
    called = [list(dict.fromkeys(new for old, new in pairs if old == name)) for name in names]
    called = [new or [name] for name, new in zip(names, called, strict=True)]
    counts = Counter(name for several in called for name in several)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UsageError(
            f"two labels would be called {twice[0]!r}", place=OPTION, fix="give each its own name"
        )
    changed = config.changed(id2label={place: new[0] for place, new in enumerate(called)})
    known = {key: value for key, value in settings.items() if key not in _OF_NAMES}
    others = {name: several[0] for several in called for name in several[1:]}
    if others.keys() & _values(table):
        table = _relabelled(table, others)
    return type(task).restore(changed, known), table


_OF_NAMES = {"majority", "usual", "labels", "word_labels"}
"""Settings that name labels, and that no answer depends on."""


def _pairs(words: str) -> list[tuple[str, str]]:
    """A label of the model and its name in the file each, in the order of the words."""
    path = Path(words)
    if path.suffix == ".json":
        values = read_object(path, "names", '{"LABEL_0": "bad", "LABEL_1": "good"}')
        for name, value in values.items():
            if not isinstance(value, str) and not is_real(value):
                raise DataError(
                    f"the name of {name!r} is {shorten(repr(value), 80)}",
                    place=str(path),
                    fix=f"give each label a text; several names of one label are given in words: "
                    f"{OPTION} LABEL_0=bad,LABEL_0=Bad",
                )
        return [(str(name), str(value)) for name, value in values.items()]
    parts = [part.partition("=") for part in words.split(",")]
    if not all(name.strip() and between and value.strip() for name, between, value in parts):
        raise UsageError(
            f"{words!r} does not say what the file calls each label",
            place=OPTION,
            fix=f"write {OPTION} LABEL_0=bad,LABEL_1=good, or name a JSON file with such an object",
        )
    return [(name.strip(), value.strip()) for name, _, value in parts]


def by_number(table: Table, config: BertConfig) -> Table:
    """The table with names for labels that are numbers of the model's outputs, which is said.

    A file whose labels are whole numbers from 0, of which none is a name, has them as data sets on
    the hub do: they are the places of the outputs.
    """
    names = [config.id2label[index] for index in range(config.num_labels)]
    values = _values(table)
    places = {str(place): name for place, name in enumerate(names)}
    if not values or not values <= places.keys() or values & set(names):
        return table
    shown = ", ".join(f"{place} {name}" for place, name in list(places.items())[:12])
    info(f"Labels: numbers, read as those of the model's outputs ({shown})")
    return _relabelled(table, places)


def _relabelled(table: Table, names: Mapping[str, str]) -> Table:
    """The table with other names for some of its labels."""
    column = table.data["label"]
    chunks = [
        pa.array([_named(each, names) for each in chunk.to_pylist()], type=column.type)
        for chunk in column.chunks
    ]
    place = table.data.column_names.index("label")
    data = table.data.set_column(place, "label", pa.chunked_array(chunks, type=column.type))
    return replace(table, data=data)


def _named(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [names.get(each, each) for each in value]
    return names.get(value, value)


def _values(table: Table) -> set[str]:
    """The labels of a table whose cells are names or lists of names; empty for others."""
    if "label" not in table.roles:
        return set()
    column = table.data["label"]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.list_flatten(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return set()
    return {str(each) for each in pc.unique(column).to_pylist()}


def require_known(table: Table, config: BertConfig) -> None:
    """Refuse labels of which none is a label of the model, with how to say which is which.

    Raises:
        DataError: there is none.
    """
    names = [config.id2label[index] for index in range(config.num_labels)]
    values = sorted(_values(table))
    if not values or set(values) & set(names) or len(values) > len(names):
        return
    raise DataError(
        f"the model has the labels {listing(names)}, and the file has {listing(values)}",
        place=f"{table.path}, column {table.label_column!r}",
        fix=f"say what the file calls each of them: {_example(names, values)}",
    )


def _example(names: Iterable[str], values: list[str]) -> str:
    """The option with what is surely meant, and … for the rest."""
    pairs = []
    for name in names:
        near = [value for value in values if value.casefold() == name.casefold()]
        near = near or [nearest(name, values) or "…"]
        pairs += [f"{name}={each}" for each in near]
    return f"{OPTION} {','.join(pairs[:12])}"
