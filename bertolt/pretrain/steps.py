"""How long a run is, and which batches make which step: arithmetic on their numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Steps:
    """The batches of every step, by number.

    A step has `passes` batches, and fewer in the first steps where the batch is warmed up: one,
    growing evenly to all of them over `warmup` steps. A run goes through the same batches however
    many processes make it, for these deal out the batches of a step.

    Attributes:
        passes: batches of a step.
        warmup: steps in which there are fewer.
    """

    passes: int = 1
    warmup: int = 0

    def count(self, step: int) -> int:
        """Batches of a step (from 1)."""
        if step > self.warmup:
            return self.passes
        return 1 + (self.passes - 1) * (step - 1) // self.warmup

    def before(self, step: int) -> int:
        """Batches of all steps before a step (from 1): the number of its first one."""
        rising = np.arange(min(step - 1, self.warmup), dtype=np.int64)
        few = len(rising) + int(((self.passes - 1) * rising // max(1, self.warmup)).sum())
        return few + max(0, step - 1 - self.warmup) * self.passes

    def numbers(self, step: int) -> range:
        """The batches of a step (from 1)."""
        first = self.before(step)
        return range(first, first + self.count(step))

    def needed(self, batches: int) -> int:
        """Steps that go through so many batches, or a few more."""
        left = batches - self.before(self.warmup + 1)
        if left >= 0:
            return self.warmup - (-left // self.passes)
        low, high = 0, self.warmup
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.before(middle + 1) >= batches else (middle + 1, high)
        return low


@dataclass(frozen=True)
class MaskShare:
    """The share of masked tokens: from `start` to `end` in a straight line over the steps."""

    start: float
    end: float
    steps: int

    def at(self, step: int) -> float:
        """The share in a step (from 1)."""
        return self.start + (self.end - self.start) * (step - 1) / max(1, self.steps - 1)
