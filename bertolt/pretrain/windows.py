"""Which pieces of a corpus make which batch: a pure function of the seed, the epoch and the window.

Documents are cut into sequences once. Each epoch puts these into another order and cuts that order
into windows of about `WINDOW` batches; inside a window, sequences are dealt to its batches so that
all of them come out equally full. How many batches an epoch has follows from the lengths alone, so
the place of any step is known without a look at the steps before it.

Shapes: S sentences, A pieces of them, D documents, N sequences of K spans of text each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.corpus.shards import Shard

Ints = NDArray[np.int64]

WINDOW = 64
"""Batches of a window, about: enough to choose from, few enough to be at hand at once."""

_COUNTED = 1 << 26  # tokens that are counted at most, over all shards
_SWAPS = 8  # rounds of evening out at most; one or two are usual
_CANDIDATES = 128  # sequences of a batch that are tried for a swap


@dataclass(frozen=True, eq=False)
class Text:
    """The tokens of all shards as if they were one array, which they never are.

    Attributes:
        pieces: (A + 1,) bounds of the sentences, longer ones cut, counted over all shards.
        documents: (D + 1,) bounds of the documents, counted in pieces.
    """

    shards: Sequence[Shard]
    pieces: Ints
    documents: Ints

    @classmethod
    def cut(cls, shards: Sequence[Shard], room: int) -> Text:
        """All sentences of the shards, those longer than `room` tokens cut into pieces of it.

        The last piece of a sentence is what remains; nothing is lost, and no piece is empty.
        """
        pieces, documents = [np.zeros(0, np.int64)], [np.zeros(1, np.int64)]
        tokens = count = 0
        for shard in shards:
            starts = shard.sentence_starts
            parts = -(-np.diff(starts) // room)
            before = np.concatenate([[0], np.cumsum(parts)])
            within = np.arange(before[-1]) - np.repeat(before[:-1], parts)
            pieces.append(tokens + np.repeat(starts[:-1], parts) + room * within)
            documents.append(count + before[shard.document_starts[1:]])
            tokens, count = tokens + len(shard.tokens), count + int(before[-1])
        bounds = np.concatenate(documents)
        filled = np.concatenate([[True], np.diff(bounds) > 0])
        return cls(shards, np.concatenate([*pieces, [tokens]]), bounds[filled])

    @cached_property
    def _ends(self) -> list[int]:
        """Where each shard ends."""
        ends: list[int] = np.cumsum([len(shard.tokens) for shard in self.shards]).tolist()
        return ends

    def read(self, start: int, count: int) -> NDArray[np.generic]:
        """The tokens from `start` on, which do not reach into another shard."""
        shard = bisect_right(self._ends, start)
        begin = start - (self._ends[shard - 1] if shard else 0)
        return self.shards[shard].tokens[begin : begin + count]

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards."""
        return int(self.pieces[-1])

    def count_tokens(self, vocab_size: int) -> Ints:
        """(V,) how often each token stands in the text, or in a sample of it from every shard."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for shard in self.shards:
            step = -(-len(shard.tokens) * len(self.shards) // _COUNTED)
            counts += np.bincount(shard.tokens[::step], minlength=vocab_size)[:vocab_size]
        return counts


@dataclass(frozen=True, eq=False)
class Sequences:
    """What goes through the model: [CLS] span [SEP], or [CLS] span [SEP] span [SEP].

    Attributes:
        starts: (K, N) where the spans begin in the text.
        counts: (K, N) their tokens.
        labels: (N,) of pairs: 0 where the second span follows the first, 1 where it does not,
            `IGNORE_INDEX` where nobody is to tell.
    """

    starts: Ints
    counts: NDArray[np.int32]
    labels: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return int(self.starts.shape[1])

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each sequence, special ones counted."""
        tokens: Ints = self.counts.sum(axis=0, dtype=np.int64)
        return tokens + len(self.counts) + 1


def segments(text: Text, room: int) -> Sequences:
    """Every document cut into runs of its pieces, each as many as fit into `room` tokens.

    Every token is in exactly one of them, and none reaches over the end of a document.

    Args:
        text: cut to pieces of at most `room`.
        room: tokens of a segment without its special ones.
    """
    bounds, last = text.pieces, len(text.pieces) - 1
    ends = np.repeat(text.documents[1:], np.diff(text.documents))
    # Where the next segment begins if one begins at this piece; the end stays where it is.
    after = np.searchsorted(bounds, bounds[:-1] + room, side="right") - 1
    jump = np.append(np.minimum(after, ends), last)
    begins = np.zeros(last + 1, dtype=bool)
    begins[text.documents] = True
    # Whoever is reached in 2^k jumps or fewer; all documents at once, long or short.
    reached = int(np.count_nonzero(begins))
    while True:
        begins[jump[begins]] = True
        before, reached = reached, int(np.count_nonzero(begins))
        if reached == before:
            break
        jump = jump[jump]
    cuts = bounds[begins]
    return Sequences(cuts[None, :-1], np.diff(cuts).astype(np.int32)[None])


@dataclass(frozen=True)
class Budget:
    """How much a batch holds.

    Attributes:
        rows: of a batch, with its filler; a multiple of 128, as kernels like it.
        longest: tokens of a sequence at most.

    Raises:
        UsageError: a batch would hold less than two of the longest sequences.
    """

    rows: int
    longest: int

    def __post_init__(self) -> None:
        if self.rows < 2 * self.longest:
            raise UsageError(
                f"--batch-tokens is {self.rows}, and sequences have up to {self.longest} tokens",
                fix=f"give {2 * self.longest} or more",
            )

    @property
    def aim(self) -> int:
        """Tokens that batches have on average at most.

        One row is always filler, and a little room is left because sequences do not come out even.
        """
        return self.rows - 1 - self.rows // 512

    def count_batches(self, lengths: Ints) -> int:
        """Batches of an epoch over sequences of these lengths."""
        return -(-int(lengths.sum()) // self.aim)


class Epoch:
    """The batches of one epoch. Any of them can be asked for, in any order.

    Args:
        lengths: (N,) tokens of each sequence.
        num_batches: to put them into.
        budget: of a batch. Sequences that do not fit into so many batches are left out, the last of
            the epoch's order; that only happens to pairs, whose number differs from epoch to epoch.
        seed, epoch: the order follows from these.
    """

    def __init__(
        self, lengths: Ints, num_batches: int, budget: Budget, *, seed: int, epoch: int
    ) -> None:
        self.num_batches = num_batches
        kind = np.uint32 if len(lengths) < 1 << 32 else np.int64
        self._order = np.arange(len(lengths), dtype=kind)
        np.random.default_rng((seed, epoch)).shuffle(self._order)
        self._lengths = lengths
        self._rows = budget.rows
        total = np.cumsum(lengths[self._order])
        count = -(-num_batches // WINDOW)
        # Windows are as equal as whole numbers of batches allow: (W + 1,) batches, then sequences.
        self._first = np.arange(count + 1) * num_batches // count
        room = min(int(total[-1]), num_batches * budget.aim)
        whole, rest = divmod(room, num_batches)  # apart, so that no product passes 64 bits
        ends = self._first * whole + self._first * rest // num_batches
        self._cuts = np.searchsorted(total, ends, side="right")
        self._window: tuple[int, list[Ints]] = (-1, [])

    @property
    def num_sequences(self) -> int:
        """Sequences that are not left out."""
        return int(self._cuts[-1])

    def batch(self, number: int) -> Ints:
        """(B,) sequences of a batch, the longest first."""
        window = int(np.searchsorted(self._first, number, side="right")) - 1
        if self._window[0] != window:
            self._window = (window, self._deal(window))
        return self._window[1][number - int(self._first[window])]

    def _deal(self, window: int) -> list[Ints]:
        """The sequences of a window, dealt to its batches.

        Round after round each batch gets one, in the order of their lengths: the emptiest batch the
        longest. So all batches have sequences of the same kinds, and about as many tokens.
        """
        rows = self._order[self._cuts[window] : self._cuts[window + 1]].astype(np.int64)
        batches = int(self._first[window + 1] - self._first[window])
        rows = rows[np.argsort(-self._lengths[rows], kind="stable")]
        missing = -len(rows) % batches
        rounds = np.append(rows, np.full(missing, -1)).reshape(-1, batches)
        sizes = np.append(self._lengths[rows], np.zeros(missing, np.int64)).reshape(-1, batches)
        full = np.zeros(batches, dtype=np.int64)
        dealt, placed = np.empty_like(rounds), np.empty_like(sizes)
        for number, (given, size) in enumerate(zip(rounds, sizes, strict=True)):
            emptiest = np.argsort(full, kind="stable")
            full[emptiest] += size
            dealt[number, emptiest] = given
            placed[number, emptiest] = size
        self._level(dealt, placed)
        return [column[column >= 0] for column in dealt.T]

    def _level(self, dealt: Ints, sizes: Ints) -> None:
        """Swap sequences between full and empty batches while one of them passes the budget.

        Args:
            dealt: (R, n) sequences of n batches, -1 where there is none; changed in place.
            sizes: (R, n) their tokens, in step with it.
        """
        for _ in range(_SWAPS):
            full = sizes.sum(axis=0)
            if full.max() < self._rows:
                return
            order, half = np.argsort(full, kind="stable"), len(full) // 2
            low, high = order[:half], order[::-1][:half]
            # Of each pair of batches, the two sequences whose swap comes nearest to evening them.
            choice = np.arange(0, len(sizes), -(-len(sizes) // _CANDIDATES))
            some = sizes[choice]
            gain = some[:, None, high] - some[None, :, low]
            off = np.abs(gain - (full[high] - full[low]) // 2).reshape(-1, half)
            of_high, of_low = (
                choice[place] for place in np.divmod(off.argmin(axis=0), len(choice))
            )
            for table in (dealt, sizes):
                swapped = table[of_high, high].copy()
                table[of_high, high] = table[of_low, low]
                table[of_low, low] = swapped
