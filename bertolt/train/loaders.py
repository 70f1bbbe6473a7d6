"""Data loaders of the peer's kind: those that a Trainer makes, and batches from those of a user."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler

from bertolt.base.distributed import World
from bertolt.base.errors import DataError, UsageError
from bertolt.base.randomness import OwnRandomness
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.collate import as_mappings, column, stack
from bertolt.data.padded import Batch
from bertolt.data.sampler import BatchSampler
from bertolt.train.arguments import TrainingArguments
from bertolt.train.sources import grouped, is_stream


class RowOrder(Sampler[int]):
    """The numbers of the rows, each once, in the order of an epoch; `set_epoch` says of which."""

    def __init__(self, batches: BatchSampler) -> None:
        self.batches = batches
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Give the order of this epoch, from 0, from now on."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(
            map(int, numbers) for numbers in self.batches.epoch(self._epoch)
        )

    def __len__(self) -> int:
        return self.batches.num_rows


class _Stream(IterableDataset[Any]):
    """What can only be read in its order, as a loader wants it."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """Hand the epoch on to the rows."""
        _set_epoch(self._rows, epoch)


def make_loader(
    rows: Any, batch_size: int, collate: Callable[[list[Any]], Any], order: Any = None
) -> DataLoader[Any]:
    """A loader of rows by number, or of a stream.

    Args:
        rows: the data set.
        batch_size: rows of a batch.
        collate: makes a batch of rows.
        order: a sampler; None: as they come.
    """
    if is_stream(rows):
        return DataLoader(_Stream(rows), batch_size=batch_size, collate_fn=collate)
    return DataLoader(rows, batch_size=batch_size, sampler=order, collate_fn=collate)


def require_loader(loader: Any, method: str) -> Any:
    """A loader of the user's own, if it can be read.

    Raises:
        UsageError: it cannot.
    """
    if isinstance(loader, Iterable) and not isinstance(loader, str | bytes | Mapping):
        return loader
    raise UsageError(
        f"{method} gave a {type(loader).__name__}", fix="return a torch.utils.data.DataLoader"
    )


def reading(loader: Iterable[Any], *seed: int) -> Iterator[Any]:
    """The batches of a loader, whose draws are apart from all others: the same for the same seed.

    Args:
        loader: read once.
        seed: numbers that its draws begin with.
    """
    draws, end = OwnRandomness(*seed), object()
    with draws.inside():
        batches = iter(loader)
    while True:
        with draws.inside():
            batch = next(batches, end)
        if batch is end:
            return
        yield batch


@dataclass(frozen=True, kw_only=True)
class LoaderBatches:
    """Batches of a loader of the user's own, epoch after epoch.

    Of several processes each reads all of them and takes every n-th one, so that a step has the
    batches of all. What a run that goes on has already had is read again and left out: a loader
    may keep what it likes from batch to batch.

    Attributes:
        loader: gives the batches of an epoch, each time that it is read.
        args: how long to train.
        take: makes of what the loader gives what the model takes.
        world: the processes that share the batches.

    Raises:
        UsageError: an argument that would need the length of the loader.
    """

    loader: Any
    args: TrainingArguments
    take: Callable[[Any], Batch]
    world: World

    def __post_init__(self) -> None:
        sized, args = _length(self.loader) is not None, self.args
        for name, fine, fix in (
            ("max_steps", sized or args.max_steps > 0, "say how many steps to make"),
            ("eval_strategy", sized or args.eval_strategy != "epoch", 'use "steps"'),
        ):
            if not fine:
                raise UsageError(
                    f"{name} is {getattr(args, name)!r}, and the train dataloader has no length",
                    fix=fix,
                )
        if _length(self.loader) == 0:
            raise UsageError("the train dataloader has no batches", fix="give it rows")

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the loader; all of the run where its length is not known."""
        length = _length(self.loader)
        if length is None:
            return self.args.max_steps
        return math.ceil(math.ceil(length / self.world.size) / self._together)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self.steps_per_epoch)

    @property
    def _together(self) -> int:
        return self.args.gradient_accumulation_steps

    def after(self, step: int) -> Iterator[list[Batch]]:
        """This process's batches of each step after step `step`, without end."""
        steps = itertools.chain.from_iterable(map(self._epoch, itertools.count()))
        next(itertools.islice(steps, step, step), None)
        return map(self._own, steps)

    def describe(self) -> dict[str, Any]:
        """How many batches an epoch has."""
        length = _length(self.loader)
        return {"batches of the train dataloader": "unknown" if length is None else length}

    def _epoch(self, epoch: int) -> Iterator[list[Any]]:
        """What the loader gives for each step of an epoch, for all processes."""
        for part in (self.loader, *(getattr(self.loader, name, None) for name in _PARTS)):
            _set_epoch(part, epoch)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        step = None
        for step in grouped(reading(self.loader, seed, epoch), self._together * self.world.size):
            yield step
        if step is None:
            raise DataError(
                f"the train dataloader gave no batches in epoch {epoch + 1}",
                fix="let it be read more than once, or give fewer max_steps",
            )

    def _own(self, step: Sequence[Any]) -> list[Batch]:
        """This process's share of a step; a placeholder where it has no share."""
        batches = []
        for group in grouped(step, self.world.size):
            own = self.world.rank < len(group)
            batch = self.take(group[self.world.rank if own else 0])
            batches.append(batch if own else replace(batch, is_placeholder=True))
        return batches


_PARTS = ("sampler", "batch_sampler", "dataset")


def _set_epoch(part: Any, epoch: int) -> None:
    if callable(method := getattr(part, "set_epoch", None)):
        method(epoch)


def _length(loader: Any) -> int | None:
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a loader of a stream has a __len__ that fails
        return None


def padded_rows(
    rows: Sequence[Any], names: frozenset[str] | None, pad_token_id: int
) -> dict[str, Tensor]:
    """Rows as the arguments of a padded call: what there is for each id padded, the rest stacked.

    Args:
        rows: with `input_ids`, or without, and values of one shape.
        names: that are taken of the rows, beside labels; None: all that are no texts.
        pad_token_id: padding of `input_ids`; labels get `IGNORE_INDEX`, all else 0.

    Raises:
        DataError: rows that differ in what they have, or values that cannot be stacked.
    """
    rows = as_mappings(rows)
    labelled = {("labels" if name in _LABELS else name) for name in rows[0]}
    wanted = sorted(name for name in labelled if names is None or name in names)
    lengths = [_count(row.get("input_ids")) for row in rows]
    batch = {}
    for name in wanted:
        values = column(rows, name)
        if values is None or isinstance(values[0], str):
            continue
        per_token = name != "labels" or any(_count(value) for value in values)
        if lengths[0] and per_token and [_count(value) for value in values] == lengths:
            filler = {"input_ids": pad_token_id, "labels": IGNORE_INDEX}.get(name, 0)
            batch[name] = _padded(values, filler)
        else:
            stacked = stack(rows, name)
            assert stacked is not None
            batch[name] = stacked
    masks = names is None or "attention_mask" in names
    if masks and lengths[0] and "attention_mask" not in batch:
        batch["attention_mask"] = _padded([np.ones(length, int) for length in lengths], 0)
    return batch


_LABELS = ("label", "label_ids")


def _count(values: Any) -> int:
    """Length of a list of numbers; 0 for anything else."""
    return len(values) if np.ndim(values) == 1 else 0


def _padded(rows: Sequence[Any], filler: int) -> Tensor:
    tensors = [torch.as_tensor(np.asarray(row)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=filler)
