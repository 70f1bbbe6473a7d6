"""How long a run or an evaluation took, under the peer's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from bertolt.train.step import StepLog

_TIMES = ("runtime", "samples_per_second", "steps_per_second")


def speed(prefix: str, seconds: float, samples: int, steps: int) -> dict[str, float]:
    """Seconds, and rows and steps a second, as `PREFIX_runtime` and so on.

    Args:
        prefix: what the names begin with, before "_".
        seconds: from start to end.
        samples: rows in that time, of all processes.
        steps: updates, or batches of an evaluation, in that time.
    """
    values = (seconds, samples / seconds, steps / seconds) if seconds > 0 else (seconds,)
    digits = (4, 3, 3)
    return {
        f"{prefix}_{name}": round(value, places)
        for name, value, places in zip(_TIMES, values, digits, strict=False)
    }


def without_times(metrics: Mapping[str, Any], prefixes: Iterable[str]) -> dict[str, Any]:
    """Metrics that are the same whenever they are measured."""
    times = {f"{prefix}_{name}" for prefix in prefixes for name in _TIMES} | {"epoch"}
    return {name: value for name, value in metrics.items() if name not in times}


def flos(model: nn.Module, steps: Sequence[StepLog]) -> float:
    """Floating-point operations of steps: 6 for each weight outside of embeddings and real token.

    The rule of Kaplan et al., 2020, "Scaling Laws for Neural Language Models", section 2.1; that
    of attention between tokens is left out.
    """
    tables = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    weights = sum(each.numel() for each in model.parameters() if id(each) not in tables)
    return 6.0 * weights * sum(log.tokens for log in steps)
