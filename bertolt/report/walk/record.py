"""What a walk has seen, as plain data: tokens, the first layer's steps, attention maps, the answer.

Shapes: S tokens that the maps show, L columns of the padded row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertolt.report.blocks import Block

Grey = NDArray[np.uint8]
"""A picture, one byte a cell."""


def shades(weights: NDArray[np.float32]) -> Grey:
    """Weights (…, S, S) as bytes c: the weight is the largest one times (c / 255)².

    The square leaves some precision to small weights, and makes them visible.
    """
    largest = weights.max(axis=(-2, -1), keepdims=True)
    shares = weights / np.maximum(largest, np.finfo(np.float32).tiny)
    cells: Grey = np.rint(255 * np.sqrt(shares)).astype(np.uint8)
    return cells


@dataclass(frozen=True, kw_only=True)
class Token:
    """One column of the padded row.

    Attributes:
        text: the token.
        id: its row of the word table.
        segment: 0 in the first text, 1 in the second.
        position: its row of the position table.
        padding: whether it only fills the row up, hidden from every token by the mask.
    """

    text: str
    id: int
    segment: int
    position: int
    padding: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One tensor operation that was run.

    Attributes:
        number: from 1.
        part: of the layer that it belongs to.
        operation: its name, as PyTorch or the notes call it.
        code: the line that does it.
        does: what it does, in a sentence.
        inputs: shapes of what goes in.
        output: shape of what comes out; of each, if several do.
        outputs: how many come out.
        dtype: of the output.
        view_of: whose memory the output shares, measured; empty if it has its own.
        contiguous: whether the output's elements lie in memory in the order of its shape.
        preview: the first and last numbers of the output's first row.
        picture: of an output (1, N, L, L), the first head: 0 where it is -inf, else the brighter
            the larger; None where there is nothing to see.
    """

    number: int
    part: str
    operation: str
    code: str
    does: str
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    outputs: int
    dtype: str
    view_of: str
    contiguous: bool
    preview: str
    picture: Grey | None = None

    @property
    def shares_memory(self) -> bool:
        """Whether the output is a view of memory that was there before."""
        return bool(self.view_of)


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Attention weights of every layer and head, in bytes.

    Attributes:
        cells: (layers, 1 + heads, S, S), the mean over the heads first; as `shades` makes them.
        scales: (layers, 1 + heads) largest weight of each map.
    """

    cells: Grey
    scales: NDArray[np.float32]

    @classmethod
    def of(cls, layers: Sequence[NDArray[np.float32]]) -> AttentionMaps:
        """From weights (heads, S, S) of each layer."""
        weights = np.stack([np.concatenate([each.mean(0, keepdims=True), each]) for each in layers])
        return cls(cells=shades(weights), scales=weights.max(axis=(2, 3)))

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return int(self.cells.shape[0])

    @property
    def heads(self) -> int:
        """How many heads a layer has."""
        return int(self.cells.shape[1] - 1)

    @property
    def shown(self) -> int:
        """S."""
        return int(self.cells.shape[-1])

    def weights(self, layer: int, head: int) -> NDArray[np.float32]:
        """(S, S) weights of a map, both numbers from 0, the mean over the heads being head 0."""
        roots = self.cells[layer, head].astype(np.float32) / 255
        weights: NDArray[np.float32] = self.scales[layer, head] * roots**2
        return weights


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model's task says of the input.

    Attributes:
        words: the answer in a few words.
        blocks: the answer as blocks of a page; see `report/blocks.py`.
        tokens_cut: tokens of the input that the answer knows nothing of.
    """

    words: str
    blocks: Sequence[Block]
    tokens_cut: int = 0


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One input on its way through a model.

    Attributes:
        model: where the model is.
        architecture: its class, as its config says.
        shape: layers, hidden size, heads and the like, in words.
        text, pair: the input; `pair` is None if there was one text.
        tokens: the columns of the padded row, padding behind.
        limit: most tokens of a text.
        tokens_cut: beyond the limit, and so not walked through.
        steps: of the first layer, embeddings included.
        difference: largest difference of the walked first layer from the model's own.
        attention: maps of all layers and heads, for the first tokens.
        answer: of the model's task, or None.
        remarks: what else one has to know.
    """

    model: str
    architecture: str
    shape: str
    text: str
    pair: str | None
    tokens: tuple[Token, ...]
    limit: int
    tokens_cut: int
    steps: tuple[Step, ...]
    difference: float
    attention: AttentionMaps
    answer: Answer | None
    remarks: tuple[str, ...]

    @property
    def length(self) -> int:
        """Tokens that are no padding."""
        return sum(not token.padding for token in self.tokens)
