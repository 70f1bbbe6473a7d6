"""A model whose class has a `forward` of the user's own: it is called as it was written, padded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bertolt.base.errors import UsageError
from bertolt.data.batch import IGNORE_INDEX, TARGETS, PackedBatch
from bertolt.models.pretrained import PreTrainedModel


def has_own_forward(model: nn.Module) -> bool:
    """Whether the class replaces Bertolt's `forward` by one that takes padded batches alone."""
    forward = type(model).forward
    if str(forward.__module__).split(".")[0] == "bertolt":
        return False
    return "batch" not in inspect.signature(forward).parameters


def loss_in(outputs: Any) -> Tensor:
    """The loss that a forward of any kind gave: in a mapping, as an attribute, or first of several.

    Raises:
        UsageError: there is none.
    """
    if isinstance(outputs, tuple | list):
        loss = outputs[0] if outputs else None
    elif isinstance(outputs, Mapping):
        loss = outputs.get("loss")
    else:
        loss = getattr(outputs, "loss", None)
    if isinstance(loss, Tensor):
        return loss
    raise UsageError(
        f"forward gave a {type(outputs).__name__} without a loss",
        fix='return an output with `loss`, {"loss": …} or (loss, logits) when there are labels; '
        "or define compute_loss in a subclass of Trainer",
    )


def padded_inputs(model: PreTrainedModel, batch: PackedBatch) -> dict[str, Tensor]:
    """A packed batch as the padded call of this model takes it.

    Positions are left out where they are the usual ones. A `forward` of the user's own gets what it
    names of the mask, the segments and the positions.
    """
    config = model.config
    inputs = batch.padded(pad_token_id=config.pad_token_id, position_offset=config.position_offset)
    if has_own_forward(model):
        named = inspect.signature(type(model).forward).parameters.values()
        if all(each.kind is not each.VAR_KEYWORD for each in named):
            names = {each.name for each in named} | TARGETS_AND_WORDS
            return {name: value for name, value in inputs.items() if name in names}
    return inputs


TARGETS_AND_WORDS = {"input_ids", "inputs_embeds", *TARGETS}
"""What a `forward` must take, or it is told that it does not."""


def answer_padded(model: PreTrainedModel, batch: PackedBatch) -> Any:
    """What the own forward gives for a batch, in the layout of a packed one: (T, …) for tokens.

    Raises:
        UsageError: it gave no logits.
    """
    outputs = model(**padded_inputs(model, batch))
    targets = any(getattr(batch, name) is not None for name in model.targets)
    values = dict(_named(outputs, with_loss=targets))
    if not any(name.endswith("logits") for name in values):
        raise UsageError(
            f"forward gave a {type(outputs).__name__} without logits",
            place=type(model).__name__,
            fix='return an output with `logits`, {"logits": …} or (loss, logits)',
        )
    packed = {name: _packed(model, batch, value) for name, value in values.items()}
    return SimpleNamespace(**packed, loss_terms={})


def _named(outputs: Any, *, with_loss: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(outputs, Tensor):
        yield "logits", outputs
    elif isinstance(outputs, tuple | list):
        behind = outputs[1:] if with_loss and torch.is_tensor(outputs[0]) else outputs
        yield from zip(("logits", "other"), behind, strict=False)
    else:
        values = dict(outputs) if isinstance(outputs, Mapping) else vars(outputs)
        yield from ((name, value) for name, value in values.items() if name.endswith("logits"))


def _packed(model: PreTrainedModel, batch: PackedBatch, value: Any) -> Any:
    length = int(batch.lengths.max())
    if not isinstance(value, Tensor) or value.shape[:2] != (batch.num_sequences, length):
        return value
    if not model.logits_per_token:
        return value
    rows = value[batch.sequence, batch.column]
    if model.labelled_only(batch) and batch.labels is not None:
        return rows[batch.labels[: batch.num_tokens] != IGNORE_INDEX]
    return rows
