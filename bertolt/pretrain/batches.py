"""The batches of pretraining by their numbers: laid out, masked, and ready for the model.

A batch is a pure function of the corpus, the seed and its number. Nothing is kept from one to the
next but what is quicker to remember than to compute again.

Shapes: B sequences of K spans, T packed tokens (filler included).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import UsageError
from bertolt.corpus.options import Objective
from bertolt.corpus.shards import Shard
from bertolt.data.batch import PackedBatch
from bertolt.data.masking import TokenKinds, counted_draws, mask_tokens, unit
from bertolt.pretrain.pairs import pairs
from bertolt.pretrain.windows import Budget, Epoch, Ints, Sequences, Text, segments

MASK_MULTIPLE = 32
"""Masked tokens of a large batch are rounded to a multiple of this, for kernels of few shapes."""

_LARGE = 20 * MASK_MULTIPLE  # masked tokens that the rounding changes by less than 3%


class Batches:
    """All batches of a run. Those of an epoch have `per_epoch` numbers in a row, from 0 on.

    Args:
        shards: the text.
        tokenizer: that made its tokens.
        objective: masked tokens alone, or pairs of sentences as well.
        max_length: tokens of a sequence at most.
        rows: of a batch, filler included.
        seed: of order, pairs and masks.
        whole_words: mask words whole.

    Raises:
        UsageError: a tokenizer without the tokens that are needed, a budget too small.
        DataError: pairs of a corpus of one document.

    Attributes:
        per_epoch: batches of an epoch.
        tokens: of a batch on average, special ones counted.
        passes: how often an epoch reads the text: once, or as much as pairs take, half of which
            have their second span from elsewhere.
        attended: tokens that each of them attends to on average, see `bertolt.pretrain.flops`.
        left_out: sequences for which the epoch under way has no room; only pairs ever are.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        tokenizer: Any,
        *,
        objective: Objective = "mlm",
        max_length: int,
        rows: int,
        seed: int = 0,
        whole_words: bool = False,
    ) -> None:
        _require_tokens(tokenizer)
        self._objective, self._seed = objective, seed
        self._room = max_length - (2 if objective == "mlm" else 3)
        self._budget = Budget(rows, max_length)
        self._text = Text.cut(shards, self._room)
        self._layout = _Layout(self._text, tokenizer)
        self._masks = _Masks(tokenizer, whole_words)
        self._sequences = self._of_epoch(0)
        lengths = self._sequences.lengths
        self.per_epoch = self._budget.count_batches(lengths)
        self.tokens = float(lengths.sum()) / self.per_epoch
        self.passes = int(self._sequences.counts.sum()) / int(self._text.pieces[-1])
        self.attended = float((lengths.astype(np.float64) ** 2).sum() / lengths.sum())
        self._begin(0)

    def batch(self, number: int, share: float) -> PackedBatch:
        """A batch by its number, with this share of its tokens masked."""
        epoch, index = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._sequences = self._of_epoch(epoch)
            self._begin(epoch)
        rows = self._order.batch(index)
        ids, types, cu_seqlens = self._layout.lay_out(self._sequences, rows)
        masked, labels = self._masks.apply(ids, share, self._seed, epoch, index)
        following = self._sequences.labels
        return PackedBatch.from_flat(
            masked,
            torch.from_numpy(cu_seqlens),
            torch.from_numpy(types),
            token_labels=labels,
            next_sentence_label=None
            if following is None
            else torch.from_numpy(following[rows].astype(np.int64)),
            pad_token_id=self._layout.pad,
        )

    def count_tokens(self) -> NDArray[np.int64]:
        """(V,) how often each token stands in the text, or in a large sample of it."""
        return self._text.count_tokens(len(self._masks.kinds.special))

    @property
    def maskable(self) -> NDArray[np.bool_]:
        """(V,) True at tokens that can be masked."""
        return ~self._masks.kinds.special.numpy()

    @property
    def continuing(self) -> NDArray[np.bool_]:
        """(V,) True at tokens that go on with the word of the token before."""
        return self._masks.kinds.continues.numpy()

    def _of_epoch(self, epoch: int) -> Sequences:
        if self._objective == "mlm":
            return self._sequences if epoch else segments(self._text, self._room)
        return pairs(self._text, self._room, seed=self._seed, epoch=epoch)

    def _begin(self, epoch: int) -> None:
        lengths = self._sequences.lengths
        self._epoch = epoch
        self._order = Epoch(lengths, self.per_epoch, self._budget, seed=self._seed, epoch=epoch)
        self.left_out = len(lengths) - self._order.num_sequences


class _Layout:
    """Spans of text between their special tokens, end to end."""

    def __init__(self, text: Text, tokenizer: Any) -> None:
        self.pad = int(tokenizer.pad_token_id)
        self._text = text
        self._begin = np.array([tokenizer.cls_token_id])
        self._end = np.array([tokenizer.sep_token_id])

    def lay_out(
        self, sequences: Sequences, rows: Ints
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """Ids and segment ids of all tokens, and the (B + 1,) bounds of the sequences."""
        counts = sequences.counts[:, rows]
        parts: list[NDArray[Any]] = []
        for starts, spans in zip(
            sequences.starts[:, rows].T.tolist(), counts.T.tolist(), strict=True
        ):
            parts.append(self._begin)
            for start, count in zip(starts, spans, strict=True):
                parts += (self._text.read(start, count), self._end)
        # [CLS] belongs to the first span, and each [SEP] to the one before it.
        spans = counts.astype(np.int64) + 1
        spans[0] += 1
        kinds = np.tile(np.arange(len(spans)), len(rows))
        bounds = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(spans.sum(axis=0), out=bounds[1:])
        ids = np.empty(bounds[-1], dtype=np.int64)
        np.concatenate(parts, out=ids, casting="unsafe")
        return ids, np.repeat(kinds, spans.T.ravel()), bounds


class _Masks:
    """Masks that follow from a seed and a place, 80/10/10 as in the paper."""

    def __init__(self, tokenizer: Any, whole_words: bool) -> None:
        self.kinds = TokenKinds(tokenizer)
        self._mask = int(tokenizer.mask_token_id)
        self._whole_words = whole_words

    def apply(self, ids: NDArray[np.int64], share: float, *place: int) -> tuple[Tensor, Tensor]:
        """Ids with some hidden, and what they were, `IGNORE_INDEX` elsewhere: (tokens,) each.

        As many are chosen as `share` says, not about as many: losses are then means over the same
        number from batch to batch. Whole words may fall short of it by a part of a word.
        """
        tokens = torch.from_numpy(ids)
        special = self.kinds.special[tokens]
        bits = counted_draws(3 * len(ids), *place).reshape(3, -1)
        free = len(ids) - int(special.sum())
        count = min(free, max(1, round(share * free)))
        if count >= _LARGE:
            count = round(count / MASK_MULTIPLE) * MASK_MULTIPLE
        draws = unit(bits)
        choose = self._choose_words if self._whole_words else self._choose
        draws[0] = np.where(choose(ids, special.numpy(), bits[0], count), 0.0, 1.0)
        return mask_tokens(
            tokens,
            special,
            mask_token_id=self._mask,
            replacements=self.kinds.replacements,
            probability=0.5,  # whatever parts 0 from 1: they are chosen already
            draws=torch.from_numpy(draws),
        )

    def _choose(
        self, ids: Ints, special: NDArray[np.bool_], bits: NDArray[np.uint64], count: int
    ) -> NDArray[np.bool_]:
        """The tokens with the lowest draws."""
        chosen = np.zeros(len(ids), dtype=bool)
        order = np.where(special, np.uint64(2**64 - 1), bits)
        if count:
            chosen[np.argpartition(order, count - 1)[:count]] = True
        return chosen

    def _choose_words(
        self, ids: Ints, special: NDArray[np.bool_], bits: NDArray[np.uint64], count: int
    ) -> NDArray[np.bool_]:
        """The words with the lowest draws, as long as they do not pass the number wanted."""
        begins = ~self.kinds.continues.numpy()[ids] | special
        begins[1:] |= special[:-1]
        begins[:1] = True
        word = np.cumsum(begins) - 1
        size = np.bincount(word)
        free = np.flatnonzero(~special[begins])
        free = free[np.argsort(bits[begins][free], kind="stable")]
        fits = np.cumsum(size[free]) <= count
        fits[:1] = True
        taken = np.zeros(len(size), dtype=bool)
        taken[free[fits]] = True
        chosen: NDArray[np.bool_] = taken[word]
        return chosen


def _require_tokens(tokenizer: Any) -> None:
    for name in ("cls_token", "sep_token", "pad_token", "mask_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise UsageError(
                f"the tokenizer has no {name}",
                place=str(tokenizer.name_or_path),
                fix="use a BERT tokenizer, as bertolt tokenizer makes one",
            )
