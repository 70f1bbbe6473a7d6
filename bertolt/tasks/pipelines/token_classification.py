"""Entities in texts: tokens with their labels, or tokens joined to words and words to entities."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.models.heads import TokenClassification
from bertolt.tasks.pipelines.base import Pipeline, Window, one_of_names, rows_of
from bertolt.tokenization.rows import require_whole

STRATEGIES = ("none", "simple", "first", "average", "max")
"""How tokens are joined; "simple" joins equal neighbours, the others words before that."""


class _Piece(NamedTuple):
    """A token: its text, where it stands, the shares (C,) of its labels, and whether it goes on."""

    place: int
    word: str
    start: int
    end: int
    shares: NDArray[Any]
    goes_on: bool


class _About(NamedTuple):
    """What is known of a window: the text, and its tokens but for their shares."""

    text: str
    pieces: list[_Piece]


class TokenClassificationPipeline(Pipeline):
    """The entities of a text, from left to right: `[{"entity_group", "score", "word", …}, …]`.

    Without aggregation there is one entry a token, `{"entity", "score", "index", "word", "start",
    "end"}`. Labels of `ignore_labels`, "O", are left out.

    `aggregation_strategy` joins tokens: "simple" joins neighbours of one kind by their prefixes B-
    and I-; "first", "average" and "max" give the pieces of a word one label before that.
    `stride` reads a text that is longer than the limit in several windows that overlap by so many
    tokens; without it such a text is cut, and that is told. With `is_split_into_words` a text is a
    list of words, joined by `delimiter`. `grouped_entities` and `ignore_subwords` are the older
    names of "simple" and "first".
    """

    task = "token-classification"
    head = TokenClassification
    defaults: ClassVar[Mapping[str, Any]] = {
        "aggregation_strategy": None,
        "ignore_labels": None,
        "stride": None,
        "is_split_into_words": False,
        "delimiter": None,
        "grouped_entities": None,
        "ignore_subwords": None,
    }
    instead: ClassVar[Mapping[str, str]] = {
        "offset_mapping": "leave it out: the tokenizer knows where its tokens stand",
        "truncation": "leave it out: a long text is cut, or with stride=… read in windows",
    }

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """As every pipeline; a list of words is one text where texts are split into words."""
        split = settings.get("is_split_into_words", self._given.get("is_split_into_words"))
        if split and isinstance(inputs, list) and not all(isinstance(i, list) for i in inputs):
            inputs = [inputs]
        return super().__call__(inputs, **settings)

    @property
    def _limit(self) -> int:
        return min(self.tokenizer.model_max_length, self.model.config.max_tokens)

    def checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the strategy by its name."""
        strategy = settings["aggregation_strategy"]
        if strategy is None:
            joined = "first" if settings["ignore_subwords"] else "simple"
            strategy = joined if settings["grouped_entities"] else "none"
        strategy = one_of_names("aggregation_strategy", strategy, STRATEGIES)
        stride = settings["stride"]
        require_whole("stride", stride, least=0)
        if stride is not None and strategy == "none":
            raise UsageError(
                "stride reads a text in several windows, and tokens that are not joined would be "
                "answered twice",
                fix='give aggregation_strategy="simple" or another, or leave stride out',
            )
        if stride is not None and stride >= self._limit:
            raise UsageError(
                f"stride is {stride}, and a window has {self._limit} tokens",
                fix="use a smaller stride",
            )
        ignored = ["O"] if settings["ignore_labels"] is None else settings["ignore_labels"]
        return {**settings, "aggregation_strategy": strategy, "ignore_labels": list(ignored)}

    def encode(
        self, examples: Sequence[Any], settings: Mapping[str, Any]
    ) -> Iterable[Sequence[Window]]:
        """One window each, or with a stride several."""
        words = settings["is_split_into_words"]
        delimiter = " " if settings["delimiter"] is None else settings["delimiter"]
        for number, example in enumerate(examples):
            if not isinstance(example, list if words else str):
                raise DataError(
                    f"a {type(example).__name__} is no {'list of words' if words else 'text'}",
                    place=f"text {number}",
                    fix="give is_split_into_words=True with lists of words, and texts without it",
                )
        encoded = self.tokenizer(
            list(examples),
            truncation=True,
            max_length=self._limit,
            is_split_into_words=words,
            return_overflowing_tokens=settings["stride"] is not None,
            stride=settings["stride"] or 0,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
        )
        owners = encoded.get("overflow_to_sample_mapping", range(len(examples)))
        windows: list[list[Window]] = [[] for _ in examples]
        rows = rows_of(encoded)
        for place, owner in enumerate(owners):
            example = examples[owner]
            text = delimiter.join(example) if words else example
            starts = _starts(example, len(delimiter)) if words else None
            pieces = self._pieces(encoded, place, text, starts, settings["aggregation_strategy"])
            windows[owner].append(Window(rows[place], _About(text, pieces)))
        return windows

    def _pieces(
        self, encoded: Any, place: int, text: str, starts: list[int] | None, strategy: str
    ) -> list[_Piece]:
        """The tokens of a window but the special ones, with where they stand in the text."""
        ids, places = encoded["input_ids"][place], encoded["offset_mapping"][place]
        words = encoded.word_ids(place)
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        aware = getattr(self.tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
        if not aware and strategy in STRATEGIES[2:]:
            warnings.warn(
                "the vocabulary does not mark pieces of words: what stands without a space before "
                "it goes on with a word",
                stacklevel=6,
            )
        pieces = []
        for index, special in enumerate(encoded["special_tokens_mask"][place]):
            if special:
                continue
            start, end = places[index]
            if starts is not None and words[index] is not None:
                start, end = start + starts[words[index]], end + starts[words[index]]
            spelt, token = text[start:end], tokens[index]
            if aware:
                goes_on = len(token) != len(spelt)
            else:
                goes_on = start > 0 and " " not in text[start - 1 : start + 1]
            if ids[index] == self.tokenizer.unk_token_id:
                token, goes_on = spelt, False
            pieces.append(_Piece(index, token, start, end, np.empty(0), goes_on))
        return pieces

    def decode(
        self,
        example: Any,
        windows: Sequence[Window],
        outputs: Sequence[Tensor],
        settings: Mapping[str, Any],
    ) -> Any:
        """The entities of all windows; of those that overlap the longer, then the surer, stays."""
        ignored, entities = settings["ignore_labels"], []
        for window, logits in zip(windows, outputs, strict=True):
            shares = logits.softmax(-1).numpy()
            pieces = [p._replace(shares=shares[p.place]) for p in window.about.pieces]
            for entity in self._entities(pieces, settings["aggregation_strategy"]):
                if entity.get("entity", entity.get("entity_group")) not in ignored:
                    entities.append(entity)
        return entities if len(windows) == 1 else _apart(entities)

    def _entities(self, pieces: list[_Piece], strategy: str) -> list[dict[str, Any]]:
        if strategy in ("none", "simple"):
            entities = [self._labelled([piece], "first") for piece in pieces]
        else:
            entities = [self._labelled(word, strategy) for word in _words(pieces)]
        if strategy == "none":
            order = ("entity", "score", "index", "word", "start", "end")
            return [
                {name: {**entity, "index": piece.place}[name] for name in order}
                for entity, piece in zip(entities, pieces, strict=True)
            ]
        return [self._joined(group) for group in _groups(entities)]

    def _labelled(self, pieces: list[_Piece], strategy: str) -> dict[str, Any]:
        """The pieces of a word, or one token, with their label."""
        if strategy == "average":
            shares = np.mean([piece.shares for piece in pieces], axis=0)
        elif strategy == "max":
            shares = max((piece.shares for piece in pieces), key=lambda shares: shares.max())
        else:
            shares = pieces[0].shares
        best = int(shares.argmax())
        alone = len(pieces) == 1 and strategy == "first"
        words = [piece.word for piece in pieces]
        return {
            "entity": self.model.config.id2label[best],
            "score": float(shares[best]),
            "word": words[0] if alone else self.tokenizer.convert_tokens_to_string(words),
            "start": pieces[0].start,
            "end": pieces[-1].end,
        }

    def _joined(self, group: list[dict[str, Any]]) -> dict[str, Any]:
        """Neighbours of one kind as one entity."""
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([entity["score"] for entity in group])),
            "word": self.tokenizer.convert_tokens_to_string([e["word"] for e in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def _starts(words: Sequence[str], gap: int) -> list[int]:
    """Where each word begins in the text that they are joined to."""
    starts, start = [], 0
    for word in words:
        starts.append(start)
        start += len(word) + gap
    return starts


def _words(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Pieces by word."""
    words: list[list[_Piece]] = []
    for piece in pieces:
        if words and piece.goes_on:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def _kind(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and the kind that it names."""
    return label.startswith("B-"), label[2:] if label[:2] in ("B-", "I-") else label


def _groups(entities: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Neighbours of one kind, unless one begins anew."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        begins, kind = _kind(entity["entity"])
        if groups and not begins and _kind(groups[-1][-1]["entity"])[1] == kind:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _apart(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entities of windows that overlap, each place answered once."""
    apart: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if not apart or not apart[-1]["start"] <= entity["start"] < apart[-1]["end"]:
            apart.append(entity)
        elif _weight(entity) > _weight(apart[-1]):
            apart[-1] = entity
    return apart


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
