"""What answers packed batches in place of a model's own call: copies of its layers, or a graph.

Shapes: B sequences, T packed tokens, C classes, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from bertolt.data.batch import PackedBatch


class Engine(Protocol):
    """What `predict_batches` runs; one batch at a time, each by a call."""

    @property
    def name(self) -> str:
        """The runtime, as `--engine` has it."""

    @property
    def device(self) -> torch.device:
        """Where batches have to be."""

    def __call__(self, batch: PackedBatch) -> Any:
        """What the model would return for a packed batch, its loss terms with it, where the batch
        has targets; in `torch.inference_mode`."""
