"""Whether someone has changed what calling a module does: only an unchanged one may be left out."""

from __future__ import annotations

from torch import nn


def touched(module: nn.Module) -> bool:
    """Whether calling this module does more, or other things, than its class says.

    It has hooks, is compiled, or was given another `forward`. Every module of a model is asked
    before each replayed step and each answer, so it is one look into its attributes.
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


def untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is no more than what the class `kind` says."""
    return type(module) is kind and not touched(module)
