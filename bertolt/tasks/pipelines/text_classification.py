"""Labels with their scores for each text, or each pair of texts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from bertolt.base.errors import DataError
from bertolt.models.heads import SequenceClassification
from bertolt.tasks.pipelines.base import Pipeline, Window, one_of_names
from bertolt.tokenization import BertTokenizer
from bertolt.tokenization.rows import require_whole

_BEST = "best"
_TOKENIZER = tuple(inspect.signature(BertTokenizer.__call__).parameters)[3:-1]


class TextClassificationPipeline(Pipeline):
    """`[{"label": …, "score": …}]` for a text, and a list of such for several.

    Without `top_k` there is one label a text. With it, in a call, a text has a list of the `top_k`
    best labels, or with None of all, from the best on. `function_to_apply` is "softmax", "sigmoid"
    or "none"; None: as the config declares the problem. `return_all_scores` gives all labels in
    their own order. Options of the tokenizer, as `truncation=True`, are settings too.

    A pair is `{"text": …, "text_pair": …}`.
    """

    task = "text-classification"
    head = SequenceClassification
    defaults: ClassVar[Mapping[str, Any]] = {
        "top_k": _BEST,
        "function_to_apply": None,
        "return_all_scores": None,
    }

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """As every pipeline; one text has its one label in a list, unless the call says `top_k`."""
        answer = super().__call__(inputs, **settings)
        return [answer] if isinstance(inputs, str) and "top_k" not in settings else answer

    def names(self) -> list[str]:
        """Its settings and the tokenizer's."""
        return [*self.defaults, *_TOKENIZER]

    def checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the function by its name."""
        if settings["top_k"] != _BEST:
            require_whole("top_k", settings["top_k"], least=1)
        function = settings["function_to_apply"]
        if function is None:
            function = _usual(self.model.config)
        allowed = ("softmax", "sigmoid", "none")
        return {
            **settings,
            "function_to_apply": one_of_names("function_to_apply", function, allowed),
        }

    def encode(
        self, examples: Sequence[Any], settings: Mapping[str, Any]
    ) -> Iterable[Sequence[Window]]:
        """One window each."""
        options = {name: value for name, value in settings.items() if name in _TOKENIZER}
        texts = [_text_and_pair(number, example) for number, example in enumerate(examples)]
        return [[Window(row)] for row in self.rows(texts, options)]

    def decode(
        self,
        example: Any,
        windows: Sequence[Window],
        outputs: Sequence[Tensor],
        settings: Mapping[str, Any],
    ) -> Any:
        """The best label, or a list of labels."""
        logits, function = outputs[0], settings["function_to_apply"]
        scores = {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(), "none": logits}
        names = self.model.config.id2label
        labels = [
            {"label": names[number], "score": score}
            for number, score in enumerate(scores[function].tolist())
        ]
        top_k = settings["top_k"]
        if top_k == _BEST and settings["return_all_scores"]:
            return labels
        labels.sort(key=lambda label: -label["score"])
        return labels[0] if top_k == _BEST else labels[:top_k]


def _text_and_pair(number: int, example: Any) -> Any:
    """A text, or a tuple of a text and its pair."""
    if isinstance(example, str):
        return example
    if isinstance(example, Mapping) and "text" in example:
        text, pair = example["text"], example.get("text_pair")
        return text if pair is None else (text, pair)
    if isinstance(example, tuple) and len(example) == 2:
        return example
    inner = example[0] if isinstance(example, list) and len(example) == 1 else None
    if isinstance(inner, list) and len(inner) == 2:  # as older programs have pairs
        return tuple(inner)
    raise DataError(
        f"a {type(example).__name__} is no text",
        place=f"text {number}",
        fix='give a text, or a pair as {"text": …, "text_pair": …}',
    )


def _usual(config: Any) -> str:
    if config.problem_type == "regression":
        return "none"
    several = config.problem_type == "multi_label_classification"
    return "sigmoid" if several or config.num_labels == 1 else "softmax"
