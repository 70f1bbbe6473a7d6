"""`BertTokenizer`: open, train and save a tokenizer.

tokenizer = BertTokenizer.from_pretrained("my-model")
batch = tokenizer(["a text", "another"], truncation=True, padding=True, return_tensors="pt")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from bertolt.tokenization.encoder import TextEncoder
from bertolt.tokenization.folder import UNLIMITED, read_tokenizer, write_tokenizer
from bertolt.tokenization.rows import Side
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


class BertTokenizer(TextEncoder):
    """Turns texts into ids and back; made by `from_pretrained`, `from_vocab` or `train`.

    The arguments and attributes are `TokenizerBase`'s.
    """

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
