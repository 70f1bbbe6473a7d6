"""Parts of a step's batches that fit into memory: found by trying, and the step stays the same."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bertolt.base.console import info
from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.base.format import plural
from bertolt.base.machine import is_out_of_memory
from bertolt.base.randomness import pass_random_state, set_pass_random_state
from bertolt.data.batch import PackedBatch
from bertolt.data.parts import split


class MicroBatches:
    """Cuts the batches of a step into parts, smaller ones each time that memory runs out.

    The gradients of the parts add up to those of the whole, but for rounding: each loss is divided
    by the labels of the whole step. Dropout draws for each part by itself, so that its draws are
    others than those of the whole; they are repeatable, since a step that is tried again begins
    with the random state that it began with.

    Args:
        whole: batches are cut inside their passes, since their rows compete with each other.

    Attributes:
        tokens: the most that a part has, a single longer sequence apart; None: batches are whole.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        self.tokens: int | None = None

    def parts(self, batches: Sequence[PackedBatch]) -> list[PackedBatch]:
        """The batches in parts of whole sequences, in their order."""
        if self.tokens is None:
            return list(batches)
        return [part for batch in batches for part in split(batch, self.tokens)]

    def add_gradients(
        self,
        batches: Sequence[PackedBatch],
        compute: Callable[[Sequence[PackedBatch]], Tensor],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> Tensor:
        """The loss of a step, with its gradients left in the parameters.

        Args:
            batches: of the step.
            compute: adds the gradients of the parts, and gives their loss.
            optimizer: whose gradients are cleared before the step is tried again.
            device: of the model.

        Raises:
            RuntimeError, MemoryError: a single sequence is too much for the memory.
        """
        before = pass_random_state(device)
        while True:
            parts = self.parts(batches)
            loss = self._try(parts, lambda cut: compute(batches if self.whole else cut))
            if loss is not None:
                return loss
            # Outside of the `except` that held what was computed so far.
            optimizer.zero_grad(set_to_none=True)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            set_pass_random_state(before, device)
            largest = max(part.num_tokens for part in parts)
            # Halved in any case, though a single sequence may have more.
            self.tokens = min(self.tokens or largest, largest) // 2
            info(
                f"Out of memory: the batches of a step are computed in parts of "
                f"{plural(self.tokens, 'token')} at most, and make the same step"
            )

    def _try(
        self,
        parts: Sequence[PackedBatch],
        compute: Callable[[Sequence[PackedBatch]], Tensor],
    ) -> Tensor | None:
        """The loss of the parts; None where there was not enough memory, and less may do."""
        try:
            return compute(parts)
        except (RuntimeError, MemoryError) as error:
            smallest = all(part.num_examples == 1 for part in parts)
            if smallest or not is_out_of_memory(error):
                raise
            return None


def cut_where_needed(
    world: World, option: str, *, padded: bool = False, whole: bool = False
) -> MicroBatches | None:
    """What cuts batches where memory runs out; None where they are padded, which is said.

    Args:
        world: the processes of the run.
        option: that asks for it, for messages.
        padded: whether batches are padded.
        whole: see `MicroBatches`.

    Raises:
        UsageError: there are several processes, and each would cut its batches by itself.
    """
    if not world.alone:
        raise UsageError(
            "the batches of one process are cut where memory runs out, and there are several",
            place=option,
            fix="leave it out, and take smaller batches, of which several make a step",
        )
    if padded:
        info(f"{option}: padded batches are not cut, and stay whole")
        return None
    return MicroBatches(whole=whole)
