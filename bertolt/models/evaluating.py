"""Evaluation mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module is then as it was.

    A model that is in it already, as for one prediction after the other, is only looked at: setting
    it anew and back takes many times as long, and so does `model.modules()`.
    """
    modules = [model]
    for module in modules:  # which grows
        modules.extend(filter(None, module._modules.values()))
    training = [module for module in modules if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
