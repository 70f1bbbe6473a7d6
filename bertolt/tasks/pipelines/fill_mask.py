"""What may stand where a text has a mask."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.models.word_heads import MaskedLM
from bertolt.tasks.masks import asked, best_tokens
from bertolt.tasks.pipelines.base import Pipeline, Window
from bertolt.tokenization.rows import require_whole


class FillMaskPipeline(Pipeline):
    """`[{"score", "token", "token_str", "sequence"}, …]` for a text with one mask, the best first.

    A text with several masks has such a list for each; their tokens are chosen each by itself.
    `top_k` is how many, 5; `targets` are the only tokens to choose among, as text;
    `tokenizer_kwargs` are options of the tokenizer.
    """

    task = "fill-mask"
    head = MaskedLM
    defaults: ClassVar[Mapping[str, Any]] = {"top_k": 5, "targets": None, "tokenizer_kwargs": None}

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """As every pipeline; a list of one text is answered like a text."""
        answer = super().__call__(inputs, **settings)
        return answer[0] if isinstance(inputs, list) and len(inputs) == 1 else answer

    def checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the targets as ids."""
        if self.tokenizer.mask_token_id is None:
            raise UsageError(
                "the tokenizer has no mask token",
                fix="name it: tokenizer.mask_token = '[MASK]'",
            )
        top_k = 5 if settings["top_k"] is None else settings["top_k"]
        require_whole("top_k", top_k, least=1)
        return {**settings, "top_k": top_k, "targets": self._target_ids(settings["targets"])}

    def fix_of_length(self, limit: int) -> str:
        """The tokenizer's options have a name here."""
        return f'cut it: tokenizer_kwargs={{"truncation": True, "max_length": {limit}}}'

    def _target_ids(self, targets: str | Sequence[str] | None) -> Tensor | None:
        """The ids of some words, each word's first token where it has several."""
        if targets is None:
            return None
        vocab, ids = self.tokenizer.get_vocab(), set()
        for target in [targets] if isinstance(targets, str) else targets:
            if target not in vocab:
                pieces = self.tokenizer.encode(target, add_special_tokens=False)
                stand_in = self.tokenizer.convert_ids_to_tokens(pieces[:1])
                instead = f"{stand_in[0]!r} stands in for it" if pieces else "it is left out"
                warnings.warn(f"{target!r} is no token of the vocabulary: {instead}", stacklevel=5)
                ids.update(pieces[:1])
            else:
                ids.add(vocab[target])
        if not ids:
            raise UsageError("targets has no token of the vocabulary", fix="give one or more words")
        return torch.tensor(sorted(ids))

    def encode(
        self, examples: Sequence[Any], settings: Mapping[str, Any]
    ) -> Iterable[Sequence[Window]]:
        """One window each."""
        mask = self.tokenizer.mask_token_id
        for number, row in enumerate(self.rows(examples, settings["tokenizer_kwargs"] or {})):
            if mask not in row["input_ids"]:
                raise DataError(
                    f"it has no {self.tokenizer.mask_token}",
                    place=f"text {number}",
                    fix="put tokenizer.mask_token in place of a word",
                )
            yield [Window(asked(row, mask))]

    def decode(
        self,
        example: Any,
        windows: Sequence[Window],
        outputs: Sequence[Tensor],
        settings: Mapping[str, Any],
    ) -> Any:
        """The best tokens, with the text that each makes."""
        ids = torch.tensor(windows[0].row["input_ids"])
        places = (ids == self.tokenizer.mask_token_id).nonzero().squeeze(1).tolist()
        scores, tokens = best_tokens(outputs[0], settings["top_k"], settings["targets"])
        filled = [
            [
                self._proposal(ids, place, token, score, alone=len(places) == 1)
                for score, token in zip(scores[row].tolist(), tokens[row].tolist(), strict=True)
            ]
            for row, place in enumerate(places)
        ]
        return filled[0] if len(filled) == 1 else filled

    def _proposal(
        self, ids: Tensor, place: int, token: int, score: float, *, alone: bool
    ) -> dict[str, Any]:
        """One token in its place; the text shows special tokens if it has other masks."""
        text = ids.clone()
        text[place] = token
        shown = text[text != self.tokenizer.pad_token_id]
        return {
            "score": score,
            "token": token,
            "token_str": self.tokenizer.decode([token]),
            "sequence": self.tokenizer.decode(shown, skip_special_tokens=alone),
        }
