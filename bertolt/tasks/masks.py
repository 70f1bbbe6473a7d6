"""Masked words: which tokens may stand at a mask, how a text reads with one, and what is hidden.

Shapes: L tokens of a window, M masks, V vocabulary, T tokens of all windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import CheckpointError
from bertolt.base.few import softmax
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.encode import EncodedTexts
from bertolt.data.masking import TokenKinds
from bertolt.tasks.evaluation import TaskRows
from bertolt.tokenization import BertTokenizer

MASKS = ("[MASK]", "<mask>")
"""How masks are spelt, by one tokenizer or another."""
_PART_TOKENS = 1 << 20  # of windows with one hidden token each that are made at a time
_CONTINUES = "##"


def asked(row: Mapping[str, Any], mask: int | None) -> dict[str, Any]:
    """A row with labels at its masks, by which a head knows of which tokens it is asked."""
    ids = np.asarray(row["input_ids"])
    return {**row, "labels": np.where(ids == mask, ids, IGNORE_INDEX)}


def best_tokens(logits: Tensor, count: int, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The most probable tokens at each mask.

    Args:
        logits: (M, V).
        count: of tokens, K; fewer where there are no more.
        targets: ids to choose among; None: all.

    Returns:
        (M, K) probabilities, of all tokens, and ids, the most probable ones first.
    """
    shares = softmax(logits)
    if targets is not None:
        shares = shares[:, targets]
    scores, best = shares.topk(min(count, shares.shape[-1]))
    return scores, best if targets is None else targets[best]


class Vocabulary:
    """The tokens that may stand at a mask.

    Args:
        tokenizer: of the model.

    Attributes:
        mask, mask_id: how the mask is spelt, and its id.

    Raises:
        CheckpointError: the tokenizer has no mask.
    """

    def __init__(self, tokenizer: BertTokenizer) -> None:
        if tokenizer.mask_token_id is None or tokenizer.mask_token is None:
            raise CheckpointError(
                "the tokenizer has no mask token",
                fix='name it in tokenizer_config.json: "mask_token": "[MASK]"',
            )
        self.tokenizer = tokenizer
        self.mask, self.mask_id = str(tokenizer.mask_token), int(tokenizer.mask_token_id)
        self.kinds = TokenKinds(tokenizer)
        self._words: dict[int, str] = {}

    def word(self, token: int) -> str:
        """A token as text, with the mark of a piece that goes on with a word, or its space."""
        if token not in self._words:
            self._words[token] = self.tokenizer.decode([token])
        return self._words[token]

    def fill(self, text: str, start: int, end: int, token: int) -> str:
        """A text with a token in place of the characters of a mask: `##s` joins the word before."""
        before, word = text[:start], self.word(token)
        goes_on = self.kinds.continues
        if token < len(goes_on) and goes_on[token]:
            before, word = before.rstrip(), word.removeprefix(_CONTINUES)
        elif word.startswith(" ") and before and not before[-1].isspace():
            before += " "
        return before + word.strip() + text[end:]

    def hidden_once(self) -> Tensor:
        """(V,) whether a token is one of the text: unknown ones are, other special ones are not."""
        special = self.kinds.special.clone()
        if self.tokenizer.unk_token_id is not None:
            special[self.tokenizer.unk_token_id] = False
        return ~special


def each_hidden(
    rows: TaskRows, numbers: Sequence[int], may: NDArray[np.bool_], mask: int
) -> Iterator[tuple[TaskRows, int]]:
    """Rows in which every token is hidden once, in a window of its own, in parts of bounded size.

    Args:
        rows: encoded in windows, whose tokens have the places that they answer for.
        numbers: the rows to take.
        may: (V,) whether a token is to be hidden.
        mask: id of the mask.

    Yields:
        Some rows with a window for each of their tokens, and how many windows there are.
    """
    encoded = rows.encoded
    firsts = np.searchsorted(encoded.window_examples, np.arange(encoded.examples + 1))
    part: list[int] = []
    windows: list[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]] = []
    examples: list[int] = []
    size = 0
    for number in numbers:
        for window in range(firsts[number], firsts[number + 1]):
            copies = _copies(encoded, window, may, mask)
            windows.append(copies)
            examples += [len(part)] * len(copies[0])
            size += copies[0].size
        part.append(number)
        if size >= _PART_TOKENS or number == numbers[-1]:
            yield _joined(rows, part, windows, examples), len(examples)
            part, windows, examples, size = [], [], [], 0


def _copies(
    encoded: EncodedTexts, window: int, may: NDArray[np.bool_], mask: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """(N, L) copies of a window with one token hidden in each, their labels, and (L, 2) places."""
    ids = np.asarray(encoded.ids[encoded.offsets[window] : encoded.offsets[window + 1]])
    places = np.asarray(encoded.place_of(window))
    tokens = np.flatnonzero((places[:, 0] >= 0) & may[ids])
    copies = np.tile(ids, (len(tokens), 1))
    labels = np.full(copies.shape, IGNORE_INDEX, dtype=np.int64)
    order = np.arange(len(tokens))
    labels[order, tokens] = ids[tokens]
    copies[order, tokens] = mask
    return copies, labels, places


def _joined(
    rows: TaskRows,
    part: list[int],
    windows: Sequence[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]],
    examples: list[int],
) -> TaskRows:
    lengths = np.concatenate([np.full(len(ids), ids.shape[1]) for ids, _, _ in windows])
    places = [np.tile(each, (len(ids), 1)) for ids, _, each in windows]
    encoded = replace(
        rows.encoded,
        ids=np.concatenate([ids.ravel() for ids, _, _ in windows]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        full_lengths=rows.encoded.full_lengths[part],
        labels=np.concatenate([labels.ravel() for _, labels, _ in windows]),
        places=np.concatenate(places).astype(np.int32),
        example=np.array(examples, dtype=np.int64),
        cut=None,
    )
    return TaskRows(table=rows.table, index=rows.index[part], encoded=encoded)


def hideable(rows: EncodedTexts) -> NDArray[np.bool_]:
    """(T,) whether a token answers for something of its text in this window."""
    assert rows.places is not None
    answers: NDArray[np.bool_] = rows.places[:, 0] >= 0
    return answers


def log_share(logits: Tensor, labels: Tensor) -> Tensor:
    """(M, 1) log-probability of the true tokens."""
    return logits.log_softmax(-1).gather(1, labels[:, None])


def as_table(*columns: Tensor) -> Tensor:
    """(M, …) columns side by side, in float64, which holds ids and probabilities exactly."""
    return torch.cat([each.double() for each in columns], dim=-1)
