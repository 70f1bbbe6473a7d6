"""Texts that nearly repeat each other, found in time that grows as the texts do.

A text is the set of its shingles: runs of 5 characters, or of 2 where the first is Chinese,
Japanese or Korean, without case and double spaces and in one Unicode form. Two texts are alike as
the Jaccard similarity of their sets says. MinHash (Broder 1997) with bands (Indyk and Motwani
1998) proposes pairs, and the exact similarity decides.

A bucket of a band links each text to the first one of it and to its neighbour in the order of the
next band, so that many texts in one bucket are no square of pairs; groups of texts follow from
links. With 16 bands of 4 hashes, 999 of 1,000 pairs at the threshold meet in a band.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertolt.base.chunks import characters_of, chunks
from bertolt.data.spelling import plain_text
from bertolt.data.spill import Numbers

Integers = NDArray[np.int64]

ALIKE = 0.8
"""Jaccard similarity from which on two texts nearly repeat each other."""
_RUN, _DENSE_RUN = (
    5,
    2,
)  # characters of a shingle; a character of Chinese says as much as a syllable
_BANDS, _HASHES = 16, 64  # four hashes a band, of 16 bits each, are one number of 64 bits
_SLACK = 0.25  # four standard deviations of an estimate from 64 hashes
_TEXTS, _CHARACTERS = 4096, 1 << 17  # that are hashed at a time, so that they stay in the cache
_LINKS = 8192  # pairs that are compared at a time
_SORTED = 1 << 16  # texts of a band that are sorted at a time
_RANDOM = np.random.default_rng(20260101)
_WEIGHTS = _RANDOM.integers(1 << 63, size=_RUN, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_FACTORS = _RANDOM.integers(1 << 31, size=_HASHES, dtype=np.uint32) * np.uint32(2) + np.uint32(1)

TextsAt = Callable[[Integers], Sequence[str]]
"""The texts at some places, as `comparable` makes them."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """Pairs of texts that nearly repeat each other.

    Attributes:
        pairs: (P, 2) places of both, the smaller one first.
        similarity: (P,) Jaccard similarity, of pairs of texts the lower one of both halves.
    """

    pairs: Integers
    similarity: NDArray[np.float64]


def comparable(text: str) -> str:
    """A text without what does not make it another: case, double spaces, Unicode form."""
    return plain_text(text if text.isascii() else unicodedata.normalize("NFKC", text))


def near_pairs(
    count: int,
    roles: Sequence[TextsAt],
    threshold: float = ALIKE,
    progress: Callable[[int], None] | None = None,
) -> Near:
    """Pairs of texts whose similarity reaches the threshold.

    Memory is about 150 bytes a text, most of it in a file where they are many.

    Args:
        count: N, of the texts, or of the pairs of texts.
        roles: what gives the texts at some places; for pairs of texts both, which both count.
        threshold: of the similarity, between 0 and 1.
        progress: called with the number of texts that are hashed.
    """
    signatures = _signatures(count, roles, progress)
    links = _links(signatures, threshold ** len(roles) - _SLACK)
    alike = [np.zeros(0)]
    for start in range(0, len(links), _LINKS):
        some = links[start : start + _LINKS]
        alike.append(np.minimum.reduce([_similarities(texts, some) for texts in roles]))
    similarity = np.concatenate(alike)
    enough = similarity >= threshold
    return Near(pairs=links[enough], similarity=similarity[enough])


def components(count: int, pairs: Integers) -> Integers:
    """(N,) the least place of all that pairs (P, 2) link a place to, over any number of links."""
    least = np.arange(count)
    while True:
        ends = least[pairs]
        low, high = ends.min(axis=1), ends.max(axis=1)
        if (low == high).all():
            return least
        np.minimum.at(least, high, low)
        while (least[least] != least).any():
            least = least[least]


def similarity_of(one: str, other: str) -> float:
    """The Jaccard similarity of two texts, from 0 to 1."""
    texts = [comparable(one), comparable(other)]
    return float(_similarities(lambda at: [texts[i] for i in at], np.array([[0, 1]]))[0])


def _shingles(texts: Sequence[str]) -> tuple[NDArray[np.uint64], Integers]:
    """(S,) hashes of the shingles of all texts, and (N+1,) where those of each begin.

    A text that is shorter than a shingle is one shingle.
    """
    gap = _RUN - 1  # what runs over the end of a text meets zeros, not the next text
    whole = "".join(text + "\0" * gap for text in texts) + "\0"
    points = np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.r_[0, np.cumsum(lengths + gap)]
    places = np.arange(starts[-1])
    run = np.where(_is_dense(points[: len(places)]), _DENSE_RUN, _RUN)
    ends = np.repeat(starts[:-1] + lengths, lengths + gap)
    fits = places + run <= ends
    fits[starts[:-1]] = True
    places = places[fits]
    wide = points.astype(np.uint64)
    hashes = np.zeros(len(places), np.uint64)
    for at, weight in enumerate(_WEIGHTS):
        inside = np.uint64(1) if at < _DENSE_RUN else (run[fits] > at).astype(np.uint64)
        hashes += wide[np.minimum(places + at, len(wide) - 1)] * weight * inside
    return _mixed(hashes), np.asarray(np.searchsorted(places, starts), np.int64)


def _is_dense(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether characters are Chinese, Japanese or Korean."""
    dense: NDArray[np.bool_] = (
        ((points >= 0x2E80) & (points <= 0x9FFF))
        | ((points >= 0xAC00) & (points <= 0xD7FF))
        | ((points >= 0xF900) & (points <= 0xFAFF))
        | ((points >= 0x20000) & (points <= 0x3FFFF))
    )
    return dense


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, which spreads what differs over all bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signatures(
    count: int, roles: Sequence[TextsAt], progress: Callable[[int], None] | None
) -> NDArray[np.uint16]:
    """(N, 64) the low bits of the least hash of each text under each of 64 permutations."""
    held, done = Numbers("H"), 0
    for start in range(0, count, _TEXTS):
        places = np.arange(start, min(start + _TEXTS, count))
        parts = [[_least(c) for c in _chunked(texts(places))] for texts in roles]
        first, *others = (np.concatenate(each) for each in parts)
        for other in others:
            first = first + other * np.uint16(31)  # equal where both are
        words = array("H")
        words.frombytes(first.tobytes())
        held.extend(words)
        done += len(places)
        if progress is not None:
            progress(done)
    return held.whole().reshape(count, _HASHES)


def _chunked(texts: Sequence[str]) -> Sequence[list[str]]:
    return list(chunks(texts, _TEXTS, _CHARACTERS, characters_of))


def _least(texts: Sequence[str]) -> NDArray[np.uint16]:
    hashes, starts = _shingles(texts)
    low = hashes.astype(np.uint32)
    product = np.empty_like(low)
    least = np.empty((len(texts), _HASHES), np.uint16)
    for number, factor in enumerate(_FACTORS):
        np.multiply(low, factor, out=product)
        smallest = np.minimum.reduceat(product, starts[:-1])
        least[:, number] = smallest.astype(np.uint16)
    return least


def _links(signatures: NDArray[np.uint16], least: float) -> Integers:
    """(L, 2) pairs that share a band and may reach a similarity, each once."""
    count = len(signatures)
    if count < 2:
        return np.zeros((0, 2), np.int64)
    bands = signatures.view(np.uint64)
    pairs = np.zeros(0, np.int64)
    for band in range(_BANDS):
        keys = np.ascontiguousarray(bands[:, band])
        following = bands[:, (band + 1) % _BANDS]
        linked = [_links_of(places, keys, following, signatures, least) for places in _shares(keys)]
        pairs = np.unique(np.concatenate([pairs, *linked]))
    return np.stack([pairs // count, pairs % count], axis=1)


def _shares(keys: NDArray[np.uint64]) -> Iterator[Integers]:
    """The places of texts, those of one key together, and not too many of them to be sorted."""
    count = -(-len(keys) // _SORTED)
    share = (keys % np.uint64(count)).astype(np.uint16)
    return (np.flatnonzero(share == number) for number in range(count))


def _links_of(
    places: Integers,
    keys: NDArray[np.uint64],
    following: NDArray[np.uint64],
    signatures: NDArray[np.uint16],
    least: float,
) -> Integers:
    """(L,) the links of one band among some texts, each pair as one number."""
    order = places[np.lexsort((following[places], keys[places]))]
    same = keys[order[1:]] == keys[order[:-1]]
    begins = np.r_[True, ~same]
    firsts = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]][1:][same]
    here = order[1:][same]
    linked = []
    for there in (order[:-1][same], firsts):
        low, high = np.minimum(here, there), np.maximum(here, there)
        fit = [
            (signatures[low[i : i + _LINKS]] == signatures[high[i : i + _LINKS]]).mean(axis=1)
            for i in range(0, len(low), _LINKS)
        ]
        promising = np.concatenate([np.zeros(0), *fit]) >= least
        linked.append((low * len(keys) + high)[promising])
    return np.unique(np.concatenate(linked))


def _similarities(texts_at: TextsAt, links: Integers) -> NDArray[np.float64]:
    """(L,) the exact Jaccard similarity of the texts of each link."""
    places, ends = np.unique(links, return_inverse=True)
    sets: list[set[int]] = []
    for chunk in _chunked(texts_at(places)):
        hashes, starts = _shingles(chunk)
        sets += [set(part.tolist()) for part in np.split(hashes, starts[1:-1])]
    similar = np.empty(len(links))
    for number, (one, other) in enumerate(ends.reshape(-1, 2).tolist()):
        shared = len(sets[one] & sets[other])
        similar[number] = shared / (len(sets[one]) + len(sets[other]) - shared)
    return similar
