"""The random generators that a run may draw from, as tensors that can be kept and set again."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from bertolt.base.checks import is_whole
from bertolt.base.errors import UsageError


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed every generator that a program may draw from: Python's, numpy's and torch's.

    Args:
        seed: 0 or more; the same one gives the same draws.
        deterministic: also have torch refuse operations whose results differ from run to run.

    Raises:
        UsageError: a seed that is no whole number from 0 to 2⁶⁴ - 1.
    """
    if not is_whole(seed) or not 0 <= seed < 2**64:
        raise UsageError(
            f"the seed is {seed!r}", place="set_seed", fix="give a whole number of 0 or more"
        )
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """All generators that a run may draw from: torch's here and on a GPU, numpy's, Python's."""
    state = host_random_state()
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def host_random_state() -> dict[str, Tensor]:
    """The generators outside of a GPU."""
    _, words, spare = random.getstate()
    _, keys, place, has_spare, numpy_spare = np.random.get_state(legacy=True)
    spares = [float("nan") if spare is None else spare, numpy_spare]
    return {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.tensor([*np.asarray(keys).tolist(), place, has_spare], dtype=torch.int64),
        "spares": torch.tensor(spares, dtype=torch.float64),
    }


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the generators to a state from `random_state`; a GPU's only where there is one."""
    spare, numpy_spare = state["spares"].tolist()
    *keys, place, has_spare = state["numpy"].tolist()
    torch.set_rng_state(state["torch"])
    random.setstate((3, tuple(state["python"].tolist()), None if math.isnan(spare) else spare))
    np.random.set_state(("MT19937", np.array(keys, np.uint32), place, has_spare, numpy_spare))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def pass_random_state(device: torch.device) -> Tensor:
    """The one generator that a forward pass draws from: others may be drawn from meanwhile, by the
    thread that reads batches ahead."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_pass_random_state(state: Tensor, device: torch.device) -> None:
    """Set that generator to a state from `pass_random_state`."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


class OwnRandomness:
    """Generators outside of a GPU that go on by themselves, apart from all other draws.

    Args:
        seed: numbers that they begin with; the same ones give the same draws.
    """

    def __init__(self, *seed: int) -> None:
        first = int(np.random.SeedSequence(seed).generate_state(1)[0])
        with self._put_back():
            random.seed(first)
            np.random.seed(first)
            torch.default_generator.manual_seed(first)
            self._state = host_random_state()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What draws in here goes on where the last one in here ended."""
        with self._put_back():
            set_random_state(self._state, _CPU)
            try:
                yield
            finally:
                self._state = host_random_state()

    @contextlib.contextmanager
    def _put_back(self) -> Iterator[None]:
        outside = host_random_state()
        try:
            yield
        finally:
            set_random_state(outside, _CPU)


_CPU = torch.device("cpu")
