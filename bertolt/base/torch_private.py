"""Every name of PyTorch that it does not promise to keep, in this one place.

Behind each is a shorter way to what PyTorch can do in a documented one as well. A `Shortcut` looks
its names up when it is first asked for, with the arguments that operators take here, and some prove
that they compute what they should. Where one fails, the documented way is taken, and `off` says so
to `bertolt inspect` and `bertolt bench`. No other module uses such a name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

COMPILED_INSIDE = "_orig_mod"
"""The attribute of what `torch.compile` gives that has the module which was compiled."""
_TOLERANCE = 0.05  # products in fp32 may be set to run in fewer digits


@dataclass(frozen=True, eq=False)
class Shortcut:
    """A shorter way, and the names that it goes by.

    Attributes:
        what: it is, in words for the user.
        instead: what is done without it.
        names: what looks each name up; an AttributeError says that it is not as it was.
        proof: whether a small sum comes out as it should.
    """

    what: str
    instead: str
    names: Mapping[str, Callable[[], object]]
    proof: Callable[[], bool] | None = None

    @functools.cached_property
    def why_not(self) -> str:
        """What stands against it in this PyTorch, in words for the user; empty: nothing."""
        try:
            for look_up in self.names.values():
                look_up()
            if self.proof is not None and not self.proof():
                return f"PyTorch {torch.__version__} computes something else by it"
        except (AttributeError, ImportError, KeyError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return f"PyTorch {torch.__version__} does not have it as expected ({reason[:200]})"
        return ""

    @functools.cached_property
    def on(self) -> bool:
        """Whether it can be taken."""
        return not self.why_not


def off() -> list[str]:
    """The shortcuts that are not taken with this PyTorch: what, why, and what is done instead."""
    return [f"{each.what}: {each.why_not}; {each.instead}" for each in SHORTCUTS if each.why_not]


def _taking(operator: Any, arguments: str, results: int = 1) -> Any:
    """An operator, if its first arguments have these names, others may be left out, and it returns
    so many results.

    Raises:
        AttributeError: it was changed.
    """
    schema, names = operator._schema, tuple(arguments.split())
    there = tuple(each.name for each in schema.arguments)
    needed = [each.name for each in schema.arguments[len(names) :] if not each.has_default_value()]
    if there[: len(names)] != names or needed or len(schema.returns) != results:
        raise AttributeError(f"{operator} takes or returns something else")
    return operator


# ---- products on a CPU ----


class FusedLinear(NamedTuple):
    """oneDNN's products, which do what follows while they write down what they computed.

    Attributes:
        reorder: a weight (out, in) in the order that the kernels read.
        multiply: x, such a weight, bias, activation, its numbers, its form.
        multiply_add: x, a residual, such a weight, bias, "add".
    """

    reorder: Callable[..., Tensor]
    multiply: Callable[..., Tensor]
    multiply_add: Callable[..., Tensor]


def fused_linear() -> FusedLinear:
    """The operators of `FUSED_PRODUCTS`, looked up once: that takes as long as a small product."""
    ops = torch.ops.mkldnn
    return FusedLinear(
        ops._reorder_linear_weight.default,
        ops._linear_pointwise.default,
        ops._linear_pointwise.binary,
    )


def _fused_products_agree() -> bool:
    x, weight, bias = _numbers(4, 8), _numbers(16, 8), _numbers(16)
    reorder, multiply, multiply_add = fused_linear()
    packed, expected, residual = reorder(weight), F.linear(x, weight, bias), _numbers(4, 16)
    return all(
        torch.allclose(found, wanted, atol=_TOLERANCE)
        for found, wanted in (
            (multiply(x, packed, bias, "relu", [], ""), expected.relu()),
            (multiply_add(x, residual, packed, bias, "add"), expected + residual),
        )
    )


def _numbers(*shape: int) -> Tensor:
    """Numbers from -1 to 1 in no regular order, drawn from no generator."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float32)
    return torch.sin(7.0 * count).view(shape)


def _require_onednn() -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise AttributeError("it was built without oneDNN")


FUSED_PRODUCTS = Shortcut(
    what="fused products on a CPU",
    instead="bias, activation and residual are passes of their own",
    names={
        "oneDNN": _require_onednn,
        "torch.ops.mkldnn._reorder_linear_weight": lambda: _taking(
            torch.ops.mkldnn._reorder_linear_weight.default, "self"
        ),
        "torch.ops.mkldnn._linear_pointwise": lambda: _taking(
            torch.ops.mkldnn._linear_pointwise.default, "X W B attr scalars algorithm"
        ),
        "torch.ops.mkldnn._linear_pointwise.binary": lambda: _taking(
            torch.ops.mkldnn._linear_pointwise.binary, "X other W B attr"
        ),
    },
    proof=_fused_products_agree,
)

FUSED_BF16_PRODUCTS = Shortcut(
    what="fused products on a CPU in bfloat16",
    instead="bias, activation and residual are passes of their own",
    names={
        **FUSED_PRODUCTS.names,
        "torch.ops.mkldnn._is_mkldnn_bf16_supported": lambda: _taking(
            torch.ops.mkldnn._is_mkldnn_bf16_supported.default, ""
        ),
    },
)


def has_fused_products(dtype: torch.dtype) -> bool:
    """Whether `fused_linear` takes weights of this format here: fp32 or bfloat16."""
    if dtype == torch.float32 or not FUSED_PRODUCTS.on:
        return FUSED_PRODUCTS.on
    return FUSED_BF16_PRODUCTS.on and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Int8Linear(NamedTuple):
    """oneDNN's products in 8 bits: what packs a weight (out, in), and what multiplies by it."""

    prepack: Callable[..., Tensor]
    multiply: Callable[..., Tensor]


def int8_linear() -> Int8Linear:
    """The operators of `INT8_PRODUCTS`."""
    ops = torch.ops.onednn
    return Int8Linear(ops.qlinear_prepack.default, ops.qlinear_pointwise.default)


_SURE_LEVELS = 63  # of a weight: two products with a level of 255 have a sum of 16 bits


@functools.cache
def int8_levels() -> int:
    """The greatest level of a weight in 8 bits whose products are right here.

    It is 127, or 63 where a processor adds two products in 16 bits, and takes what is more for the
    most that these hold.
    """
    inner, most = 64, 127
    prepack, multiply = int8_linear()
    packed = prepack(torch.full((1, inner), most, dtype=torch.int8), None)
    x, one = torch.full((1, inner), 255, dtype=torch.uint8), torch.ones(1)
    zero, then = torch.zeros(1, dtype=torch.int32), (1.0, 0, torch.float32, "none", (), "")
    found = multiply(x, 1.0, 0, packed, one, zero, None, *then)
    return most if found.item() == inner * most * 255 else _SURE_LEVELS


def _int8_products_agree() -> bool:
    x = (100 * _numbers(4, 8)).round()
    weight, bias = (_SURE_LEVELS * _numbers(16, 8)).round(), _numbers(16)
    ones, zeros = torch.ones(16), torch.zeros(16, dtype=torch.int32)
    prepack, multiply = int8_linear()
    packed, levels = prepack(weight.to(torch.int8), None), (x + 100).to(torch.uint8)
    step = 1e-4
    found = [
        multiply(levels, step, 100, packed, ones, zeros, bias, 1.0, 0, dtype, "none", (), "")
        for dtype in (torch.bfloat16, torch.float32)
    ]
    expected = step * F.linear(x, weight) + bias
    return all(torch.allclose(each.float(), expected, atol=_TOLERANCE) for each in found)


INT8_PRODUCTS = Shortcut(
    what="products in 8 bits on a CPU",
    instead='the precision "int8" is refused',
    names={
        "oneDNN": _require_onednn,
        "torch.ops.onednn.qlinear_prepack": lambda: _taking(
            torch.ops.onednn.qlinear_prepack.default, "weight x_shape"
        ),
        "torch.ops.onednn.qlinear_pointwise": lambda: _taking(
            torch.ops.onednn.qlinear_pointwise.default,
            "qx x_scale x_zero_point qw w_scale w_zero_point bias output_scale output_zero_point "
            "output_dtype post_op_name post_op_args post_op_algorithm",
        ),
    },
    proof=_int8_products_agree,
)

# ---- attention on a GPU ----


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    causal: bool,
) -> Tensor:
    """The kernel of `FLASH_ATTENTION`; see `bertolt.models.varlen.flash`."""
    out: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, cu_q, cu_k, max_q, max_k, dropout_p, causal, False
    )[0]
    return out


def cudnn_attention(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
    """The kernel of `CUDNN_ATTENTION`, for (B, N, L, D) without a mask: the same shape."""
    out: Tensor = torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, None, True, dropout_p, False, False
    )[0]
    return out


FLASH_ATTENTION = Shortcut(
    what="variable-length flash attention on a GPU",
    instead="attention runs in groups of similar length",
    names={
        "torch.ops.aten._flash_attention_forward": lambda: _taking(
            torch.ops.aten._flash_attention_forward.default,
            "query key value cum_seq_q cum_seq_k max_q max_k dropout_p is_causal return_debug_mask",
            results=5,
        ),
    },
)

CUDNN_ATTENTION = Shortcut(
    what="cuDNN's attention for batches of one length on a GPU",
    instead="flash attention takes them too",
    names={
        "torch.ops.aten._scaled_dot_product_cudnn_attention": lambda: _taking(
            torch.ops.aten._scaled_dot_product_cudnn_attention.default,
            "query key value attn_bias compute_log_sumexp dropout_p is_causal return_debug_mask",
            results=9,
        ),
    },
)

# ---- what is in a module, and what listens to it ----


def every_module(model: nn.Module) -> list[nn.Module]:
    """A model and all modules in it, in any order; one that is in several places may come again.

    Several times as fast as `model.modules()`, which keeps a set.
    """
    if not MODULE_PARTS.on:
        return list(model.modules())
    modules = [model]
    for module in modules:  # which grows
        modules.extend(filter(None, module._modules.values()))
    return modules


def modules_inside(module: nn.Module) -> dict[str, nn.Module | None]:
    """The modules right inside of one, by name; if it can be had, its own table, which changes."""
    return module._modules if MODULE_PARTS.on else dict(module.named_children())


def parameters_inside(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """The parameters right inside of a module, by name: its own table, which changes with it."""
    return module._parameters


MODULE_PARTS = Shortcut(
    what="a quick look at the parts of a model",
    instead="modules are gone through one after the other, and no steps are captured on a GPU",
    names={
        "torch.nn.Module._modules": lambda: nn.Module()._modules.values(),
        "torch.nn.Module._parameters": lambda: nn.Module()._parameters.values(),
    },
)


def is_customised(module: nn.Module) -> bool:
    """Whether calling this module does more, or other things, than its class says.

    It has hooks, is compiled, or has another `forward`; or nobody can tell. Captured steps ask
    every module of a model before each replay, so it is one look into its attributes.
    """
    own = vars(module)
    return bool(
        not MODULE_HOOKS.on
        or own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or own.get("_compiled_call_impl") is not None
    )


MODULE_HOOKS = Shortcut(
    what="frozen layers, fused kernels and captured steps, which leave hooks out",
    instead="every module is called by itself, since nobody can tell whether it has hooks",
    names={
        "torch.nn.Module._forward_hooks": lambda: vars(nn.Module())["_forward_hooks"],
        "torch.nn.Module._forward_pre_hooks": lambda: vars(nn.Module())["_forward_pre_hooks"],
        "torch.nn.Module._backward_hooks": lambda: vars(nn.Module())["_backward_hooks"],
        "torch.nn.Module._backward_pre_hooks": lambda: vars(nn.Module())["_backward_pre_hooks"],
        "torch.nn.Module._compiled_call_impl": lambda: nn.Module._compiled_call_impl,
    },
)


def optimizer_has_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether something runs before or behind each update."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def gradients_have_hooks(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether something runs when one of the parameters gets its gradient."""
    return any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)


def _of_optimizers(name: str) -> object:
    """What every optimizer has by this name; to build one takes seconds, which PyTorch imports."""
    return torch.optim.Optimizer.__annotations__[name]


UPDATE_HOOKS = Shortcut(
    what="captured steps on a GPU",
    instead="each step is started kernel by kernel",
    names={
        "torch.optim.Optimizer._optimizer_step_pre_hooks": lambda: _of_optimizers(
            "_optimizer_step_pre_hooks"
        ),
        "torch.optim.Optimizer._optimizer_step_post_hooks": lambda: _of_optimizers(
            "_optimizer_step_post_hooks"
        ),
        "torch.Tensor._backward_hooks": lambda: torch.zeros(1)._backward_hooks,
        "torch.Tensor._post_accumulate_grad_hooks": lambda: (
            torch.zeros(1)._post_accumulate_grad_hooks
        ),
    },
)


def can_capture() -> bool:
    """Whether steps can be captured as far as it goes by these names."""
    return MODULE_PARTS.on and MODULE_HOOKS.on and UPDATE_HOOKS.on


class MovedModule(nn.Module):
    """A module that is told when it has been moved, by itself or with a model around it."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Behind `to`, `cuda`, `cpu`, `half` and so on."""
        before = self.device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.after_move(before)
        return self

    def after_move(self, before: torch.device) -> None:
        """Called when parameters may have gone from the device `before` to another one."""


MOVES = Shortcut(
    what="another way to attend after `model.to(device)`",
    instead="`model.move(device)` chooses it anew",
    names={"torch.nn.Module._apply": lambda: nn.Module._apply},
)

# ---- several processes ----


def default_store() -> Any:
    """The store in which the processes of this run met; None if it cannot be told."""
    if not DEFAULT_STORE.on:
        return None
    return dist.distributed_c10d._get_default_store()


DEFAULT_STORE = Shortcut(
    what="one voice of several processes that fail",
    instead="each of them says what ended it",
    names={
        "torch.distributed.distributed_c10d._get_default_store": lambda: (
            dist.distributed_c10d._get_default_store
        ),
    },
)

SHORTCUTS = (
    *(FUSED_PRODUCTS, FUSED_BF16_PRODUCTS, INT8_PRODUCTS, FLASH_ATTENTION, CUDNN_ATTENTION),
    *(MODULE_PARTS, MODULE_HOOKS, UPDATE_HOOKS, MOVES, DEFAULT_STORE),
)
