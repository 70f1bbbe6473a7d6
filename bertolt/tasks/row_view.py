"""The rows of files as checks look at them: names and numbers as arrays, texts as their digests.

Whatever is as long as the file is an array of numbers, so that memory stays at some dozen bytes a
row; each is made when a check first asks for it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting
from bertolt.data.arrow import pa
from bertolt.data.choices import choices_of
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import EXAMPLES
from bertolt.data.near import Near, comparable, components, near_pairs
from bertolt.data.scripts import script_of
from bertolt.data.spelling import plain_text
from bertolt.tasks.base import Task
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.shown import new_tokens
from bertolt.tasks.words import text_of
from bertolt.tokenization import BertTokenizer

Integers = NDArray[np.int64]
_PREFIX = re.compile(r"[BIESLUM]-(?=.)")
_LOOKED_AT = 4000  # texts of a part in which scripts of unknown words are looked at
NAMED = 3
"""Rows, or groups of rows, that a caution names."""


def rows_named(numbers: Sequence[int]) -> str:
    """The first of some rows: "row 2", or "rows 2, 5, 9, …"."""
    first = ", ".join(map(str, numbers[:NAMED])) + ", …" * (len(numbers) > NAMED)
    return f"row {first}" if len(numbers) == 1 else f"rows {first}"


def first_of(items: Iterable[str], count: int) -> str:
    """The first of `count` items with semicolons between them, and that there are more."""
    return "; ".join(itertools.islice(items, NAMED)) + ("; …" if count > NAMED else ".")


@dataclass(frozen=True, kw_only=True)
class UnknownWords:
    """The words of one role that the vocabulary does not have.

    Attributes:
        role, columns: of the texts.
        words: all words that the model sees, each once however many windows show it.
        unknown: how many of them are unknown.
        places: of the rows with such words, in order.
        texts_without: texts that have no other words.
        scripts: words, and unknown ones, by script, the script of most words first.
        looked_at: the texts by whose unknown words the scripts of all of them are told.
    """

    role: str
    columns: tuple[str, ...]
    words: int
    unknown: int
    places: Integers
    texts_without: int
    scripts: dict[str, tuple[int, int]]
    looked_at: int


class InBoth(NamedTuple):
    """Rows to measure on that nearly repeat training rows.

    Attributes:
        rows: how many there are.
        first: numbers of the first of them, each with that of a training row like it.
        group: the column by whose values rows were kept together already, if there is one.
    """

    rows: int
    first: list[tuple[int, int]]
    group: str | None = None


class RowView:
    """The rows of one file.

    Args:
        task: of the rows.
        parts: all of one table, encoded, by what they are, as "Training".
        tokenizer: that encoded them, or None.

    Attributes:
        table: the file.
        several: whether a row may have several labels.
        tagged: whether each word has a label.
    """

    def __init__(
        self, task: Task, parts: Mapping[str, TaskRows], tokenizer: BertTokenizer | None
    ) -> None:
        self.task, self.parts, self._tokenizer = task, parts, tokenizer
        self._parts = list(parts.values())
        self.table = self._parts[0].table
        schema = self.table.data.schema
        self.repeats: Repeats  # of all files; it says so itself
        named = "label" in schema.names and "label" not in task.encoded_roles  # else a text
        self._kind = schema.field("label").type if named else pa.null()
        self.tagged = pa.types.is_list(schema.field("text").type)
        self.several = pa.types.is_list(self._kind)

    # ---- labels

    @cached_property
    def names(self) -> list[str]:
        """All labels, tags, or kinds of spans, in the order of their first rows."""
        return list(self._codes_of_names)

    @cached_property
    def kinds(self) -> list[str]:
        """The same without the prefixes of tags."""
        names = (_PREFIX.sub("", name) if self.tagged else name for name in self.names)
        return list(dict.fromkeys(names))

    def rows_of(self, name: str) -> Integers:
        """The numbers of the rows with a label, tag or kind."""
        names = self._codes_of_names.items()
        chosen = [code for each, code in names if self._is(each, name)]
        rows = [np.unique(places[np.isin(codes, chosen)]) for codes, places in self._coded()]
        return self.row_numbers(np.concatenate([np.zeros(0, np.int64), *rows]))

    def rows_of_each(self, index: Integers) -> Integers:
        """(C,) how many of the rows at some places have each of `names`."""
        chosen = np.zeros(len(self.table), bool)
        chosen[index] = True
        counts = np.zeros(len(self.names), np.int64)
        for codes, places in self._coded():
            counts += np.bincount(codes[chosen[places]], minlength=len(counts))
        return counts

    def _is(self, name: str, kind: str) -> bool:
        return kind in (name, _PREFIX.sub("", name) if self.tagged else name)

    @cached_property
    def _codes_of_names(self) -> dict[str, int]:
        """The code of each name, in the order of their first rows."""
        names: dict[str, int] = {}
        for column, _ in self._names_by_part():
            for name in column.unique().to_pylist():
                names.setdefault(str(name), len(names))
        return names

    def _coded(self) -> Iterator[tuple[Integers, Integers]]:
        """(M,) codes of names as they occur, and the places of their rows; some rows at a time, as
        there may be a name for each word."""
        for column, places in self._names_by_part():
            encoded = column.dictionary_encode()
            codes = [self._codes_of_names[str(name)] for name in encoded.dictionary.to_pylist()]
            yield np.array(codes, np.int64)[encoded.indices.to_numpy()], places

    def _names_by_part(self) -> Iterator[tuple[Any, Integers]]:
        """(M,) names as they occur, and the places of their rows; some rows at a time."""
        if not self._has_names():
            return
        whole = self.table.data["label"]
        for start in range(0, len(whole), EXAMPLES):
            column = _whole(whole.slice(start, EXAMPLES))
            places = np.arange(start, start + len(column))
            if self.several:
                places = np.repeat(places, np.diff(column.offsets.to_numpy()))
                column = column.flatten()
                if pa.types.is_struct(column.type):
                    column = column.field("label")
            yield column, places

    def _has_names(self) -> bool:
        kind = self._kind.value_type if self.several else self._kind
        spans = pa.types.is_struct(kind) and kind.get_field_index("label") >= 0
        # Of choices a label says which one is right, and is no name that is learned.
        return bool(pa.types.is_string(kind) or spans) and not self.task.several_pairs

    def tags(self) -> Iterator[list[str]]:
        """The tags of each row."""
        return _values(self.table.data["label"], range(len(self.table)))

    @cached_property
    def labels(self) -> Integers | None:
        """(N,) a digest of what the labels of each row mean; None without labels."""
        if pa.types.is_null(self._kind):
            return None
        return self.labels_of(range(len(self.table)))

    def labels_of(self, places: Sequence[int]) -> Integers:
        """The same of the rows at some places."""
        values = (hash(self.task.meant(row)) for row in self.table.examples(places))
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
        digests = (hash(plain_text(_joined(text, "\x1f"))) for text in values)
        return np.fromiter(digests, np.int64, len(self.table))

    @property
    def roles(self) -> list[str]:
        """The roles of the texts of a row."""
        return [role for role in ("text", "text_pair") if role in self.table.roles]

    def comparable(self, role: str, places: Integers) -> list[str]:
        """The texts of a role at some places, as near-duplicates are looked for among them."""
        return [comparable(_joined(text)) for text in _values(self.table.data[role], places)]

    @property
    def classed(self) -> bool:
        """Whether a row has a label, or labels, of its own, and not words, spans or choices."""
        kind = self._kind.value_type if self.several else self._kind
        named = not self.tagged and not self.task.several_pairs
        return named and bool(pa.types.is_string(kind))

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

    @cached_property
    def unknown_words(self) -> list[UnknownWords]:
        """How many words of each column are unknown; nothing where all are known."""
        unknown = None if self._tokenizer is None else self._tokenizer.unk_token_id
        if unknown is None or not any((part.encoded.ids == unknown).any() for part in self._parts):
            return []
        columns = [
            self._unknown_in_role(role, segment, int(unknown))
            for segment, role in enumerate(self.roles)
        ]
        return [counts for counts in columns if counts.unknown]

    def _unknown_in_role(self, role: str, segment: int, unknown: int) -> UnknownWords:
        words, lost, without, places = 0, 0, 0, []
        known: Counter[str] = Counter()
        odd: Counter[str] = Counter()
        for part in self._parts:
            all_of, odd_of, scripts = self._words_of(part.encoded, segment, unknown)
            known.update(dict(zip(self._scripts, scripts.tolist(), strict=True)))
            self._count_scripts(part, role, odd_of, odd)
            words, lost = words + int(all_of.sum()), lost + int(odd_of.sum())
            without += int(((odd_of == all_of) & (odd_of > 0)).sum())
            places.append(part.index[odd_of > 0])
        return UnknownWords(
            role=role,
            columns=tuple(self.table.roles[role]),
            words=words,
            unknown=lost,
            places=np.sort(np.concatenate(places)),
            texts_without=without,
            scripts=_by_script(known, odd, lost),
            looked_at=min(_LOOKED_AT * len(self._parts), sum(map(len, places))),
        )

    def _count_scripts(
        self, part: TaskRows, role: str, counts: Integers, odd: Counter[str]
    ) -> None:
        """Count unknown words of each script; `counts` has how many each example has.

        Words with their places are slow to make, so that many texts are told by some of them.
        """
        assert self._tokenizer is not None
        some, unknown = np.flatnonzero(counts), self._tokenizer.unk_token_id
        some = some[np.linspace(0, max(len(some) - 1, 0), min(len(some), _LOOKED_AT)).astype(int)]
        values = _values(self.table.data[role], part.index[some])
        texts = (text_of({"text": value}) for value in values)
        pairs = zip(texts, counts[some].tolist(), strict=True)
        for chunk in iter(lambda: list(itertools.islice(pairs, EXAMPLES)), []):
            words = self._tokenizer.encode_words([text for text, _ in chunk])
            for (text, count), each in zip(chunk, words, strict=True):
                ends = zip(each.ids, each.offsets, strict=True)
                scripts = [script_of(text[a]) for number, (a, _) in ends if number == unknown]
                # What is cut is not counted.
                odd.update(itertools.islice(itertools.cycle(scripts), count))

    def _words_of(
        self, rows: EncodedTexts, segment: int, unknown: int
    ) -> tuple[Integers, Integers, Integers]:
        """(N,) words of each example in one segment, how many of them are unknown, and the known
        ones of each script."""
        scripts = np.zeros(len(self._scripts), np.int64)
        counts = np.zeros((2, rows.examples), np.int64)
        places = rows.document_places
        for start in range(0, len(rows.window_examples), EXAMPLES):
            ends = rows.offsets[start : start + EXAMPLES + 1]
            tokens = slice(ends[0], ends[-1])
            of_window = rows.window_examples[start : start + EXAMPLES]
            here = new_tokens(rows, places, start, start + len(of_window), segment, self._special)
            here &= self._begins_word[rows.ids[tokens]]
            examples = np.repeat(of_window, np.diff(ends))
            for count, mask in zip(
                counts, (here, here & (rows.ids[tokens] == unknown)), strict=True
            ):
                np.add.at(count, examples[mask], 1)
            known = rows.ids[tokens][here & (rows.ids[tokens] != unknown)]
            scripts += np.bincount(self._token_scripts[known], minlength=len(scripts))
        return counts[0], counts[1], scripts

    @cached_property
    def _scripts(self) -> list[str]:
        """Scripts of the vocabulary."""
        return sorted({script_of(token[:1] or " ") for token in self._vocabulary})

    @cached_property
    def _token_scripts(self) -> Integers:
        """(V,) the script of each token, by its first character, as a place in `_scripts`."""
        codes = {name: code for code, name in enumerate(self._scripts)}
        scripts = np.zeros(len(self._begins_word), np.int64)
        vocabulary = self._vocabulary
        scripts[: len(vocabulary)] = [codes[script_of(token[:1] or " ")] for token in vocabulary]
        return scripts

    @cached_property
    def _vocabulary(self) -> list[str]:
        assert self._tokenizer is not None
        tokens = self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))
        return [token or "" for token in tokens]

    @cached_property
    def _begins_word(self) -> NDArray[np.bool_]:
        """(V,) whether a token is a word or its beginning: unknown ones are, special ones not."""
        assert self._tokenizer is not None
        begins = np.zeros(len(self._special), dtype=bool)
        tokens = self._vocabulary
        begins[: len(tokens)] = [token != "" and token[:2] != "##" for token in tokens]
        return begins & ~self._special

    @cached_property
    def _special(self) -> NDArray[np.bool_]:
        """(V,) whether a token is special: unknown ones are words of a text."""
        assert self._tokenizer is not None
        highest = max(int(part.encoded.ids.max()) for part in self._parts)
        special = np.zeros(max(len(self._vocabulary), highest + 1), dtype=bool)
        special[sorted(set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id})] = 1
        return special

    def words_by_label(self, most: int) -> Iterator[tuple[str, str, int, int, int]]:
        """Words that stand in texts of one label far more than in all others: the label, the word,
        the texts of the label, those of them with the word, and other texts with it.

        Args:
            most: labels, beyond which nothing is counted.
        """
        if self._tokenizer is None or not self.classed or self.several:
            return
        if not 0 < len(self.names) <= most:
            return
        codes = np.concatenate([codes for codes, _ in self._coded()])
        width = len(self._begins_word)
        counts = np.zeros(len(self.names) * width, np.int64)
        for part in self._parts:
            rows = part.encoded
            for start in range(0, len(rows.offsets) - 1, EXAMPLES):
                ends = rows.offsets[start : start + EXAMPLES + 1]
                examples = np.repeat(rows.window_examples[start : start + EXAMPLES], np.diff(ends))
                ids = rows.ids[ends[0] : ends[-1]]
                pairs = np.unique((examples * width + ids)[self._begins_word[ids]])
                labels = codes[part.index[pairs // width]]
                np.add.at(counts, labels * width + pairs % width, 1)
        table = counts.reshape(-1, width)
        sizes = np.bincount(
            np.concatenate([codes[part.index] for part in self._parts]), minlength=len(self.names)
        )
        others = table.sum(axis=0) - table
        for label, name in enumerate(self.names):
            share = table[label] / max(int(sizes[label]), 1)
            elsewhere = others[label] / max(int(sizes.sum() - sizes[label]), 1)
            token = int((share - elsewhere).argmax())
            word = self._vocabulary[token] if token < len(self._vocabulary) else ""
            yield name, word, int(sizes[label]), int(table[label, token]), int(others[label, token])

    def unknown_in(self, text: str, most: int) -> list[str]:
        """The first unknown words of a text, each once."""
        assert self._tokenizer is not None
        (words,) = self._tokenizer.encode_words([text])
        pairs = zip(words.ids, words.offsets, strict=True)
        unknown = self._tokenizer.unk_token_id
        return list(dict.fromkeys(text[a:b] for each, (a, b) in pairs if each == unknown))[:most]


class Repeats:
    """Which rows of some files say the same; rows are counted through all of them.

    Args:
        views: the files; each learns of this object.
        group: the column by whose values rows were kept together, if there is one.
    """

    def __init__(self, views: Sequence[RowView], group: str | None = None) -> None:
        self.views, self.group = views, group
        sizes = [len(view.table) for view in views]
        self.starts: Integers = np.cumsum([0, *sizes])
        for view in views:
            view.repeats = self

    @cached_property
    def first(self) -> Integers:
        """(N,) the first row with the text of each row, but for case and spaces."""
        texts = np.concatenate([view.texts for view in self.views])
        _, first, members = np.unique(texts, return_index=True, return_inverse=True)
        firsts: Integers = first[members]
        return firsts

    @cached_property
    def near(self) -> Near:
        """Pairs of first rows that nearly repeat each other."""
        places = np.unique(self.first)
        roles = [partial(self._texts, role, places) for role in self.views[0].roles]
        with counting("Comparing texts", len(places)) as show:
            near = near_pairs(len(places), roles, progress=show)
        return Near(pairs=places[near.pairs], similarity=near.similarity)

    @cached_property
    def groups(self) -> Integers:
        """(N,) the first of all rows that repeat each other, word for word or nearly."""
        groups: Integers = components(len(self.first), self.near.pairs)[self.first]
        return groups

    @cached_property
    def in_both(self) -> InBoth:
        """The rows to measure on that nearly repeat training rows, and are not told as repeating
        one word for word."""
        learned, measured = self.part("Training"), self.part("Evaluation")
        if learned is None or measured is None:
            return InBoth(0, [], self.group)
        places, which = np.unique(self.groups[learned], return_index=True)
        both = measured[np.isin(self.groups[measured], places)]
        both = both[~self._word_for_word(both, learned)]
        partners = learned[which[np.searchsorted(places, self.groups[both])]]
        pairs = zip(both[:NAMED].tolist(), partners[:NAMED].tolist(), strict=True)
        first = [(self.example(row)["row"], self.example(other)["row"]) for row, other in pairs]
        return InBoth(len(both), first, self.group)

    def _word_for_word(self, rows: Integers, learned: Integers) -> NDArray[np.bool_]:
        """(N,) whether rows stand among the training rows as they are."""
        same = np.isin(self.first[rows], self.first[learned])
        owners = learned[np.isin(self.first[learned], self.first[rows[same]])]
        texts = {_texts_of(each) for each in self.examples(owners)}
        whole = np.zeros(len(rows), bool)
        whole[same] = [_texts_of(each) in texts for each in self.examples(rows[same])]
        return whole

    def copies_in(self, view: RowView, most: int) -> tuple[Integers | None, bool]:
        """(N,) the rows of a file in groups that repeat each other, of at most so many rows, or
        None if no two do; and whether larger groups are parted.

        Where rows that are nearly alike, over any number of steps, are more than that, only those
        that are alike but for case and spaces are groups, as long as they are no more.
        """
        for parted, groups in enumerate((self.groups, self.first)):
            rows = groups[self.of(view)]
            largest = int(np.unique(rows, return_counts=True)[1].max())
            if largest <= most:
                return rows if largest > 1 else None, bool(parted)
        return None, True

    def _texts(self, role: str, places: Integers, chosen: Integers) -> list[str]:
        """The texts of a role of some rows, which are in order."""
        rows = places[chosen]
        cuts = np.searchsorted(rows, self.starts)
        texts: list[str] = []
        for number, view in enumerate(self.views):
            part = rows[cuts[number] : cuts[number + 1]] - self.starts[number]
            texts += view.comparable(role, part)
        return texts

    def examples(self, rows: Integers) -> Iterator[dict[str, Any]]:
        """Some rows by role, which are in order."""
        cuts = np.searchsorted(rows, self.starts)
        for number, view in enumerate(self.views):
            part = rows[cuts[number] : cuts[number + 1]] - self.starts[number]
            yield from view.table.examples(part.tolist())

    def of(self, view: RowView) -> slice:
        """The rows of a file."""
        at = list(self.views).index(view)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    def part(self, name: str) -> Integers | None:
        """The rows of a part, in order; None if there is no such part."""
        for view, start in zip(self.views, self.starts, strict=False):
            if name in view.parts:
                rows: Integers = np.sort(view.parts[name].index) + start
                return rows
        return None

    def place(self, row: int) -> tuple[RowView, int]:
        """The file of a row, and its place there."""
        at = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.views[at], row - int(self.starts[at])

    def example(self, row: int) -> dict[str, Any]:
        """A row by role."""
        view, place = self.place(row)
        return view.examples([place])[0]

    def label_differs(self, pairs: Integers) -> NDArray[np.bool_]:
        """(P,) whether rows have labels that are not the same; never where rows have no label of
        their own, as words and spans of two texts are two by nature."""
        known = [view.labels for view in self.views if view.classed and view.labels is not None]
        if len(known) < len(self.views):
            return np.zeros(len(pairs), bool)
        labels = np.concatenate(known)
        differs: NDArray[np.bool_] = labels[pairs[:, 0]] != labels[pairs[:, 1]]
        return differs


def _by_script(known: Counter[str], odd: Counter[str], unknown: int) -> dict[str, tuple[int, int]]:
    """Words and unknown ones of each script; `odd` are counts of some of the unknown words."""
    share = unknown / max(odd.total(), 1)
    counts = {name: round(share * odd[name]) for name in known | odd}
    words = Counter({name: known[name] + count for name, count in counts.items()})
    return {name: (count, counts[name]) for name, count in words.most_common() if count}


def _texts_of(example: dict[str, Any]) -> int:
    """A digest of the texts of a row."""
    return hash(str((example["text"], example.get("text_pair"))))


def _joined(text: Any, between: str = " ") -> str:
    """A text, or its words or choices in one text."""
    return between.join(parts_of(text))


def parts_of(value: Any) -> list[str]:
    """The texts of a value: one, a list of words, or choices."""
    return [value] if isinstance(value, str) else choices_of(value).whole


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
