"""The published shapes of BERT, by name."""

from __future__ import annotations

from pathlib import Path

from bertolt.base.errors import UsageError
from bertolt.models.config import BertConfig

SHAPES: dict[str, tuple[int, int]] = {
    "tiny": (2, 128),
    "small": (4, 256),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}
"""Layers and hidden size; a head for each 64 of it, and 4 times as wide in between.

Sources: Devlin et al., 2018, arXiv:1810.04805; the small ones: Turc et al., 2019, arXiv:1908.08962,
where this "small" is called "mini".
"""


def find_config(name: str) -> BertConfig:
    """The config of a published shape, or of a file or a model folder.

    Args:
        name: a key of `SHAPES`, a `config.json` or a folder that has one.

    Raises:
        UsageError: neither.
        CheckpointError: the file is no BERT's config.
    """
    if name in SHAPES:
        layers, width = SHAPES[name]
        return BertConfig(
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=width // 64,
            intermediate_size=4 * width,
        )
    path = Path(name)
    if path.is_dir():
        return BertConfig.from_pretrained(path)
    if not path.is_file():
        raise UsageError(
            f"--config is {name!r}, which is no shape that is known and no file",
            fix=f"give {', '.join(SHAPES)}, a config.json or a folder that holds one",
        )
    return BertConfig.from_json_file(path)
