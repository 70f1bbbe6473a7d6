"""`BertTokenizer`: open, train and save a tokenizer.

tokenizer = BertTokenizer.from_pretrained("my-model")
batch = tokenizer(["a text", "another"], truncation=True, padding=True, return_tensors="pt")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from bertolt.base.arguments import refuse_unknown
from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.tokenization.folder import (
    NAMED_TOKENS,
    UNLIMITED,
    loading_settings,
    read_tokenizer,
    write_tokenizer,
    write_vocab,
)
from bertolt.tokenization.older import SAVING, without_unused
from bertolt.tokenization.older_calls import OlderCalls
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


class BertTokenizer(OlderCalls):
    """Turns texts into ids and back; made by `from_pretrained`, `from_vocab` or `train`.

    The arguments and attributes are `TokenizerBase`'s. Instead of a backend there may be the file
    of one, as older programs have it.

    Args:
        backend: a `tokenizers.Tokenizer`.
        tokenizer_object: the same.
        vocab_file: a `vocab.txt` to be read.
        tokenizer_file: a `tokenizer.json` to be read.
        settings: of `TokenizerBase`; with a file those of `from_pretrained`; and in both special
            tokens by name, as `unk_token="[UNK]"`.

    Raises:
        UsageError: neither or several of these, or a setting that there is not.
        CheckpointError: a file that cannot be read.
    """

    def __init__(
        self,
        backend: Tokenizer | None = None,
        *,
        tokenizer_object: Tokenizer | None = None,
        vocab_file: str | os.PathLike[str] | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        file = tokenizer_file if vocab_file is None else vocab_file
        backends = [each for each in (backend, tokenizer_object) if each is not None]
        sources = len(backends) + (vocab_file is not None) + (tokenizer_file is not None)
        if sources != 1:
            raise UsageError(
                f"{type(self).__name__} is built from one backend, and here are {sources}",
                fix="a folder: BertTokenizer.from_pretrained(path); a vocab.txt: "
                "BertTokenizer.from_vocab(path)",
            )
        if file is not None:
            read, settings = read_tokenizer(file, loading_settings(settings))
            backends = [read]
        named = {name: settings.pop(name) for name in NAMED_TOKENS if name in settings}
        if named:
            settings["special_tokens"] = {**(settings.get("special_tokens") or {}), **named}
        super().__init__(backends[0], **settings)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
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
        token: str | bool | None = None,
        force_download: bool = False,
        **changes: Any,
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
            token: of the hub; None is that of the environment.
            force_download: fetch anew what the cache has.
            changes: special tokens by name, as `mask_token="<mask>"`; `extra_special_tokens`, also
                called `additional_special_tokens`; `clean_up_tokenization_spaces`;
                `split_special_tokens`; `model_input_names`; for byte-level vocabularies
                `add_prefix_space`, a space before each text or word.

        Raises:
            CheckpointError: no such folder or hub id, or a file that is missing or damaged.
            UsageError: an argument that there is not; those that change nothing are told.
        """
        name = changes.pop("pretrained_model_name_or_path", None)
        name_or_path = name if name_or_path is None else name_or_path
        if name_or_path is None:
            raise UsageError("from_pretrained got no folder", fix="name a folder, or a hub id")
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
            {**loading_settings(changes), **{k: v for k, v in overrides.items() if v is not None}},
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            force_download=force_download,
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
        """`train` with this tokenizer's casing, extra tokens and limit; `options` as there.

        As the peer's, it joins pieces that are seen once too, unless a `min_frequency` is given.
        And `new_special_tokens`, beside the extra tokens; `length`, of the texts, changes nothing.
        """
        options.pop("length", None)
        new = several(options.pop("new_special_tokens", None) or ())
        mine: dict[str, Any] = {
            "lowercase": self.do_lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "extra_special_tokens": [*self.extra_special_tokens, *new],
            "model_max_length": self.model_max_length,
            "min_frequency": 0,
        }
        return self.train(texts, vocab_size, **{**mine, **options})

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write `vocab.txt` alone; returns its path. `filename_prefix` and a dash stand before.

        Raises:
            UsageError: such a file could not tell this vocabulary; see `save_pretrained`.
            BertoltError: the folder cannot be written to.
        """
        return write_vocab(Path(save_directory), self._backend, filename_prefix or "")

    def save_pretrained(self, folder: str | os.PathLike[str], **older: Any) -> tuple[str, ...]:
        """Write `tokenizer.json`, `tokenizer_config.json` and `vocab.txt`; returns their paths.

        `vocab.txt` is left out when it could not tell the vocabulary: another model than
        WordPiece, ids with gaps, a token with a line end in it. Arguments of the peer that change
        nothing here are told.

        Raises:
            UsageError: an argument that there is not.
            BertoltError: the folder cannot be written to.
        """
        for reason in without_unused(older):
            info(reason)
        asked = [name for name, value in older.items() if value or name not in SAVING]
        refuse_unknown("save_pretrained", asked, ["folder"], SAVING)
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
