"""Weights that are handed over by their names, as a `state_dict` is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bertolt.base.console import info
from bertolt.base.errors import UsageError, WeightsError
from bertolt.checkpoint.loadable import Loadable
from bertolt.checkpoint.report import WRAPPERS


def wrapper_of(names: Iterable[str], own: Iterable[str]) -> str:
    """What a wrapper of the model has put before all of its names; empty if there is none."""
    known, found = set(own), {(WRAPPERS.match(name) or [""])[0] for name in names}
    if len(found) != 1:
        return ""
    (prefix,) = found
    return prefix if any(name.removeprefix(prefix) in known for name in names) else ""


def require_unwrapped_names(model: Loadable, weights: Mapping[str, Any]) -> None:
    """Refuse a `state_dict` of a wrapped model, whose names would all be unknown.

    Raises:
        WeightsError: with the line that takes the wrapper's prefix away.
    """
    own = model.state_dict()
    if weights.keys() & own.keys() or not (prefix := wrapper_of(weights, own)):
        return
    kind = type(model).__name__
    raise WeightsError(
        f"all names begin with {prefix!r}: the state_dict is of a wrapper around a {kind}",
        fix=f"load_state_dict({{name.removeprefix({prefix!r}): value for name, value in "
        "weights.items()})",
    )


def weights_for(model: Loadable, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights to write of a model, from a `state_dict` of it or of a wrapper around it.

    Raises:
        UsageError: a tensor more or less, or of another shape.
    """
    own = model.state_dict()
    prefix = wrapper_of(weights, own)
    given = {name.removeprefix(prefix): value for name, value in weights.items()}
    for name in [*own, *given]:
        here, there = own.get(name), given.get(name)
        if here is None or not isinstance(there, torch.Tensor) or here.shape != there.shape:
            shapes = [None if each is None else tuple(each.shape) for each in (there, here)]
            raise UsageError(
                f"{name} of the state_dict has the shape {shapes[0]}, and the model's {shapes[1]}",
                fix="give the state_dict of this very model, or leave it out",
            )
    return given


def tell_of_shapes(model: nn.Module, twin: nn.Module) -> None:
    """Tell of a parameter that `twin`, a model by the same config, has in another shape."""
    known = dict(twin.named_parameters())
    for name, own in model.named_parameters():
        if name in known and known[name].shape != own.shape:
            shapes = f"{tuple(own.shape)}, and by its config {tuple(known[name].shape)}"
            info(
                f"Caution: {name} has the shape {shapes}: the folder will open with "
                "ignore_mismatched_sizes=True alone. Let the config say what the model is, as by "
                "model.config.num_labels = …, and save again"
            )
            return
