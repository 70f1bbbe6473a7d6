"""The last hidden states of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from bertolt.base.errors import UsageError
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.pipelines.base import Pipeline, Window


class FeatureExtractionPipeline(Pipeline):
    """`[[[…], …]]` for a text: a batch of one, its tokens (special ones too), and their H numbers.

    A model with a head gives its logits, (1, L, C) or (1, C). With `return_tensors=True` the answer
    is a tensor. `tokenize_kwargs` are options of the tokenizer, and so is `truncation`.
    """

    task = "feature-extraction"
    head = PreTrainedModel
    defaults: ClassVar[Mapping[str, Any]] = {
        "truncation": None,
        "tokenize_kwargs": None,
        "return_tensors": False,
    }

    def checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the options of the tokenizer together."""
        options = dict(settings["tokenize_kwargs"] or {})
        if settings["truncation"] is not None:
            if "truncation" in options:
                raise UsageError(
                    "truncation was given by itself and in tokenize_kwargs", fix="give it once"
                )
            options["truncation"] = settings["truncation"]
        return {**settings, "tokenize_kwargs": options}

    def encode(
        self, examples: Sequence[Any], settings: Mapping[str, Any]
    ) -> Iterable[Sequence[Window]]:
        """One window each."""
        return [[Window(row)] for row in self.rows(examples, settings["tokenize_kwargs"])]

    def decode(
        self,
        example: Any,
        windows: Sequence[Window],
        outputs: Sequence[Tensor],
        settings: Mapping[str, Any],
    ) -> Any:
        """The states, as lists or as a tensor."""
        states = outputs[0][None]
        return states if settings["return_tensors"] else states.tolist()
