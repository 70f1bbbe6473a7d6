"""The half of a tokenizer that knows tokens and ids: vocabulary, special tokens, decoding."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from bertolt.base.checks import is_whole
from bertolt.base.errors import CheckpointError, KeywordError, NotIdsError, UsageError
from bertolt.tokenization.batch_encoding import Truncated, as_lists
from bertolt.tokenization.folder import NAMED_TOKENS, UNLIMITED
from bertolt.tokenization.older import absent
from bertolt.tokenization.rows import SIDES, Side, one_of
from bertolt.tokenization.vocabulary import several, token_text, usual_tokens


def _special(name: str) -> property:
    """`tokenizer.mask_token`: the text, None if unset; assigning adds it to the vocabulary."""
    return property(
        lambda self: self.special_tokens_map.get(name),
        lambda self, token: self.add_special_tokens({name: token}),
        doc=f"The text of the {name.removesuffix('_token')} token, or None.",
    )


def _special_id(name: str) -> property:
    """`tokenizer.mask_token_id`: the id, None if unset; assigning takes the token of that id."""
    return property(
        lambda self: self.backend_tokenizer.token_to_id(self.special_tokens_map.get(name, "")),
        lambda self, index: self.add_special_tokens({name: self.token_of(index)}),
        doc=f"The id of the {name.removesuffix('_token')} token, or None.",
    )


class TokenizerBase:
    """A backend with its special tokens and settings; `BertTokenizer` adds encoding and files.

    Args:
        backend: a `tokenizers.Tokenizer`; it becomes this object's own.
        special_tokens: `unk_token`, `sep_token`, `pad_token`, `cls_token`, `mask_token` by name;
            those left out are `[UNK]`, `[SEP]`, …, or `<unk>`, `</s>`, … where the vocabulary has
            these. One that the vocabulary lacks goes to its end.
        extra_special_tokens: further tokens that are never split and that decoding may leave out.
        model_max_length: tokens that the model takes; `UNLIMITED` when unknown.
        padding_side: the side that padding goes to, "right" or "left".
        truncation_side: the side that is cut, "right" or "left".
        clean_up_tokenization_spaces: whether `decode` takes out spaces before punctuation.
        model_input_names: the fields that a call returns when not told otherwise.
        split_special_tokens: read `[SEP]` inside a text as its letters, not as the token.
        name_or_path: where this came from, for messages.
        casing: how it is known whether text is lower-cased, for people.

    Attributes:
        truncated: what all calls of this object have cut so far.
    """

    bos_token, bos_token_id = _special("bos_token"), _special_id("bos_token")
    eos_token, eos_token_id = _special("eos_token"), _special_id("eos_token")
    unk_token, unk_token_id = _special("unk_token"), _special_id("unk_token")
    sep_token, sep_token_id = _special("sep_token"), _special_id("sep_token")
    pad_token, pad_token_id = _special("pad_token"), _special_id("pad_token")
    cls_token, cls_token_id = _special("cls_token"), _special_id("cls_token")
    mask_token, mask_token_id = _special("mask_token"), _special_id("mask_token")
    pad_token_type_id = 0
    is_fast = True
    chat_template = None
    SPECIAL_TOKENS_ATTRIBUTES = NAMED_TOKENS

    def __init__(
        self,
        backend: Tokenizer,
        *,
        special_tokens: Mapping[str, str | AddedToken] | None = None,
        extra_special_tokens: str | AddedToken | Sequence[str | AddedToken] = (),
        model_max_length: int = UNLIMITED,
        padding_side: Side = "right",
        truncation_side: Side = "right",
        clean_up_tokenization_spaces: bool = False,
        model_input_names: Sequence[str] = ("input_ids", "token_type_ids", "attention_mask"),
        split_special_tokens: bool = False,
        name_or_path: str = "",
        casing: str = "",
    ) -> None:
        if not isinstance(backend, Tokenizer):
            raise UsageError(
                f"{type(self).__name__} is built from a tokenizers.Tokenizer, and this is "
                f"{backend!r}",
                fix="a vocab.txt: BertTokenizer.from_vocab(path); a folder: "
                "BertTokenizer.from_pretrained(path)",
            )
        self._backend = backend
        self.special_tokens_map: dict[str, str] = {}
        self.extra_special_tokens: list[str] = []
        self.model_max_length = model_max_length
        self.padding_side: Side = one_of("padding_side", padding_side, SIDES)
        self.truncation_side: Side = one_of("truncation_side", truncation_side, SIDES)
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
        self.model_input_names = list(model_input_names)
        self.split_special_tokens = split_special_tokens
        self.name_or_path = name_or_path
        self.casing = casing
        self._begin()
        self.add_special_tokens({**usual_tokens(backend), **(special_tokens or {})})
        self.add_special_tokens({"extra_special_tokens": extra_special_tokens})

    def _begin(self) -> None:
        """Quiet the backend and open the account: what a copy does not take over."""
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = self.split_special_tokens
        self._bare_backend: Tokenizer | None = None
        self.truncated = Truncated()
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """All that results depend on, and nothing that a call changes: a stable fingerprint."""
        changing = ("_lock", "_said", "_bare_backend", "truncated")
        state = {name: value for name, value in vars(self).items() if name not in changing}
        return {**state, "_backend": self._backend.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _backend=Tokenizer.from_str(state["_backend"]))
        self._begin()

    def __getattr__(self, name: str) -> Any:
        raise absent(self, name)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name_or_path!r}, vocab_size={self.vocab_size},"
            f" model_max_length={self.model_max_length}, do_lower_case={self.do_lower_case},"
            f" padding_side={self.padding_side!r}, special_tokens={self.special_tokens_map})"
        )

    # ---- vocabulary ----

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer` inside. Leave its truncation and padding off."""
        return self._backend

    def _bare(self) -> Tokenizer:
        """The backend without the step that puts special tokens around a text, made when needed.

        A row that went through that step once keeps marks of it, and the step, after the cut, would
        not set them anew: the first text of a pair would lose its sequence ids.
        """
        bare = self._bare_backend  # looked at once: another thread may add tokens meanwhile
        if bare is None:
            bare = Tokenizer.from_str(self._backend.to_str())
            bare.post_processor = None
            bare.encode_special_tokens = self.split_special_tokens
            self._bare_backend = bare
        return bare

    @property
    def do_lower_case(self) -> bool:
        """Whether text is lower-cased; `casing` says how this is known."""
        return bool(getattr(self._backend.normalizer, "lowercase", False))

    @property
    def strip_accents(self) -> bool | None:
        """Whether accents are taken off; None when just if text is lower-cased."""
        value: bool | None = getattr(self._backend.normalizer, "strip_accents", None)
        return value

    @property
    def tokenize_chinese_chars(self) -> bool:
        """Whether every Chinese character is a word."""
        return bool(getattr(self._backend.normalizer, "handle_chinese_chars", False))

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary without those added later; `len(tokenizer)` counts all."""
        return self._backend.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id, those added later included."""
        return self._backend.get_vocab(with_added_tokens=True)

    vocab = property(get_vocab)

    @property
    def ids_to_tokens(self) -> dict[int, str]:
        """Every id and its token."""
        return {index: token for token, index in self.get_vocab().items()}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The special tokens and those added later, by id and in its order."""
        return dict(sorted(self._backend.get_added_tokens_decoder().items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of `added_tokens_decoder`, by text."""
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """The special tokens and those added later, with their ids."""
        return self.added_tokens_encoder

    @property
    def decoder(self) -> Any:
        """The backend's decoder: `tokenizer.decoder.decode(tokens)` joins tokens to text."""
        return self._backend.decoder

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once: the named ones, then the extra ones."""
        named = (self.special_tokens_map[n] for n in NAMED_TOKENS if n in self.special_tokens_map)
        return list(dict.fromkeys([*named, *self.extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        ids: list[int] = self.convert_tokens_to_ids(self.all_special_tokens)
        return ids

    @property
    def additional_special_tokens(self) -> list[str]:
        """`extra_special_tokens`, as older programs call them."""
        return self.extra_special_tokens

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Sequence[str | AddedToken]) -> None:
        self.add_special_tokens({"extra_special_tokens": tokens})

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        """The ids of `extra_special_tokens`."""
        ids: list[int] = self.convert_tokens_to_ids(self.extra_special_tokens)
        return ids

    @property
    def max_len(self) -> int:
        """`model_max_length`, as older programs call it."""
        return self.model_max_length

    @property
    def max_len_single_sentence(self) -> int:
        """Tokens of a text that fit beside the special ones."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """Tokens of a pair that fit beside the special ones."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def add_tokens(
        self,
        new_tokens: str | AddedToken | Sequence[str | AddedToken],
        special_tokens: bool = False,
    ) -> int:
        """Add tokens at the end of the vocabulary; returns how many were new.

        The model's embedding has to grow with it: `model.resize_token_embeddings(len(tokenizer))`.

        Raises:
            KeywordError: something is no token.
            CheckpointError: a new token would get an id that is another's.
        """
        tokens = several(new_tokens)
        self._require_free_ids(tokens)
        self._bare_backend = None
        add = self._backend.add_special_tokens if special_tokens else self._backend.add_tokens
        return add(tokens)

    def _require_free_ids(self, tokens: Sequence[str | AddedToken]) -> None:
        """The backend counts tokens to find the next id; ids with gaps go further than that."""
        new = [text for text in map(token_text, tokens) if self._backend.token_to_id(text) is None]
        if not new:
            return
        first = max([self.vocab_size, *(i + 1 for i in self._backend.get_added_tokens_decoder())])
        token, highest = max(self.get_vocab().items(), key=lambda item: item[1])
        if highest >= first:
            raise CheckpointError(
                f"{new[0]!r} would get an id that is taken: {first}, while the ids"
                f" have gaps and go up to {highest} ({token!r})",
                place=self.name_or_path,
                fix="if vocab.txt has a line twice, write a word of its own, such as [unused0], in"
                " place of the first",
            )

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, Any],
        replace_extra_special_tokens: bool = True,
        *,
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Name special tokens, adding those that the vocabulary lacks; returns how many were new.

        Args:
            special_tokens_dict: `cls_token` and its like to a token (text or `AddedToken`);
                `extra_special_tokens`, also called `additional_special_tokens`, to a list of them,
                or to one; None takes a name away, and leaves the vocabulary.
            replace_extra_special_tokens, replace_additional_special_tokens: the list replaces the
                present one; False for either: it lengthens it.

        Raises:
            UsageError: a name that no special token has.
            KeywordError: no mapping, or something that is no token.
        """
        added: list[str | AddedToken] = []
        if not isinstance(special_tokens_dict, Mapping):
            raise KeywordError(
                f"special tokens come with their names, and this is {special_tokens_dict!r}",
                fix='give a mapping, as {"extra_special_tokens": ["[X]"]}, or use add_tokens',
            )
        for name, value in special_tokens_dict.items():
            if name in ("extra_special_tokens", "additional_special_tokens"):
                anew = replace_extra_special_tokens and replace_additional_special_tokens
                before = [] if anew else self.extra_special_tokens
                tokens = several(value)
                texts = [*before, *map(token_text, tokens)]
                self.extra_special_tokens = list(dict.fromkeys(texts))
                added += tokens
            else:
                one_of("special token", name, NAMED_TOKENS)
                if value is None:
                    self.special_tokens_map.pop(name, None)
                    continue
                self.special_tokens_map[name] = token_text(value)
                added.append(value)
        return self.add_tokens(added, special_tokens=True)

    def check_fits(self, vocab_rows: int) -> None:
        """Refuse an embedding that has too few rows for this vocabulary.

        Args:
            vocab_rows: rows of the model's word embedding.

        Raises:
            CheckpointError: the highest id has no row.
        """
        token, highest = max(self.get_vocab().items(), key=lambda item: item[1])
        if highest >= vocab_rows:
            raise CheckpointError(
                f"the tokenizer has ids up to {highest} ({token!r}), and the model's word embedding"
                f" has {vocab_rows} rows",
                place=self.name_or_path,
                fix="load the tokenizer that belongs to this model, or, if you added tokens, call"
                f" model.resize_token_embeddings({highest + 1})",
            )

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """The id of a token, or the ids of tokens; the unknown token's for one not there."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        token_id = self._backend.token_to_id(tokens)
        return self.unk_token_id if token_id is None else token_id

    def token_of(self, index: int) -> str:
        """The token of an id.

        Raises:
            UsageError: no token has this id.
        """
        token = self._backend.id_to_token(index) if is_whole(index) and index >= 0 else None
        if token is None:
            raise UsageError(
                f"no token has the id {index!r}",
                place=self.name_or_path,
                fix=f"give one of the {len(self)} ids, or assign the token itself",
            )
        return token

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of ids; None for an id that is not there."""
        ids = as_lists(ids)
        if isinstance(ids, int):
            return self._backend.id_to_token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._backend.id_to_token(int(i)) for i in as_lists(ids) if int(i) not in skipped]

    # ---- decoding and the special tokens around text ----

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """The text of ids: a string for one row, a list of strings for rows.

        Args:
            token_ids: an id, a row or rows; lists, an array or a tensor. Ids that are not in the
                vocabulary leave nothing.
            skip_special_tokens: leave out `[CLS]`, `[SEP]`, `[PAD]` and the like.
            clean_up_tokenization_spaces: take out spaces before punctuation and in contractions;
                None is the tokenizer's own setting.

        Raises:
            DataError: something is not an id.
        """
        ids = as_lists(token_ids)
        ids = [ids] if isinstance(ids, int) else ids
        if ids and isinstance(ids[0], list | tuple):
            return [self.decode(i, skip_special_tokens, clean_up_tokenization_spaces) for i in ids]
        try:
            text = self._backend.decode(ids, skip_special_tokens)
        except (TypeError, OverflowError) as error:
            raise NotIdsError(
                f"this is not a row of ids ({error})",
                fix="pass whole numbers from 0; in labels, replace -100 by tokenizer.pad_token_id",
            ) from error
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        return _clean_up(text) if clean else text

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """`decode` for rows, always a list."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces)
        return texts if isinstance(texts, list) else [texts]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Join tokens to text, pieces of a word without a space."""
        text: str = self._backend.decoder.decode(list(tokens))
        return text

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """A text without spaces before punctuation and in English contractions."""
        return _clean_up(text)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Special tokens put around a text, or around a pair."""
        return self._backend.num_special_tokens_to_add(pair)

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """`[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]`, from ids without special tokens.

        With RoBERTa `<s> a </s>`, or `<s> a </s></s> b </s>`: as the backend puts them.
        """
        return self._framed(token_ids_0, token_ids_1)[0]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """0 for `[CLS] a [SEP]`, 1 for `b [SEP]`; with RoBERTa 0 for all."""
        return self._framed(token_ids_0, token_ids_1)[1]

    def _framed(
        self, first: Sequence[int], second: Sequence[int] | None
    ) -> tuple[list[int], list[int]]:
        """Ids and segments of one or two texts with the special tokens around them."""
        # Whatever the vocabulary, its own special token is a token.
        head, tail = (self._bare().encode(f"a{self.cls_token}") for _ in range(2))
        head.truncate(1)
        tail.truncate(1)
        # What the backend puts around two texts of one token each, and theirs in place of those.
        frame = self._backend.post_process(head, None if second is None else tail)
        texts = (first, second or ())
        ids: list[int] = []
        segments: list[int] = []
        for token, segment, text in zip(frame.ids, frame.type_ids, frame.sequence_ids, strict=True):
            tokens = [token] if text is None else texts[text]
            ids += tokens
            segments += [segment] * len(tokens)
        return ids, segments

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for a special token, 0 for text; the special tokens are put in unless already there."""
        if not already_has_special_tokens:
            token_ids_0 = self.build_inputs_with_special_tokens(token_ids_0, token_ids_1)
        special = set(self.all_special_ids)
        return [int(int(token) in special) for token in token_ids_0]


def _clean_up(text: str) -> str:
    """Take out the spaces that splitting puts before punctuation and in English contractions."""
    text = text.replace(" ' ", "'")
    return re.sub(r" ([.?!,]|n't|'(?:m|s|ve|re))", r"\1", text)
