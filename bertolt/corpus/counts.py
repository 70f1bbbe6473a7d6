"""Counts over a corpus that can be added up, part by part, in any order.

Repeated lines are counted on a sample, so that memory is bounded: a line is in the sample if the
last bits of its 64-bit hash are 0, and so many bits are asked for that the sample fits. Whether a
line is in it depends on nothing but the line, so all its repetitions are, and the share found among
them estimates the share among all lines (distinct sampling: Gibbons, VLDB 2001).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bertolt.corpus.shards import Counts

PART_SAMPLE = 2048  # different lines in the sample of one part
SAMPLE = 1 << 17  # different lines in the sample of a whole corpus
BUCKETS = 40  # of a histogram: bucket b counts the lengths from 2**(b - 1) up to 2**b


@dataclass
class LineSample:
    """How often each of some lines was seen.

    Attributes:
        capacity: different lines that are kept at most.
        level: last bits of the hash that are 0 for every line in the sample.
        seen: hash → how often.
    """

    capacity: int = SAMPLE
    level: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    def add(self, lines: Iterable[bytes]) -> None:
        """Count lines that are in the sample."""
        for line in lines:
            digest = hashlib.blake2b(line, digest_size=8).digest()
            self._count(int.from_bytes(digest, "little"), 1)

    def merge(self, other: LineSample) -> None:
        """Count what another sample has counted."""
        self._raise_to(max(self.level, other.level))
        for hashed, times in other.seen.items():
            self._count(hashed, times)

    def _count(self, hashed: int, times: int) -> None:
        if hashed & ((1 << self.level) - 1):
            return
        self.seen[hashed] = self.seen.get(hashed, 0) + times
        while len(self.seen) > self.capacity:
            self._raise_to(self.level + 1)

    def _raise_to(self, level: int) -> None:
        if level > self.level:
            self.level, bits = level, (1 << level) - 1
            self.seen = {hashed: n for hashed, n in self.seen.items() if not hashed & bits}

    @property
    def lines(self) -> int:
        """Lines in the sample, repetitions counted."""
        return sum(self.seen.values())

    @property
    def repeated(self) -> float:
        """Estimated share of lines that were there before; 0 without lines."""
        return 1 - len(self.seen) / self.lines if self.seen else 0.0


@dataclass
class CorpusCounts:
    """What was counted in a part, or in all of them; plain values but for the nested classes.

    Attributes:
        train: documents to train on.
        held_out: documents kept for the held-out loss.
        sources: what is from each source, by its number; both kinds.
        unknown: tokens that stand for what the vocabulary does not have.
        long: sentences that are longer than a training sequence.
        longest: tokens of the longest sentence.
        sentences: histogram of the tokens of sentences, see `BUCKETS`.
        documents: histogram of the tokens of documents.
        sample: of lines.
    """

    train: Counts = field(default_factory=Counts)
    held_out: Counts = field(default_factory=Counts)
    sources: dict[int, Counts] = field(default_factory=dict)
    unknown: int = 0
    long: int = 0
    longest: int = 0
    sentences: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    documents: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    sample: LineSample = field(default_factory=LineSample)

    @property
    def all(self) -> Counts:
        """Both kinds of documents."""
        return self.train + self.held_out

    def of_source(self, number: int) -> Counts:
        """What is from a source."""
        return self.sources.get(number, Counts())

    def merge(self, other: CorpusCounts) -> None:
        """Add what another one has counted."""
        self.train += other.train
        self.held_out += other.held_out
        for source, counts in other.sources.items():
            self.sources[source] = self.of_source(source) + counts
        self.unknown += other.unknown
        self.long += other.long
        self.longest = max(self.longest, other.longest)
        self.sentences = list(map(add, self.sentences, other.sentences))
        self.documents = list(map(add, self.documents, other.documents))
        self.sample.merge(other.sample)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The same from what `dataclasses.asdict` gives, also when it has been JSON."""
        both = {name: Counts(**content[name]) for name in ("train", "held_out")}
        sources = {int(number): Counts(**counts) for number, counts in content["sources"].items()}
        seen = {int(hashed): times for hashed, times in content["sample"]["seen"].items()}
        sample = LineSample(**{**content["sample"], "seen": seen})
        return cls(**{**content, **both, "sources": sources, "sample": sample})


def histogram(lengths: NDArray[np.int64]) -> list[int]:
    """How many lengths (1 or more) each of the `BUCKETS` has."""
    buckets: list[int] = np.bincount(np.frexp(lengths)[1], minlength=BUCKETS).tolist()
    return buckets


def described(buckets: Sequence[int]) -> dict[str, int]:
    """A histogram with its bounds in words: {"1": 3, "2-3": 10, "4-7": 2}."""
    bounds = {"1": buckets[1]}
    bounds |= {f"{2 ** (b - 1)}-{2**b - 1}": buckets[b] for b in range(2, len(buckets))}
    return {bound: count for bound, count in bounds.items() if count}
