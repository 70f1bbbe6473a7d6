"""Masked language modelling: which tokens are hidden, and what stands in their place.

Of 100 tokens 15 are chosen; of the chosen ones 80 % become the mask token, 10 % a random token, and
10 % stay as they are, so that the model has to doubt every token (Devlin et al. 2019, section 3.1).

Everything works on tokens laid end to end without padding. Shapes: B rows, T tokens of all of them,
L padded length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch, starts_of
from bertolt.data.collate import Subclassable, Tokenizer, real_tokens, stack
from bertolt.tokenization.batch_encoding import BatchEncoding, TensorKind
from bertolt.tokenization.rows import one_of

# Marks of tokens that go on with a word (WordPiece), and of tokens that begin one (byte-level BPE,
# SentencePiece): by these a vocabulary says what its words are.
_CONTINUES = "##"
_BEGINS = ("\u0120", "\u2581")


def mask_tokens(
    input_ids: Tensor,
    special: Tensor,
    *,
    mask_token_id: int,
    replacements: Tensor,
    probability: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    word_starts: Tensor | None = None,
    draws: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Hide tokens, and say what they were. A pure function of its arguments, `draws` among them.

    Args:
        input_ids: (T,) int64.
        special: (T,) bool, True at tokens that are never chosen.
        mask_token_id: what most of the chosen tokens become.
        replacements: ids that a random token is taken from.
        probability: of a token, or of a word, to be chosen.
        mask_replace_prob: share of the chosen tokens that become the mask token.
        random_replace_prob: share that become a random one; the rest stay.
        word_starts: (T,) bool, True at the first token of each word, the first of all included:
            the tokens of a word are then chosen together or not at all. None: each token alone.
        draws: (3, T) uniform in [0, 1); decide what is chosen, what becomes of it, and which random
            token. None: drawn from torch's generator.

    Returns:
        The ids with some replaced, and the labels: the former id where a token was chosen,
        `IGNORE_INDEX` elsewhere. (T,) each.
    """
    draws = torch.rand(3, input_ids.numel()) if draws is None else draws
    choice, fate, pick = draws.unbind(0)
    if word_starts is not None:
        # Every token takes the draw of the first token of its word.
        choice = choice.masked_select(word_starts)[word_starts.cumsum(0) - 1]
    chosen = (choice < probability) & ~special
    hidden = chosen & (fate < mask_replace_prob)
    random = chosen & ~hidden & (fate < mask_replace_prob + random_replace_prob)
    picked = (pick.masked_select(random).double() * replacements.numel()).long()
    masked = input_ids.masked_fill(hidden, mask_token_id)
    masked = masked.masked_scatter(random, replacements[picked])
    return masked, input_ids.masked_fill(~chosen, IGNORE_INDEX)


def fixed_draws(input_ids: Tensor, lengths: Sequence[int], seed: int) -> Tensor:
    """Draws for `mask_tokens` that depend on the seed and on the row alone: (3, T), float32.

    A row gets the same draws in whatever batch and place it comes, in any process and epoch. Each
    row is a SplitMix64 stream (Steele, Lea and Flood 2014) that starts at a hash of its ids.

    Args:
        input_ids: (T,) ids of B rows, none of them empty.
        lengths: (B,) tokens of each row.
        seed: another one gives other draws.
    """
    counts = np.asarray(lengths)
    starts = np.cumsum(counts) - counts
    place = (np.arange(len(input_ids)) - np.repeat(starts, counts)).astype(np.uint64)
    tokens = _mix(input_ids.numpy().astype(np.uint64) * _GAMMA + _mix(place))
    rows = _mix(np.add.reduceat(tokens, starts) + _mix(np.array([seed], dtype=np.uint64)))
    number = place * np.uint64(3) + np.array([[1], [2], [3]], dtype=np.uint64)
    bits = _mix(np.repeat(rows, counts) + number * _GAMMA)
    return torch.from_numpy(unit(bits))


def counted_draws(count: int, *numbers: int) -> NDArray[np.uint64]:
    """`count` uniform 64-bit draws that depend on the numbers alone, as a seed and a place.

    Nothing is drawn before them, so the draws of any place are there at once. A SplitMix64 stream
    that starts at a hash of the numbers.
    """
    start = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        start = _mix(start * _GAMMA + _mix(np.array([number], dtype=np.uint64)) + _GAMMA)
    return _mix(start + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA)


def unit(bits: NDArray[np.uint64]) -> NDArray[np.float32]:
    """64-bit draws as float32 in [0, 1), every one of their 2^24 values as likely."""
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step from one number of a stream to the next


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: every bit of a number depends on every bit of the result."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class MaskingTokenizer(Tokenizer, Protocol):
    """What masking needs of a tokenizer."""

    mask_token_id: int | None

    @property
    def all_special_ids(self) -> list[int]:
        """Ids that are never masked."""

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""


class TokenKinds:
    """What masking has to know of each token of a vocabulary.

    Attributes:
        special: (V,) bool, True at tokens that are never masked, nor put in as random ones.
        continues: (V,) bool, True at pieces that go on with the word of the piece before.
        replacements: ids that a random token is taken from.
    """

    def __init__(self, tokenizer: MaskingTokenizer) -> None:
        vocabulary = tokenizer.get_vocab()
        size = 1 + max(vocabulary.values())
        self.special = _table(tokenizer.all_special_ids, size)
        self.continues = _table(_continuing(vocabulary), size)
        self.replacements = (_table(vocabulary.values(), size) & ~self.special).nonzero()[:, 0]


class DataCollatorForLanguageModeling(Subclassable):
    """Turn rows of ids into a batch for masked or causal language modelling.

    With `mlm`, tokens are masked anew each time a row comes, so that epochs differ; with a `seed`
    a row always gets the same mask, as an evaluation needs that is to be compared with another.
    Special tokens, the unknown one included, are neither masked nor put in as random ones.

    With `whole_word_mask`, words are masked whole. What a word is comes from the row's `word_ids`
    if it has them: neighbouring tokens of the same number are one word, and None or -1 is none.
    Otherwise from the vocabulary: `##` pieces belong to the piece before. A BERT tokenizer splits
    Chinese into single characters, so its words have to come from a word segmenter:

        def encode(row):
            words = tokenizer(jieba.lcut(row["text"]), is_split_into_words=True, truncation=True)
            return {**words, "word_ids": words.word_ids()}

    Of a row it uses `input_ids`, `token_type_ids`, `attention_mask` (padding is taken out),
    `special_tokens_mask` (more tokens never to be masked), `word_ids` and `next_sentence_label`;
    a row may also be the ids alone.

    Args:
        tokenizer: its vocabulary, special tokens and padding side.
        mlm: mask tokens; False: the labels are the ids, for causal language modelling.
        mlm_probability: of a token, or of a word, to be chosen.
        mask_replace_prob: share of the chosen tokens that become the mask token.
        random_replace_prob: share that become a random token; the rest stay as they are.
        whole_word_mask: choose whole words.
        pad_to_multiple_of: round the padded length up.
        return_tensors: "pt" or "np", of a padded batch.
        seed: fixes the mask of each row; None: torch's generator decides.
        packed: make a `PackedBatch` instead of a padded batch.

    Raises:
        UsageError: the tokenizer has no mask token, or a share that is none.
    """

    def __init__(
        self,
        tokenizer: MaskingTokenizer,
        mlm: bool = True,
        mlm_probability: float = 0.15,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
        *,
        whole_word_mask: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: TensorKind = "pt",
        seed: int | None = None,
        packed: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.mlm = mlm
        self.mlm_probability = mlm_probability
        self.mask_replace_prob = mask_replace_prob
        self.random_replace_prob = random_replace_prob
        self.whole_word_mask = whole_word_mask
        self.pad_to_multiple_of = pad_to_multiple_of
        self.return_tensors = return_tensors
        self.seed = seed
        self.packed = packed
        self._check()
        self._kinds = TokenKinds(tokenizer)

    def __call__(self, rows: Sequence[Any]) -> Any:
        """Mask one batch of rows.

        Returns:
            `input_ids`, `attention_mask` and `labels`, and where the rows have them
            `token_type_ids`, (B, L) each; with `packed` a `PackedBatch` whose labels are (T,).

        Raises:
            DataError: rows that do not fit each other, an empty one, an id that is no token's.
        """
        rows = [row if isinstance(row, Mapping) else {"input_ids": row} for row in rows]
        tokens = real_tokens(rows, "token_type_ids", "special_tokens_mask", "word_ids")
        lengths = [len(ids) for ids in tokens["input_ids"]]
        ids, labels = self._mask(tokens, lengths)
        following = stack(rows, "next_sentence_label")
        pad_token_id, types = self.tokenizer.pad_token_id, None
        if "token_type_ids" in tokens:
            types = torch.from_numpy(np.concatenate(tokens["token_type_ids"]).astype(np.int64))
        if self.packed:
            return PackedBatch.from_flat(
                ids,
                starts_of(torch.tensor(lengths)),
                types,
                token_labels=labels,
                next_sentence_label=following,
                pad_token_id=pad_token_id,
            )
        real = self._real(lengths)
        batch = {"input_ids": _lay_out(ids, real, pad_token_id), "attention_mask": real.long()}
        if types is not None:
            batch["token_type_ids"] = _lay_out(types, real, 0)
        batch["labels"] = _lay_out(labels, real, IGNORE_INDEX)
        if following is not None:
            batch["next_sentence_label"] = following
        encoding = BatchEncoding(batch)
        return encoding if self.return_tensors == "pt" else encoding.convert_to_tensors("np")

    def _real(self, lengths: list[int]) -> Tensor:
        """(B, L) bool, True where a padded batch has tokens."""
        counts, multiple = torch.tensor(lengths)[:, None], self.pad_to_multiple_of or 1
        places = torch.arange(-(-max(lengths) // multiple) * multiple)
        return (
            places < counts if self.tokenizer.padding_side == "right" else places.flip(0) < counts
        )

    def _mask(
        self, tokens: dict[str, list[NDArray[Any]]], lengths: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Ids and labels of all rows, end to end: (T,) each."""
        if 0 in lengths:
            raise DataError(
                f"row {lengths.index(0)} of the batch has no token", fix="leave empty texts out"
            )
        ids = torch.from_numpy(np.concatenate(tokens["input_ids"]).astype(np.int64))
        if not self.mlm:
            return ids, ids.masked_fill(ids == self.tokenizer.pad_token_id, IGNORE_INDEX)
        special = self._look_up(self._kinds.special, ids)
        if "special_tokens_mask" in tokens:
            special |= torch.from_numpy(np.concatenate(tokens["special_tokens_mask"]) != 0)
        if type(self).torch_mask_tokens is not DataCollatorForLanguageModeling.torch_mask_tokens:
            return self._masked_by_subclass(ids, special, lengths)
        return self._hide(ids, special, lengths, tokens.get("word_ids"))

    def _hide(
        self, ids: Tensor, special: Tensor, lengths: list[int], words: list[NDArray[Any]] | None
    ) -> tuple[Tensor, Tensor]:
        """Ids and labels of rows, end to end, (T,) each; `special` is True where none is chosen."""
        assert self.tokenizer.mask_token_id is not None, "checked when it was made"
        starts = None
        if self.whole_word_mask:
            starts = self._word_starts(ids, special, lengths, words)
        if self.seed is not None:
            draws = fixed_draws(ids, lengths, self.seed)
        else:
            draws = torch.rand(3, ids.numel())
            # A small batch could leave nothing to learn from: the lowest draw is always chosen,
            # of those that count. A word goes by the draw of its first token.
            counts = ~special if starts is None else starts & ~special
            draws[0, draws[0].masked_fill(~counts, 1.0).argmin()] = 0.0
        return mask_tokens(
            ids,
            special,
            mask_token_id=self.tokenizer.mask_token_id,
            replacements=self._kinds.replacements,
            probability=self.mlm_probability,
            mask_replace_prob=self.mask_replace_prob,
            random_replace_prob=self.random_replace_prob,
            word_starts=starts,
            draws=draws,
        )

    def torch_mask_tokens(
        self, inputs: Tensor, special_tokens_mask: Tensor | None = None, offset_mapping: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Mask a padded batch, for a subclass to define: it then decides every mask.

        Args:
            inputs: (B, L) ids.
            special_tokens_mask: (B, L), not 0 where a token is never masked: padding too. None:
                the tokenizer's special tokens.
            offset_mapping: None; the peer gives it.

        Returns:
            The ids with some replaced, and the labels, (B, L) each.
        """
        ids = inputs.flatten()
        special = self._look_up(self._kinds.special, ids)
        if special_tokens_mask is not None:
            special = special_tokens_mask.flatten() != 0
        masked, labels = self._hide(ids, special, [inputs.shape[1]] * len(inputs), None)
        return masked.view_as(inputs), labels.view_as(inputs)

    def _masked_by_subclass(
        self, ids: Tensor, special: Tensor, lengths: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Ids and labels (T,) as `torch_mask_tokens` of a subclass gives them."""
        real = self._real(lengths)
        padded = _lay_out(ids, real, self.tokenizer.pad_token_id)
        never = torch.ones_like(real).masked_scatter(real, special)
        masked, labels = self.torch_mask_tokens(padded, special_tokens_mask=never)
        for name, values in (("ids", masked), ("labels", labels)):
            if not isinstance(values, Tensor) or values.shape != padded.shape:
                raise DataError(
                    f"torch_mask_tokens gave no {name} of the shape {tuple(padded.shape)}",
                    place=type(self).__name__,
                    fix="return two tensors of the shape of inputs",
                )
        return masked[real], labels[real]

    def _word_starts(
        self, ids: Tensor, special: Tensor, lengths: list[int], words: list[NDArray[Any]] | None
    ) -> Tensor:
        """Where words begin: (T,) bool. None goes on over a special token or into another row."""
        if words is None:
            goes_on = self._kinds.continues[ids]
        else:
            numbers = torch.from_numpy(np.concatenate(words).astype(np.float64))  # None: NaN
            goes_on = (numbers == numbers.roll(1)) & (numbers >= 0)
        starts = ~goes_on | special | special.roll(1)
        starts[torch.tensor([0, *lengths[:-1]]).cumsum(0)] = True
        return starts

    def _look_up(self, table: Tensor, ids: Tensor) -> Tensor:
        outside = ids.masked_select((ids < 0) | (ids >= table.numel()))
        if outside.numel():
            raise DataError(
                f"id {int(outside[0])} is not in the tokenizer's vocabulary of {table.numel()}",
                fix="use the tokenizer that made them; add tokens before the collator is made",
            )
        return table[ids]

    def _check(self) -> None:
        """Refuse what cannot be honoured.

        Raises:
            UsageError: the tokenizer has no mask token, or an argument is out of its range.
        """
        place = type(self).__name__
        if self.mlm and self.tokenizer.mask_token_id is None:
            raise UsageError(
                "the tokenizer has no mask token",
                place=place,
                fix='name one: tokenizer.mask_token = "[MASK]", or use mlm=False',
            )
        for name in ("mlm_probability", "mask_replace_prob", "random_replace_prob"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(
                    f"{name} is {value!r}", place=place, fix="give a share between 0 and 1"
                )
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise UsageError(
                f"mask_replace_prob {self.mask_replace_prob} and random_replace_prob "
                f"{self.random_replace_prob} are more than 1 together",
                place=place,
                fix="make one of them smaller",
            )
        if self.whole_word_mask and not self.mlm:
            raise UsageError(
                "whole_word_mask=True, and mlm=False masks nothing", place=place, fix="use mlm=True"
            )
        for name, least in (("seed", 0), ("pad_to_multiple_of", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UsageError(
                    f"{name} is {value!r}", place=place, fix=f"give a whole number, {least} or more"
                )
        one_of("return_tensors", self.return_tensors, ("pt", "np"))


class DataCollatorForWholeWordMask(DataCollatorForLanguageModeling):
    """`DataCollatorForLanguageModeling` that chooses whole words."""

    def __init__(self, tokenizer: MaskingTokenizer, *values: Any, **options: Any) -> None:
        super().__init__(tokenizer, *values, **{"whole_word_mask": True, **options})


def _lay_out(flat: Tensor, real: Tensor, padding: int) -> Tensor:
    """Tokens (T,) as rows (B, L)."""
    return torch.full(real.shape, padding).masked_scatter(real, flat)


def _table(ids: Iterable[int], size: int) -> Tensor:
    """(V,) bool, True at the ids."""
    return torch.zeros(size, dtype=torch.bool).index_fill(
        0, torch.tensor(list(ids), dtype=torch.long), True
    )


def _continuing(vocabulary: Mapping[str, int]) -> list[int]:
    """Ids of the tokens that belong to the word of the token before, by the vocabulary's marks."""
    goes_on = [index for token, index in vocabulary.items() if token.startswith(_CONTINUES)]
    begins = [index for token, index in vocabulary.items() if token.startswith(_BEGINS)]
    if len(goes_on) >= len(begins):
        return goes_on
    return sorted(set(vocabulary.values()) - set(begins))
