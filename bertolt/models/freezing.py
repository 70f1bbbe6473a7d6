"""Layers that training leaves as they are."""

from __future__ import annotations

from typing import Literal

from torch import nn

from bertolt.base.errors import UsageError
from bertolt.models.pretrained import PreTrainedModel


def freeze_layers(model: PreTrainedModel, lowest: int | Literal["all"]) -> int:
    """Let the embeddings and the lowest layers of the encoder train no more.

    Args:
        model: with its backbone.
        lowest: how many layers above the embeddings; "all": the whole backbone, so that the head
            alone learns.

    Returns:
        The number of parameters that are frozen.

    Raises:
        UsageError: the model has fewer layers.
    """
    backbone = model.base_model
    layers = list(backbone.encoder.layer)
    if lowest != "all" and lowest > len(layers):
        raise UsageError(
            f"the model has {len(layers)} layers, and {lowest} are to be frozen",
            place="--freeze",
            fix=f"give a number from 0 to {len(layers)}, or all",
        )
    parts: list[nn.Module] = (
        [backbone] if lowest == "all" else [backbone.embeddings, *layers[:lowest]]
    )
    parameters = [parameter for part in parts for parameter in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad = False
    return sum(parameter.numel() for parameter in parameters)
