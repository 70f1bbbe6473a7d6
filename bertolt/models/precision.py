"""Which number format matrix products run in, chosen once, with the reason."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from dataclasses import dataclass

import torch

from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.base.torch_private import INT8_PRODUCTS, has_fused_products
from bertolt.models.config import BertConfig

_FASTER_BY = 1.2
_PROBE_SHAPE = (896, 384, 1536)
_SMALL_SHAPE = (32, 256, 256)
_HOPELESS = 0.2  # where bfloat16 is emulated it is 0.02

# Rows, inner size and columns: a layer's widening product in a small and in a base-size model, and
# large square ones, which is where a GPU comes near its best.
_CPU_SHAPES = ((896, 384, 1536), (4096, 768, 3072))
_GPU_SHAPES = ((8192, 8192, 8192),)


@dataclass(frozen=True)
class PrecisionChoice:
    """A number format and why it was taken.

    Attributes:
        name: "fp32", "bf16", or for answering "int8": products in 8 bits, the rest as
            `beside_int8` says.
        reason: in words, for the user.
    """

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The format as torch names it; of "int8", that of what is no product."""
        if self.name == "int8":
            return beside_int8()
        return torch.float32 if self.name == "fp32" else torch.bfloat16

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The context in which a forward pass runs in this format."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


FP32 = PrecisionChoice("fp32", "the default")


def choose_precision(
    requested: str, device: torch.device, *, answering: bool = False
) -> PrecisionChoice:
    """Choose "fp32" or "bf16"; "auto" measures a CPU and asks a GPU.

    Args:
        requested: "auto" or a name.
        device: to run on.
        answering: nothing is trained, so that "int8" is possible too, on a CPU.

    Raises:
        UsageError: another name, or "int8" where it is not possible.
    """
    if requested in ("fp32", "bf16"):
        return PrecisionChoice(requested, "as requested")
    if requested == "int8":
        _require_int8(device, answering)
        return PrecisionChoice(requested, "as requested; answers differ a little from fp32's")
    if requested != "auto":
        raise UsageError(f"there is no precision {requested!r}", fix="use auto, fp32 or bf16")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return PrecisionChoice("bf16", "the GPU has it")
        return PrecisionChoice("fp32", "the GPU has no bfloat16")
    if device.type != "cpu":
        return PrecisionChoice("fp32", f"bfloat16 is not tried on {device.type}")
    ratio = _bf16_gain()
    words = f"bfloat16 products measured {ratio:.2g} times as fast as fp32"
    return PrecisionChoice("bf16" if ratio >= _FASTER_BY else "fp32", words)


def beside_int8() -> torch.dtype:
    """The format of what is no product in 8 bits on this CPU.

    oneDNN writes products in bfloat16 by a reference of its own where the processor lacks that
    format, 600 times as slowly as in fp32. Nothing is measured: a run that goes on after a kill has
    to come to the same bytes.
    """
    return torch.bfloat16 if has_fused_products(torch.bfloat16) else torch.float32


def _require_int8(device: torch.device, answering: bool) -> None:
    against = "" if answering else "int8 is for answering alone, and this trains"
    if answering and device.type != "cpu":
        against = f"int8 products run on a CPU, and this is {device.type}"
    if answering and not against and not INT8_PRODUCTS.on:
        against = f"this build of PyTorch has no int8 products: {INT8_PRODUCTS.why_not}"
    if against:
        raise UsageError(against, fix="use auto, fp32 or bf16")


def agree(choice: PrecisionChoice, world: World) -> PrecisionChoice:
    """What the first process has chosen: all of them measure, and may find otherwise."""
    name = "bf16" if world.from_first(choice.name == "bf16") else "fp32"
    return choice if name == choice.name else PrecisionChoice(name, "as the first process chose")


@functools.cache
def _bf16_gain() -> float:
    """How many times faster a typical product runs in bfloat16 than in fp32 here.

    A processor that has no bfloat16 would take seconds for it, so a small product comes first.
    """
    gain = _gain(_SMALL_SHAPE)
    return _gain(_PROBE_SHAPE) if gain >= _HOPELESS else gain


def _gain(shape: tuple[int, int, int]) -> float:
    rows, inner, columns = shape
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(rows, inner, dtype=dtype)
        b = torch.ones(inner, columns, dtype=dtype)
        torch.mm(a, b)
        samples = []
        for _ in range(5):
            start = time.perf_counter()
            torch.mm(a, b)
            samples.append(time.perf_counter() - start)
        seconds[dtype] = max(statistics.median(samples), 1e-9)  # where a clock is coarse
    return seconds[torch.float32] / seconds[torch.bfloat16]


def product_rate(
    dtype: torch.dtype, device: torch.device | None = None, seconds: float = 0.5
) -> float:
    """GFLOP/s of plain matrix products, the best of a few shapes; median of repeated calls.

    Args:
        dtype: the number format.
        device: where; None: the CPU.
        seconds: to spend on each shape. Where one call takes longer, as in a format that the
            processor only emulates, larger shapes are left out.
    """
    device = device or torch.device("cpu")
    rates = []
    for rows, inner, columns in _GPU_SHAPES if device.type == "cuda" else _CPU_SHAPES:
        a = torch.randn(rows, inner, device=device).to(dtype)
        b = torch.randn(columns, inner, device=device).to(dtype)
        taken: list[float] = []
        end = time.perf_counter() + seconds
        slow = False
        while len(taken) < 2 or (not slow and (len(taken) < 5 or time.perf_counter() < end)):
            start = time.perf_counter()
            torch.nn.functional.linear(a, b)
            _wait(device)
            taken.append(time.perf_counter() - start)
            slow = taken[-1] > seconds
        rates.append(2e-9 * rows * inner * columns / statistics.median(taken[1:]))
        if slow:
            break
    return max(rates)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def weights_format(asked: str | torch.dtype | None, config: BertConfig) -> torch.dtype | None:
    """The number format that weights are asked for in; None: as they are built.

    Raises:
        UsageError: no format that PyTorch has for weights.
    """
    if asked == "auto":
        asked = config.extra.get("dtype", config.extra.get("torch_dtype"))
    name = str(asked).removeprefix("torch.")
    found = None if asked is None else getattr(torch, name, None)
    if asked is None or (isinstance(found, torch.dtype) and found.is_floating_point):
        return found
    raise UsageError(f"dtype is {asked!r}", fix='give "float32", "bfloat16" or "float16"')
