"""Whether someone has changed what calling a module does: only an unchanged one may be left out."""

from __future__ import annotations

from torch import nn


def has_hooks(module: nn.Module) -> bool:
    """Whether something else runs where the module is called, or where its gradient is made."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def has_own_forward(module: nn.Module) -> bool:
    """Whether this module is compiled, or has another `forward` than its class."""
    return "forward" in vars(module) or getattr(module, "_compiled_call_impl", None) is not None


def untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is no more than what the class `kind` says."""
    return type(module) is kind and not has_hooks(module) and not has_own_forward(module)
