"""What is refused of the tensors of a padded batch.

Shapes: B sequences, L padded length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bertolt.base.errors import DataError


def require_padded(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    position_ids: Tensor | None,
) -> None:
    """Refuse tensors of a padded batch that are not (B, L), or hold what they cannot.

    Raises:
        DataError: they do.
    """
    if not isinstance(input_ids, Tensor) or input_ids.dim() != 2 or not input_ids.numel():
        shape = (
            f"have the shape {tuple(input_ids.shape)}"
            if isinstance(input_ids, Tensor)
            else f"are a {type(input_ids).__name__}"
        )
        raise DataError(
            f"input_ids {shape}, and a tensor of (B, L) is needed",
            fix='call the tokenizer with return_tensors="pt"; for a single text, input_ids[None]',
        )
    for name, values in (
        ("input_ids", input_ids),
        ("attention_mask", attention_mask),
        ("token_type_ids", token_type_ids),
        ("position_ids", position_ids),
    ):
        if values is None:
            continue
        if name in ("token_type_ids", "position_ids") and values.dim() < 3:
            # One row for all sequences will do.
            values = values.expand_as(input_ids) if _expands(values, input_ids) else values
        require_shape(name, values, input_ids)
        if name != "attention_mask" and values.is_floating_point():
            raise DataError(f"{name} are {values.dtype}", fix="give whole numbers: .long()")
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        strange = attention_mask[(attention_mask != 0) & (attention_mask != 1)]
        if strange.numel():
            raise DataError(
                f"attention_mask holds {strange[0].item():g}, and 1 or 0 is needed",
                fix="1 where there is a token, 0 at the padding",
            )


def _expands(values: Tensor, input_ids: Tensor) -> bool:
    return values.shape in (input_ids.shape[1:], (1, input_ids.shape[1]))


def require_shape(name: str, values: Tensor, input_ids: Tensor) -> None:
    """Refuse a tensor that has not the shape of the ids.

    Raises:
        DataError: it has not.
    """
    if values.shape != input_ids.shape:
        raise DataError(
            f"{name} has the shape {tuple(values.shape)}, and input_ids {tuple(input_ids.shape)}",
            fix="pass both as the tokenizer and the collator gave them",
        )
