"""Answers as plain values: how far two of them differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-3
"""Difference of a number from its golden value that another machine's rounding may make."""


def difference(golden: Any, answer: Any) -> float:
    """The largest difference of two answers' numbers, beside their size; infinite if another shape.

    Names may differ where two numbers are all but equal: only numbers are compared, and what names
    them.
    """
    if isinstance(golden, bool) or isinstance(answer, bool):
        return 0.0 if golden == answer else math.inf
    if isinstance(golden, int | float) and isinstance(answer, int | float):
        gap = abs(golden - answer) / max(1.0, abs(golden))
        return gap if math.isfinite(gap) else math.inf
    if isinstance(golden, Mapping) and isinstance(answer, Mapping):
        if golden.keys() != answer.keys():
            return math.inf
        return max((difference(golden[name], answer[name]) for name in golden), default=0.0)
    if isinstance(golden, list) and isinstance(answer, list):
        if len(golden) != len(answer):
            return math.inf
        pairs = zip(golden, answer, strict=True)
        return max((difference(one, other) for one, other in pairs), default=0.0)
    return 0.0
