"""How much a BERT has to compute, and what machines can: plain arithmetic, nothing heavy imported.

Symbols: L layers, d hidden size, f intermediate size, V vocabulary, s tokens of a sequence, s̄ =
Σs²/Σs, m the share of tokens whose place in the vocabulary is computed, and P = L(4d² + 2df) the
weights that every token goes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertolt.models.config import BertConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What its maker says of a GPU.

    Attributes:
        teraflops: dense bfloat16 matrix products with fp32 sums, 10¹² operations a second.
        gigabytes: its memory, 10⁹ bytes.
    """

    teraflops: float
    gigabytes: float


GPUS: dict[str, Gpu] = {
    "A100-40GB": Gpu(teraflops=312, gigabytes=40),
    "A100": Gpu(teraflops=312, gigabytes=80),
    "A10": Gpu(teraflops=125, gigabytes=24),
    "L4": Gpu(teraflops=121, gigabytes=24),
    "L40S": Gpu(teraflops=362, gigabytes=48),
    "H100": Gpu(teraflops=989, gigabytes=80),
    "H100-PCIE": Gpu(teraflops=756, gigabytes=80),
    "H100-NVL": Gpu(teraflops=835, gigabytes=94),
    "H200": Gpu(teraflops=989, gigabytes=141),
    "B200": Gpu(teraflops=2250, gigabytes=180),
    "MI300X": Gpu(teraflops=1307, gigabytes=192),
}
"""From the makers' data sheets, without sparsity."""


def find_gpu(name: str) -> str | None:
    """The key in `GPUS` of a GPU's name, as its driver gives it ("NVIDIA H100 80GB HBM3")."""
    words = name.upper().replace("-", " ").split()
    matches = [key for key in GPUS if all(word in words for word in key.upper().split("-"))]
    return max(matches, key=len, default=None)


def forward_flops(
    config: BertConfig,
    lengths: NDArray[np.int64],
    *,
    labelled: float = 0.0,
    first_token_only: bool = False,
) -> float:
    """Floating-point operations of the matrix products of a forward pass, for each token.

    2P + 4·L·d·s̄ + 2m(d² + dV), as published. For training see `training_flops`.

    Args:
        config: shape of the model.
        lengths: (N,) tokens of each text.
        labelled: m; 0 for a classifier, whose head is small enough to be left out.
        first_token_only: count, of the last layer, only what a head that reads the first token
            needs: keys and values of all tokens, the rest for one token a text.
    """
    d, f = config.hidden_size, config.intermediate_size
    tokens = float(lengths.sum())
    attended = float((lengths.astype("float64") ** 2).sum()) / tokens
    whole = _forward(config, attended, labelled)
    if not first_token_only:
        return whole
    one = (4 * d * d + 4 * d * f) * len(lengths) / tokens + 4 * d
    return whole - _layer(config, attended) + 4 * d * d + one


def training_flops(config: BertConfig, attended: float, labelled: float) -> float:
    """Operations of a token in a training step of a language model, three times the forward pass.

    6P + 12·L·d·s̄ + 6m(d² + dV) as published, less 6(1 - m)(d² + 2df): behind its attention, the
    last layer is computed for labelled tokens alone. Each product of the forward pass has two more
    for its gradients. What gradient checkpointing computes twice is not counted.

    Args:
        config: shape of the model.
        attended: s̄, which is s where all sequences have s tokens.
        labelled: m.
    """
    d, f = config.hidden_size, config.intermediate_size
    unread = 2 * (1 - labelled) * (d * d + 2 * d * f)
    return 3 * (_forward(config, attended, labelled) - unread)


def _layer(config: BertConfig, attended: float) -> float:
    d, f = config.hidden_size, config.intermediate_size
    return 2 * (4 * d * d + 2 * d * f) + 4 * d * attended


def _forward(config: BertConfig, attended: float, labelled: float) -> float:
    d = config.hidden_size
    head = 2 * labelled * (d * d + d * config.vocab_size)
    return config.num_hidden_layers * _layer(config, attended) + head


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters of `BertForMaskedLM`, ties counted once.

    Attributes:
        outside: in embeddings and head.
        layer: in one layer.
        layers: how many there are.
        products: in the weights of matrix products, the tied table of words included.
    """

    outside: int
    layer: int
    layers: int
    products: int

    @property
    def total(self) -> int:
        """Parameters of the whole model."""
        return self.outside + self.layers * self.layer


def count_parameters(config: BertConfig) -> ParameterCount:
    """Count without building the model."""
    d, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    head = d * d + d + 2 * d + config.vocab_size
    outside = rows * d + 2 * d + head
    if not config.tie_word_embeddings:
        outside += config.vocab_size * d
    weights = 4 * d * d + 2 * d * f
    return ParameterCount(
        outside=outside,
        layer=weights + 4 * d + f + d + 4 * d,
        layers=layers,
        products=layers * weights + d * d + config.vocab_size * d,
    )


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the plan runs on.

    Attributes:
        name: as the user gave it, or this machine's.
        count: how many.
        peak: operations a second of each: a GPU's by its maker, a CPU's as measured.
        memory: bytes of each; None where nobody tells.
        on_cpu: it is a CPU.
    """

    name: str
    count: int
    peak: float
    memory: float | None
    on_cpu: bool = False
