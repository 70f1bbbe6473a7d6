"""Seeds, and random states that are kept and set again."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import set_seed
from bertolt.base.errors import UsageError
from bertolt.base.randomness import random_state, set_random_state

CPU = torch.device("cpu")


def draws() -> tuple[float, ...]:
    return (random.random(), random.gauss(), np.random.rand(), np.random.randn(), *torch.rand(2))


def test_a_seed_reaches_every_generator() -> None:
    set_seed(3)
    first = draws()
    set_seed(3)
    assert draws() == first
    set_seed(4)
    assert all(other != one for one, other in zip(first, draws(), strict=True))
    set_seed(2**64 - 1)


def test_a_state_is_set_again() -> None:
    state = random_state(CPU)
    first = draws()
    set_random_state(state, CPU)
    assert draws() == first


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "3", True, None])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match="the seed is"):
        set_seed(seed)
