"""Answers as a Parquet file, with the types that they have.

The types of the user's own columns are known once the last of them is: answers are gathered as JSON
lines in a file without a name, and written from there.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Self

from bertolt.base.console import info
from bertolt.base.errors import DataError
from bertolt.commands.questions import Question
from bertolt.commands.writers import Format, Writer, as_json
from bertolt.data.arrow import as_utf8, pa, pq
from bertolt.tasks.predictor import Prediction, Predictor

_ROWS = 8192  # in memory at a time, and in a row group
_EXACT = 1 << 53  # up to here every whole number is a double
_MIXED = "mixed"

Shape = str | None | tuple[str, Any]
"""What values are: None for null, "bool", "int", "wide" for whole numbers that are no doubles,
"float", "text", ("list", shape), ("record", shapes by name), or "mixed" for what has no type."""


class Parquet(Writer):
    """A table with a column for each part of an answer."""

    state = ("names", "shapes")

    def __init__(self, path: Path, predictor: Predictor, form: Format, gathered: IO[str]) -> None:
        super().__init__(predictor, form)
        self.path = path
        self.gathered = gathered
        self.shapes: dict[str, Shape] = {}

    @classmethod
    @contextmanager
    def to(
        cls,
        path: Path,
        predictor: Predictor,
        form: Format,
        gathered: Path | None = None,
        size: int = 0,
    ) -> Iterator[Self]:
        """A writer to a file, with what it gathers beside it: in a file without a name, or in
        `gathered`, behind the bytes that are there already."""
        with gathered.open("a+b") if gathered else tempfile.TemporaryFile(dir=path.parent) as raw:
            raw.truncate(size)
            with io.TextIOWrapper(raw, "utf-8") as file:
                yield cls(path, predictor, form, file)

    def flush(self) -> None:
        """Write what is gathered."""
        self.gathered.flush()

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on behind the answers of another writer; JSON has no tuples, which shapes are."""
        super().go_on(state)
        self.shapes = {name: _as_shape(shape) for name, shape in self.shapes.items()}

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Gather an answer, and learn the types of what is in it."""
        read = {"tokens_cut": 0} | ({"windows": 1} if self.windows else {})
        record = _as_text(read | self.record(question, prediction))
        for name, value in record.items():
            self.shapes[name] = merged(self.shapes.get(name), shape_of(value))
        self.gathered.write(as_json(record) + "\n")

    def end(self) -> None:
        """Write the file.

        Raises:
            DataError: a value that no column can hold.
        """
        schema = self._schema()
        texts = [name for name, shape in self.shapes.items() if _is_mixed(shape)]
        if texts:
            info(f"Parquet has one type a column: as JSON texts, {', '.join(map(repr, texts))}")
        self.gathered.seek(0)
        # A name that is no UTF-8 is none that Arrow opens.
        with self.path.open("wb") as raw, pq.ParquetWriter(raw, schema) as file:
            while lines := list(islice(self.gathered, _ROWS)):
                records = [self._fitted(json.loads(line), texts) for line in lines]
                try:
                    file.write_table(pa.Table.from_pylist(records, schema))
                except pa.ArrowException as error:
                    raise DataError(
                        f"the answers do not fit into a Parquet file ({error})",
                        place=str(self.path),
                        fix="let --out end in .jsonl",
                    ) from error

    def _schema(self) -> Any:
        """The columns in the order of JSON lines; the types of an answer are its task's."""
        answer = self.task.answer_types()
        usual: dict[str, Any] = {"row": pa.int64(), "text": pa.string()}
        # Choices are lists or records, whose type the records tell.
        plain = self.pairs and not self.task.several_pairs
        usual |= {"text_pair": pa.string()} if plain else {}
        usual |= answer | {"tokens_cut": pa.int64()}
        usual |= {"windows": pa.int64()} if self.windows else {}
        others = [name for name in self.shapes if name not in usual]
        own = {name: _arrow_type(self.shapes[name]) for name in others}
        return pa.schema([("row", usual.pop("row")), *own.items(), *usual.items()])

    @staticmethod
    def _fitted(record: Mapping[str, Any], texts: list[str]) -> dict[str, Any]:
        values = {name: record[name] for name in texts if record.get(name) is not None}
        return {
            **record,
            **{n: v if isinstance(v, str) else as_json(v) for n, v in values.items()},
        }


def shape_of(value: Any) -> Shape:
    """What a value of JSON is."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= _EXACT else "wide" if -(2**63) <= value < 2**63 else _MIXED
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        inner: Shape = None
        for each in value:
            inner = merged(inner, shape_of(each))
        return "list", inner
    return "record", {name: shape_of(each) for name, each in value.items()}


def merged(one: Shape, other: Shape) -> Shape:
    """What values of both kinds are."""
    if one == other or other is None:
        return one
    if one is None:
        return other
    if isinstance(one, tuple) and isinstance(other, tuple) and one[0] == other[0]:
        if one[0] == "list":
            return "list", merged(one[1], other[1])
        names = dict.fromkeys([*one[1], *other[1]])
        return "record", {n: merged(one[1].get(n), other[1].get(n)) for n in names}
    if isinstance(one, str) and isinstance(other, str):
        return {frozenset(("int", "float")): "float", frozenset(("int", "wide")): "wide"}.get(
            frozenset((one, other)), _MIXED
        )
    return _MIXED


def _as_shape(value: Any) -> Shape:
    """A shape that was kept as JSON."""
    if not isinstance(value, list):
        return value  # type: ignore[no-any-return]
    kind, inner = value
    if kind == "list":
        return kind, _as_shape(inner)
    return kind, {name: _as_shape(each) for name, each in inner.items()}


def _is_mixed(shape: Shape) -> bool:
    """Whether no column can have this type; records without a name in them are such too."""
    if isinstance(shape, tuple):
        inner = [shape[1]] if shape[0] == "list" else list(shape[1].values())
        return not inner or any(map(_is_mixed, inner))
    return shape == _MIXED


def _arrow_type(shape: Shape) -> Any:
    if _is_mixed(shape):
        return pa.string()
    if isinstance(shape, tuple):
        if shape[0] == "list":
            return pa.list_(_arrow_type(shape[1]))
        return pa.struct([(name, _arrow_type(inner)) for name, inner in shape[1].items()])
    types = {"bool": pa.bool_, "float": pa.float64, "text": pa.string, None: pa.null}
    return types.get(shape, pa.int64)()


def _as_text(value: Any) -> Any:
    """A value whose texts Arrow can hold."""
    if isinstance(value, str):
        return as_utf8(value)
    if isinstance(value, dict):
        return {_as_text(name): _as_text(inner) for name, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else value
