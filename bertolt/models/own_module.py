"""A module of the user's own, as a run takes it: called with padded batches, as it was written."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertolt.base.errors import UsageError
from bertolt.data.padded import PaddedBatch
from bertolt.models.pretrained import PreTrainedModel


class OwnModule(nn.Module):
    """What a run asks of a model, for one that knows nothing of packed batches.

    Args:
        module: takes the inputs of a batch by name.

    Attributes:
        module: the user's, unchanged.
    """

    targets: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: PaddedBatch) -> Any:
        """What the module gives for a batch."""
        return self.module(**batch.padded())

    def count_targets(self, batch: PaddedBatch) -> dict[str, int]:
        """How many labels the loss of a batch is a mean of."""
        return {"labels": batch.count_labels()}

    def get_input_embeddings(self) -> None:
        """Its gradient is like all others."""

    def get_output_embeddings(self) -> None:
        """There is no layer that a run would look at."""

    def require_trained(self, purpose: str) -> None:
        """Nobody knows what of it was trained before."""

    def gradient_checkpointing_enable(self) -> None:
        """Let the module, or the models of Bertolt's inside it, keep less and compute it again.

        Raises:
            UsageError: neither can.
        """
        own = getattr(self.module, "gradient_checkpointing_enable", None)
        inside = models_inside(self.module)
        for enable in [own] if own else [each.gradient_checkpointing_enable for each in inside]:
            enable()
        if own is None and not inside:
            raise UsageError(
                f"gradient_checkpointing, and a {type(self.module).__name__} cannot do it",
                fix="leave it out, or define gradient_checkpointing_enable",
            )


def no_loss(module: nn.Module) -> Tensor:
    """A loss of 0 that leads to every parameter, for a batch without a label."""
    return torch.stack([each.sum() * 0.0 for each in module.parameters()]).sum()


def inner(model: nn.Module) -> Any:
    """The model as the user knows it."""
    return model.module if isinstance(model, OwnModule) else model


def models_inside(module: nn.Module) -> list[PreTrainedModel]:
    """Models of Bertolt's in a module, those inside of others left out."""
    if isinstance(module, PreTrainedModel):
        return [module]
    return [each for child in module.children() for each in models_inside(child)]


def moved_to(module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """The module on a device, with attention chosen for the format that it will compute in."""
    module.to(device)
    for model in models_inside(module):
        model.move(device, dtype)
    return module


def accepted_names(module: nn.Module) -> frozenset[str] | None:
    """Names that a module's `forward` takes; None: any."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters)


def outputs_by_name(outputs: Any, *, with_loss: bool) -> dict[str, Any]:
    """What a forward of any kind gave beside its loss, by name or number.

    Args:
        outputs: a mapping, a tuple, a tensor, or an object with attributes.
        with_loss: the first of several is the loss.
    """
    if isinstance(outputs, Tensor):
        return {"0": outputs}
    if isinstance(outputs, tuple | list):
        behind = outputs[1:] if with_loss else outputs
        return {str(number): value for number, value in enumerate(behind)}
    named = outputs if isinstance(outputs, Mapping) else vars(outputs)
    values = {name: named[name] for name in named}
    return {n: v for n, v in values.items() if n not in ("loss", "loss_terms") and v is not None}
