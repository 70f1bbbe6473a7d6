"""One number or several for each text, in the user's units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError
from bertolt.data.arrow import numbers_by_name, pa
from bertolt.data.cells import as_number, numbers_cell
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.table_file import is_missing
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.tasks import page
from bertolt.tasks.answers import TOLERANCE
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Task, register
from bertolt.tasks.doubts import NumberDoubts
from bertolt.tasks.labels import names_of, require_no_separator
from bertolt.tasks.schema import NUMBER, Schema, of_each, record
from bertolt.tasks.scorers.numbers import NumberScorer, numbers_in
from bertolt.tasks.table import shown
from bertolt.tasks.texts import LONG_TEXTS, text_cells

NUMBERS = "regression"
_LARGEST = 1e70  # intervals sum the fourth powers of errors, which 64 bits hold up to 1e77
_FARTHEST = 1e18  # spreads from the mean; the loss squares them in 32 bits


@register
@dataclass(frozen=True)
class Regression(Task):
    """Which number a text has, in each column.

    Attributes:
        columns: of the numbers, in the order of the model's outputs.
        means, scales: (K,) of the training rows: the model learns (value - mean) / scale.
    """

    name: ClassVar[str] = "regression"
    primary: ClassVar[Primary] = Primary(name="rmse", title="RMSE", greater=False, share=False)
    head: ClassVar[Any] = heads.SequenceClassification
    longs = LONG_TEXTS
    worst: ClassVar[tuple[str, str]] = (
        "Largest errors",
        "Held-out rows whose answers are furthest from the truth. Look for wrong numbers first.",
    )

    columns: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Numbers of which some have fractions, or several columns of numbers."""
        rows = sample.values.get("label", [])
        cells = (value for row in rows for value in row)
        numbers = [as_number(value) for value in cells if not _is_gap(value)]
        known = [number for number in numbers if number is not None]
        if not known or len(known) < len(numbers):
            return ""
        if len(sample.columns["label"]) > 1:
            return f"{len(sample.columns['label'])} columns of numbers"
        if not all(number.is_integer() for number in known):
            return "numbers with fractions"
        return ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts as they stand, and a number from each column."""
        require_no_separator(reading, cls.name)
        columns = sample.columns.get("label")
        return text_cells(sample) | ({"label": numbers_cell(columns)} if columns else {})

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Mean and spread of the training rows."""
        values, columns = _numbers_at(table, train), table.roles["label"]
        _require_spread(table, values)
        means, scales = values.mean(axis=0), values.std(axis=0)
        for column, scale in zip(columns, scales, strict=True):
            if not scale > 0:
                raise _spread_error(table, column)
        return cls(tuple(columns), tuple(map(float, means)), tuple(map(float, scales)))

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """Means and scales as the contract keeps them; outputs as they are without one."""
        names = names_of(config)
        means = settings.get("means", [0.0] * len(names))
        scales = settings.get("scales", [1.0] * len(names))
        for numbers in (means, scales):
            if len(numbers) != len(names) or not all(map(_is_finite, numbers)):
                raise ValueError(f"{numbers!r} are not one number for each of {list(names)}")
        if not all(scale > 0 for scale in scales):
            raise ValueError(f"scales are {scales!r}, and must be above 0")
        return cls(names, tuple(map(float, means)), tuple(map(float, scales)))

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Declared, or a single output."""
        undeclared = config.problem_type is None and config.num_labels == 1
        return config.problem_type == NUMBERS or undeclared

    def config_changes(self) -> dict[str, Any]:
        """The columns, and that they are numbers."""
        return {"id2label": dict(enumerate(self.columns)), "problem_type": NUMBERS}

    def settings(self) -> dict[str, Any]:
        """Means and scales, by which outputs become values."""
        return {"means": list(self.means), "scales": list(self.scales)}

    @property
    def units(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Means and scales of the training rows."""
        return self.means, self.scales

    def check(self, table: Table) -> None:
        """Refuse numbers with which no loss and no score could be computed."""
        values = _numbers_at(table, np.arange(len(table)))
        for column, numbers, mean, scale in zip(
            self.columns, values.T, self.means, self.scales, strict=True
        ):
            beyond = np.abs(numbers) > _LARGEST
            beyond[~beyond] = np.abs(numbers[~beyond] - mean) > _FARTHEST * scale
            if beyond.any():
                index = int(beyond.argmax())
                raise DataError(
                    f"{numbers[index]:g} is too far from the mean of training, {mean:g}",
                    place=f"{table.place_at(index)}, column {column!r}",
                    fix="write the numbers in another unit, or leave the row out",
                )

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(N, K) float32 scaled values."""
        values = _numbers_at(table, index)
        scaled = ((values - np.array(self.means)) / np.array(self.scales)).astype(np.float32)
        targets: NDArray[np.float32] = scaled
        return targets

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """Mean and range of each column."""
        values = _numbers_at(table, index)
        words = [
            f"{shown(column)} {numbers.mean():.4g} from {numbers.min():.4g} to {numbers.max():.4g}"
            for column, numbers in zip(self.columns, values.T, strict=True)
        ]
        return "mean " + ", ".join(words)

    def activate(self, logits: Tensor) -> Tensor:
        """Outputs as they are; `decode` scales them back."""
        return logits

    def decode(self, output: Output, example: Example) -> Answer:
        """The value, or the values by column where there are several."""
        scaled = output.windows[0].astype(np.float64).tolist()
        values = [
            float(mean + scale * number)
            for mean, scale, number in zip(self.means, self.scales, scaled, strict=True)
        ]
        if len(values) == 1:
            return {"value": values[0]}
        return {"values": dict(zip(self.columns, values, strict=True))}

    def differs(self, golden: Answer, answer: Answer) -> str:
        """How far apart two answers are, beside the spread of the training rows."""
        before, now = (numbers_in(each, self.columns) for each in (golden, answer))
        pairs = zip(before, now, self.scales, strict=True)
        gap = max(abs(one - other) / scale for one, other, scale in pairs)
        return "" if gap <= TOLERANCE else f"values differ by up to {gap:.2g} of their spread"

    def doubts(self) -> NumberDoubts:
        """Residuals."""
        return NumberDoubts(self.columns)

    def scorer(self) -> NumberScorer:
        """Errors and correlations."""
        return NumberScorer(self.columns, self.scales)

    def describe_answer(self, answer: Answer) -> str:
        """The numbers, short."""
        return ", ".join(f"{number:.4g}" for number in numbers_in(answer, self.columns))

    def truth(self, example: Example) -> str:
        """The numbers of the row."""
        return ", ".join(f"{number:.4g}" for number in example["label"])

    def answer_types(self) -> dict[str, pa.DataType]:
        """A number, or numbers by column."""
        if len(self.columns) == 1:
            return {"value": pa.float64()}
        return {"values": numbers_by_name(self.columns)}

    def answer_schema(self) -> Schema:
        """A number, or one for each column."""
        if len(self.columns) == 1:
            return record({"value": NUMBER})
        return record({"values": of_each(self.columns, NUMBER)})

    def flat_names(self) -> list[str]:
        """A column for each number."""
        return ["value"] if len(self.columns) == 1 else list(self.columns)

    def flat(self, answer: Answer) -> list[Any]:
        """The numbers of an answer."""
        return numbers_in(answer, self.columns)

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The numbers by column."""
        values = [f"{number:.4g}" for number in numbers_in(answer, self.columns)]
        return [page.named_values("Value", dict(zip(self.columns, values, strict=True)))]

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """How the true values spread in the training rows."""
        values = _numbers_at(table, train)
        return [
            page.histogram(f"Training rows by {column}", column, numbers)
            for column, numbers in zip(self.columns, values.T, strict=True)
        ]


def _numbers_at(table: Table, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, K) the numbers of the rows at `index`."""
    shape = len(index), len(table.roles["label"])
    values = np.empty(shape, dtype=np.float64)
    for number, row in enumerate(table.each_label(index)):
        values[number] = row
    return values


def _require_spread(table: Table, values: NDArray[np.float64]) -> None:
    """Refuse a column in which all rows have one number, or a number is too large."""
    for column, numbers in zip(table.roles["label"], values.T, strict=True):
        if np.abs(numbers).max() > _LARGEST:
            at = int(np.abs(numbers).argmax())
            raise _spread_error(table, column, f": one of them is {numbers[at]:g}")
        if len(set(numbers.tolist())) < 2:
            many = f"all {len(numbers):,} training rows have"
            rows = many if len(numbers) > 1 else "the only training row has"
            raise DataError(
                f"{rows} {numbers[0]:g}: nothing to learn",
                place=f"{table.path}, column {column!r}",
                fix="name the column of the numbers with --label",
            )


def _spread_error(table: Table, column: str, which: str = "") -> DataError:
    return DataError(
        f"the spread of its numbers is beyond what can be computed{which}",
        place=f"{table.path}, column {column!r}",
        fix="write the numbers in another unit",
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_gap(value: object) -> bool:
    """Whether a cell is empty, or what tables write into one: such a row is dropped and told."""
    return is_missing(value) or str(value).strip().lower() in ("", "nan", "na", "n/a", "null")
