"""Examples to token ids, in one window or several, with the account of what the limit cut."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bertolt.base.chunks import characters_of, chunks
from bertolt.base.errors import UsageError
from bertolt.base.format import plural
from bertolt.data.spill import Numbers

SHORTEST = 3
"""Least limit: a token between the two special ones."""
_CHUNK, _CHARACTERS = 2048, 1 << 22  # examples, and characters of them, that are encoded at a time


class Encoder(Protocol):
    """What encoding plain texts needs of a tokenizer."""

    sep_token_id: int

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Uncut ids of each text, special tokens included."""


class Window(NamedTuple):
    """What the model sees of an example at once, special tokens included.

    Attributes:
        ids: of the tokens.
        segments: 0 or 1 for each; None: all 0.
        places: the characters of the example that each token answers for, as (start, end), or
            (-1, -1); None: no token does.
    """

    ids: Sequence[int]
    segments: Sequence[int] | None = None
    places: Sequence[tuple[int, int]] | None = None


class EncodedExample(NamedTuple):
    """The windows of one example.

    Attributes:
        windows: one or several.
        length: tokens of the example before cutting, special tokens included.
        cut: tokens lost from each of its texts.
        documents: windows of each of its documents in their order, where it is of several that may
            have several windows, as a pair of texts that are read apart.
    """

    windows: Sequence[Window]
    length: int
    cut: Sequence[int] = (0,)
    documents: Sequence[int] | None = None


Encode = Callable[[list[Any]], Iterable[EncodedExample]]
"""Encodes some examples."""


@dataclass(frozen=True, kw_only=True)
class TruncationCount:
    """What the length limit did to a set of examples.

    Attributes:
        max_length: the limit in tokens, special tokens included.
        texts: how many examples there are.
        tokens: their tokens before cutting.
        texts_cut: examples longer than the limit that lost tokens.
        tokens_cut: tokens lost by that.
        by_text: the tokens lost from the first text and from the second; one number without pairs.
        texts_parted: examples longer than the limit that are read in several windows.
        windows: of all examples, or the sequences that they are of.
        several_documents: examples are several sequences, each of which may have as many tokens.
        parts_cut: examples read in several windows that lost what each window repeats. They are
            among `texts_cut` and among `texts_parted`.
    """

    max_length: int
    texts: int
    tokens: int
    texts_cut: int
    tokens_cut: int
    by_text: tuple[int, ...] = ()
    texts_parted: int = 0
    windows: int = 0
    several_documents: bool = False
    parts_cut: int = 0

    def to_dict(self) -> dict[str, int]:
        """The numbers, without those of each text."""
        left_out = ("by_text", "several_documents", "parts_cut")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __str__(self) -> str:
        parted = ""
        if in_windows := self.texts_parted:
            verb = "is" if in_windows == 1 else "are"
            what = f"texts {verb}"
            if self.several_documents:
                what = f"rows {'has' if verb == 'is' else 'have'} texts that are"
            parted = (
                f"{in_windows:,} of {self.texts:,} {what} longer than "
                f"{self.max_length} tokens and read in several windows, {self.windows:,} in all; "
            )
        if not self.texts_cut:
            of = "the texts of " if self.several_documents else ""
            what = plural(self.texts, "row" if self.several_documents else "text")
            none = f"none of {of}{what} is longer than {self.max_length} tokens"
            return f"{parted}nothing is cut" if parted else none
        one = self.texts_cut == 1
        verb, of_all = "is" if one else "are", f"{self.texts_cut:,} of {self.texts:,} texts"
        if self.several_documents:
            of_all = f"{self.texts_cut:,} of {self.texts:,} rows"
            verb = f"{'has' if one else 'have'} texts that are"
        lost = f"{self.tokens_cut:,} of {self.tokens:,} tokens are cut"
        if len(self.by_text) == 2:
            first, second = self.by_text
            lost += f", {first:,} from first texts and {second:,} from second ones"
        if self.parts_cut and self.parts_cut == self.texts_cut:
            what = "row" if self.several_documents else "text"
            repeated = f"of {self.parts_cut:,} {what}{'' if one else 's'} a part that every window"
            return f"{parted}{repeated} repeats is cut; {lost}"
        return f"{parted}{of_all} {verb} longer than {self.max_length} tokens; {lost}"


@dataclass(frozen=True, kw_only=True)
class EncodedTexts:
    """Token ids of the windows of many examples in flat arrays, with labels where there are some.

    A map-style data set of W windows of N examples: `encoded[i]` is a row with `input_ids`, and
    `token_type_ids` and `labels` where present. T counts the tokens of all windows. Where they are
    `joint`, a row is an example, with a list of the ids of its windows, and as many segments.

    Windows make documents, and documents make examples. A document is what has one output: a text,
    a pair of texts, or a question with one of its choices. D counts them.

    Attributes:
        ids: (T,) int32, the windows end to end.
        offsets: (W+1,) int64 start of each window in `ids`.
        full_lengths: (N,) tokens of each example before cutting.
        max_length: the limit in tokens.
        labels: (W, …) one for each window, or (T,) one for each token; (N, …) one for each example
            where they are joint; or None.
        label_names: what rows call their labels; where they are several, (W, …) has one of each.
        teacher_logits: (N, C) or (T, C) float32 of another model, or None.
        segments: (T,) uint8, or None where all are 0.
        places: (T, 2) int32 characters of the example that a token answers for, from start to end;
            -1 for a token that answers for none. None where no token does.
        example: (W,) int64 example of each window; None where each has one window.
        cut: (N, 1 or 2) int64 tokens lost from each text of an example.
        joint: the windows of an example stand in one batch; else each is a row by itself.
        documents: they may be parts of one document, with one output together; else those that are
            joint are a document each, such as the choices of a question.
        document: (W,) int64 which of the documents of its example a window is a part of, from 0,
            where `documents` are several an example; None: of the only one.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    full_lengths: NDArray[np.int64]
    max_length: int
    labels: NDArray[Any] | None = None
    segments: NDArray[np.uint8] | None = None
    places: NDArray[np.int32] | None = None
    example: NDArray[np.int64] | None = None
    cut: NDArray[np.int64] | None = None
    label_names: tuple[str, ...] = ("labels",)
    joint: bool = False
    documents: bool = False
    document: NDArray[np.int64] | None = None
    teacher_logits: NDArray[np.float32] | None = None

    @property
    def account(self) -> TruncationCount:
        """What was cut."""
        cut = np.zeros((self.examples, 1), np.int64) if self.cut is None else self.cut
        lost = cut.sum(axis=1)
        return TruncationCount(
            max_length=self.max_length,
            texts=self.examples,
            tokens=int(self.full_lengths.sum()),
            texts_cut=int((lost > 0).sum()),
            tokens_cut=int(lost.sum()),
            by_text=tuple(map(int, cut.sum(axis=0))),
            texts_parted=int(self.parted.sum()),
            windows=len(self.offsets) - 1,
            several_documents=self.several_documents,
            parts_cut=int((self.parted & (lost > 0)).sum()),
        )

    @property
    def several_documents(self) -> bool:
        """Whether examples are of several documents, each of which may be as long as the limit."""
        return self.joint and (self.document is not None or not self.documents)

    @property
    def examples(self) -> int:
        """N, the number of examples."""
        return len(self.full_lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(W,) tokens of each window, or (N,) of all windows of each example that are joint."""
        return np.diff(self.offsets[self.firsts] if self.joint else self.offsets)

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """(N+1,) first window of each example, and W."""
        return np.searchsorted(self.window_examples, np.arange(self.examples + 1))

    @cached_property
    def document_firsts(self) -> NDArray[np.int64]:
        """(D+1,) first window of each document, and W."""
        if not self.several_documents:
            return self.firsts
        count = len(self.offsets) - 1
        if self.document is None:
            return np.arange(count + 1)
        begins = np.diff(self.window_examples) != 0
        begins |= np.diff(self.document) != 0
        return np.r_[0, np.flatnonzero(begins) + 1, count] if count else np.zeros(1, np.int64)

    @cached_property
    def first_documents(self) -> NDArray[np.int64]:
        """(N+1,) first document of each example, and D."""
        return np.searchsorted(self.document_firsts, self.firsts)

    @property
    def document_places(self) -> NDArray[np.int64]:
        """(W,) which of the documents of its example each window is of, from 0."""
        counts = np.diff(self.document_firsts)
        examples = self.window_examples[self.document_firsts[:-1]]
        return np.repeat(np.arange(len(counts)) - self.first_documents[examples], counts)

    def documents_of(self, example: int) -> list[range]:
        """The windows of each document of an example."""
        bounds = self.first_documents[example : example + 2]
        ends = self.document_firsts[bounds[0] : bounds[1] + 1].tolist()
        return [range(*each) for each in itertools.pairwise(ends)]

    @property
    def parted(self) -> NDArray[np.bool_]:
        """(N,) whether a document of an example has several windows."""
        if self.example is None:
            return np.zeros(self.examples, dtype=bool)
        several = np.flatnonzero(np.diff(self.document_firsts) > 1)
        counts = np.bincount(
            self.window_examples[self.document_firsts[several]], minlength=self.examples
        )
        parted: NDArray[np.bool_] = counts > 0
        return parted

    @property
    def apart(self) -> EncodedTexts:
        """The same windows, each a row by itself, without labels."""
        return replace(self, joint=False, labels=None, teacher_logits=None)

    @property
    def windows(self) -> NDArray[np.int64]:
        """(N,) windows of each example."""
        if self.example is None:
            return np.ones(self.examples, dtype=np.int64)
        return np.bincount(self.example, minlength=self.examples)

    @property
    def window_examples(self) -> NDArray[np.int64]:
        """(W,) example of each window."""
        return np.arange(len(self.offsets) - 1) if self.example is None else self.example

    def windows_of(self, rows: Iterable[int]) -> list[int]:
        """The windows that rows of these numbers are made of, in order."""
        if not self.joint:
            return list(rows)
        return [w for row in rows for w in range(self.firsts[row], self.firsts[row + 1])]

    def place_of(self, window: int) -> NDArray[np.int32]:
        """(L, 2) characters that the tokens of a window answer for."""
        assert self.places is not None
        return self.places[self.offsets[window] : self.offsets[window + 1]]

    def at(self, index: NDArray[np.int64]) -> EncodedTexts:
        """The examples at these places, (M,), in their order, without labels."""
        counts, windows = self.windows, np.argsort(self.window_examples, kind="stable")
        first = np.r_[0, counts.cumsum()][index]
        chosen = windows[_ranges(first, counts[index])]
        lengths = np.diff(self.offsets)[chosen]
        tokens = _ranges(self.offsets[chosen], lengths)
        example = np.repeat(np.arange(len(index)), counts[index])
        return EncodedTexts(
            ids=self.ids[tokens],
            offsets=np.r_[0, lengths.cumsum()],
            full_lengths=self.full_lengths[index],
            max_length=self.max_length,
            segments=None if self.segments is None else self.segments[tokens],
            places=None if self.places is None else self.places[tokens],
            example=None if len(example) == len(index) else example,
            cut=None if self.cut is None else self.cut[index],
            joint=self.joint,
            documents=self.documents,
            document=None if self.document is None else self.document[chosen],
        )

    def __len__(self) -> int:
        return self.examples if self.joint else len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # counts from the end too, and refuses what is not there
        parts = [slice(*self.offsets[w : w + 2]) for w in self.windows_of([index])]
        row: dict[str, Any] = {"input_ids": [self.ids[part] for part in parts]}
        if self.segments is not None:
            row["token_type_ids"] = [self.segments[part] for part in parts]
        if not self.joint:
            row = {name: values[0] for name, values in row.items()}
        elif self.documents:
            row["document_windows"] = [len(windows) for windows in self.documents_of(index)]
        if self.labels is not None:
            # Windows have three tokens and more, so that there are never as many of both.
            per_token = not self.joint and len(self.labels) == len(self.ids)
            label = self.labels[parts[0] if per_token else index]
            several = len(self.label_names) > 1
            row |= zip(self.label_names, label if several else [label], strict=True)
        if self.teacher_logits is not None:
            per_token = len(self.teacher_logits) == len(self.ids)
            row["teacher_logits"] = self.teacher_logits[parts[0] if per_token else index]
        return row


def _ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of ranges that begin at `first`, end to end."""
    before = counts.cumsum() - counts
    return np.arange(int(counts.sum())) + np.repeat(first - before, counts)


def encode_texts(
    tokenizer: Encoder,
    texts: Iterable[str],
    max_length: int,
    labels: NDArray[Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EncodedTexts:
    """Encode texts, cut those beyond `max_length` at their end, and count what was cut.

    Args:
        tokenizer: gives uncut ids; its end token closes a cut text.
        texts: read once, in chunks.
        max_length: most tokens of a text, special tokens included.
        labels: (N,) one for each text.
        progress: called with the number of texts done.

    Raises:
        UsageError: a limit that leaves no room for a token between the special ones, or labels
            that are not as many as the texts.
    """

    def encode(chunk: list[str]) -> Iterator[EncodedExample]:
        return cut_at_end(tokenizer, chunk, max_length)

    return encode_examples(encode, texts, max_length, labels, progress)


def cut_at_end(
    tokenizer: Encoder, texts: Sequence[str], max_length: int
) -> Iterator[EncodedExample]:
    """Each text in one window that begins with it and ends at the limit."""
    for ids in tokenizer.encode_ids(texts):
        over = max(0, len(ids) - max_length)
        window = Window([*ids[: max_length - 1], tokenizer.sep_token_id] if over else ids)
        yield EncodedExample([window], len(ids), (over,))


def encode_examples(
    encode: Encode,
    examples: Iterable[Any],
    max_length: int,
    labels: NDArray[Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EncodedTexts:
    """Encode examples chunk by chunk into flat arrays.

    Args:
        encode: gives the windows of some examples.
        examples: read once, in chunks.
        max_length: that `encode` keeps to, special tokens included.
        labels: one for each example, where each has one window.
        progress: called with the number of examples done.

    Raises:
        UsageError: a limit that leaves no room, or labels that are not as many as the examples.
    """
    if max_length < SHORTEST:
        raise UsageError(f"a maximum length of {max_length} leaves no room for text", fix="use 3+")
    flat = _Flat()
    for chunk in chunks(examples, _CHUNK, _CHARACTERS, characters_of):
        for encoded in encode(chunk):
            flat.add(encoded)
        if progress is not None:
            progress(len(flat.lengths))
    require_one_each(labels, len(flat.lengths))
    return flat.whole(max_length, labels)


def gathered(encoded: Iterable[EncodedExample], max_length: int) -> EncodedTexts:
    """Examples that are encoded already, as flat arrays.

    Args:
        encoded: read once.
        max_length: that they keep to, special tokens included.
    """
    flat = _Flat()
    for each in encoded:
        flat.add(each)
    return flat.whole(max_length, None)


class _Flat:
    """Gathers windows end to end."""

    def __init__(self) -> None:
        self.ids = Numbers("i")
        self.segments = Numbers("B")
        self.places = Numbers("i")
        self.ends = array("q", [0])
        self.example = array("q")
        self.lengths = array("q")
        self.cut = array("q")
        self.document = array("q")
        self._texts, self._parted = 1, False

    def add(self, encoded: EncodedExample) -> None:
        """Take in the windows of one more example."""
        for window in encoded.windows:
            self.ids.extend(window.ids)
            if window.segments is not None:
                self.segments.extend(window.segments)
            if window.places is not None:
                self.places.extend(chain.from_iterable(window.places))
            self.ends.append(len(self.ids))
            self.example.append(len(self.lengths))
        if encoded.documents is None:  # one, which stands by itself
            self.document.extend([0] * len(encoded.windows))
        for place, count in enumerate(encoded.documents or ()):
            self.document.extend([place] * count)
            self._parted |= count > 1
        self.lengths.append(encoded.length)
        self.cut.extend(encoded.cut)
        self._texts = len(encoded.cut)

    def whole(self, max_length: int, labels: NDArray[Any] | None) -> EncodedTexts:
        """All of them as arrays."""
        single = len(self.example) == len(self.lengths)
        return EncodedTexts(
            ids=self.ids.whole(),
            offsets=_as_array(self.ends, np.int64),
            full_lengths=_as_array(self.lengths, np.int64),
            max_length=max_length,
            labels=labels,
            segments=self.segments.whole() if self.segments else None,
            places=self.places.whole().reshape(-1, 2) if self.places else None,
            example=None if single else _as_array(self.example, np.int64),
            cut=_as_array(self.cut, np.int64).reshape(-1, self._texts),
            # Where each document is one window, there is nothing to put together.
            document=_as_array(self.document, np.int64) if self._parted else None,
        )


def _as_array(values: array[int], dtype: Any) -> NDArray[Any]:
    return np.frombuffer(values, dtype=dtype) if len(values) else np.zeros(0, dtype)


def require_one_each(labels: NDArray[Any] | None, texts: int) -> None:
    """Refuse labels that are not as many as the texts.

    Raises:
        UsageError: they are not.
    """
    if labels is not None and len(labels) != texts:
        raise UsageError(
            f"there are {texts} texts and {len(labels)} labels", fix="give one for each text"
        )
