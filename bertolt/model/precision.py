"""Which number format matrix products run in, chosen once, with the reason."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from dataclasses import dataclass

import torch

from bertolt.distributed import World
from bertolt.errors import UsageError

_FASTER_BY = 1.2
_PROBE_SHAPE = (896, 384, 1536)


@dataclass(frozen=True)
class PrecisionChoice:
    """A number format and why it was taken.

    Attributes:
        name: "fp32" or "bf16".
        reason: in words, for the user.
    """

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The format as torch names it."""
        return torch.bfloat16 if self.name == "bf16" else torch.float32

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The context in which a forward pass runs in this format."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


def choose_precision(requested: str, device: torch.device) -> PrecisionChoice:
    """Choose "fp32" or "bf16"; "auto" measures a CPU and asks a GPU.

    Raises:
        UsageError: another name.
    """
    if requested in ("fp32", "bf16"):
        return PrecisionChoice(requested, "as requested")
    if requested != "auto":
        raise UsageError(f"there is no precision {requested!r}", fix="use auto, fp32 or bf16")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return PrecisionChoice("bf16", "the GPU has it")
        return PrecisionChoice("fp32", "the GPU has no bfloat16")
    if device.type != "cpu":
        return PrecisionChoice("fp32", f"bfloat16 is not tried on {device.type}")
    ratio = _bf16_gain()
    words = f"bfloat16 products measured {ratio:.1f} times as fast as fp32"
    return PrecisionChoice("bf16" if ratio >= _FASTER_BY else "fp32", words)


def agree(choice: PrecisionChoice, world: World) -> PrecisionChoice:
    """What the first process has chosen: all of them measure, and may find otherwise."""
    name = "bf16" if world.firsts(choice.name == "bf16") else "fp32"
    return choice if name == choice.name else PrecisionChoice(name, "as the first process chose")


@functools.cache
def _bf16_gain() -> float:
    """How many times faster a typical product runs in bfloat16 than in fp32 here (~50 ms)."""
    rows, inner, columns = _PROBE_SHAPE
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
        seconds[dtype] = statistics.median(samples)
    return seconds[torch.float32] / seconds[torch.bfloat16]
