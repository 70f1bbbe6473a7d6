"""What models return: fields by name, by index, and as a mapping; those that are None left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass
class ModelOutput:
    """Base of all outputs: `out.logits`, `out["logits"]`, `out[0]` and `dict(out.items())`."""

    def keys(self) -> list[str]:
        """Names of the fields that are there."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def values(self) -> list[Any]:
        """The fields that are there."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Names and fields that are there."""
        return list(zip(self.keys(), self.values(), strict=True))

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are there, in order."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()


@dataclass
class BaseModelOutputWithPooling(ModelOutput):
    """Output of `BertModel`: hidden states, and the pooled first token."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None


@dataclass
class SequenceClassifierOutput(ModelOutput):
    """Output of sequence classification: mean loss when there are labels, and logits (B, C)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
