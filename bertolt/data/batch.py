"""`PackedBatch`, the one thing that flows from the collator to the loss, and what makes it.

Shapes: B sequences, T packed tokens (filler included), L padded length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bertolt.errors import DataError

IGNORE_INDEX = -100
"""A label with this value takes no part in the loss."""

ROW_MULTIPLE = 128
"""T is rounded up to a multiple of this: kernels are prepared once for each distinct shape."""

SMALL_ROW_MULTIPLE = 16
"""The same for batches smaller than `ROW_MULTIPLE`."""


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Sequences end to end, without padding between them.

    Attributes:
        input_ids: (T,) token ids, int64.
        token_type_ids: (T,) segment ids, int64.
        position_ids: (T,) places within each sequence, int64.
        cu_seqlens: (B+1,) int32, where each sequence starts, and the end of the last.
        max_seqlen: the longest sequence, in tokens.
        num_tokens: real tokens; rows from here to T are filler, and there is at least one.
        labels: what the head's loss compares with, or None: (B,) for one label a sequence.
        num_targets: labels that take part in the loss.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    num_tokens: int
    labels: Tensor | None = None
    num_targets: int = 0

    @property
    def num_sequences(self) -> int:
        """B."""
        return self.cu_seqlens.numel() - 1

    @property
    def first_rows(self) -> Tensor:
        """(B,) int64 row of the first token of each sequence."""
        return self.cu_seqlens[:-1].long()

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of each sequence."""
        return self.cu_seqlens.diff()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @classmethod
    def from_sequences(
        cls,
        input_ids: Sequence[Sequence[int] | np.ndarray],
        token_type_ids: Sequence[Sequence[int] | np.ndarray] | None = None,
        *,
        labels: Tensor | None = None,
        pad_token_id: int = 0,
        row_multiple: int = ROW_MULTIPLE,
    ) -> PackedBatch:
        """Pack B sequences of ids, each given as a list or an array.

        Raises:
            DataError: no sequence at all, one without a token, or one whose segment ids are not as
                many as its tokens.
        """
        lengths = np.fromiter((len(ids) for ids in input_ids), dtype=np.int64, count=len(input_ids))
        if len(lengths) == 0 or lengths.min() == 0:
            empty = (
                "no sequence" if len(lengths) == 0 else f"sequence {int(lengths.argmin())} empty"
            )
            raise DataError(f"a batch cannot be packed with {empty}", fix="leave empty texts out")
        cu_seqlens = np.zeros(len(lengths) + 1, dtype=np.int32)
        np.cumsum(lengths, out=cu_seqlens[1:])
        total = int(cu_seqlens[-1])
        rows = _padded_rows(total, row_multiple)
        ids = np.full(rows, pad_token_id, dtype=np.int64)
        np.concatenate(input_ids, out=ids[:total], casting="unsafe")
        types = np.zeros(rows, dtype=np.int64)
        if token_type_ids is not None:
            _require_same_lengths(lengths, token_type_ids)
            np.concatenate(token_type_ids, out=types[:total], casting="unsafe")
        positions = np.zeros(rows, dtype=np.int64)
        positions[:total] = np.arange(total) - np.repeat(cu_seqlens[:-1], lengths)
        return cls(
            input_ids=torch.from_numpy(ids),
            token_type_ids=torch.from_numpy(types),
            position_ids=torch.from_numpy(positions),
            cu_seqlens=torch.from_numpy(cu_seqlens),
            max_seqlen=int(lengths.max()),
            num_tokens=total,
            labels=labels,
            num_targets=_count_targets(labels),
        )

    @classmethod
    def from_padded(
        cls,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        row_multiple: int = ROW_MULTIPLE,
    ) -> tuple[PackedBatch, PaddedLayout]:
        """Pack a padded batch, all of shape (B, L), and remember where its tokens were.

        Positions default to the column, counted from the row's first real token, so that padding
        on the left and on the right give the same result.

        Raises:
            DataError: not of shape (B, L), a mask of another shape, or a row without a token.
        """
        _require_2d(input_ids, attention_mask)
        size, length = input_ids.shape
        mask = (
            torch.ones_like(input_ids, dtype=torch.bool)
            if attention_mask is None
            else attention_mask.bool()
        )
        if not bool(mask.any(dim=1).all()):
            row = int((~mask.any(dim=1)).nonzero()[0])
            raise DataError(f"row {row} of attention_mask has no token", fix="leave the row out")
        where = mask.flatten().nonzero().squeeze(1)
        lengths = mask.sum(dim=1)
        total = where.numel()
        cu_seqlens = torch.zeros(size + 1, dtype=torch.int32, device=input_ids.device)
        cu_seqlens[1:] = lengths.cumsum(0)
        if position_ids is None:
            first = mask.int().argmax(dim=1, keepdim=True)
            position_ids = (torch.arange(length, device=input_ids.device) - first).clamp_(min=0)
        rows = _padded_rows(total, row_multiple)

        def pack(values: Tensor | None) -> Tensor:
            packed = torch.zeros(rows, dtype=torch.long, device=input_ids.device)
            if values is not None:
                packed[:total] = values.expand(size, length).reshape(-1)[where]
            return packed

        batch = cls(
            input_ids=pack(input_ids),
            token_type_ids=pack(token_type_ids),
            position_ids=pack(position_ids),
            cu_seqlens=cu_seqlens,
            max_seqlen=int(lengths.max()),
            num_tokens=total,
            labels=labels,
            num_targets=_count_targets(labels),
        )
        return batch, PaddedLayout(size, length, where)


@dataclass(frozen=True)
class PaddedLayout:
    """Where the tokens of a padded batch were, to lay packed results out again.

    Attributes:
        size: B.
        length: L.
        where: (num_tokens,) flat index into B·L of each packed token.
    """

    size: int
    length: int
    where: Tensor

    def unpack(self, packed: Tensor) -> Tensor:
        """Lay (T, …) out as (B, L, …), with zeros at the padding."""
        flat = packed.new_zeros(self.size * self.length, *packed.shape[1:])
        flat = flat.index_copy(0, self.where, packed[: self.where.numel()])
        return flat.view(self.size, self.length, *packed.shape[1:])


def _require_same_lengths(
    lengths: np.ndarray[Any, Any], token_type_ids: Sequence[Sequence[int] | np.ndarray]
) -> None:
    found = [len(types) for types in token_type_ids]
    if found == lengths.tolist():
        return
    pairs = zip(lengths, found, strict=False)
    row = next((row for row, (count, types) in enumerate(pairs) if count != types), len(found))
    raise DataError(
        f"sequence {row} has not as many token_type_ids as input_ids",
        fix="give every token its segment id, or none",
    )


def _require_2d(input_ids: Tensor, attention_mask: Tensor | None) -> None:
    if input_ids.dim() != 2:
        raise DataError(
            f"input_ids have the shape {tuple(input_ids.shape)}, and (B, L) is needed",
            fix="for a single text, add a dimension: input_ids[None]",
        )
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise DataError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, and input_ids "
            f"{tuple(input_ids.shape)}",
            fix="pass both as the tokenizer gave them",
        )


def _padded_rows(total: int, multiple: int) -> int:
    # One row more than needed: attention counts on a last row that is filler. A batch that does not
    # fill one multiple, a single text for instance, is rounded less coarsely.
    multiple = multiple if total >= multiple else min(multiple, SMALL_ROW_MULTIPLE)
    return -(-(total + 1) // multiple) * multiple


def _count_targets(labels: Tensor | None) -> int:
    if labels is None:
        return 0
    if labels.is_floating_point():
        return labels.shape[0]
    return int((labels != IGNORE_INDEX).sum())


class Tokenizer(Protocol):
    """What collators need of a tokenizer."""

    pad_token_id: int

    def pad(self, features: Any, **options: Any) -> Any:
        """Pad features to one length and return tensors."""


class PackingCollator:
    """Turn rows of ids into a `PackedBatch`; padding already in a row is taken out.

    A row is a mapping with `input_ids`, and where present `token_type_ids`, `attention_mask` and
    `label` or `labels` (an int for a class, a float or a list of floats for regression and for
    several labels at once). Other keys are left out.
    """

    def __init__(self, *, pad_token_id: int = 0, row_multiple: int = ROW_MULTIPLE) -> None:
        self.pad_token_id = pad_token_id
        self.row_multiple = row_multiple

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> PackedBatch:
        """Pack one batch of rows."""
        ids = [_without_padding(row, "input_ids") for row in rows]
        types = None
        if all("token_type_ids" in row for row in rows):
            types = [_without_padding(row, "token_type_ids") for row in rows]
        return PackedBatch.from_sequences(
            ids,
            types,
            labels=stack_labels(rows),
            pad_token_id=self.pad_token_id,
            row_multiple=self.row_multiple,
        )


def _without_padding(row: Mapping[str, Any], name: str) -> np.ndarray[Any, Any]:
    values = np.asarray(row[name])
    mask = row.get("attention_mask")
    return values if mask is None else values[np.asarray(mask) != 0]


def stack_labels(rows: Sequence[Mapping[str, Any]]) -> Tensor | None:
    """The labels of rows as one tensor: int64 for classes, float32 otherwise; None if unlabelled.

    Raises:
        DataError: only some of the rows have a label.
    """
    values = [row.get("labels", row.get("label")) for row in rows]
    missing = [index for index, value in enumerate(values) if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise DataError(
            f"row {missing[0]} of the batch has no label, and others have",
            fix="give every row a label, or none",
        )
    labels = torch.as_tensor(np.asarray(values))
    return labels.float() if labels.is_floating_point() else labels.long()


class DataCollatorWithPadding:
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
        return_tensors: str = "pt",
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
        for name in ("label", "label_ids"):
            if name in batch:
                batch["labels"] = batch.pop(name)
        return batch
