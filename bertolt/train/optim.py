"""The optimizer's side of training: parameter groups and AdamW; `schedules.py` has its rates."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bertolt.base.errors import UsageError

_CLIP_MARGIN = 1e-6  # as in torch's own clipping
_STEP = inspect.unwrap(torch.optim.AdamW.step)


_LAYER = re.compile(r"(?:^|\.)encoder\.layer\.([0-9]+)\.")


def layered_groups(
    model: nn.Module, weight_decay: float, rate: float, decay: float
) -> list[dict[str, Any]]:
    """The groups of `parameter_groups` for each layer, with a rate of its own.

    The head, and what else stands above the encoder, learns at `rate`, the uppermost layer at
    `rate * decay`, each layer below at `decay` times the rate of the one above it, and the
    embeddings below the lowest. The groups of the head come first. Source: C. Sun, X. Qiu, Y. Xu,
    X. Huang, "How to fine-tune BERT for text classification?", CCL 2019.

    Args:
        model: whose encoder's layers are called `encoder.layer.N`.
        weight_decay: as in `parameter_groups`.
        rate: of the head.
        decay: above 0, to 1.

    Raises:
        UsageError: as `parameter_groups`.
    """
    numbers = [
        int(match[1]) for name, _ in model.named_parameters() if (match := _LAYER.search(name))
    ]
    above = max(numbers, default=-1) + 2
    depths = {}
    for name, parameter in model.named_parameters():
        match = _LAYER.search(name)
        below = "embeddings." in name
        depths[id(parameter)] = int(match[1]) + 1 if match else 0 if below else above
    groups = []
    for group in parameter_groups(model, weight_decay):
        for depth in sorted({depths[id(p)] for p in group["params"]}, reverse=True):
            parameters = [p for p in group["params"] if depths[id(p)] == depth]
            groups.append({**group, "params": parameters, "lr": rate * decay ** (above - depth)})
    return sorted(groups, key=lambda group: -group["lr"])


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: trainable parameters that decay, and those that do not.

    Biases and the weights of normalisation layers do not decay, as in BERT's own training code:
    they are few, and pulling a scale towards zero is no regularisation. A tied parameter is
    counted once, at the first module that holds it. Both groups are always there, so that a saved
    optimizer state fits whatever is frozen.

    Raises:
        UsageError: `weight_decay` is negative, or every parameter is frozen.
    """
    if weight_decay < 0:
        raise UsageError(f"weight_decay is {weight_decay}", fix="give 0 or more")
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                spare = "bias" in name or type(module).__name__.endswith("Norm")
                (spared if spare else decayed).append(parameter)
    if not seen:
        raise UsageError(
            "the model has nothing to train: every parameter is frozen",
            fix="set requires_grad=True on the parameters to train",
        )
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


class AdamW(torch.optim.AdamW):
    """AdamW as torch computes it, with the call and the defaults that BERT's users know.

    The first five arguments and their defaults (`eps=1e-6`, no weight decay) are those of the
    `AdamW` that used to come with `transformers`, so that `AdamW(model.parameters(), lr=5e-5)`
    trains as it did there; torch's own defaults are `eps=1e-8` and `weight_decay=0.01`. Source of
    the rule: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay rates of the two running means.
        eps: added to the denominator.
        weight_decay: decoupled decay, as a share of the weight times `lr`, each step.
        correct_bias: must be True; the uncorrected form is not offered.
        no_deprecation_warning: accepted and without effect.
        fused: one kernel for the whole update. None chooses it where parameters allow it: floating
            point, on a CPU or a CUDA device.
        options: `amsgrad`, `maximize`, `foreach`, `capturable`, `differentiable` of torch.

    Raises:
        UsageError: `correct_bias=False`.
    """

    # PyTorch's own, without wrappers: one keeps its compiler out and imports it for that, a second
    # of each start. What others have wrapped around these methods is left out too. So is `step`.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        no_deprecation_warning: bool = True,
        *,
        fused: bool | None = None,
        **options: Any,
    ) -> None:
        if not correct_bias:
            raise UsageError(
                "correct_bias=False is not offered",
                place="AdamW",
                fix="leave it out; warmup steps keep the first updates small",
            )
        super().__init__(params, lr, betas, eps, weight_decay, fused=fused, **options)
        excluded = options.get("foreach") or options.get("differentiable")
        if fused is None and not excluded and self._can_fuse():
            # The groups are read here because `params` may be a generator, read only once.
            self.defaults["fused"] = True
            for group in self.param_groups:
                group["fused"] = True

        # What torch's step divides gradients by, and 1 where it must leave everything as it is.
        self.grad_scale: Tensor | None = None
        self.found_inf: Tensor | None = None
        self._rows: dict[nn.Parameter, Tensor] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.grad_scale, self.found_inf, self._rows = None, None, {}

    def step(self, closure: Any = None) -> Any:
        """Update the parameters as torch's `AdamW.step` does; returns what `closure` returns."""
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return _STEP(self, closure)

    def step_clipped(self, norm: Tensor, max_norm: float) -> None:
        """Update with gradients of this norm scaled down to `max_norm`, without a pass of its own.

        Only for what `fused` computes.
        """
        self.grad_scale = ((norm + _CLIP_MARGIN) / max_norm).clamp(min=1.0).float()
        try:
            self.step()
        finally:
            self.grad_scale = None

    @property
    def fused(self) -> bool:
        """Whether one kernel makes the whole update."""
        return all(group["fused"] for group in self.param_groups)

    def _can_fuse(self) -> bool:
        parameters = [p for group in self.param_groups for p in group["params"]]
        return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)

    @contextlib.contextmanager
    def dense_gradients(self) -> Iterator[None]:
        """Inside, sparse gradients are dense ones.

        Their rows are written into a table of zeros that is kept: only these rows are cleared.
        """
        sparse = {
            parameter: parameter.grad.coalesce()
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        }
        for parameter, grad in sparse.items():
            rows = self._rows.get(parameter)
            if rows is None or rows.dtype != grad.dtype:
                self._rows[parameter] = torch.zeros_like(parameter, requires_grad=False)
            parameter.grad = self._rows[parameter].index_copy_(0, grad.indices()[0], grad.values())
        try:
            yield
        finally:
            for parameter, grad in sparse.items():
                self._rows[parameter].index_fill_(0, grad.indices()[0], 0.0)
                parameter.grad = grad
