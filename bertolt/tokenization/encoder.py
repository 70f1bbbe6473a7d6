"""Texts to rows of ids: called as in the BERT notes, and the fast ways for whole data sets.

A call changes no state of the backend: its own truncation and padding stay off, and rows are cut
and padded one by one. So threads may share a tokenizer, its pickle (and the fingerprint that
`datasets` takes of it) does not depend on earlier calls, and every token that is cut is counted.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from itertools import repeat
from typing import Any, cast

from tokenizers import Encoding

from bertolt.base.arguments import refuse_unknown
from bertolt.base.chunks import characters_of, chunks
from bertolt.base.errors import UsageError
from bertolt.tokenization.batch_encoding import (
    BatchEncoding,
    EncodedPair,
    EncodedWords,
    PairFrame,
    TensorKind,
    Truncated,
    as_lists,
    innermost_kind,
)
from bertolt.tokenization.folder import UNLIMITED
from bertolt.tokenization.older import CALL, CallOptions, newer_call, without_unused
from bertolt.tokenization.pieces import PIECE, cut_where, pieces_of
from bertolt.tokenization.rows import (
    PADDINGS,
    SIDES,
    STRATEGIES,
    Inputs,
    PadTo,
    Side,
    Strategy,
    Text,
    Truncation,
    as_columns,
    explain_refusal,
    one_of,
    pad_column,
    padded_length,
    read_inputs,
    require_same_number,
    require_whole,
    with_marks,
    words_of,
)
from bertolt.tokenization.tokens import TokenizerBase

# Texts, and characters of them, that the backend gets at once: keeps its threads busy and bounds
# the memory, for a token takes some hundred bytes there.
_CHUNK, _CHARACTERS = 4096, 1 << 20

# What `pad` lengthens beside the ids, and with what.
_FILL = {"token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1}

# What to cut by, what to pad to, and the length for both; None for no limit.
_Lengths = tuple[Strategy, PadTo, int | None]

# How the fields of a result are read off a row, the ids aside.
_FIELDS: dict[str, Callable[[Encoding], Any]] = {
    "token_type_ids": lambda row: row.type_ids,
    "attention_mask": lambda row: row.attention_mask,
    "special_tokens_mask": lambda row: row.special_tokens_mask,
    "offset_mapping": lambda row: row.offsets,
    "length": len,
}


class TextEncoder(TokenizerBase):
    """Adds encoding and padding to the tokens and settings of `TokenizerBase`."""

    def __call__(
        self,
        text: Text | Iterable[Text] | Iterable[tuple[Text, Text]],
        text_pair: Text | Iterable[Text] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | PadTo = False,
        truncation: bool | Strategy | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_tensors: TensorKind | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        **older: Any,
    ) -> BatchEncoding:
        """Encode a text, a pair, a batch of texts or a batch of pairs.

        Args:
            text: a text, or a batch: texts, or tuples of a text and its pair.
            text_pair: the second text of each pair. An empty one beside a single text is none.
            add_special_tokens: put `[CLS]` and `[SEP]` in their places.
            padding: True or "longest", "max_length", or False.
            truncation: True or "longest_first" cuts the longer text of a pair first;
                "only_first"; "only_second"; False. None cuts when there is a `max_length` and no
                padding.
            max_length: in tokens, special ones counted; None is `model_max_length`.
            stride: tokens that an overflowing row repeats from the row before it.
            is_split_into_words: each text is a list of words.
            pad_to_multiple_of: round padded lengths up to this.
            padding_side: None is the tokenizer's own.
            return_tensors: "pt" for torch, "np" for numpy: (B, L), int64; None for lists.
            return_token_type_ids: 0 in the first text, 1 in the second. None: if in
                `model_input_names`.
            return_attention_mask: 1 at tokens, 0 at padding. None: if in `model_input_names`.
            return_overflowing_tokens: what is cut becomes further rows;
                `overflow_to_sample_mapping` says which text each row is of.
            return_special_tokens_mask: 1 at special tokens and padding.
            return_offsets_mapping: the characters of each token, as (start, end).
            return_length: the length of each row.
            older: `pad_to_max_length`, `truncation_strategy` and `is_pretokenized`, which are
                `padding`, `truncation` and `is_split_into_words` by now.

        Returns:
            `BatchEncoding`. A single text has no batch dimension, unless it is returned as tensors
            or with overflow.

        Raises:
            UsageError: arguments that do not go together, or that there are not.
            DataError: something is not text, or cannot be cut as asked.
        """
        # All of the above is long because the arguments are the peer's.
        if older:
            padding, truncation, is_split_into_words = self._newer(
                older, padding, truncation, is_split_into_words, max_length
            )
        inputs = read_inputs(text, text_pair, is_split_into_words)
        lengths = self._lengths(truncation, padding, max_length, pad_to_multiple_of)
        how = self._truncation(lengths, add_special_tokens, stride, return_overflowing_tokens)
        rows, truncated = self._encode(inputs, add_special_tokens, how)
        self._account(rows, truncated, lengths[2])
        self._pad_rows(rows, lengths, pad_to_multiple_of, padding_side)
        asked_for = {
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
            "length": return_length,
        }
        owners = list(range(len(rows)))
        if return_overflowing_tokens:
            owners, rows = _with_overflow(rows)
        fields = self._fields(rows, asked_for)
        if return_overflowing_tokens:
            fields["overflow_to_sample_mapping"] = owners
        elif not inputs.batched and return_tensors is None:
            fields = {k: v[0] if isinstance(v[0], list) else v for k, v in fields.items()}
        batch = BatchEncoding(fields, rows, truncated=truncated)
        return batch.convert_to_tensors(return_tensors)

    def _newer(
        self, older: dict[str, Any], padding: Any, truncation: Any, words: bool, max_length: Any
    ) -> CallOptions:
        """Today's options of a call in which older programs have others; the rest is refused."""
        options = newer_call(older, CallOptions(padding, truncation, words), max_length)
        for reason in without_unused(older):
            self._say(reason, reason)
        refuse_unknown("a tokenizer", older, _known_options(), CALL)
        return options

    def encode(
        self,
        text: Text,
        text_pair: Text | None = None,
        add_special_tokens: bool = True,
        **options: Any,
    ) -> Any:
        """The ids alone of what a call returns; `options` as there."""
        encoded = self(text, text_pair, add_special_tokens=add_special_tokens, **options)
        return encoded["input_ids"]

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, whole and with special tokens: the fast way for whole data sets.

        Nothing is cut, whatever the length; there are no offsets and no word ids.

        Raises:
            DataError: something is not text; it is named by its index.
        """
        parted = self._in_pieces(texts)
        rows = self._in_chunks(_but_for(texts, parted), self._backend.encode_batch_fast)
        return [
            row.ids if number not in parted else self._ids_of(parted[number])
            for number, row in enumerate(rows)
        ]

    def _ids_of(self, pieces: Sequence[str]) -> list[int]:
        """The ids of a text in pieces, with special tokens."""
        return self._framed(self._bare_ids_of(pieces), None)[0]

    def _bare_ids_of(self, pieces: Sequence[str]) -> list[int]:
        """The same without special tokens."""
        rows = self._in_chunks(pieces, self._bare().encode_batch_fast)
        return [token for row in rows for token in row.ids]

    def encode_pairs(
        self, first: Sequence[str], second: Sequence[str] | None, max_length: int
    ) -> list[EncodedPair]:
        """Many texts or pairs, cut longest-first: the fast way for whole data sets.

        A call with `truncation="longest_first"` gives the same ids. What is cut is counted in the
        result, and neither told nor added to `truncated`.

        Args:
            first: the texts.
            second: the second text of each pair; None for texts without one.
            max_length: in tokens, special ones counted.

        Raises:
            UsageError: `max_length` cannot hold the special tokens.
            DataError: something is not text (it is named by its index), or not one pair to a text.
        """
        if isinstance(first, str) or isinstance(second, str):
            raise UsageError("many pairs are encoded here, and this is one", fix="give lists")
        if second is not None:
            require_same_number(first, second)
        how = Truncation("longest_first", max_length, self._special_counts(), self.truncation_side)
        encode = self._bare().encode_batch_fast
        parted = self._in_pieces(first), self._in_pieces(second or ())
        heads = self._in_chunks(_but_for(first, parted[0]), encode)
        tails: Iterator[Encoding | None] = repeat(None)
        if second is not None:
            tails = self._in_chunks(_but_for(second, parted[1]), encode)
        rows = []
        for number, (head, tail) in enumerate(zip(heads, tails, strict=second is not None)):
            pieces = parted[0].get(number), parted[1].get(number)
            rows.append(
                self._cut_row(how, head, tail)
                if pieces == (None, None)
                else self._cut_pieces(how, head, tail, *pieces)
            )
        return rows

    def _cut_row(self, how: Truncation, head: Encoding, tail: Encoding | None) -> EncodedPair:
        """One or two texts, which are changed, as one row."""
        first_keeps, second_keeps = how.lengths(head, tail)
        cut = len(head) - first_keeps, len(tail or ()) - second_keeps
        how.cut(head, first_keeps)
        how.cut(tail, second_keeps)
        row = self._backend.post_process(head, tail)
        return EncodedPair(row.ids, None if tail is None else row.type_ids, *cut)

    def _cut_pieces(
        self,
        how: Truncation,
        head: Encoding,
        tail: Encoding | None,
        head_pieces: Sequence[str] | None,
        tail_pieces: Sequence[str] | None,
    ) -> EncodedPair:
        """The same where one of them, or both, are in pieces."""
        first = head.ids if head_pieces is None else self._bare_ids_of(head_pieces)
        second = None if tail is None else tail.ids
        second = second if tail_pieces is None else self._bare_ids_of(tail_pieces)
        first_keeps, second_keeps = how.lengths(first, second)
        cut = len(first) - first_keeps, len(second or ()) - second_keeps
        kept = None if second is None else how.kept(second, second_keeps)
        ids, segments = self._framed(how.kept(first, first_keeps), kept)
        return EncodedPair(ids, None if second is None else segments, *cut)

    def encode_words(self, texts: Sequence[str]) -> list[EncodedWords]:
        """The pieces of many texts, whole and without special tokens, with where each one stands.

        `text[start:end]` is what a piece stands for as it is written, with the accents, marks and
        letters that normalisation takes off or changes. Pieces of one character (a Hangul syllable
        in an uncased vocabulary is several) share its place. Pieces that stand for nothing but
        space, which a byte-level vocabulary has, are of no word.

        Raises:
            DataError: something is not text; it is named by its index.
        """
        parted = self._in_pieces(texts)
        encode = partial(self._backend.encode_batch, add_special_tokens=False)
        rows = self._in_chunks(_but_for(texts, parted), encode)
        return [
            _words(text, row) if number not in parted else self._words_in(parted[number], encode)
            for number, (text, row) in enumerate(zip(texts, rows, strict=True))
        ]

    def _words_in(
        self, pieces: Sequence[str], encode: Callable[[list[str]], list[Encoding]]
    ) -> EncodedWords:
        """The pieces of a text that is in several parts."""
        whole, start, before = EncodedWords([], [], []), 0, 0
        for part, row in zip(pieces, self._in_chunks(pieces, encode), strict=True):
            words = _words(part, row)
            whole.ids.extend(words.ids)
            whole.offsets.extend((first + start, last + start) for first, last in words.offsets)
            whole.words.extend(None if word is None else word + before for word in words.words)
            start += len(part)
            before += 1 + max(cast(list[int], row.word_ids), default=-1)
        return whole

    def _in_pieces(self, texts: Sequence[str]) -> dict[int, list[str]]:
        """The parts of texts that are long and can be parted, by the numbers of the texts."""
        if isinstance(texts, str):
            raise UsageError("many texts are encoded here, and this is one", fix="give [text]")
        longer = {
            number: text
            for number, text in enumerate(texts)
            if isinstance(text, str) and len(text) > 2 * PIECE and _is_unicode(text)
        }
        where = cut_where(self._backend) if longer else None
        if where is None:
            return {}
        return {number: list(pieces_of(text, where)) for number, text in longer.items()}

    def pair_frame(self) -> PairFrame:
        """What stands around two texts in one row."""
        first, second = self._bare().encode_batch_fast(["a", "b"])
        ends = len(first), len(second)
        row = self._backend.post_process(first, second)
        ids, kinds = row.ids, row.type_ids
        text = [place for place, special in enumerate(row.special_tokens_mask) if not special]
        start, after = text[0], text[-1] + 1
        stop, begin = start + ends[0], after - ends[1]
        parts = kinds[:start], kinds[start], kinds[stop:begin], kinds[begin], kinds[after:]
        return PairFrame(ids[:start], ids[stop:begin], ids[after:], parts)

    def _in_chunks(
        self, texts: Sequence[str], encode: Callable[[list[str]], list[Encoding]]
    ) -> Iterator[Encoding]:
        """The rows of texts, encoded many at once; the first that is no text is named."""
        if isinstance(texts, str):
            raise UsageError("many texts are encoded here, and this is one", fix="give [text]")
        start = 0
        for chunk in chunks(texts, _CHUNK, _CHARACTERS, characters_of):
            try:
                rows = encode(chunk)
            except (TypeError, UnicodeError) as error:
                inputs = Inputs(chunk, [None] * len(chunk), batched=True)
                raise explain_refusal(inputs, error, start) from error
            start += len(chunk)
            yield from rows

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False
    ) -> list[str]:
        """The tokens of a text as text, without the special ones unless asked for."""
        return self(text, pair, add_special_tokens=add_special_tokens).tokens()

    def _lengths(
        self,
        truncation: bool | Strategy | None,
        padding: bool | PadTo,
        max_length: int | None,
        multiple: int | None,
    ) -> _Lengths:
        """What to cut by, what to pad to, and the length for both; None for no limit."""
        require_whole("max_length", max_length, least=0)
        require_whole("pad_to_multiple_of", multiple, least=1)
        if truncation is None:
            truncation = max_length is not None and padding is False
        words: dict[Any, str] = {True: "longest_first", False: "do_not_truncate"}
        strategy: Strategy = one_of("truncation", words.get(truncation, truncation), STRATEGIES)
        words = {True: "longest", False: "do_not_pad"}
        pad_to: PadTo = one_of("padding", words.get(padding, padding), PADDINGS)
        cuts = strategy != "do_not_truncate"
        if max_length is None and self.model_max_length < UNLIMITED:
            max_length = self.model_max_length if cuts or pad_to == "max_length" else None
        if max_length is None and pad_to == "max_length":
            raise UsageError(
                "padding='max_length', and no file says the model's limit",
                place=self.name_or_path,
                fix="pass max_length, or set tokenizer.model_max_length",
            )
        if max_length is None and cuts:
            self._say("no limit", "truncation without a limit cuts nothing: pass max_length")
        if cuts and pad_to != "do_not_pad" and max_length and max_length % (multiple or 1):
            raise UsageError(
                f"max_length={max_length} is no multiple of pad_to_multiple_of={multiple}",
                fix=f"use max_length={max_length // (multiple or 1) * (multiple or 1)}",
            )
        return strategy, pad_to, max_length

    def _special_counts(self) -> tuple[int, int]:
        """Special tokens around a text, and around a pair."""
        return self.num_special_tokens_to_add(), self.num_special_tokens_to_add(pair=True)

    def _truncation(
        self, lengths: _Lengths, add_special_tokens: bool, stride: int, overflow: bool
    ) -> Truncation | None:
        """How to cut, or None when nothing is to be cut."""
        require_whole("stride", stride, least=0)
        strategy, _, max_length = lengths
        if strategy == "do_not_truncate" or max_length is None:
            return None
        special = self._special_counts()
        if overflow and stride >= max_length - special[0]:
            raise UsageError(
                f"stride={stride} is not below the {max_length - special[0]} tokens that a row"
                " holds beside the special ones",
                fix="use a smaller stride, or a larger max_length",
            )
        special = special if add_special_tokens else (0, 0)
        return Truncation(strategy, max_length, special, self.truncation_side, stride, overflow)

    def _encode(
        self, inputs: Inputs, add_special_tokens: bool, how: Truncation | None
    ) -> tuple[list[Encoding], Truncated]:
        """Encode texts with their pairs, cut as `how` says, and count what was cut."""
        words, rows, truncated = inputs.split_words, [], Truncated()
        try:
            if how is None:
                entries = zip(inputs.firsts, inputs.pairs, strict=True)
                both = [first if pair is None else (first, pair) for first, pair in entries]
                return self._backend.encode_batch(both, words, add_special_tokens), truncated
            encode = self._bare().encode_batch
            heads = encode(inputs.firsts, words)
            tails = iter(encode([pair for pair in inputs.pairs if pair is not None], words))
        except (TypeError, UnicodeError) as error:
            raise explain_refusal(inputs, error) from error
        for head, pair in zip(heads, inputs.pairs, strict=True):
            tail = None if pair is None else next(tails)
            first_keeps, second_keeps = how.lengths(head, tail)
            lost = len(head) - first_keeps + len(tail or ()) - second_keeps
            lost = 0 if how.overflow else lost
            truncated += Truncated(int(lost > 0), lost)
            if how.overflow and tail is not None and second_keeps < len(tail):
                # As the second of two it has the segment id that overflowing rows take from it.
                tail = self._bare().encode([] if words else "", pair, words)
            how.cut(head, first_keeps)
            how.cut(tail, second_keeps)
            rows.append(self._backend.post_process(head, tail, add_special_tokens))
        return rows, truncated

    def _account(self, rows: Sequence[Sized], truncated: Truncated, limit: int | None) -> None:
        """Add to the account, and tell, once, of what was cut and of rows the model cannot take."""
        if truncated:
            with self._lock:
                self.truncated += truncated
            self._say(
                "cut",
                f"{truncated.texts} of {len(rows)} texts were longer than {limit} tokens and lost"
                f" {truncated.tokens}; this is said once, and counted in `truncated` of each result"
                " and of the tokenizer",
            )
        longest = max(map(len, rows), default=0)
        if longest > self.model_max_length:
            self._say(
                "too long",
                f"a text has {longest} tokens, and the model takes {self.model_max_length}: pass"
                " truncation=True, or split it into windows",
            )

    def _say(self, key: str, message: str) -> None:
        """Warn, at the line that called the tokenizer, once for each kind of message."""
        if key not in self._said:
            self._said.add(key)
            warnings.warn(message, stacklevel=4)

    def _pad_rows(
        self,
        rows: list[Encoding],
        lengths: _Lengths,
        multiple: int | None,
        side: Side | None,
    ) -> None:
        length = padded_length(list(map(len, rows)), lengths[1], lengths[2], multiple)
        if not length:
            return
        filling = {
            "direction": one_of("padding_side", side or self.padding_side, SIDES),
            "pad_id": self.pad_token_id,
            "pad_type_id": self.pad_token_type_id,
            "pad_token": self.pad_token,
        }
        for row in rows:
            row.pad(length, **filling)

    def _fields(self, rows: list[Encoding], asked_for: Mapping[str, bool | None]) -> dict[str, Any]:
        """The fields asked for, None meaning as `model_input_names` has it, one entry a row."""
        fields: dict[str, Any] = {"input_ids": [row.ids for row in rows]}
        for name, asked in asked_for.items():
            if asked or (asked is None and name in self.model_input_names):
                fields[name] = [_FIELDS[name](row) for row in rows]
        return fields

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | PadTo = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: TensorKind | None = None,
        **older: Any,
    ) -> BatchEncoding:
        """Pad rows that are encoded already; other fields, such as labels, stay as they are.

        Args:
            encoded_inputs: a list of rows (mappings with `input_ids`), a mapping of columns, or a
                single row; of lists, arrays or tensors.
            padding: True or "longest", "max_length", or False.
            max_length: for "max_length"; None is `model_max_length`.
            pad_to_multiple_of: round the length up to this.
            padding_side: None is the tokenizer's own.
            return_attention_mask: make one if there is none. None: if in `model_input_names`.
            return_tensors: "pt" or "np"; None keeps the kind that came in.
            older: `verbose`, which changes nothing.

        Raises:
            UsageError: arguments that there are not.
            DataError: a row lacks a field, or a field cannot become a tensor.
        """
        if older:
            self._newer(older, padding, False, False, max_length)
        columns = as_columns(encoded_inputs)
        kind = return_tensors or innermost_kind(columns["input_ids"])
        columns = {name: as_lists(values) for name, values in columns.items()}
        single = bool(columns["input_ids"]) and isinstance(columns["input_ids"][0], int)
        if single:
            columns = {name: [values] for name, values in columns.items()}
        ids = columns["input_ids"]
        if return_attention_mask or (
            return_attention_mask is None and "attention_mask" in self.model_input_names
        ):
            columns.setdefault("attention_mask", [[1] * len(row) for row in ids])
        _, pad_to, max_length = self._lengths(False, padding, max_length, None)
        length = padded_length([len(row) for row in ids], pad_to, max_length, pad_to_multiple_of)
        side = one_of("padding_side", padding_side or self.padding_side, SIDES)
        for name, value in {**_FILL, "input_ids": self.pad_token_id}.items():
            if name in columns:
                columns[name] = pad_column(columns[name], length, value, side)
        if single:
            columns = {name: values[0] for name, values in columns.items()}
        return BatchEncoding(columns).convert_to_tensors(kind)


def _is_unicode(text: str) -> bool:
    """Whether it is; what is not is refused by its place in the whole text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _but_for(texts: Sequence[str], parted: Mapping[int, Any]) -> Sequence[str]:
    """The texts, with empty ones in place of those that are parted."""
    if not parted:
        return texts
    return ["" if number in parted else text for number, text in enumerate(texts)]


def _words(text: str, row: Encoding) -> EncodedWords:
    """The pieces of a text, from its row without special tokens."""
    places = with_marks(text, row.offsets)
    return EncodedWords(row.ids, places, words_of(text, places, cast(list[int], row.word_ids)))


@functools.cache
def _known_options() -> list[str]:
    """The names of a call's options."""
    return list(inspect.signature(TextEncoder.__call__).parameters)[3:-1]


def _with_overflow(rows: list[Encoding]) -> tuple[list[int], list[Encoding]]:
    """The index of the text that each row is of, and the rows with what overflowed from them."""
    pieces = [(i, piece) for i, row in enumerate(rows) for piece in (row, *row.overflowing)]
    return [owner for owner, _ in pieces], [piece for _, piece in pieces]
