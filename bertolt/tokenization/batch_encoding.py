"""What a tokenizer returns: `BatchEncoding`, a dict that also knows its words, characters and cuts.

`BatchEncoding` is a plain `dict` (so `model(**batch)`, `datasets.map` and a data loader take it as
it is) with attribute access, the backend's encodings for moving between tokens, words and
characters, and `truncated`: how many texts lost how many tokens. torch is imported only when torch
tensors are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bertolt.base.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding

TensorKind = Literal["pt", "np"]


@dataclass(frozen=True)
class Truncated:
    """The account of a cut: `texts` inputs (a pair counts as one) lost `tokens` tokens in all.

    Tokens that go to another row, because overflow was asked for, are not lost and not counted.
    """

    texts: int = 0
    tokens: int = 0

    def __add__(self, other: Truncated) -> Truncated:
        return Truncated(self.texts + other.texts, self.tokens + other.tokens)

    def __bool__(self) -> bool:
        return self.texts > 0


class EncodedPair(NamedTuple):
    """A text or a pair as one row, special tokens included, cut to a length.

    Attributes:
        ids: the tokens.
        segments: 0 for each token of the first text, 1 of the second; None if there is no second.
        first_cut: tokens that the first text lost.
        second_cut: tokens that the second text lost.
    """

    ids: list[int]
    segments: list[int] | None
    first_cut: int
    second_cut: int


class EncodedWords(NamedTuple):
    """The pieces of a text, without special tokens.

    Attributes:
        ids: the tokens.
        offsets: for each token the characters of the text that it stands for, as (start, end).
        words: for each token the index of its word, counted from 0 in this text; None for one that
            stands for nothing but space.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    words: list[int | None]


class PairFrame(NamedTuple):
    """The special tokens around two texts in one row, and the segments of all tokens.

    Attributes:
        before, between, after: ids before the first text, between both, and behind the second.
        segments: of the tokens before the first text, of the first text, between both, and so on.
    """

    before: list[int]
    between: list[int]
    after: list[int]
    segments: tuple[list[int], int, list[int], int, list[int]]

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, first: list[int], second: list[int]) -> tuple[list[int], list[int]]:
        """The ids of a row that holds both texts, and their segments."""
        ids = [*self.before, *first, *self.between, *second, *self.after]
        head, one, middle, other, tail = self.segments
        segments = [*head, *[one] * len(first), *middle, *[other] * len(second), *tail]
        return ids, segments


class CharSpan(NamedTuple):
    """A half-open range of characters or of tokens: `start` is in it, `end` is not."""

    start: int
    end: int


def _span(ends: tuple[int, int] | None) -> CharSpan | None:
    return None if ends is None else CharSpan(*ends)


class BatchEncoding(dict[str, Any]):
    """The tokenizer's output by name: `batch["input_ids"]`, `batch.input_ids`, `model(**batch)`.

    A method that takes `batch_or_…, … = None` reads one number as an index into the first row and
    two as row and index, as in `batch.char_to_token(7)` and `batch.char_to_token(3, 7)`.

    Args:
        data: lists, or tensors of shape (B, L), by name.
        encodings: the backend's encodings, one for each row; None after `pad` or by hand.
        truncated: what was cut on the way.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encodings: Sequence[Encoding] | None = None,
        *,
        truncated: Truncated | None = None,
    ) -> None:
        super().__init__(data or {})
        self._encodings = None if encodings is None else list(encodings)
        self.truncated = truncated or Truncated()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            raise AttributeError(f"no field {name!r}; there are: {', '.join(self)}") from None

    def __getitem__(self, item: str | int | slice) -> Any:
        """A field by name; a row's `tokenizers.Encoding` by index; rows of each field by slice."""
        if isinstance(item, str):
            return super().__getitem__(item)
        if self._encodings is not None:
            return self._encodings[item]
        if isinstance(item, slice):
            return {name: values[item] for name, values in self.items()}
        raise KeyError(f"row {item}: this encoding was not made by a tokenizer call; use a name")

    @property
    def data(self) -> BatchEncoding:
        """This same mapping, as older programs ask for it."""
        return self

    @property
    def is_fast(self) -> bool:
        """Whether it knows words and characters: it came from a call, and not from `pad`."""
        return self._encodings is not None

    @property
    def encodings(self) -> list[Encoding] | None:
        """The backend's encodings, one for each row, or None if this was not a tokenizer call."""
        return self._encodings

    @property
    def n_sequences(self) -> int | None:
        """1 for single texts, 2 for pairs, None when unknown."""
        return self._encodings[0].n_sequences if self._encodings else None

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row, as text."""
        return self._row(batch_index).tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row the index of its word; None for special tokens and padding."""
        return self._row(batch_index).word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row 0 (text) or 1 (pair); None for special tokens and padding."""
        return self._row(batch_index).sequence_ids

    def token_to_sequence(self, batch_or_token: int, token: int | None = None) -> int | None:
        """Whether a token belongs to the text (0), to the pair (1) or to neither (None)."""
        row, index = self._locate(batch_or_token, token)
        return row.token_to_sequence(index)

    def token_to_word(self, batch_or_token: int, token: int | None = None) -> int | None:
        """The index of the word that a token is part of."""
        row, index = self._locate(batch_or_token, token)
        return row.token_to_word(index)

    def token_to_chars(self, batch_or_token: int, token: int | None = None) -> CharSpan | None:
        """The characters of the input that a token stands for."""
        row, index = self._locate(batch_or_token, token)
        return _span(row.token_to_chars(index))

    def char_to_token(
        self, batch_or_char: int, char: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token that a character of the input went into; None for white space."""
        row, index = self._locate(batch_or_char, char)
        return row.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char: int, char: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The word that a character of the input is part of; None for white space."""
        row, index = self._locate(batch_or_char, char)
        return row.char_to_word(index, sequence_index)

    def word_to_tokens(
        self, batch_or_word: int, word: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The tokens that a word was split into."""
        row, index = self._locate(batch_or_word, word)
        return _span(row.word_to_tokens(index, sequence_index))

    def word_to_chars(
        self, batch_or_word: int, word: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of the input that make a word."""
        row, index = self._locate(batch_or_word, word)
        return _span(row.word_to_chars(index, sequence_index))

    def convert_to_tensors(
        self, tensor_type: TensorKind | None, prepend_batch_axis: bool = False
    ) -> BatchEncoding:
        """Turn every field into a tensor, in place, and return this same object.

        Raises:
            DataError: a field's rows differ in length or are not numbers; it is named.
        """
        if tensor_type is not None:
            for name, values in self.items():
                self[name] = as_tensor(
                    [values] if prepend_batch_axis else values, tensor_type, name
                )
        return self

    def to(self, device: str | int | torch.device, *, non_blocking: bool = False) -> BatchEncoding:
        """Move every tensor to a device, in place, and return this same object."""
        for name, values in self.items():
            if hasattr(values, "to"):
                self[name] = values.to(device=device, non_blocking=non_blocking)
        return self

    def _row(self, index: int) -> Encoding:
        if self._encodings is None:
            raise UsageError(
                "tokens, words and characters are known only to what a tokenizer call returned",
                fix="call tokenizer(text) and ask its result before `pad` or a data loader",
            )
        return self._encodings[index]

    def _locate(self, first: int, second: int | None) -> tuple[Encoding, int]:
        row_index, index = (0, first) if second is None else (first, second)
        row = self._row(row_index)
        return row, index if index >= 0 else len(row) + index


def as_tensor(values: Any, kind: TensorKind, name: str = "") -> Any:
    """Nested lists of numbers as a torch tensor ("pt") or a numpy array ("np").

    Raises:
        UsageError: `kind` is neither.
        DataError: rows of different lengths, or something that is not a number.
    """
    if kind not in ("pt", "np"):
        raise UsageError(f"return_tensors={kind!r} is not known", fix='use "pt" (torch) or "np"')
    if tensor_kind(values) == kind:
        return values
    values = as_lists(values)
    try:
        return _torch_tensor(values) if kind == "pt" else _numpy_array(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{name or 'a field'} cannot become one tensor: {error}",
            fix="pass padding=True and truncation=True so that rows have one length, and leave out"
            " columns that hold text",
        ) from error


def _torch_tensor(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.int64) if _is_empty(values) else torch.tensor(values)


def _numpy_array(values: Any) -> Any:
    import numpy as np

    array = np.asarray(values, dtype=np.int64 if _is_empty(values) else None)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"it holds values of type {array.dtype}")
    return array


def _is_empty(values: Any) -> bool:
    """Whether nested lists hold no number at all: their type cannot be read off them."""
    return isinstance(values, list | tuple) and all(_is_empty(value) for value in values)


def tensor_kind(value: Any) -> TensorKind | None:
    """ "pt" for a torch tensor, "np" for a numpy array or number, None for anything else.

    Read from the type's name, so that asking imports nothing.
    """
    kinds: dict[str, TensorKind] = {"torch": "pt", "numpy": "np"}
    return kinds.get(type(value).__module__.partition(".")[0]) if hasattr(value, "tolist") else None


def innermost_kind(value: Any) -> TensorKind | None:
    """The kind of tensor that a value is or that its rows are; None for plain numbers."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return tensor_kind(value)


def as_lists(value: Any) -> Any:
    """Tensors and arrays, also inside lists, as plain Python numbers and lists."""
    if isinstance(value, list | tuple):
        # What the first is, all are; a long row of numbers is not looked through.
        plain = not value or isinstance(value[0], int | float | str)
        return value if plain else [as_lists(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
