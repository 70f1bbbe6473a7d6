"""What models return: fields by name, by index, and as a mapping; those that are None left out.

Shapes: B sequences, L padded length, T packed tokens (without filler), H hidden, V vocabulary,
C classes, N heads, M labelled tokens. "(B, L, …)" is what a padded call gets; a packed one gets
(T, …) in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from bertolt.models.losses import LossTerm


@Mapping.register
@dataclass(kw_only=True)
class ModelOutput:
    """Base of all outputs: `out.logits`, `out["logits"]`, `out[0]`, `out.get("loss")`, `dict(out)`.

    Attributes:
        hidden_states: on request, (B, L, H) before the first layer and after each.
        attentions: on request, (B, N, L, L) weights of each layer; of a packed batch (B, N, S, S),
            S being its longest sequence, each sequence from the left.
    """

    per_token: ClassVar[tuple[str, ...]] = ()
    """Fields with one entry for each token."""
    lowest_at_padding: ClassVar[bool] = False
    """Whether those have the lowest finite value at padding, which is never the best; else 0."""

    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    loss_terms: Mapping[str, LossTerm] = field(default_factory=dict, repr=False)
    """What `loss` is made of, by the name of the target; none of the output's own fields."""

    def at_padding(self, dtype: torch.dtype) -> float:
        """What fields of tokens hold where there is none."""
        return torch.finfo(dtype).min if self.lowest_at_padding else 0.0

    def keys(self) -> list[str]:
        """Names of the fields that are there, what was collected behind what was computed."""
        shown = (f.name for f in fields(self) if f.name != "loss_terms")
        names = [name for name in shown if getattr(self, name) is not None]
        return sorted(names, key=_COLLECTED.__contains__)

    def values(self) -> list[Any]:
        """The fields that are there."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Names and fields that are there."""
        return list(zip(self.keys(), self.values(), strict=True))

    def get(self, key: str, default: Any = None) -> Any:
        """The field of that name if it is there, else `default`."""
        return getattr(self, key) if key in self else default

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


_COLLECTED = ("past_key_values", "hidden_states", "attentions", "cross_attentions")


@dataclass(kw_only=True)
class LogitsOutput(ModelOutput):
    """Of a head: its mean loss where there are labels, and its logits."""

    loss: Tensor | None = None
    logits: Tensor | None = None


@dataclass(kw_only=True)
class BackboneOutput(ModelOutput):
    """Of an encoder: the last hidden states (B, L, H), and the pooled first token (B, H)."""

    per_token: ClassVar[tuple[str, ...]] = ("last_hidden_state",)

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None


@dataclass(kw_only=True)
class BertForPreTrainingOutput(ModelOutput):
    """Of pretraining: both losses added; logits (B, L, V), and (B, 2).

    A packed batch with labels gets the logits of its labelled tokens alone, (M, V), as any call
    does that asks for `logits="labelled"`.
    """

    per_token: ClassVar[tuple[str, ...]] = ("prediction_logits",)

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None


@dataclass(kw_only=True)
class QuestionAnsweringOutput(ModelOutput):
    """Of question answering: mean of both losses, and (B, L) logits of an answer's two ends.

    At padding the logits are the lowest finite number of their format.
    """

    per_token: ClassVar[tuple[str, ...]] = ("start_logits", "end_logits")
    lowest_at_padding: ClassVar[bool] = True

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None


class SequenceOutput(LogitsOutput):
    """Of a head over sequences: logits (B, C), a class or a choice in each column."""


class TokenOutput(LogitsOutput):
    """Of a head over tokens: logits (B, L, C), or of language models (B, L, V).

    Language models give a packed batch with labels the logits of its labelled tokens alone, (M, V),
    and so any call that asks for `logits="labelled"`.
    """

    per_token = ("logits",)


@dataclass(kw_only=True)
class CausalLMOutput(TokenOutput):
    """Of the decoder: as of masked language modelling, with its cache and cross-attention maps.

    Attributes:
        past_key_values: on request, the `KeyValueCache` to go on with.
        cross_attentions: on request, (B, N, L, K) weights of each layer over K encoder tokens.
    """

    past_key_values: Any = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass(kw_only=True)
class GenerationOutput(ModelOutput):
    """Of `generate`, on request. R rows are prompts, or their draws or best beams.

    Attributes:
        sequences: (R, L) ids, the prompts first.
        sequences_scores: (R,) of beams: the sum of their tokens' log probabilities, divided by
            their number to the power of `length_penalty`.
        scores: on request, by new token, (R, V) what it was chosen by; of beams, all that ran.
        logits: on request, by new token, (R, V) as the model gave them.
        beam_indices: (R, new) of beams: the row that each token went on from; -1 behind the end.
    """

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None
