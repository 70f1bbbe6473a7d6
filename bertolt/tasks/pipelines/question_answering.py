"""Answers that stand in a text, as version 4 of the peer finds them.

A long context runs in windows of `max_seq_len` tokens, each with the question, that repeat
`doc_stride` tokens. In each the probability of a span is that of its first token times that of its
last; the same answer in several windows, or spelt in another case, adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.models.heads import QuestionAnswering
from bertolt.tasks.pipelines.base import Pipeline, Window, rows_of
from bertolt.tokenization.rows import require_whole

_LOWEST = -10000.0
"""The logit of a token that no answer has."""

Span = tuple[int, int, float]
"""First token, last token, score."""


class _About(NamedTuple):
    """Of a window: its encoding, and (L,) whether an answer may have the token."""

    encoding: Encoding
    allowed: NDArray[np.bool_]


class QuestionAnsweringPipeline(Pipeline):
    """`{"score", "start", "end", "answer"}`, by characters of the context.

    Call it with `question=…, context=…` (texts, or lists of equal length, or several questions on
    one context), with `{"question": …, "context": …}` or a list of such, or with both in order.
    With `top_k` above 1 an answer is a list of such, the best first.

    `max_answer_len` is in tokens, 15; `max_seq_len` is what a window holds, 384 or less;
    `doc_stride` is what windows repeat, 128 or half a window; `handle_impossible_answer` lets the
    empty answer win; `align_to_words` widens an answer to whole words.
    """

    task = "question-answering"
    head = QuestionAnswering
    defaults: ClassVar[Mapping[str, Any]] = {
        "top_k": 1,
        "topk": None,
        "doc_stride": None,
        "max_answer_len": 15,
        "max_seq_len": None,
        "handle_impossible_answer": False,
        "align_to_words": True,
    }
    unused: ClassVar[Mapping[str, str]] = {
        "padding": "windows run without padding",
        "max_question_len": "a question is read whole",
    }

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        """The answer to one question, or a list of answers to several.

        Raises:
            UsageError: no question and context, or a setting that there is not.
            DataError: a question or a context that is empty, or no text.
        """
        named: dict[str, Any] = {
            name: settings.pop(name)
            for name in ("question", "context", "data", "X")
            if name in settings
        }
        examples = _examples(inputs, named)
        if isinstance(examples, list) and len(examples) == 1:
            return super().__call__(examples[0], **settings)
        return super().__call__(examples, **settings)

    def checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the lengths of windows."""
        if settings["topk"] is not None:
            settings["top_k"] = settings["topk"]
        for name in ("top_k", "max_answer_len", "max_seq_len"):
            require_whole(name, settings[name], least=1)
        require_whole("doc_stride", settings["doc_stride"], least=0)
        limit = min(self.tokenizer.model_max_length, self.model.config.max_tokens)
        size = settings["max_seq_len"] or min(limit, 384)
        stride = settings["doc_stride"]
        stride = min(size // 2, 128) if stride is None else stride
        if size > limit or stride >= size:
            raise UsageError(
                f"a window of {size} tokens that repeats {stride} cannot be",
                fix=f"give a doc_stride below max_seq_len, and that up to {limit}",
            )
        return {**settings, "max_seq_len": size, "doc_stride": stride}

    def encode(
        self, examples: Sequence[Any], settings: Mapping[str, Any]
    ) -> Iterable[Sequence[Window]]:
        """The question with each part of the context."""
        first = self.tokenizer.padding_side == "right"
        for number, example in enumerate(examples):
            question, context = _checked(number, example)
            encoded = self.tokenizer(
                *((question, context) if first else (context, question)),
                truncation="only_second" if first else "only_first",
                max_length=settings["max_seq_len"],
                stride=settings["doc_stride"],
                return_overflowing_tokens=True,
                return_token_type_ids=True,
            )
            windows = []
            for row, encoding in zip(rows_of(encoded), encoded.encodings or [], strict=True):
                ids = np.array(encoding.ids)
                of_context = [sequence == int(first) for sequence in encoding.sequence_ids]
                allowed = np.array(of_context) | (ids == self.tokenizer.cls_token_id)
                windows.append(Window(row, _About(encoding, allowed)))
            yield windows

    def decode(
        self,
        example: Any,
        windows: Sequence[Window],
        outputs: Sequence[Tensor],
        settings: Mapping[str, Any],
    ) -> Any:
        """The best answer, or the best few."""
        context, top_k, words = example["context"], settings["top_k"], settings["align_to_words"]
        nothing = np.inf
        answers: dict[str, dict[str, Any]] = {}
        for window, ends in zip(windows, outputs, strict=True):
            shares = _shares(ends.numpy(), window.about.allowed)
            nothing = min(nothing, float(shares[0, 0] * shares[0, 1]))
            shares[0] = 0.0
            # Some of the candidates become the same once they are whole words.
            count = top_k * 2 + 10 if words else top_k
            for span in _best_spans(shares, count, settings["max_answer_len"]):
                if not window.about.allowed[list(span[:2])].all():
                    continue
                start, end = self._characters(window.about.encoding, span, words=words)
                text = context[start:end]
                answer = {"score": 0.0, "start": start, "end": end, "answer": text}
                answers.setdefault(text.lower(), answer)["score"] += span[2]
        found = list(answers.values())
        if settings["handle_impossible_answer"]:
            found.append({"score": nothing, "start": 0, "end": 0, "answer": ""})
        best = sorted(found, key=lambda answer: -answer["score"])[:top_k]
        return best[0] if len(best) == 1 else best

    def _characters(self, encoding: Encoding, span: Span, *, words: bool) -> tuple[int, int]:
        """Where a span stands in the context."""
        side = int(self.tokenizer.padding_side == "right")
        first, last = (encoding.token_to_word(token) for token in span[:2])
        if words and first is not None and last is not None:
            start = encoding.word_to_chars(first, side)
            end = encoding.word_to_chars(last, side)
            if start is not None and end is not None:
                return start[0], end[1]
        return encoding.offsets[span[0]][0], encoding.offsets[span[1]][1]


def _shares(logits: NDArray[Any], allowed: NDArray[np.bool_]) -> NDArray[Any]:
    """(L, 2) probabilities that an answer begins, or ends, at each token."""
    logits = np.where(allowed[:, None], logits, np.float32(_LOWEST))
    powers = np.exp(logits - logits.max(axis=0))
    shares: NDArray[Any] = powers / powers.sum(axis=0)
    return shares


def _best_spans(shares: NDArray[Any], count: int, longest: int) -> Iterator[Span]:
    """The most probable spans of up to so many tokens, the best first."""
    products = np.tril(np.triu(np.outer(shares[:, 0], shares[:, 1])), longest - 1)
    scores = products.ravel()
    if count < len(scores):
        chosen = np.argpartition(-scores, count)[:count]
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    else:
        chosen = np.argsort(-scores, kind="stable")
    for number in chosen.tolist():
        start, end = divmod(number, products.shape[1])
        yield start, end, float(scores[number])


def _examples(inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A list of examples, or a stream of them, from all the ways to ask."""
    if len(inputs) == 2 and all(isinstance(each, str) for each in inputs):
        return [{"question": inputs[0], "context": inputs[1]}]
    if inputs:
        asked = inputs[0] if len(inputs) == 1 else list(inputs)
    elif "data" in named or "X" in named:
        asked = named.get("data", named.get("X"))
    elif "question" in named and "context" in named:
        return _zipped(named["question"], named["context"])
    else:
        raise UsageError(
            "there is no question with its context",
            fix="give question=… and context=…, or a list of such as mappings",
        )
    if isinstance(asked, Mapping):
        questions = asked.get("question")
        return _zipped(questions, asked["context"]) if isinstance(questions, list) else [asked]
    return list(asked) if isinstance(asked, list | tuple) else asked


def _zipped(questions: Any, contexts: Any) -> list[dict[str, Any]]:
    if not isinstance(questions, list | tuple):
        questions = [questions]
    if not isinstance(contexts, list | tuple):
        contexts = [contexts] * len(questions)
    if len(questions) != len(contexts):
        raise DataError(
            f"there are {len(questions)} questions and {len(contexts)} contexts",
            fix="give one context, or one to each question",
        )
    return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]


def _checked(number: int, example: Any) -> tuple[str, str]:
    """The question and the context of an example."""
    values = [example.get(n) if isinstance(example, Mapping) else None for n in _ROLES]
    for role, value in zip(_ROLES, values, strict=True):
        if not isinstance(value, str) or not value:
            problem = "is empty" if value == "" else f"is a {type(value).__name__}"
            raise DataError(
                f"its {role} {problem}",
                place=f"example {number}",
                fix='give {"question": …, "context": …}, each a text',
            )
    return str(values[0]), str(values[1])


_ROLES = ("question", "context")
