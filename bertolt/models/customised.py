"""Whether someone has changed what calling a module does: only a plain one may be left out."""

from __future__ import annotations

from torch import nn

from bertolt.base.errors import UsageError
from bertolt.base.torch_private import COMPILED_INSIDE, is_customised, modules_inside


def is_watched(module: nn.Module) -> bool:
    """Whether this module, or one inside it, is customised."""
    inside = modules_inside(module).values()
    return is_customised(module) or any(each is not None and is_watched(each) for each in inside)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is no more than what the class `kind` says."""
    return type(module) is kind and not is_customised(module)


def require_unwrapped(model: object, taker: str) -> None:
    """Refuse a compiled model, or one made for several devices: the model inside is wanted.

    Raises:
        UsageError: with the attribute that has the model.
    """
    inside = dict(model.named_children()) if isinstance(model, nn.Module) else {}
    for name in ("module", COMPILED_INSIDE):
        if name in inside:
            raise UsageError(
                f"{taker} got a {type(model).__name__}, which is a wrapper around a "
                f"{type(inside[name]).__name__}",
                fix=f"give the model inside: model.{name}; Bertolt trains on several devices by "
                "torchrun, and needs no wrapper",
            )
