"""Whether someone has changed what calling a module does: only a plain one may be left out."""

from __future__ import annotations

from torch import nn

from bertolt.base.errors import UsageError


def is_customised(module: nn.Module) -> bool:
    """Whether calling this module does more, or other things, than its class says.

    It has hooks, is compiled, or has another `forward`. Captured steps ask every module of a model
    before each replay, so it is one look into its attributes.
    """
    own = vars(module)
    return bool(
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or own.get("_compiled_call_impl") is not None
    )


def is_watched(module: nn.Module) -> bool:
    """Whether this module, or one inside it, is customised."""
    if is_customised(module):
        return True
    return any(child is not None and is_watched(child) for child in module._modules.values())


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is no more than what the class `kind` says."""
    return type(module) is kind and not is_customised(module)


def require_unwrapped(model: object, taker: str) -> None:
    """Refuse a compiled model, or one made for several devices: the model inside is wanted.

    Raises:
        UsageError: with the attribute that has the model.
    """
    for name in ("module", "_orig_mod"):
        if isinstance(model, nn.Module) and isinstance(model._modules.get(name), nn.Module):
            raise UsageError(
                f"{taker} got a {type(model).__name__}, which is a wrapper around a "
                f"{type(model._modules[name]).__name__}",
                fix=f"give the model inside: model.{name}; Bertolt trains on several devices by "
                "torchrun, and needs no wrapper",
            )
