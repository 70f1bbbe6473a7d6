"""What makes a batch of rows: packed (`PackingCollator`), or padded for the padded door.

A row is a mapping with `input_ids`, as a tokenizer returns it for one text, or an object with such
attributes. Values may be lists, arrays or tensors.

Shapes: B rows, L padded length, C labels or choices, E rows with choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.tokenization.batch_encoding import TensorKind, as_lists, as_tensor
from bertolt.tokenization.rows import one_of, pad_column

Row = Mapping[str, Any]
LABELS = ("labels", "label", "label_ids")
"""The names that a label goes by, in the order in which they are looked for."""


class Tokenizer(Protocol):
    """What the padding collators need of a tokenizer."""

    pad_token_id: int
    padding_side: Literal["left", "right"]

    def pad(
        self,
        features: Any,
        /,
        *,
        padding: Any,
        max_length: int | None,
        pad_to_multiple_of: int | None,
        return_tensors: Any,
    ) -> Any:
        """Pad features to one length and return tensors."""


class PackingCollator:
    """Turn rows of ids into a `PackedBatch`; padding already in a row is taken out.

    Beside `input_ids`, a row may have `token_type_ids`, `position_ids`, `attention_mask`, and what
    its head learns:

    - `labels`, or `label`: an int for a class, a float or a list of floats for regression and for
      several labels at once; with `token_labels`, an int for each token.
    - `next_sentence_label`: an int.
    - `start_positions` and `end_positions`: indices into the row's `input_ids`.
    - `teacher_logits`: an array (C,) of another model, or (tokens, C) with `token_labels`.

    For multiple choice, and whatever else compares sequences, `input_ids` and what goes with it are
    C lists, one for each choice, and the label is the number of the right one. Rows may have more
    choices and fewer. Where a text or a choice is longer than a window, each of its windows is one
    of the lists, and `document_windows` says how many windows each text or choice has. Other keys
    are left out.

    Args:
        pad_token_id: what filler rows hold.
        row_multiple: T is rounded up to a multiple of this; None: by the size of the batch.
        token_labels: labels are one for each token, as for token classification.
    """

    def __init__(
        self,
        *,
        pad_token_id: int = 0,
        row_multiple: int | None = None,
        token_labels: bool = False,
    ) -> None:
        self.pad_token_id = pad_token_id
        self.row_multiple = row_multiple
        self.token_labels = token_labels

    def __call__(self, rows: Sequence[Any]) -> PackedBatch:
        """Pack one batch of rows.

        Raises:
            DataError: rows that do not fit each other, named by their place in the batch.
        """
        rows = as_mappings(rows)
        per_token = ("token_type_ids", "position_ids", *(("labels",) if self.token_labels else ()))
        sequences, counts = split_choices(rows, "attention_mask", *per_token)
        counts, document_starts = _documents(rows, counts)
        tokens = real_tokens(sequences, *per_token)
        batch = PackedBatch.from_sequences(
            tokens["input_ids"],
            tokens.get("token_type_ids"),
            labels=None if self.token_labels else stack(rows, "labels"),
            token_labels=tokens.get("labels"),
            next_sentence_label=stack(rows, "next_sentence_label"),
            start_positions=_places(rows, "start_positions"),
            end_positions=_places(rows, "end_positions"),
            teacher_logits=self._teacher_logits(rows),
            num_choices=max(counts, default=1),
            # A text alone may be encoded as a batch of one.
            group_starts=_starts(counts) if max(counts, default=1) > 1 else None,
            document_starts=document_starts,
            pad_token_id=self.pad_token_id,
            row_multiple=self.row_multiple,
        )
        if "position_ids" not in tokens:
            return batch
        positions = torch.zeros_like(batch.position_ids)
        positions[: batch.num_tokens] = torch.from_numpy(np.concatenate(tokens["position_ids"]))
        return replace(batch, position_ids=positions)

    def _teacher_logits(self, rows: Sequence[Row]) -> Tensor | None:
        """(B, C), or (num_tokens, C) where labels are one for each token."""
        if not self.token_labels:
            return stack(rows, "teacher_logits")
        values = column(rows, "teacher_logits")
        if values is None:
            return None
        pairs = enumerate(zip(rows, values, strict=True))
        real = [value[_token_mask(row, number)] for number, (row, value) in pairs]
        return torch.from_numpy(np.concatenate(real)).float()


def as_mappings(rows: Sequence[Any]) -> Sequence[Row]:
    """Rows that may be objects with attributes, as mappings.

    Raises:
        DataError: a row is neither.
    """
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) and not hasattr(row, "__dict__"):
            raise DataError(
                f"row {index} of the batch is a {type(row).__name__}, which names none of its "
                "values",
                fix='give mappings: {"input_ids": …, "label": …}; or a data_collator that reads it',
            )
    return [row if isinstance(row, Mapping) else vars(row) for row in rows]


def column(rows: Sequence[Row], name: str) -> list[Any] | None:
    """What each row has under a name, "labels" going by any of `LABELS`; None if no row has any.

    Raises:
        DataError: only some of the rows have it.
    """
    names = LABELS if name == "labels" else (name,)
    if not any(each in row for each in names for row in rows):
        return None
    values = [next((row[n] for n in names if row.get(n) is not None), None) for row in rows]
    missing = [index for index, value in enumerate(values) if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        one = name.removesuffix("s") if name == "labels" else name
        raise DataError(
            f"row {missing[0]} of the batch has no {one}, and others have",
            fix=f"give every row its {one}, or none",
        )
    return values


def count_tokens(row: Row) -> int:
    """Tokens of a row, of all its choices together; padding is not counted."""
    sequences, _ = split_choices([row], "attention_mask")
    return sum(
        int(np.count_nonzero(np.asarray(each["attention_mask"])))
        if each.get("attention_mask") is not None
        else len(each["input_ids"])
        for each in sequences
    )


def _starts(counts: Sequence[int]) -> Tensor:
    """(E+1,) first sequence of each of the rows that have so many, and their number."""
    return torch.tensor([0, *itertools.accumulate(counts)])


def _documents(rows: Sequence[Row], counts: list[int]) -> tuple[list[int], Tensor | None]:
    """How many documents each row has, and (D+1,) the first sequence of each document, and B; None
    where each is one sequence.

    Args:
        rows: which may say how many windows each of their documents has.
        counts: sequences of each row.

    Raises:
        DataError: there are not as many sequences as a row says, or only some rows say it.
    """
    windows = column(rows, "document_windows")
    if windows is None:
        return counts, None
    for index, (own, count) in enumerate(zip(windows, counts or [0] * len(rows), strict=True)):
        if sum(own) != count or min(own, default=0) < 1:
            raise DataError(
                f"row {index} of the batch has {count} lists of input_ids, and document_windows "
                f"{list(own)}",
                fix="give the number of windows of each document, which add up to all lists",
            )
    each = [count for own in windows for count in own]
    return list(map(len, windows)), _starts(each) if max(each) > 1 else None


def split_choices(rows: Sequence[Row], *names: str) -> tuple[Sequence[Row], list[int]]:
    """The choices of each row as rows of their own, and how many each row has; none, no number.

    Args:
        rows: with lists under `input_ids`, one for each choice, or without choices.
        names: of what else there is a list of for each choice.

    Raises:
        DataError: some rows have choices and others none, or only some have one of the names.
    """
    counts = [_count_choices(row.get("input_ids", ())) for row in rows]
    if not any(counts):
        return rows, []
    if not all(counts):
        raise DataError(
            f"rows of the batch have from 0 to {max(counts)} choices",
            fix="give every row a list of input_ids for each of its choices, or none a list",
        )
    by_name = {}
    for name in ("input_ids", *names):
        values = column(rows, name)
        if values is None:
            continue
        for index, each in enumerate(values):
            if _count_choices(each) != counts[index]:
                raise DataError(
                    f"row {index} of the batch has {counts[index]} choices, and its {name} are not "
                    "as many",
                    fix=f"give a list of {name} for each choice",
                )
        by_name[name] = values
    return [
        {name: values[row][choice] for name, values in by_name.items()}
        for row, count in enumerate(counts)
        for choice in range(count)
    ], counts


def _count_choices(values: Any) -> int:
    """How many lists a list has; 0 if it is one of numbers, or none at all."""
    try:
        return len(values) if len(values) and np.ndim(values[0]) else 0
    except TypeError:  # no list
        return 0


def _token_mask(row: Row, index: int) -> NDArray[np.bool_]:
    """Which ids of a row are real."""
    mask, count = row.get("attention_mask"), len(row.get("input_ids", ()))
    if mask is None:
        return np.ones(count, dtype=bool)
    real: NDArray[np.bool_] = np.asarray(mask) != 0
    if real.shape != (count,):
        raise _unequal(index, "attention_mask", real.size, count)
    return real


def real_tokens(rows: Sequence[Row], *names: str) -> dict[str, list[NDArray[Any]]]:
    """The ids of each row, and what else there is for each id, without the padding.

    Args:
        rows: B rows.
        names: of values that are one for each id; those that no row has are left out.

    Returns:
        By name, "input_ids" among them, an array for each row.

    Raises:
        DataError: no ids, values that are not as many as the ids, or that only some rows have.
    """
    by_name = {}
    for name in ("input_ids", *names):
        values = column(rows, name)
        if values is not None:
            by_name[name] = [_array(value, name, index) for index, value in enumerate(values)]
    if "input_ids" not in by_name:
        there = ", ".join(rows[0]) if rows else "no row"
        raise DataError(
            f"the rows have no input_ids; found: {there}",
            fix='tokenize them first: data.map(lambda rows: tokenizer(rows["text"]), batched=True)',
        )
    for index, row in enumerate(rows):
        count = len(row["input_ids"])
        mask = None if row.get("attention_mask") is None else _token_mask(row, index)
        for name, arrays in by_name.items():
            if arrays[index].shape != (count,):
                raise _unequal(index, name, arrays[index].size, count)
            if mask is not None:
                arrays[index] = arrays[index][mask]
    return by_name


def _array(values: Any, name: str, index: int) -> NDArray[Any]:
    """One row's values as an array (n,) of whole numbers; words may be None."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.zeros(())
    whole = array.dtype.kind in "iub" or not array.size or name == "word_ids"
    if whole and (array.ndim or name != "input_ids"):
        return array
    raise DataError(
        f"row {index} of the batch has {name} that are no list of whole numbers",
        fix=f"give its {name} as a tokenizer does, one for each token",
    )


def _unequal(index: int, name: str, found: int, wanted: int) -> DataError:
    return DataError(
        f"row {index} of the batch has {wanted} input_ids and {found} values of {name}",
        fix=f"give it as many {name} as input_ids",
    )


def stack(rows: Sequence[Row], name: str) -> Tensor | None:
    """One value or several of each row as a tensor, int64 or float32; None if no row has any.

    Raises:
        DataError: only some of the rows have it, or values that are no numbers.
    """
    values = column(rows, name)
    if values is None:
        return None
    try:
        tensor = torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the {name} of the rows cannot become one tensor: {error}",
            fix="give every row a number, or as many as the others; where they are one a token, "
            "use PackingCollator(token_labels=True)",
        ) from error
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _places(rows: Sequence[Row], name: str) -> Tensor | None:
    """Indices into the rows' ids (B,) as places among their real tokens."""
    indices = stack(rows, name)
    if indices is None:
        return None
    if indices.is_floating_point() or indices.numel() != len(rows):
        raise DataError(
            f"the {name} of the rows are not one whole number each",
            fix=f"give every row one index into its input_ids as its {name}",
        )
    places = []
    for number, index in enumerate(indices.flatten().tolist()):
        real = _token_mask(rows[number], number)
        inside = 0 <= index < len(real) and real[index]
        places.append(int(real[:index].sum()) if inside else IGNORE_INDEX)
    return torch.tensor(places)


class Subclassable:
    """Lets a subclass define `torch_call`, as the peer's collators do, in place of `__call__`.

    Raises:
        UsageError: a class that defines a method of the peer's which nothing would call here.
    """

    _UNCALLED = ("numpy_call", "tf_call", "numpy_mask_tokens", "tf_mask_tokens", "_whole_word_mask")

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        for name in Subclassable._UNCALLED:
            if name in vars(cls):
                raise UsageError(
                    f"{name} is defined, and nothing calls it here",
                    place=cls.__name__,
                    fix="define __call__ or torch_call, or torch_mask_tokens for masks",
                )
        if "torch_call" in vars(cls) and "__call__" not in vars(cls):
            cls.__call__ = cls.torch_call  # type: ignore[method-assign]

    def torch_call(self, features: Any) -> Any:
        """Make a batch, as Bertolt's class does."""
        ours = next(kind for kind in type(self).__mro__ if kind.__module__.startswith("bertolt."))
        return ours.__call__(self, features)


class DataCollatorWithPadding(Subclassable):
    """Pad rows to the longest of their batch, as the tokenizer pads, for the padded door.

    Args:
        tokenizer: decides the padding ids and the side.
        padding: True or "longest", "max_length", or False.
        max_length: the length for "max_length".
        pad_to_multiple_of: round the length up.
        return_tensors: "pt" or "np".
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: TensorKind = "pt",
    ) -> None:
        self.tokenizer = tokenizer
        self.padding = padding
        self.max_length = max_length
        self.pad_to_multiple_of = pad_to_multiple_of
        self.return_tensors = return_tensors

    def __call__(self, features: Any) -> Any:
        """Pad one batch: a list of rows, or a mapping of columns; `label` becomes `labels`."""
        batch = self.tokenizer.pad(
            features,
            padding=self.padding,
            max_length=self.max_length,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors=self.return_tensors,
        )
        for name in LABELS[1:]:
            if name in batch:
                batch["labels"] = batch.pop(name)
        return batch


class DataCollatorForTokenClassification(DataCollatorWithPadding):
    """Pad rows, and with them their labels, one for each token.

    Args:
        tokenizer: decides the padding ids and the side, for the labels too.
        padding: True or "longest", "max_length", or False.
        max_length: the length for "max_length".
        pad_to_multiple_of: round the length up.
        label_pad_token_id: label of the padding; the loss leaves out `IGNORE_INDEX`, -100.
        return_tensors: "pt" or "np".
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        label_pad_token_id: int = IGNORE_INDEX,
        return_tensors: TensorKind = "pt",
    ) -> None:
        super().__init__(tokenizer, padding, max_length, pad_to_multiple_of, return_tensors)
        self.label_pad_token_id = label_pad_token_id

    def __call__(self, features: Sequence[Row]) -> Any:
        """Pad one batch of rows to `input_ids`, `labels` and so on, of (B, L) each.

        Raises:
            DataError: a row has not as many labels as ids, or only some rows have labels.
        """
        labels = _token_labels(features)
        bare = [{k: v for k, v in row.items() if k not in LABELS} for row in features]
        batch = super().__call__(bare)
        if labels is not None:
            length = max(map(len, batch["input_ids"]))
            padded = pad_column(
                labels, length, self.label_pad_token_id, self.tokenizer.padding_side
            )
            batch["labels"] = as_tensor(padded, self.return_tensors, "labels")
        return batch


class DataCollatorForMultipleChoice(DataCollatorWithPadding):
    """Pad rows of C choices to `input_ids` and so on, of (B, C, L) each, and `labels` (B,)."""

    def __call__(self, features: Sequence[Any]) -> Any:
        """Pad one batch of rows, whose `input_ids` and so on are C lists each.

        Raises:
            DataError: rows without choices, or with more and fewer; only some have a label.
        """
        rows = as_mappings(features)
        sequences, counts = split_choices(rows, "token_type_ids", "attention_mask")
        if not counts:
            raise DataError(
                "the rows of the batch have no choices",
                fix="give a list of input_ids for each choice, or use DataCollatorWithPadding",
            )
        if min(counts) < max(counts):
            raise DataError(
                f"rows of the batch have from {min(counts)} to {max(counts)} choices",
                fix="give every row as many choices as the others, or use PackingCollator",
            )
        batch = super().__call__(sequences)
        for name, values in batch.items():
            batch[name] = values.reshape(len(rows), counts[0], -1)
        labels = stack(rows, "labels")
        if labels is not None:
            batch["labels"] = labels if self.return_tensors == "pt" else labels.numpy()
        return batch


def _token_labels(rows: Sequence[Row]) -> list[list[int]] | None:
    labels = column(rows, "labels")
    if labels is None:
        return None
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if np.shape(label) != (len(row["input_ids"]),):
            raise _unequal(index, "labels", np.size(label), len(row["input_ids"]))
    return [as_lists(label) for label in labels]


def default_data_collator(
    features: Sequence[Any], return_tensors: TensorKind = "pt"
) -> dict[str, Any]:
    """Stack what rows hold, without padding: they must be of one length already.

    `label` (one number) and `label_ids` (several) become `labels`. Texts, and what is None in the
    first row, are left out.

    Args:
        features: B mappings, or objects with attributes, that all have what the first has.
        return_tensors: "pt" or "np".

    Raises:
        DataError: no row, one that lacks a key of the first, or values that cannot be stacked.
    """
    one_of("return_tensors", return_tensors, ("pt", "np"))
    rows = as_mappings(features)
    if not rows:
        raise DataError("a batch cannot be made of no rows", fix="give one row or more")
    names = [n for n, v in rows[0].items() if v is not None and not isinstance(v, str)]
    batch = {name: _stack_as_is(rows, name) for name in names if name not in LABELS}
    labels = stack(rows, "labels")
    if labels is not None:
        batch["labels"] = labels
    if return_tensors == "np":
        return {name: values.numpy() for name, values in batch.items()}
    return batch


def _stack_as_is(rows: Sequence[Row], name: str) -> Tensor:
    """Tensors and arrays keep their type of number; lists get torch's usual one."""
    values = column(rows, name)
    assert values is not None, "the first row has a value"
    try:
        if isinstance(values[0], Tensor):
            return torch.stack(values)
        return (
            torch.from_numpy(np.stack(values))
            if isinstance(values[0], np.ndarray)
            else torch.tensor(values)
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"the {name} of the rows cannot be stacked: {error}",
            fix="pad them: use DataCollatorWithPadding(tokenizer); leave out what is no number",
        ) from error
