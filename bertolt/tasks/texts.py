"""Texts and pairs of texts: what the tasks that read a text as one window share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bertolt.base.errors import UsageError
from bertolt.data.cells import Cell, text_cell
from bertolt.data.encode import EncodedExample, Window, cut_at_end
from bertolt.data.load import Sample
from bertolt.data.long import Long, LongTexts
from bertolt.data.parted import long_pairs, long_texts
from bertolt.data.table_file import listing
from bertolt.tokenization import BertTokenizer

LONG_TEXTS: tuple[Long, ...] = ("truncate", "error", "head-tail", "window")
"""What can be done with a text beyond the limit where it is classified or rated as a whole."""


def text_cells(sample: Sample) -> dict[str, Cell]:
    """The cells of the text, and of the second text where there are pairs.

    Raises:
        UsageError: second texts are in several columns.
    """
    roles = sample.columns
    if len(roles.get("text_pair", [])) > 1:
        raise UsageError(
            f"the second text is read from one column, and there are {listing(roles['text_pair'])}",
            place="--text-pair",
            fix="name one of them, or the one of the texts with --text alone; columns that hold "
            "the choices of a question are for --task multiple-choice",
        )
    return {role: text_cell(roles[role], role) for role in roles if role != "label"}


def encode_in_one_window(
    examples: Sequence[Mapping[str, Any]], tokenizer: BertTokenizer, limit: int
) -> Iterable[EncodedExample]:
    """Each text, or pair of texts, cut to one window of at most `limit` tokens."""
    texts = [example["text"] for example in examples]
    pairs = [example.get("text_pair") for example in examples]
    if pairs[0] is None:
        return cut_at_end(tokenizer, texts, limit)
    return _encode_pairs(tokenizer, texts, [str(pair) for pair in pairs], limit)


def encode_long(
    examples: Sequence[Mapping[str, Any]], tokenizer: BertTokenizer, limit: int, long: LongTexts
) -> Iterable[EncodedExample]:
    """Each text, or pair of texts, in windows of at most `limit` tokens, or without its middle."""
    texts = [example["text"] for example in examples]
    rows = tokenizer.encode_ids(texts)
    if examples[0].get("text_pair") is None:
        return long_texts(rows, limit, long)
    pairs = tokenizer.encode_ids([str(example["text_pair"]) for example in examples])
    return long_pairs(rows, pairs, tokenizer.pair_frame(), limit, long)


def _encode_pairs(
    tokenizer: BertTokenizer, texts: Sequence[str], pairs: Sequence[str], limit: int
) -> Iterator[EncodedExample]:
    """Two texts in one window, the longer one cut first, and what each lost."""
    for pair in tokenizer.encode_pairs(texts, pairs, limit):
        length = len(pair.ids) + pair.first_cut + pair.second_cut
        window = Window(pair.ids, pair.segments)
        yield EncodedExample([window], length, (pair.first_cut, pair.second_cut))
