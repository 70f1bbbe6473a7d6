"""The rows of a file as checks look at them: names and numbers as arrays, texts as their digests.

Whatever is as long as the file is an array of numbers, so that memory stays at some dozen bytes a
row; each is made when a check first asks for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.data.arrow import pa
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import EXAMPLES
from bertolt.data.spelling import plain_text
from bertolt.tasks.base import Task
from bertolt.tasks.evaluation import TaskRows
from bertolt.tokenization import BertTokenizer

Integers = NDArray[np.int64]
_PREFIX = re.compile(r"[BIESLUM]-(?=.)")


@dataclass(frozen=True, kw_only=True)
class UnknownWords:
    """The words of one role that the vocabulary does not have.

    Attributes:
        role, column: of the texts.
        words: all words that the model sees, those of overlapping windows twice.
        unknown: how many of them are unknown.
        places: of the rows with such words, in order.
        texts_without: texts that have no other words.
    """

    role: str
    column: str
    words: int
    unknown: int
    places: Integers
    texts_without: int


class RowView:
    """The rows of one file.

    Args:
        task: of the rows.
        parts: all of one table, encoded.
        tokenizer: that encoded them, or None.

    Attributes:
        table: the file.
        several: whether a row may have several labels.
        tagged: whether each word has a label.
    """

    def __init__(
        self, task: Task, parts: Sequence[TaskRows], tokenizer: BertTokenizer | None
    ) -> None:
        self.task, self.table, self._parts, self._tokenizer = task, parts[0].table, parts, tokenizer
        schema = self.table.data.schema
        self._kind = schema.field("label").type if "label" in schema.names else pa.null()
        self.tagged = pa.types.is_list(schema.field("text").type)
        self.several = pa.types.is_list(self._kind)

    # ---- labels

    @cached_property
    def names(self) -> list[str]:
        """All labels, tags, or kinds of spans, in the order of their first rows."""
        return list(self._named[0])

    @cached_property
    def kinds(self) -> list[str]:
        """The same without the prefixes of tags."""
        names = (_PREFIX.sub("", name) if self.tagged else name for name in self.names)
        return list(dict.fromkeys(names))

    def rows_of(self, name: str) -> Integers:
        """The numbers of the rows with a label, tag or kind."""
        names, codes, places = self._named
        chosen = [code for each, code in names.items() if self._is(each, name)]
        return self.row_numbers(np.unique(places[np.isin(codes, chosen)]))

    def _is(self, name: str, kind: str) -> bool:
        return kind in (name, _PREFIX.sub("", name) if self.tagged else name)

    @cached_property
    def _named(self) -> tuple[dict[str, int], Integers, Integers]:
        """The code of each name; (M,) codes as they occur, and the places of their rows."""
        if not self._has_names():
            return {}, np.zeros(0, np.int64), np.zeros(0, np.int64)
        column = _whole(self.table.data["label"])
        places = np.arange(len(column))
        if self.several:
            places = np.repeat(places, np.diff(column.offsets.to_numpy()))
            column = column.flatten()
            if pa.types.is_struct(column.type):
                column = column.field("label")
        encoded = column.dictionary_encode()
        names = {str(name): code for code, name in enumerate(encoded.dictionary.to_pylist())}
        return names, encoded.indices.to_numpy().astype(np.int64), places

    def _has_names(self) -> bool:
        if "label" in self.task.encoded_roles:
            return False  # it is a text
        kind = self._kind.value_type if self.several else self._kind
        spans = pa.types.is_struct(kind) and kind.get_field_index("label") >= 0
        return bool(pa.types.is_string(kind) or spans)

    def tags(self) -> Iterator[list[str]]:
        """The tags of each row."""
        return _values(self.table.data["label"], range(len(self.table)))

    @cached_property
    def labels(self) -> Integers | None:
        """(N,) a digest of the labels of each row; None without labels."""
        if pa.types.is_null(self._kind) or "label" in self.task.encoded_roles:
            return None
        return self.labels_of(range(len(self.table)))

    def labels_of(self, places: Sequence[int] | Integers) -> Integers:
        """The same of the rows at some places."""
        column, sets = self.table.data["label"], self.several and not self.tagged
        values = (
            hash(json.dumps(sorted(map(json.dumps, value)) if sets and value else value))
            if self.several
            else hash(value)
            for value in _values(column, places)
        )
        return np.fromiter(values, np.int64, len(places))

    @cached_property
    def numbers(self) -> dict[str, NDArray[np.float64]]:
        """(N,) the numbers of each column; empty where labels are no numbers."""
        if not self.several or not pa.types.is_float64(self._kind.value_type):
            return {}
        columns = self.table.roles["label"]
        values = _whole(self.table.data["label"]).flatten().to_numpy()
        return dict(zip(columns, values.reshape(-1, len(columns)).T, strict=True))

    # ---- texts

    @cached_property
    def texts(self) -> Integers:
        """(N,) a digest of each text or pair, without case and double spaces."""
        if self.halves is None:
            return self._digests("text")
        pairs = zip(*(half.tolist() for half in self.halves), strict=True)
        return np.fromiter(map(hash, pairs), np.int64, len(self.table))

    @cached_property
    def halves(self) -> tuple[Integers, Integers] | None:
        """(N,) the same of both texts of each pair; None where there are no pairs."""
        if "text_pair" not in self.table.roles:
            return None
        return self._digests("text"), self._digests("text_pair")

    def _digests(self, role: str) -> Integers:
        values = _values(self.table.data[role], range(len(self.table)))
        texts = (text if isinstance(text, str) else "\x1f".join(text) for text in values)
        return np.fromiter((hash(plain_text(text)) for text in texts), np.int64, len(self.table))

    def row_numbers(self, places: Integers) -> Integers:
        """What the owner of the file calls the rows at some places."""
        numbers: Integers = _whole(self.table.data["row"]).to_numpy()[places]
        return numbers

    def row_words(self, place: int) -> str:
        """The same of one row in words, with its line where that is another number."""
        return self.table.row_words(int(self.table.data["row"][place].as_py()))

    def examples(self, places: Iterable[int]) -> list[dict[str, Any]]:
        """The rows at some places, by role."""
        return list(self.table.examples([int(place) for place in places]))

    # ---- words

    def unknown_words(self) -> Iterator[UnknownWords]:
        """How many words of each column are unknown; nothing where all are known."""
        unknown = None if self._tokenizer is None else self._tokenizer.unk_token_id
        if unknown is None or not any((part.encoded.ids == unknown).any() for part in self._parts):
            return
        for segment, role in enumerate(("text", "text_pair")):
            if role in self.table.roles:
                yield self._unknown_in_role(role, segment, int(unknown))

    def _unknown_in_role(self, role: str, segment: int, unknown: int) -> UnknownWords:
        words, lost, without, places = 0, 0, 0, []
        for part in self._parts:
            all_of, odd_of = self._words_of(part.encoded, segment, unknown)
            words, lost = words + int(all_of.sum()), lost + int(odd_of.sum())
            without += int(((odd_of == all_of) & (odd_of > 0)).sum())
            places.append(part.index[odd_of > 0])
        return UnknownWords(
            role=role,
            column=self.table.roles[role][0],
            words=words,
            unknown=lost,
            places=np.sort(np.concatenate(places)),
            texts_without=without,
        )

    def _words_of(
        self, rows: EncodedTexts, segment: int, unknown: int
    ) -> tuple[Integers, Integers]:
        """(N,) words of each example in one segment, and how many of them are unknown."""
        counts = np.zeros((2, rows.examples), np.int64)
        for start in range(0, len(rows.window_examples), EXAMPLES):
            ends = rows.offsets[start : start + EXAMPLES + 1]
            tokens = slice(ends[0], ends[-1])
            here = self._begins_word[rows.ids[tokens]]
            of_window = rows.window_examples[start : start + EXAMPLES]
            if rows.segments is not None:
                here &= rows.segments[tokens] == segment
            elif rows.joint:
                # Each text is a window by itself.
                place = np.arange(start, start + len(of_window)) - rows.firsts[of_window]
                here &= np.repeat(place, np.diff(ends)) == segment
            examples = np.repeat(of_window, np.diff(ends))
            for count, mask in zip(
                counts, (here, here & (rows.ids[tokens] == unknown)), strict=True
            ):
                np.add.at(count, examples[mask], 1)
        return counts[0], counts[1]

    @cached_property
    def _begins_word(self) -> NDArray[np.bool_]:
        """(V,) whether a token is a word or its beginning: unknown ones are, special ones not."""
        assert self._tokenizer is not None
        tokens = self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))
        highest = max(int(part.encoded.ids.max()) for part in self._parts)
        begins = np.zeros(max(len(tokens), highest + 1), dtype=bool)
        begins[: len(tokens)] = [token is not None and token[:2] != "##" for token in tokens]
        special = set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
        begins[sorted(special)] = False
        return begins

    def unknown_in(self, text: str, most: int) -> list[str]:
        """The first unknown words of a text, each once."""
        assert self._tokenizer is not None
        (words,) = self._tokenizer.encode_words([text])
        pairs = zip(words.ids, words.offsets, strict=True)
        unknown = self._tokenizer.unk_token_id
        return list(dict.fromkeys(text[a:b] for each, (a, b) in pairs if each == unknown))[:most]


def each_once(values: Integers) -> Integers:
    """The first places of different values, in order."""
    return np.sort(np.unique(values, return_index=True)[1])


def _whole(column: Any) -> Any:
    """A column in one piece."""
    return column.combine_chunks()


def _values(column: Any, places: Sequence[int] | Integers) -> Iterator[Any]:
    """The values of a column at some places, some of them at a time."""
    for start in range(0, len(places), EXAMPLES):
        part = places[start : start + EXAMPLES]
        chosen = (
            column.slice(part.start, len(part))
            if isinstance(part, range)
            else column.take(pa.array(part))
        )
        yield from chosen.to_pylist()
