"""The rows of one tokenizer call: read from its arguments, cut, counted, padded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal
from unicodedata import category

from tokenizers import Encoding

from bertolt.base.checks import is_whole
from bertolt.base.errors import DataError, NotIdsError, UsageError

Text = str | Sequence[str]
Side = Literal["left", "right"]
Strategy = Literal["longest_first", "only_first", "only_second", "do_not_truncate"]
PadTo = Literal["longest", "max_length", "do_not_pad"]

STRATEGIES: tuple[Strategy, ...] = (
    "longest_first",
    "only_first",
    "only_second",
    "do_not_truncate",
)
SIDES: tuple[Side, ...] = ("right", "left")
PADDINGS: tuple[PadTo, ...] = ("longest", "max_length", "do_not_pad")


@dataclass(frozen=True)
class Truncation:
    """Rows are cut by `strategy` to `max_length` tokens, special ones counted.

    Attributes:
        special: special tokens around a text, and around a pair.
        overflow: what is cut becomes further rows, each repeating `stride` tokens.
        side: the side that is cut.
    """

    strategy: Strategy
    max_length: int
    special: tuple[int, int]
    side: Side
    stride: int = 0
    overflow: bool = False

    def lengths(self, head: Sized, tail: Sized | None) -> tuple[int, int]:
        """How many tokens stay of a text and of its pair, both without special tokens.

        Raises:
            UsageError: the special tokens do not fit, or the text that is to be cut is not there.
            DataError: cutting a text whole would not be enough.
        """
        special = self.special[tail is not None]
        if self.max_length < special:
            raise UsageError(
                f"max_length={self.max_length} cannot hold the {special} special tokens",
                fix="use a larger max_length, or add_special_tokens=False",
            )
        pair = None if tail is None else len(tail)
        return kept_lengths(len(head), pair, self.max_length - special, self.strategy)

    def kept(self, ids: list[int], keep: int) -> list[int]:
        """The `keep` tokens of a text that stay of it."""
        return ids[len(ids) - keep :] if self.side == "left" else ids[:keep]

    def cut(self, text: Encoding | None, keep: int) -> None:
        """Cut a text, in place, to `keep` tokens; the rest overflows if that is asked for.

        Raises:
            UsageError: a row would repeat all that it keeps.
        """
        if text is None or keep >= len(text):
            return
        if not self.overflow:
            # The backend puts what it cuts into pieces and, for a pair, later joins every piece of
            # one with every piece of the other. Two steps leave it a single piece of one token.
            text.truncate(keep + 1, direction=self.side)
            text.truncate(keep, direction=self.side)
            return
        if keep <= self.stride:
            raise UsageError(
                f"max_length={self.max_length} leaves {keep} tokens of a text to a row, and"
                f" stride={self.stride} repeats as many: the rows would not get on",
                fix="use a larger max_length, or a smaller stride",
            )
        text.truncate(keep, stride=self.stride, direction=self.side)


@dataclass(frozen=True)
class Inputs:
    """The texts of one call: each a string, or a list of words if `split_words`.

    Attributes:
        firsts: the texts.
        pairs: the second text of each, or None.
        batched: whether they came as a batch.
        split_words: whether each text is a list of words.
    """

    firsts: list[Any]
    pairs: list[Any]
    batched: bool
    split_words: bool = False


def one_of(name: str, value: Any, allowed: Sequence[str]) -> Any:
    """`value` if it is allowed.

    Raises:
        UsageError: it is not; the message names the argument and what it may be.
    """
    if value not in allowed:
        raise UsageError(
            f"{name}={value!r} is not known", fix=f"use one of {', '.join(map(repr, allowed))}"
        )
    return value


def require_whole(name: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number from `least` on; None is left out.

    Raises:
        UsageError: with the argument and its value.
    """
    if value is not None and not (is_whole(value) and value >= least):
        raise UsageError(f"{name} is {value!r}", fix=f"give a whole number, {least} or more")


def read_inputs(text: Any, pair: Any, split_words: bool) -> Inputs:
    """Sort out the first two arguments of a call: a text, a pair, a batch of texts or of pairs.

    Raises:
        DataError: not text, or not one pair to each text.
    """
    if _is_single(text, split_words):
        if pair is not None and not _is_single(pair, split_words):
            raise DataError(
                "a single text has a batch of pairs", fix="give both, or neither, as lists"
            )
        return Inputs([text], [pair or None], False, split_words)
    texts = _as_batch("text", text)
    if pair is None:
        split = [_split_pair(item, split_words) for item in texts]
        return Inputs(
            [first for first, _ in split], [second for _, second in split], True, split_words
        )
    pairs = _as_batch("text_pair", pair)
    require_same_number(texts, pairs)
    return Inputs(texts, pairs, True, split_words)


def require_same_number(texts: Sequence[Any], pairs: Sequence[Any]) -> None:
    """Refuse pairs that are not as many as the texts."""
    if len(texts) != len(pairs):
        raise DataError(
            f"there are {len(texts)} texts and {len(pairs)} pairs", fix="give one pair to each text"
        )


def _is_single(text: Any, split_words: bool) -> bool:
    if not split_words:
        return isinstance(text, str)
    if isinstance(text, str):
        raise DataError(
            "is_split_into_words=True, and the text is one string",
            fix="pass a list of words, or leave is_split_into_words out",
        )
    return isinstance(text, list | tuple) and (not text or isinstance(text[0], str))


def _as_batch(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise DataError(
            f"{name} is of type {type(value).__name__}", fix="pass a text or a list of texts"
        )
    return list(value)


def _split_pair(item: Any, split_words: bool) -> tuple[Any, Any]:
    """One entry of a batch: a text, or a tuple (or list) of a text and its pair."""
    member = list | tuple if split_words else str
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], member):
        return item[0], item[1]
    return item, None


def explain_refusal(inputs: Inputs, error: Exception, first_index: int = 0) -> DataError:
    """The error for texts that the backend refused: which one it is, and why."""
    entries = zip(inputs.firsts, inputs.pairs, strict=True)
    for index, (first, pair) in enumerate(entries, start=first_index):
        for text in (first,) if pair is None else (first, pair):
            whole = not inputs.split_words or not isinstance(text, list | tuple)
            for problem, fix in filter(None, map(_word_problem, [text] if whole else text)):
                return DataError(problem, place=f"text {index}", fix=fix)
    return DataError(f"the texts cannot be encoded ({error})", fix="pass texts, or lists of words")


def _word_problem(word: Any) -> tuple[str, str] | None:
    """What is wrong with something that should be text, and the fix; None if nothing is."""
    if not isinstance(word, str):
        fix = "fill in or drop rows without text; for lists of words pass is_split_into_words=True"
        return f"it is of type {type(word).__name__}, not text", fix
    lone = next((i for i, letter in enumerate(word) if "\ud800" <= letter <= "\udfff"), None)
    if lone is None:
        return None
    return (
        f"character {lone} is the lone surrogate U+{ord(word[lone]):04X}, half of a character,"
        " which no UTF-8 text can hold",
        'repair it: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")',
    )


def kept_lengths(first: int, pair: int | None, room: int, strategy: Strategy) -> tuple[int, int]:
    """How many tokens of a text and of its pair stay when `room` tokens fit in all.

    "longest_first" shortens the longer one down to the shorter one, and from there both alike.

    Raises:
        UsageError: the text that is to be cut is not there.
        DataError: cutting it whole would not be enough.
    """
    second = pair or 0
    surplus = first + second - room
    if surplus <= 0:
        return first, second
    if strategy == "longest_first" or room == 0:
        short = min(first, second, room // 2)
        return (short, room - short) if first <= second else (room - short, short)
    if strategy == "only_second" and pair is None:
        raise UsageError(
            "truncation='only_second', and a text that is too long has no pair",
            fix="use truncation=True",
        )
    lengths = (first - surplus, second) if strategy == "only_first" else (first, second - surplus)
    if lengths[strategy == "only_second"] <= 0:
        raise DataError(
            f"truncation={strategy!r} cannot make a pair of {first} and {second} tokens fit"
            f" into {room}: nothing would stay of the text to be cut",
            fix="use truncation=True, which may cut both, or a larger max_length",
        )
    return lengths


def with_marks(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places of pieces, each with the combining marks that follow it and that no piece stands for.

    Normalisation takes marks off, and the place of what is left ends before them.
    """
    if text.isascii():
        return offsets
    places = sorted(set(offsets))
    limits = [*(start for start, _ in places[1:]), len(text)]
    whole = {
        (start, end): (start, _end_of_marks(text, end, limit))
        for (start, end), limit in zip(places, limits, strict=False)
    }
    return [whole[place] for place in offsets]


def words_of(text: str, places: list[tuple[int, int]], words: list[int]) -> list[int | None]:
    """The word of each piece; None for the pieces of a word that has only space in it."""
    pieces = list(zip(places, words, strict=True))
    spelt = {word for (start, end), word in pieces if not text[start:end].isspace() and end > start}
    return [word if word in spelt else None for word in words]


def _end_of_marks(text: str, end: int, limit: int) -> int:
    while end < limit and category(text[end]).startswith("M"):
        end += 1
    return end


def padded_length(
    lengths: Sequence[int], pad_to: PadTo, max_length: int | None, multiple: int | None
) -> int:
    """The length that rows are padded to; 0 for no padding."""
    if pad_to == "do_not_pad" or not lengths:
        return 0
    longest = max(lengths) if pad_to == "longest" or max_length is None else max_length
    return longest if not multiple else -(-longest // multiple) * multiple


def as_columns(features: Any) -> dict[str, Any]:
    """Rows by name, from a mapping of columns or from a list of mappings.

    Raises:
        DataError: neither of both, a row without a field that the first has, or no `input_ids`.
    """
    if isinstance(features, list | tuple) and features and isinstance(features[0], Mapping):
        for index, row in enumerate(features):
            for name in features[0]:
                if name not in row:
                    raise DataError(
                        f"there is no {name!r}, which row 0 has",
                        place=f"row {index} of the batch",
                        fix="give every row the same fields",
                    )
        features = {name: [row[name] for row in features] for name in features[0]}
    if not isinstance(features, Mapping) or "input_ids" not in features:
        names = ", ".join(features) if isinstance(features, Mapping) else type(features).__name__
        raise NotIdsError(
            f"what is to be padded has no input_ids; found: {names}",
            fix="pass what the tokenizer returned: a list of such rows, or one such batch",
        )
    return dict(features)


def pad_column(rows: Sequence[Any], length: int, value: int, side: Side) -> list[Any]:
    """Each row lengthened to `length` with `value`; longer ones stay as they are."""
    if side == "left":
        return [[value] * (length - len(row)) + list(row) for row in rows]
    return [list(row) + [value] * (length - len(row)) for row in rows]
