"""Operations between the products in one kernel each, where there is CUDA and Triton.

In eager PyTorch dropout, residual sum and layer norm are three passes over the rows forward and
five backward, and under autocast the norm comes out in fp32, which every product behind it casts
again. One kernel reads its inputs once and writes its output; backward it makes both gradients from
one read. The bias of the product before goes with it: its gradient is a sum over rows that the
kernel has at hand, where PyTorch reads them all once more. Products add up the gradients of their
input and write those of fp32 weights in fp32.

Masks are never kept: both directions draw them from the same seed, with Triton's Philox generator.
The seed comes from torch's own generator of the GPU, on the GPU, so that `torch.manual_seed` and a
saved random state decide it, and a captured step draws a new one each time.

Shapes: T rows, H hidden, W columns, V vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bertolt.models.customised import is_plain

DTYPES: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16, torch.float32)
_WIDEST = 8192  # a row is held in the registers of one block
_LEVELS = 1 << 32
_TILE = 1024  # columns of a block, where it need not hold a row
_PROGRAMS = 4  # with sums over whole rows, for each multiprocessor: …
_LEAST_ROWS = 4  # … but each takes so many rows, or adding up their sums is the larger part
_TILE_PROGRAMS = 8  # the same where a block is so many columns, …
_AT_ONCE = 2  # … and so many rows at a time
_WORTH = 1 << 23
"""Elements from which on the kernels are used: to start one takes longer than to start one of
PyTorch's, and with few elements the GPU waits for that."""
_CAPABILITY = (8, 0)


def why_not(device: torch.device) -> str | None:
    """What stands against these kernels here, in words for the user; None: nothing."""
    if device.type != "cuda":
        return f"fused kernels run on CUDA, and this is {device.type}"
    return _against(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _against(device: int) -> str | None:
    if torch.version.cuda is None:
        return "fused kernels are tried on NVIDIA's GPUs alone"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return "fused kernels need compute capability 8.0"
    if importlib.util.find_spec("triton") is None:
        return "fused kernels need the package triton, and it is not installed"
    try:
        ones = torch.ones(8, 16, dtype=torch.bfloat16, device=f"cuda:{device}")
        with torch.cuda.device(device):
            found = _column_sums(ones).tolist()
    except Exception as error:  # noqa: BLE001 - a compiler, headers or a driver may be missing
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return f"Triton could not make a kernel: {reason[:200]}"
    return None if found == [8.0] * 16 else "Triton's kernels do not compute what they should"


class _Preferred:
    """Not a context variable: what is computed again for a backward pass is so in other threads."""

    always = False


@contextlib.contextmanager
def preferred(always: bool) -> Iterator[None]:
    """With `always`, the kernels are used for small work too inside, as for a step to be captured.

    A replay spares the host all of it. A step that is captured only later must draw the same masks.
    """
    before, _Preferred.always = _Preferred.always, always
    try:
        yield
    finally:
        _Preferred.always = before


def usable(x: Tensor) -> bool:
    """Whether rows like these, (T, W), are to go through the kernels."""
    return (
        x.is_cuda
        and not torch.compiler.is_compiling()
        and (x.numel() >= _WORTH or _Preferred.always)
        and x.dtype in DTYPES
        and x.dim() == 2
        and x.numel() > 0
        and x.get_device() == torch.cuda.current_device()  # where Triton starts its kernels
        and _against(x.get_device()) is None
    )


# ---- dropout, residual sum, layer norm ----


def takes_norm(residual: Tensor, norm: nn.Module) -> bool:
    """Whether `dropout_add_norm` takes this norm of rows like these."""
    return (
        usable(residual)
        and is_plain(norm, nn.LayerNorm)
        and norm.weight is not None
        and norm.bias is not None
        and norm.normalized_shape == (residual.shape[-1],)
        and residual.shape[-1] <= _WIDEST
    )


def dropout_add_norm(
    found: Tensor,
    residual: Tensor,
    norm: nn.LayerNorm,
    p: float,
    training: bool,
    bias: Tensor | None = None,
) -> Tensor:
    """The norm of `residual` and what dropout leaves of `found`.

    Args:
        found: (T, H).
        residual: (T, H).
        norm: over H; its weights may be of another format.
        p: share dropped, to the nearest 1/2³².
        training: False: nothing is dropped.
        bias: (H,) added to `found` first.

    Returns:
        (T, H), in the format of `found`.
    """
    out: Tensor = _DropoutAddNorm.apply(  # type: ignore[no-untyped-call]
        found.contiguous(),
        residual.to(found.dtype).contiguous(),
        bias,
        norm.weight,
        norm.bias,
        p if training else 0.0,
        norm.eps,
        torch.is_grad_enabled(),
    )
    return out


class _DropoutAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        found: Tensor,
        residual: Tensor,
        before: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        p: float,
        eps: float,
        learning: bool,
    ) -> Tensor:
        rows, width = found.shape
        out, saves = torch.empty_like(found), learning and any(ctx.needs_input_grad)
        summed = torch.empty_like(found) if saves else out
        mean, scale = found.new_empty(2, rows if saves else 1, dtype=torch.float32)
        threshold = min(round(p * _LEVELS), _LEVELS - 1)
        seed = torch.randint(2**31, (1,), device=found.device) if threshold else None
        block = _block(width)
        _kernels().norm_forward[(rows,)](
            found,
            residual,
            before,
            weight,
            bias,
            out,
            summed,
            mean,
            scale,
            seed,
            _LEVELS / (_LEVELS - threshold),
            width,
            eps,
            BLOCK=block,
            THRESHOLD=threshold,
            BIASED=before is not None,
            SAVES=saves,
            num_warps=_warps(block),
        )
        if saves:
            seeds = [] if seed is None else [seed]
            ctx.save_for_backward(summed, mean, scale, weight, *seeds)
        ctx.threshold, ctx.biased = threshold, before is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        summed, mean, scale, weight, *seeds = ctx.saved_tensors
        rows, width = summed.shape
        to_residual = torch.empty_like(summed)
        to_found = torch.empty_like(summed) if seeds else to_residual
        count = _programs(rows, summed.device)
        parts = summed.new_empty(3 if ctx.biased else 2, count, width, dtype=torch.float32)
        block = _block(width)
        _kernels().norm_backward[(count,)](
            gradient.contiguous(),
            summed,
            mean,
            scale,
            weight,
            seeds[0] if seeds else None,
            to_found,
            to_residual,
            parts,
            _LEVELS / (_LEVELS - ctx.threshold),
            rows,
            width,
            BLOCK=block,
            THRESHOLD=ctx.threshold,
            BIASED=ctx.biased,
            num_warps=max(1, _warps(block) // 2),  # the sums along a row wait for each warp
        )
        to_weight, to_bias, *to_before = parts.sum(1).to(weight.dtype)
        return (
            to_found,
            to_residual,
            to_before[0] if ctx.biased else None,
            to_weight,
            to_bias,
            None,
            None,
            None,
        )


# ---- gelu ----


def biased_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """The exact gelu of `x`, (T, W), and a bias (W,): (T, W)."""
    out: Tensor = _BiasedGelu.apply(x.contiguous(), bias)  # type: ignore[no-untyped-call]
    return out


class _BiasedGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        out, (rows, width) = torch.empty_like(x), x.shape
        block, tiles = _tiles(width)
        _kernels().gelu_forward[(rows, tiles)](
            x, bias, out, width, BLOCK=block, num_warps=_warps(block)
        )
        ctx.save_for_backward(x, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, bias = ctx.saved_tensors
        rows, width = x.shape
        found = torch.empty_like(x)
        block, tiles = _tiles(width)
        count = _programs(rows, x.device, tiles)
        parts = x.new_empty(count, width, dtype=torch.float32)
        _kernels().gelu_backward[(count, tiles)](
            gradient.contiguous(),
            x,
            bias,
            found,
            parts,
            rows,
            width,
            BLOCK=block,
            ROWS=_AT_ONCE,
            num_warps=_warps(block),
        )
        return found, parts.sum(0).to(bias.dtype)


# ---- products ----


def takes_products(x: Tensor, *modules: nn.Module) -> bool:
    """Whether `products` can stand for these modules, called with rows like these."""
    return usable(x) and all(is_plain(module, nn.Linear) for module in modules)


def products(x: Tensor, *modules: nn.Linear, biased: bool = True) -> tuple[Tensor, ...]:
    """`x`, (T, H), to be used on, and what each of some linear layers makes of it: (T, W) each.

    The gradients that come back to `x` are added up inside of the products, that of its further use
    as well; so nothing else may use the `x` that was given. Gradients of fp32 weights are made in
    fp32, without another pass that casts them.

    Args:
        x: the rows.
        modules: the layers.
        biased: False: without their biases, for what follows to add.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    weights = [module.weight for module in modules]
    biases = [module.bias if biased else None for module in modules]
    found: tuple[Tensor, ...] = _Products.apply(  # type: ignore[no-untyped-call]
        x.to(dtype), *weights, *biases
    )
    return found


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
        weights = [each.to(x.dtype) for each in given[: len(given) // 2] if each is not None]
        biases = given[len(given) // 2 :]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *weights)
        ctx.formats = [None if each is None else each.dtype for each in given]
        with torch.autocast("cuda", enabled=False):
            found = [
                F.linear(x, weight, None if bias is None else bias.to(x.dtype))
                for weight, bias in zip(weights, biases, strict=True)
            ]
        return x.view_as(x), *found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, onward: Tensor | None, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        to_given = [
            None if dtype is None or gradient is None or not needed else make(dtype, gradient, x)
            for make, dtype, gradient, needed in zip(
                [_weight_gradient] * len(weights) + [_bias_gradient] * len(weights),
                ctx.formats,
                gradients * 2,
                ctx.needs_input_grad[1:],
                strict=True,
            )
        ]
        if not ctx.needs_input_grad[0]:
            return None, *to_given
        # In place: nobody else needs what came back from the further use of `x` any more. Without
        # dropout it is the gradient of another product too, but one that is behind this one.
        to_x = None if onward is None else onward.contiguous()
        for gradient, weight in zip(gradients, weights, strict=True):
            if gradient is not None:
                to_x = gradient @ weight if to_x is None else to_x.addmm_(gradient, weight)
        return to_x, *to_given


def _weight_gradient(dtype: torch.dtype, gradient: Tensor, x: Tensor) -> Tensor:
    return _product_in(dtype, gradient.t(), x)


def _bias_gradient(dtype: torch.dtype, gradient: Tensor, x: Tensor) -> Tensor:
    return _column_sums(gradient).to(dtype)


def _product_in(dtype: torch.dtype, a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`, written down in another format at once where it is fp32."""
    if dtype == a.dtype:
        return a @ b
    if dtype == torch.float32 and a.is_cuda:
        return torch.mm(a, b, out_dtype=dtype)
    return (a @ b).to(dtype)


def _column_sums(x: Tensor) -> Tensor:
    """(T, W) to (W,), in fp32."""
    rows, width = x.shape
    block, tiles = _tiles(width)
    count = _programs(rows, x.device, tiles)
    parts = x.new_empty(count, width, dtype=torch.float32)
    _kernels().column_sums[(count, tiles)](
        x.contiguous(), parts, rows, width, BLOCK=block, ROWS=_AT_ONCE, num_warps=_warps(block)
    )
    total: Tensor = parts.sum(0)
    return total


# ---- cross-entropy ----


def summed_cross_entropy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """The sum of the cross-entropies of all rows whose label is not `ignored`, in fp32.

    Args:
        logits: (T, V).
        labels: (T,) int64. With one that is no class the sum is not a number: a GPU cannot raise.
        ignored: label of rows that do not count.
    """
    total: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits.contiguous(), labels.contiguous(), ignored
    )
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
        rows, width = logits.shape
        losses, log_sums = logits.new_empty(2, rows, dtype=torch.float32)
        _kernels().cross_entropy_forward[(rows,)](
            logits,
            labels,
            losses,
            log_sums,
            width,
            IGNORED=ignored,
            BLOCK=min(4096, _block(width)),
            num_warps=8,
        )
        ctx.save_for_backward(logits, labels, log_sums)
        ctx.ignored = ignored
        total: Tensor = losses.sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor, None, None]:
        logits, labels, log_sums = ctx.saved_tensors
        rows, width = logits.shape
        gradient = torch.empty_like(logits)
        block, tiles = _tiles(width)
        _kernels().cross_entropy_backward[(rows, tiles)](
            logits,
            labels,
            log_sums,
            factor.float(),
            gradient,
            width,
            IGNORED=ctx.ignored,
            BLOCK=block,
            num_warps=_warps(block),
        )
        return gradient, None, None


# ---- sizes ----


def _block(width: int) -> int:
    """The power of two that a row fits into: Triton knows no other sizes."""
    return max(16, 1 << (width - 1).bit_length())


def _tiles(width: int) -> tuple[int, int]:
    """Columns of a block, and how many blocks a row needs."""
    block = min(_TILE, _block(width))
    return block, -(-width // block)


def _warps(block: int) -> int:
    return max(1, min(8, block // 256))


def _programs(rows: int, device: torch.device, tiles: int = 0) -> int:
    """How many share the rows; `tiles`: of so many blocks of columns, if a block is not a row."""
    each = max(1, _TILE_PROGRAMS // tiles) if tiles else _PROGRAMS
    return max(1, min(rows // _LEAST_ROWS, each * _multiprocessors(device)))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@functools.cache
def _kernels() -> Any:
    """The module of the kernels, which cannot be read without Triton."""
    from bertolt.models import fused_kernels

    return fused_kernels
