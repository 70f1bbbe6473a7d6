"""`PaddedBatch`: a batch as a collator or a loader of the user's own made it, by name.

For models, losses and steps that are called as they were written; everything else is packed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from bertolt.base.errors import DataError
from bertolt.data.batch import IGNORE_INDEX, TARGETS, PackedBatch


@dataclass(frozen=True, kw_only=True)
class PaddedBatch:
    """The arguments of one call of a model.

    Attributes:
        inputs: tensors and what else the model takes, by name.
        label_names: of the inputs that a loss compares with; None: those of `TARGETS`.
        loss_counts: labels in all the batches that act as one with this; None: those of this batch.
        is_placeholder: it is there for a process that has no rows of its own, and counts nothing.
    """

    inputs: Mapping[str, Any]
    label_names: tuple[str, ...] | None = None
    loss_counts: Mapping[str, int] | None = None
    is_placeholder: bool = False
    empty_sequences: ClassVar[int] = 0

    @classmethod
    def of(cls, values: Any, label_names: tuple[str, ...] | None = None) -> PaddedBatch:
        """What a collator or a loader gave, if it is a mapping.

        Raises:
            DataError: it is none.
        """
        if isinstance(values, PackedBatch):
            values = values.padded()
        if not isinstance(values, Mapping):
            raise DataError(
                f"a batch is a {type(values).__name__}",
                place="the data loader or data_collator",
                fix="give a mapping: input_ids, attention_mask, labels and what else the model "
                "takes, by name",
            )
        return cls(inputs=dict(values), label_names=label_names)

    @property
    def num_sequences(self) -> int:
        """Rows: the first dimension of the first input that has one."""
        for value in self.inputs.values():
            if isinstance(value, Tensor) and value.dim():
                return value.shape[0]
        return 1

    @property
    def num_documents(self) -> int:
        """The same: no row is a window of another."""
        return self.num_sequences

    @property
    def num_tokens(self) -> int:
        """Real tokens by the mask, or all of `input_ids`; rows where there are no tokens."""
        mask, ids = self.inputs.get("attention_mask"), self.inputs.get("input_ids")
        if isinstance(mask, Tensor) and mask.dim() <= 3:
            return int(mask.ne(0).sum())
        return ids.numel() if isinstance(ids, Tensor) else self.num_sequences

    @property
    def num_rows(self) -> int:
        """Tokens and padding together."""
        ids = self.inputs.get("input_ids")
        return ids.numel() if isinstance(ids, Tensor) else self.num_sequences

    @property
    def labels(self) -> dict[str, Any]:
        """The inputs that a loss compares with, by name."""
        names = TARGETS if self.label_names is None else self.label_names
        return {name: self.inputs[name] for name in names if self.inputs.get(name) is not None}

    def count_labels(self) -> int:
        """Labels that take part in a loss; rows where there are none, or none that is a tensor."""
        tensors = [each for each in self.labels.values() if isinstance(each, Tensor)]
        if not tensors:
            return self.num_sequences
        return sum(
            each.shape[0] if each.is_floating_point() else int((each != IGNORE_INDEX).sum())
            for each in tensors
        )

    def padded(self, **_: int) -> dict[str, Any]:
        """The arguments, in a dict that may be changed."""
        return dict(self.inputs)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PaddedBatch:
        """The same batch on another device."""
        move = _mapped(self.inputs, lambda each: each.to(device, non_blocking=non_blocking))
        return replace(self, inputs=move)

    def pin_memory(self) -> PaddedBatch:
        """The same batch in memory that a GPU can copy from while the CPU goes on."""
        pin = _mapped(self.inputs, lambda each: each if each.is_cuda else each.pin_memory())
        return replace(self, inputs=pin)


Batch = PackedBatch | PaddedBatch


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure of mappings, lists and tuples with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(each, change) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(each, change) for each in value)
    return value


def moved(value: Any, device: torch.device) -> Any:
    """The same structure on a device."""
    return _mapped(value, lambda each: each.to(device))
