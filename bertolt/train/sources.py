"""Where the batches of a run come from: rows by their number, and streams in their order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from bertolt.base.distributed import World
from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import PackedBatch
from bertolt.data.collate import count_tokens
from bertolt.data.sampler import BatchSampler
from bertolt.train.arguments import TrainingArguments
from bertolt.train.loop import RowSource

Data = RowSource | Iterable[Any]
"""A map-style data set, or one that can only be read in its order."""
FULL_LENGTH = 512
"""Tokens that a row counts for whose length is not known."""
_WINDOW = 4096  # rows of a stream that an evaluation sorts by length at a time
T = TypeVar("T")


class BatchSource(Protocol):
    """The batches of a run, in an order that is the same whenever it is asked for."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the data."""

    def after(self, step: int) -> Iterator[Sequence[Any]]:
        """This process's batches of each step after step `step`."""

    def describe(self) -> dict[str, Any]:
        """What decides the result, by the names that the user knows."""


@dataclass(frozen=True, kw_only=True)
class _DataSetBatches:
    """The base of both kinds of batches.

    Attributes:
        data: the data set.
        args: how long to train, and in which order.
        batch_rows: rows of a batch, over all processes.
        collate: makes a batch of rows.
        world: the processes that share each batch.
    """

    data: Any
    args: TrainingArguments
    batch_rows: int
    collate: Callable[[list[Any]], PackedBatch]
    world: World

    def batches(self, step: Iterable[Any], read: Callable[[Any], list[Any]]) -> list[PackedBatch]:
        """This process's share of each batch of a step; a placeholder where it has no share."""
        batches = []
        for items in step:
            for own in self.shares(items):
                batch = self.collate(read(own if len(own) else items[:1]))
                batches.append(batch if len(own) else replace(batch, is_placeholder=True))
        return batches

    def shares(self, items: Any) -> Sequence[Any]:
        """This process's items of a batch, to be computed at once or in several portions; every
        process has as many, of which some may be empty."""
        return [self.world.own_share(items)]


@dataclass(frozen=True, kw_only=True)
class RowBatches(_DataSetBatches):
    """Rows by their number, sampled anew each epoch.

    Attributes:
        lengths: gives the tokens of each row, (N,).
    """

    lengths: Callable[[Any], NDArray[np.int64]]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the rows."""
        batches = math.ceil(len(self.data) / self.batch_rows)
        return math.ceil(batches / self.args.gradient_accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self.steps_per_epoch)

    def after(self, step: int) -> Iterator[list[PackedBatch]]:
        """The batches of each step after step `step`, epoch after epoch, without end."""
        numbers = self._row_numbers(self._sampler(), step)
        return (self.batches(part, lambda own: take(self.data, own)) for part in numbers)

    def shares(self, items: Any) -> Sequence[Any]:
        """As every source, and a data set may know how to part rows of more than one sequence."""
        portions = getattr(self.data, "portions", None)
        if portions is None:
            return super().shares(items)
        size = self.world.size
        texts = math.ceil(self.batch_rows / size)
        # What every process has follows from the rows: no one is asked.
        dealt = [list(portions(items[rank::size], texts)) for rank in range(size)]
        most, own = max(map(len, dealt)), dealt[self.world.rank]
        return [*own, *[items[:0]] * (most - len(own))]

    def describe(self) -> dict[str, Any]:
        """How many rows there are."""
        return {"rows of the train_dataset": len(self.data)}

    def _row_numbers(self, sampler: BatchSampler, start: int) -> Iterator[list[NDArray[np.int64]]]:
        together = self.args.gradient_accumulation_steps
        first, done = divmod(start, self.steps_per_epoch)
        for epoch in itertools.count(first):
            if hasattr(self.data, "set_epoch"):
                self.data.set_epoch(epoch)
            begun = done * together if epoch == first else 0
            yield from grouped(sampler.epoch(epoch, begun), together)

    def _sampler(self) -> BatchSampler:
        by_length = self.args.train_sampling_strategy == "group_by_length"
        if by_length and not has_tokens(self.data[0]):
            raise UsageError(
                "train_sampling_strategy is 'group_by_length', and the rows have no input_ids",
                fix='tokenize them before, or use "random"',
            )
        return BatchSampler(
            num_rows=len(self.data),
            batch_size=self.batch_rows,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            strategy=self.args.train_sampling_strategy,
            lengths=self.lengths(self.data) if by_length else None,
        )


@dataclass(frozen=True, kw_only=True)
class StreamBatches(_DataSetBatches):
    """Rows that can only be read in their order, as often as there are steps to make.

    Raises:
        UsageError: an argument that would need the length of the stream.
    """

    def __post_init__(self) -> None:
        args = self.args
        by_length = args.train_sampling_strategy == "group_by_length"
        for name, fine, fix in (
            ("max_steps", args.max_steps > 0, "say how many steps to make"),
            ("eval_strategy", args.eval_strategy != "epoch", 'use "steps"'),
            ("train_sampling_strategy", not by_length, "group the rows in the data set itself"),
        ):
            if not fine:
                raise UsageError(
                    f"{name} is {getattr(args, name)!r}, and the train_dataset can only be read "
                    "in its order: its length is not known",
                    fix=fix,
                )

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.args.max_steps

    @property
    def steps_per_epoch(self) -> int:
        """All steps of the run, since nobody knows where an epoch ends."""
        return self.args.max_steps

    def after(self, step: int) -> Iterator[list[PackedBatch]]:
        """The batches of each step after step `step`."""
        read = self._rows_in_order()
        # What can only be read in its order is read again up to there, though no batch is made.
        next(itertools.islice(read, step, step), None)
        return (self.batches(part, list) for part in read)

    def describe(self) -> dict[str, Any]:
        """The number of its rows is unknown."""
        return {"rows of the train_dataset": "unknown"}

    def _rows_in_order(self) -> Iterator[list[list[Any]]]:
        for epoch in itertools.count():
            if hasattr(self.data, "set_epoch"):
                self.data.set_epoch(epoch)  # shuffled anew, if it can do that
            step = None
            parts = grouped(self.data, self.batch_rows)
            for step in grouped(parts, self.args.gradient_accumulation_steps):
                yield step
            if step is None:
                raise DataError(
                    f"the train_dataset gave no rows in epoch {epoch + 1}",
                    fix="give it an iterable that can be read more than once, or fewer max_steps",
                )


def is_stream(data: Any) -> bool:
    """Whether a data set can only be read in its order: it has no length and no row numbers."""
    return isinstance(data, IterableDataset) or not hasattr(data, "__getitem__")


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def take(rows: RowSource, numbers: Iterable[int]) -> list[Any]:
    """Rows by number, all at once where the data set can do that."""
    indices = [int(number) for number in numbers]
    together = getattr(rows, "__getitems__", None)
    return [rows[number] for number in indices] if together is None else together(indices)


class RowLengths:
    """Tokens of each row of a data set, (N,); the last count is kept: evaluations mostly repeat.

    Rows that only the collator can read count as long ones.
    """

    def __init__(self) -> None:
        self._rows: RowSource | None = None
        self._lengths = np.zeros(0, np.int64)

    def __call__(self, rows: RowSource) -> NDArray[np.int64]:
        """Those that the data set has as `lengths`, or that its rows have."""
        known = getattr(rows, "lengths", None)
        if known is not None:
            return np.asarray(known)
        # A list that has grown is another data set.
        if self._rows is not rows or len(self._lengths) != len(rows):
            counts = (
                count_tokens(row) if has_tokens(row) else FULL_LENGTH
                for numbers in grouped(range(len(rows)), _WINDOW)
                for row in take(rows, numbers)
            )
            self._rows = rows
            self._lengths = np.fromiter(counts, dtype=np.int64, count=len(rows))
        return self._lengths


def windows(data: Any) -> Iterator[RowSource]:
    """A data set as it is, or a stream in parts, so that it is never held whole.

    Raises:
        DataError: the stream gives nothing.
    """
    if not is_stream(data):
        yield data
        return
    window = None
    for window in grouped(data, _WINDOW):
        yield window
    if window is None:
        raise DataError(
            "the data set gave no rows", fix="give it an iterable that can be read more than once"
        )


def has_tokens(row: Any) -> bool:
    """Whether a row has been tokenized."""
    return isinstance(row, Mapping) and row.get("input_ids") is not None


def require_rows(data: Any, name: str) -> Any:
    """The data set, if it is one and has rows, as far as that can be seen.

    Raises:
        UsageError: it is None, a dict of data sets, empty, or has no length.
    """
    if isinstance(data, Mapping):
        parts = ", ".join(map(repr, data))
        raise UsageError(f"{name} is a dict of {parts}", fix="give it one of them")
    if data is not None and is_stream(data) and hasattr(data, "__iter__"):
        return data
    if data is not None and not hasattr(data, "__len__"):
        raise UsageError(
            f"the {name} has no length",
            fix="define __len__ and __getitem__, or make it a torch.utils.data.IterableDataset",
        )
    if data is None or len(data) == 0:
        raise UsageError(
            f"Trainer has no {name}" if data is None else f"the {name} has no rows",
            fix=f"give it one: Trainer(..., {name}=...)",
        )
    return data
