"""Evaluation mode for a while, of a model that several threads may answer with."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from torch import nn

from bertolt.base.torch_private import every_module

_lock = threading.Lock()
_restored: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()
"""How many are answering with a model that was in training mode, and the modules that were."""


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module is then as it was.

    Where several threads answer with the model, the last of them to end puts its modules back, so
    that no dropout begins under another's pass.

    A model that is in it already, as for one prediction after the other, is only looked at: setting
    it anew and back takes many times as long, and so does `model.modules()`.
    """
    with _lock:
        users, modules = _restored.get(model, (0, []))
        training = [module for module in every_module(model) if module.training]
        if training:
            model.eval()
            modules = [*modules, *training]
        if modules:
            _restored[model] = users + 1, modules
    try:
        yield
    finally:
        if modules:
            _leave(model)


def _leave(model: nn.Module) -> None:
    """Put the modules back, unless others are still answering."""
    with _lock:
        users, modules = _restored.pop(model)
        if users > 1:
            _restored[model] = users - 1, modules
            return
        for module in modules:
            module.training = True
