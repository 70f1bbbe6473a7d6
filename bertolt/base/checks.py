"""Checks of values that come from files and from users."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: object) -> TypeGuard[float]:
    """Whether it is a finite number, of a size that floats have; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # whole numbers have no end
        return False


def are_texts(value: object) -> bool:
    """Whether it is a list or a tuple of texts."""
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
