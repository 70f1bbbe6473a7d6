"""Any collator as one that packs, so that the loop sees one kind of batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bertolt.base.errors import DataError
from bertolt.data.batch import PackedBatch
from bertolt.data.collate import (
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PackingCollator,
    default_data_collator,
)
from bertolt.data.masking import DataCollatorForLanguageModeling, DataCollatorForWholeWordMask
from bertolt.models.own_forward import has_own_forward
from bertolt.models.pretrained import PreTrainedModel

Collator = Callable[[list[Any]], Any]


_PADDING = (
    DataCollatorWithPadding,
    DataCollatorForTokenClassification,
    DataCollatorForMultipleChoice,
)
_MASKING = (DataCollatorForLanguageModeling, DataCollatorForWholeWordMask)


def is_bertolts(collator: Collator) -> bool:
    """Whether the collator packs, or is replaced by one that does; a subclass may do more."""
    kind = type(collator)
    known = collator is default_data_collator or kind in (*_PADDING, *_MASKING)
    return known or isinstance(collator, PackingCollator)


def packing(
    collator: Collator | None, model: PreTrainedModel, eval_seed: int | None = None
) -> Callable[[list[Any]], PackedBatch]:
    """The collator as one that packs, with fixed masks for an evaluation."""
    if isinstance(collator, DataCollatorForTokenClassification) and has_own_forward(model):
        # A class of the user's own says by its collator what its labels are of.
        vars(model).update(labels_per_token=True, logits_per_token=True)
    # A subclass may do more than its base: it is called like any other collator.
    if collator is None or collator is default_data_collator or type(collator) in _PADDING:
        return PackingCollator(
            pad_token_id=model.config.pad_token_id, token_labels=model.labels_per_token
        )
    if isinstance(collator, PackingCollator):
        return collator
    if isinstance(collator, DataCollatorForLanguageModeling) and type(collator) in _MASKING:
        packing = copy.copy(collator)
        packing.packed = True
        packing.seed = eval_seed if packing.seed is None else packing.seed
        return packing

    def collate(rows: list[Any]) -> PackedBatch:
        batch = collator(rows)
        if isinstance(batch, PackedBatch):
            return batch
        if not isinstance(batch, Mapping):
            raise DataError(
                f"data_collator gave a {type(batch).__name__}",
                fix="return a PackedBatch, or a mapping with input_ids, attention_mask and labels",
            )
        tensors = {name: _as_tensor(values, name) for name, values in batch.items()}
        return model.enter(model.inputs_of(None, **tensors))[0]

    return collate


def _as_tensor(values: Any, name: str) -> torch.Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"data_collator gave {name} that cannot become a tensor: {error}",
            fix="return what the model takes alone: input_ids, attention_mask and labels",
        ) from error
