"""`BertTokenizer`: load, encode, pad, cut and decode, called as in the BERT notes.

    tokenizer = BertTokenizer.from_pretrained("my-model")
    batch = tokenizer(["a text", "another"], truncation=True, padding=True, return_tensors="pt")

A call changes no state of the backend: its own truncation and padding stay off, and rows are cut
and padded one by one. So threads may share a tokenizer, its pickle (and the fingerprint that
`datasets` takes of it) does not depend on earlier calls, and every token that is cut is counted.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Self, cast

from tokenizers import Encoding

from bertolt.base.errors import UsageError
from bertolt.tokenization.batch_encoding import (
    BatchEncoding,
    EncodedPair,
    EncodedWords,
    TensorKind,
    Truncated,
    as_lists,
    innermost_kind,
)
from bertolt.tokenization.folder import UNLIMITED, read_tokenizer, write_tokenizer
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
    kept_lengths,
    one_of,
    pad_column,
    padded_length,
    read_inputs,
    require_same_number,
    shorten,
    with_marks,
)
from bertolt.tokenization.tokens import TokenizerBase
from bertolt.tokenization.vocabulary import (
    SPECIAL_TOKENS,
    bert_backend,
    bert_normalizer,
    guess_lower_case,
    learn_vocab,
    read_vocab,
    several,
    token_text,
)

# Texts that `encode_ids` gives the backend at once: keeps its threads busy and bounds the memory.
_CHUNK = 4096

# What `pad` lengthens beside the ids, and with what.
_FILL = {"token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1}

# How the fields of a result are read off a row, the ids aside.
_FIELDS: dict[str, Callable[[Encoding], Any]] = {
    "token_type_ids": lambda row: row.type_ids,
    "attention_mask": lambda row: row.attention_mask,
    "special_tokens_mask": lambda row: row.special_tokens_mask,
    "offset_mapping": lambda row: row.offsets,
    "length": len,
}


class BertTokenizer(TokenizerBase):
    """Turns texts into ids and back; made by `from_pretrained`, `from_vocab` or `train`.

    The arguments and attributes are `TokenizerBase`'s.
    """

    # ---- loading, training, saving ----

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        do_lower_case: bool | None = None,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool | None = None,
        model_max_length: int | None = None,
        padding_side: Side | None = None,
        truncation_side: Side | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Open a folder with `tokenizer.json` or `vocab.txt`, such a file alone, or a hub id.

        What is given here wins over `tokenizer_config.json`, and that over `tokenizer.json`. With
        `vocab.txt` alone, lower-casing is guessed from the vocabulary (`tokenizer.casing` says
        what was taken and why), and the limit is `max_position_embeddings` of `config.json`.

        Args:
            name_or_path: a folder, a file, or a hub id; the hub's cache and offline mode hold.
            do_lower_case: lower-case the text; None as the files say.
            strip_accents: take accents off; None as the files say, else when lower-casing.
            tokenize_chinese_chars: make every Chinese character a word; None as the files say.
            model_max_length: tokens that the model takes; None as the files say.
            padding_side: "right" or "left"; None as the files say.
            truncation_side: "right" or "left"; None as the files say.
            revision: a branch, tag or commit on the hub.
            cache_dir: the hub's cache, when not the usual one.
            local_files_only: take only what the cache has.

        Raises:
            CheckpointError: no such folder or hub id, or a file that is missing or damaged.
        """
        overrides = {
            "do_lower_case": do_lower_case,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
            "model_max_length": model_max_length,
            "padding_side": padding_side,
            "truncation_side": truncation_side,
        }
        backend, settings = read_tokenizer(
            name_or_path,
            {name: value for name, value in overrides.items() if value is not None},
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return cls(backend, **settings)

    @classmethod
    def from_vocab(
        cls,
        vocab: Mapping[str, int] | str | os.PathLike[str],
        *,
        do_lower_case: bool | None = None,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        model_max_length: int = UNLIMITED,
    ) -> Self:
        """A WordPiece tokenizer from token → id, or from the path of a `vocab.txt`.

        Args:
            vocab: tokens and their ids, or a file with one token a line.
            do_lower_case: None guesses: a vocabulary with no letter A-Z is uncased.
            strip_accents: None strips them when lower-casing, as BERT was published.
            tokenize_chinese_chars: make every Chinese character a word.
            model_max_length: tokens that the model takes.

        Raises:
            CheckpointError: the file cannot be read, or the vocabulary has no `[UNK]`.
        """
        tokens = vocab if isinstance(vocab, Mapping) else read_vocab(Path(vocab))
        guessed, reason = guess_lower_case(tokens)
        backend = bert_backend(
            tokens,
            do_lower_case=guessed if do_lower_case is None else do_lower_case,
            strip_accents=strip_accents,
            tokenize_chinese_chars=tokenize_chinese_chars,
        )
        casing = reason if do_lower_case is None else f"given: do_lower_case={do_lower_case}"
        return cls(backend, model_max_length=model_max_length, casing=casing)

    @classmethod
    def train(
        cls,
        texts: Iterable[str] | Iterable[Sequence[str]],
        vocab_size: int = 30_522,
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        min_frequency: int = 2,
        limit_alphabet: int | None = None,
        extra_special_tokens: Sequence[str] = (),
        model_max_length: int = 512,
    ) -> Self:
        """Learn a WordPiece vocabulary. The same texts give the same vocabulary, ids included.

        Args:
            texts: texts, or batches of them; read once and never held whole.
            vocab_size: tokens to end with, special ones included; fewer when the text runs out.
            lowercase: lower-case the text, here and when encoding.
            strip_accents: None strips them when lower-casing.
            tokenize_chinese_chars: make every Chinese character a word.
            min_frequency: join only pieces that are seen together this often.
            limit_alphabet: keep this many of the most frequent characters; None keeps all.
            extra_special_tokens: further special tokens, after the usual five.
            model_max_length: tokens that the model will take.

        Raises:
            UsageError: `vocab_size` cannot hold the characters of the text.
            DataError: something among the texts is not text.
        """
        casing: dict[str, Any] = {
            "do_lower_case": lowercase,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
        }
        extra = [token_text(token) for token in several(extra_special_tokens)]
        vocab = learn_vocab(
            texts,
            vocab_size,
            special_tokens=[*SPECIAL_TOKENS.values(), *extra],
            min_frequency=min_frequency,
            limit_alphabet=limit_alphabet,
            normalizer=bert_normalizer(**casing),
        )
        return cls(
            bert_backend(vocab, **casing),
            extra_special_tokens=extra_special_tokens,
            model_max_length=model_max_length,
            casing=f"given when trained: lowercase={lowercase}",
        )

    def train_new_from_iterator(
        self, texts: Iterable[str] | Iterable[Sequence[str]], vocab_size: int, **options: Any
    ) -> Self:
        """`train` with this tokenizer's casing, extra tokens and limit; `options` as there."""
        mine: dict[str, Any] = {
            "lowercase": self.do_lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "extra_special_tokens": self.extra_special_tokens,
            "model_max_length": self.model_max_length,
        }
        return self.train(texts, vocab_size, **{**mine, **options})

    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write `tokenizer.json`, `tokenizer_config.json` and `vocab.txt`; returns their paths.

        `vocab.txt` is left out when it could not tell the vocabulary: another model than
        WordPiece, ids with gaps, a token with a line end in it.

        Raises:
            BertoltError: the folder cannot be written to.
        """
        settings = {
            "model_max_length": self.model_max_length,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            "model_input_names": self.model_input_names,
            "split_special_tokens": self.split_special_tokens,
            "additional_special_tokens": self.extra_special_tokens,
        }
        return write_tokenizer(Path(folder), self._backend, {**settings, **self.special_tokens_map})

    # ---- encoding ----

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

        Returns:
            `BatchEncoding`. A single text has no batch dimension, unless it is returned as tensors
            or with overflow.

        Raises:
            UsageError: arguments that do not go together.
            DataError: something is not text, or cannot be cut as asked.
        """
        inputs = read_inputs(text, text_pair, is_split_into_words)
        strategy, pad_to, length = self._lengths(
            truncation, padding, max_length, pad_to_multiple_of
        )
        how = self._truncation(strategy, length, stride, return_overflowing_tokens)
        rows, truncated = self._encode(inputs, add_special_tokens, how)
        self._account(rows, truncated, length)
        self._pad_rows(rows, pad_to, length, pad_to_multiple_of, padding_side)
        wanted = {
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
            "length": return_length,
        }
        owners = list(range(len(rows)))
        if return_overflowing_tokens:
            owners, rows = _with_overflow(rows)
        fields = self._fields(rows, wanted)
        if return_overflowing_tokens:
            fields["overflow_to_sample_mapping"] = owners
        elif not inputs.batched and return_tensors is None:
            fields = {k: v[0] if isinstance(v[0], list) else v for k, v in fields.items()}
        batch = BatchEncoding(fields, rows, truncated=truncated)
        return batch.convert_to_tensors(return_tensors)

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
        return [row.ids for row in self._in_chunks(texts, self._backend.encode_batch_fast)]

    def encode_pairs(
        self, first: Sequence[str], second: Sequence[str] | None, max_length: int
    ) -> list[EncodedPair]:
        """Many texts or pairs, cut longest-first: the fast way for whole data sets.

        The ids are those of a call with `truncation="longest_first"`. What is cut is counted in the
        result, and neither told nor added to `truncated`.

        Args:
            first: the texts.
            second: the second text of each pair; None for texts without one.
            max_length: in tokens, special ones counted.

        Raises:
            UsageError: `max_length` cannot hold the special tokens.
            DataError: something is not text (it is named by its index), or not one pair to a text.
        """
        if second is not None:
            require_same_number(first, second)
        how = Truncation("longest_first", max_length, side=self.truncation_side)
        encode = self._bare().encode_batch_fast
        heads = self._in_chunks(first, encode)
        tails = repeat(None) if second is None else self._in_chunks(second, encode)
        rows = []
        for head, tail in zip(heads, tails, strict=second is not None):
            kept = self._kept(head, tail, how)
            cut = len(head) - kept[0], len(tail or ()) - kept[1]
            row = self._join(head, tail, kept, how)
            rows.append(EncodedPair(row.ids, None if tail is None else row.type_ids, *cut))
        return rows

    def encode_words(self, texts: Sequence[str]) -> list[EncodedWords]:
        """The pieces of many texts, whole and without special tokens, with where each one stands.

        `text[start:end]` is what a piece stands for as it is written, with the accents, marks and
        letters that normalisation takes off or changes. Pieces of one character (a Hangul syllable
        in an uncased vocabulary is several) share its place.

        Raises:
            DataError: something is not text; it is named by its index.
        """
        encode = partial(self._backend.encode_batch, add_special_tokens=False)
        return [
            EncodedWords(row.ids, with_marks(text, row.offsets), cast(list[int], row.word_ids))
            for text, row in zip(texts, self._in_chunks(texts, encode), strict=True)
        ]

    def _in_chunks(
        self, texts: Sequence[str], encode: Callable[[list[str]], list[Encoding]]
    ) -> Iterator[Encoding]:
        """The rows of texts, encoded many at once; the first that is no text is named."""
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            try:
                rows = encode(chunk)
            except (TypeError, UnicodeError) as error:
                inputs = Inputs(chunk, [None] * len(chunk), batched=True)
                raise explain_refusal(inputs, error, start) from error
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
    ) -> tuple[Strategy, PadTo, int | None]:
        """What to cut by, what to pad to, and the length for both; None for no limit."""
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
            kept = self._kept(head, tail, how, add_special_tokens)
            lost = 0 if how.overflow else len(head) + len(tail or ()) - sum(kept)
            truncated += Truncated(int(lost > 0), lost)
            if how.overflow and tail is not None and kept[1] < len(tail):
                # As the second of two it has the segment id that overflowing rows take from it.
                tail = self._bare().encode([] if words else "", pair, words)
            rows.append(self._join(head, tail, kept, how, add_special_tokens))
        return rows, truncated

    def _kept(
        self,
        head: Encoding,
        tail: Encoding | None,
        how: Truncation,
        add_special_tokens: bool = True,
    ) -> tuple[int, int]:
        """How many tokens of a text and of its pair stay beside the special tokens.

        Raises:
            UsageError: the special tokens do not fit.
        """
        pair = None if tail is None else len(tail)
        special = self.num_special_tokens_to_add(tail is not None) if add_special_tokens else 0
        if how.max_length < special:
            raise UsageError(
                f"max_length={how.max_length} cannot hold the {special} special tokens",
                fix="use a larger max_length, or add_special_tokens=False",
            )
        return kept_lengths(len(head), pair, how.max_length - special, how.strategy)

    def _join(
        self,
        head: Encoding,
        tail: Encoding | None,
        kept: tuple[int, int],
        how: Truncation,
        add_special_tokens: bool = True,
    ) -> Encoding:
        """One row of a text and its pair, each cut to what is kept of it."""
        for text, keep in zip((head, tail), kept, strict=True):
            if text is not None and keep < len(text):
                shorten(text, keep, how)
        return self._backend.post_process(head, tail, add_special_tokens)

    def _truncation(
        self, strategy: Strategy, max_length: int | None, stride: int, overflow: bool
    ) -> Truncation | None:
        """How to cut, or None when nothing is to be cut."""
        if strategy == "do_not_truncate" or max_length is None:
            return None
        room = max_length - self.num_special_tokens_to_add()
        if overflow and stride >= room:
            raise UsageError(
                f"stride={stride} is not below the {room} tokens that a row holds beside the"
                " special ones",
                fix="use a smaller stride, or a larger max_length",
            )
        return Truncation(strategy, max_length, stride, overflow, self.truncation_side)

    def _account(self, rows: list[Encoding], truncated: Truncated, limit: int | None) -> None:
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
        pad_to: PadTo,
        max_length: int | None,
        multiple: int | None,
        side: Side | None,
    ) -> None:
        length = padded_length([len(row) for row in rows], pad_to, max_length, multiple)
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

    def _fields(self, rows: list[Encoding], wanted: Mapping[str, bool | None]) -> dict[str, Any]:
        """The fields asked for, None meaning those of `model_input_names`, one entry a row."""
        fields: dict[str, Any] = {"input_ids": [row.ids for row in rows]}
        for name, asked in wanted.items():
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

        Raises:
            DataError: a row lacks a field, or a field cannot become a tensor.
        """
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


def _with_overflow(rows: list[Encoding]) -> tuple[list[int], list[Encoding]]:
    """The index of the text that each row is of, and the rows with what overflowed from them."""
    pieces = [(i, piece) for i, row in enumerate(rows) for piece in (row, *row.overflowing)]
    return [owner for owner, _ in pieces], [piece for _, piece in pieces]
