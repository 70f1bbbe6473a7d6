"""Evaluation mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from bertolt.base.torch_private import every_module


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module is then as it was.

    A model that is in it already, as for one prediction after the other, is only looked at: setting
    it anew and back takes many times as long, and so does `model.modules()`.
    """
    training = [module for module in every_module(model) if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
