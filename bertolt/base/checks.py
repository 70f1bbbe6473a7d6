"""Checks of values that come from files and from users."""

from __future__ import annotations

import math


def is_whole(value: object) -> bool:
    """Whether it is a whole number: true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def is_number(value: object) -> bool:
    """Whether it is a finite number, 0 or more."""
    return isinstance(value, int | float) and 0 <= value < math.inf
