"""Texts to token ids, with the account of what the limit cut."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError

_CHUNK = 2048


class Encoder(Protocol):
    """What encoding needs of a tokenizer."""

    sep_token_id: int

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Uncut ids of each text, special tokens included."""


@dataclass(frozen=True, kw_only=True)
class CutAccount:
    """What the length limit did to a set of texts.

    Attributes:
        max_length: the limit in tokens, special tokens included.
        texts: how many texts there are.
        tokens: their tokens before cutting.
        texts_cut: texts longer than the limit.
        tokens_cut: tokens lost by that, from the end of the text.
    """

    max_length: int
    texts: int
    tokens: int
    texts_cut: int
    tokens_cut: int

    def __str__(self) -> str:
        if not self.texts_cut:
            return f"none of {self.texts:,} texts is longer than {self.max_length} tokens"
        verb = "is" if self.texts_cut == 1 else "are"
        of_all = f"{self.texts_cut:,} of {self.texts:,} texts"
        return (
            f"{of_all} {verb} longer than {self.max_length} tokens; "
            f"{self.tokens_cut:,} of {self.tokens:,} tokens are cut"
        )


@dataclass(frozen=True, kw_only=True)
class EncodedTexts:
    """Token ids of many texts in two flat arrays, and a label for each where there is one.

    A map-style data set: `encoded[i]` is a row with `input_ids`, and `labels` where present.

    Attributes:
        ids: int32 ids of all texts, end to end.
        offsets: (N+1,) int64 start of each text in `ids`.
        full_lengths: (N,) tokens of each text before cutting.
        max_length: the limit in tokens.
        labels: (N,) labels, or None.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    full_lengths: NDArray[np.int64]
    max_length: int
    labels: NDArray[Any] | None = None

    @property
    def account(self) -> CutAccount:
        """What was cut."""
        over = np.maximum(self.full_lengths - self.max_length, 0)
        return CutAccount(
            max_length=self.max_length,
            texts=len(self),
            tokens=int(self.full_lengths.sum()),
            texts_cut=int((over > 0).sum()),
            tokens_cut=int(over.sum()),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each text."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # counts from the end too, and refuses what is not there
        row: dict[str, Any] = {"input_ids": self.ids[self.offsets[index] : self.offsets[index + 1]]}
        if self.labels is not None:
            row["labels"] = self.labels[index]
        return row


def encode_texts(
    tokenizer: Encoder,
    texts: Iterable[str],
    max_length: int,
    labels: NDArray[Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EncodedTexts:
    """Encode texts, cut those beyond `max_length` at their end, and count what was cut.

    Args:
        tokenizer: gives uncut ids; its end token closes a cut text.
        texts: read once, in chunks.
        max_length: most tokens of a text, special tokens included.
        labels: (N,) one for each text.
        progress: called with the number of texts done.

    Raises:
        UsageError: a limit that leaves no room for a token between the special ones, or labels
            that are not as many as the texts.
    """
    if max_length < 3:
        raise UsageError(f"a maximum length of {max_length} leaves no room for text", fix="use 3+")
    ids = array("i")
    lengths: list[int] = []
    source = iter(texts)
    while chunk := list(islice(source, _CHUNK)):
        for encoded in tokenizer.encode_ids(chunk):
            lengths.append(len(encoded))
            if len(encoded) > max_length:
                encoded = [*encoded[: max_length - 1], tokenizer.sep_token_id]
            ids.extend(encoded)
        if progress is not None:
            progress(len(lengths))
    require_one_each(labels, len(lengths))
    full_lengths = np.array(lengths, dtype=np.int64)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.minimum(full_lengths, max_length).cumsum(out=offsets[1:])
    return EncodedTexts(
        ids=np.frombuffer(ids, dtype=np.int32) if len(ids) else np.zeros(0, np.int32),
        offsets=offsets,
        full_lengths=full_lengths,
        max_length=max_length,
        labels=labels,
    )


def require_one_each(labels: NDArray[Any] | None, texts: int) -> None:
    """Refuse labels that are not as many as the texts.

    Raises:
        UsageError: they are not.
    """
    if labels is not None and len(labels) != texts:
        raise UsageError(
            f"there are {texts} texts and {len(labels)} labels", fix="give one for each text"
        )
