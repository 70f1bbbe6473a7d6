"""How high the text that belongs to another one ranks among all second texts of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.data.spill import Numbers
from bertolt.metrics import RowSums, nearest, wilson_interval
from bertolt.metrics.counts import normal_interval
from bertolt.metrics.numbering import Numbering
from bertolt.tasks import page
from bertolt.tasks.scorer import AmongAll, Answer, Example, Reals, Scorer
from bertolt.tasks.table import interval_words

DEPTHS = (1, 5, 10)
_HALF = 1 << 32  # a float holds half of a digest exactly; fewer texts than that have numbers


class _Texts:
    """Vectors of different texts, each once, by a digest of the text."""

    def __init__(self) -> None:
        self.numbers = Numbering()
        self._values = Numbers("f")

    def add(self, key: int, vector: Sequence[float] | NDArray[Any]) -> int:
        """The number of a text, which is kept with its vector the first time."""
        number = self.numbers.add(key)
        if number * len(vector) == len(self._values):
            self._values.extend(vector)
        return number

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(N, H), in memory or mapped from disk where they are many."""
        count = len(self.numbers)  # of a process without a row, none
        return self._values.whole().reshape(count, -1 if count else 0)


class RetrievalScorer(Scorer):
    """The vectors of both texts of each row; of triplets also which of two texts is nearer.

    Every different first text is asked once, and its right answers are all second texts that stand
    beside it. Vectors beyond 16 MiB are kept on disk, and ranks are counted in blocks.

    Args:
        triplets: whether there is a third text.
    """

    def __init__(self, *, triplets: bool) -> None:
        self.triplets = triplets
        self.shown = ("triplet_accuracy",) * triplets + ("mrr", *map(_recall, DEPTHS))
        self._first, self._second = _Texts(), _Texts()
        self._numbered = Numbering()  # pairs of both sides' numbers, as one number
        self._counts = np.zeros(2, np.int64)  # rows, and right triplets
        self._among: int | None = None  # second texts of all rows, where these are a part of them

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by what the cosine lacks to 1; of triplets by how much nearer the third text is."""
        first, second, *third = answer["vectors"]
        right = 0
        wrong = 1.0 - answer["similarity"]
        if self.triplets:
            other = nearest.cosine_of(first, third[0])
            right = int(answer["similarity"] > other)
            wrong = max(0.0, other - answer["similarity"])
        self._counts += (1, right)
        one = self._first.add(_digest(example["text"]), first)
        self._pair(one, self._second.add(_digest(example["text_pair"]), second))
        vars(self).pop("_ranks", None)
        return float(wrong)

    def part_of(self, whole: RetrievalScorer) -> None:
        """Rank its pairs among all second texts that `whole` has counted."""
        one, other = self._pairs.T
        first = whole._first.numbers.of(self._first.numbers.keys[one])
        second = whole._second.numbers.of(self._second.numbers.keys[other])
        places = whole._numbered.of(first * _HALF + second)
        ranks = whole._ranks
        self._ranks = nearest.Ranks(ranks.ranks[places], ranks.surprise[places])
        self._among = len(whole._second.numbers)

    def state(self) -> dict[str, NDArray[Any]]:
        """Digests and vectors of both sides, the pairs of both, and how many rows there are."""
        return {
            "first_keys": self._first.numbers.keys,
            "first": self._first.vectors,
            "second_keys": self._second.numbers.keys,
            "second": self._second.vectors,
            "pairs": self._pairs,
            "counts": self._counts,
        }

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add other rows."""
        sides = []
        for side, name in ((self._first, "first"), (self._second, "second")):
            pairs = zip(state[f"{name}_keys"].tolist(), state[name], strict=True)
            sides.append([side.add(key, vector) for key, vector in pairs])
        for one, other in state["pairs"].tolist():
            self._pair(sides[0][one], sides[1][other])
        self._counts += state["counts"]
        vars(self).pop("_ranks", None)

    def _pair(self, one: int, other: int) -> None:
        """Count two texts as belonging together, once."""
        self._numbered.add(one * _HALF + other)

    @property
    def _pairs(self) -> NDArray[np.int64]:
        """(P, 2) numbers of the texts that belong together."""
        return np.column_stack(np.divmod(self._numbered.keys, _HALF))

    @cached_property
    def _ranks(self) -> nearest.Ranks:
        """Of each pair."""
        first, second = nearest.Units(self._first.vectors), nearest.Units(self._second.vectors)
        return nearest.rank_right(first, second, self._pairs)

    def loss(self) -> float:
        """Mean cross-entropy of the right text among all second texts, at a scale of 20."""
        surprise = np.sort(self._ranks.surprise)  # the sum does not depend on the order of rows
        return float(surprise.mean()) if len(surprise) else 0.0

    def _best(self) -> NDArray[np.int64]:
        """(Q,) the best rank of what belongs to each different first text."""
        best = np.full(len(self._first.numbers), np.iinfo(np.int64).max)
        np.minimum.at(best, self._pairs[:, 0], self._ranks.ranks)
        return best

    def _by_query(self) -> dict[str, NDArray[np.float64]]:
        """(Q,) of each measure for each different first text, in ascending order."""
        queries, ranks = self._pairs[:, 0], self._ranks.ranks
        size = len(self._first.numbers)
        counts = np.maximum(np.bincount(queries, minlength=size), 1)
        measures = {"mrr": 1.0 / self._best()}
        for depth in DEPTHS:
            found = np.bincount(queries, weights=ranks <= depth, minlength=size)
            measures[_recall(depth)] = found / counts
        return {name: np.sort(values) for name, values in measures.items()}

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """Whether a triplet is right, and 1; of pairs the halves of the digest of the first text,
        by which its rank is found."""
        if not self.triplets:
            high, low = divmod(_digest(example["text"]), _HALF)
            return float(high), float(low)
        first, _, third = answer["vectors"]
        return float(answer["similarity"] > nearest.cosine_of(first, third)), 1.0

    def among_all(self, kept: Reals) -> AmongAll | None:
        """One over the best rank of each first text, and 1."""
        if self.triplets:
            return None
        keys = (int(high) * _HALF + int(low) for high, low in kept.tolist())
        asks = self._first.numbers.of(np.fromiter(keys, np.int64, len(kept)))
        best = self._best()[asks]
        return AmongAll(
            sums=np.column_stack([1.0 / best, np.ones(len(best))]),
            asks=asks,
            said=[f"rank {rank:,}" for rank in best.tolist()],
            truth="rank 1",
            rows=self._fingerprint(),
        )

    def _fingerprint(self) -> str:
        """16 hexadecimal digits of all pairs, whatever their order."""
        one, other = self._pairs.T
        keys = np.stack([self._first.numbers.keys[one], self._second.numbers.keys[other]])
        keys = keys[:, np.lexsort(keys)].astype("<i8")
        return hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()

    def by_rows(self) -> RowSums:
        """How many triplets are right; or the rank of each text asked among all second ones."""
        if self.triplets:
            rows, right = map(int, self._counts)
            return RowSums.of([[1.0, 1.0], [0.0, 1.0]], [right, rows - right])
        if not len(self._numbered):
            return RowSums(np.zeros((0, 2)), np.zeros(0, np.int64))
        ranks = self._by_query()["mrr"]
        return RowSums.of(np.column_stack([ranks, np.ones(len(ranks))]))

    def values(self) -> dict[str, Any]:
        """Each measure with its interval, and how many texts there are on both sides."""
        values: dict[str, Any] = {}
        rows, right = map(int, self._counts)
        if self.triplets:
            values["triplet_accuracy"] = right / rows if rows else None
            values["triplet_accuracy_interval"] = wilson_interval(right, rows) if rows else None
        for name, each in self._by_query().items():
            mean = float(each.mean()) if len(each) else None
            ends = None if mean is None else normal_interval(mean, each, 0.0, 1.0)
            values |= {name: mean, f"{name}_interval": ends}
        sides = {"queries": len(self._first.numbers), "candidates": self._candidates}
        return values | sides | {"rows": rows, "certain": self._certain()}

    def _certain(self) -> list[str]:
        """The measures that are 1 whatever the vectors are, as all candidates are taken."""
        depths = [depth for depth in DEPTHS if self._candidates and depth >= self._candidates]
        return ["mrr"] * (self._candidates == 1) + list(map(_recall, depths))

    def _certain_words(self) -> str:
        """Which these are, and why; empty if there are none."""
        if not (names := self._certain()):
            return ""
        first, *others = [_title(name) for name in names]
        *before, last = first, *(title[0].lower() + title[1:] for title in others)
        titles = f"{', '.join(before)} and {last}" if before else last
        verb = "are" if before else "is"
        there = "there is" if self._candidates == 1 else "there are"
        count = plural(self._candidates, "second text")
        return f"{titles} {verb} 1 whatever the model gives: {there} {count}"

    def lines(self, loss: float) -> Iterator[str]:
        """The same for a terminal."""
        values = self.values()
        for number, name in enumerate(self.shown):
            words = interval_words(values[name], values[f"{name}_interval"])
            yield f"{'  ' * bool(number)}{_title(name)} {words}"
        asked, among = (
            plural(values["queries"], "text"),
            plural(values["candidates"], "second text"),
        )
        yield f"  {asked} asked among {among}; by chance {self._chance(1):.4f} would be first"
        if words := self._certain_words():
            yield f"  {words}"
        yield f"  loss {loss:.4f}"

    def _chance(self, depth: int) -> float:
        return min(1.0, depth / max(1, self._candidates))

    @property
    def _candidates(self) -> int:
        return len(self._second.numbers) if self._among is None else self._among

    def explain(self) -> dict[str, Any]:
        """The first measure, and a table of all."""
        values = self.values()
        main = self.shown[0]
        measure = page.measure(values[main], values[f"{main}_interval"])
        chance = 0.5 if self.triplets else _expected_mrr(values["candidates"])
        rows = [
            [
                _title(name),
                page.measure(values[name], values[f"{name}_interval"]),
                self._chance(int(name.rpartition("_")[2])),
            ]
            for name in self.shown
            if name.startswith("recall")
        ]
        kinds = {"Measure": "text", "Of the texts asked": "measure", "By chance": "share"}
        table = page.table("Right texts among the nearest", kinds, rows)
        table |= {"id": "retrieval", "title": "Retrieval", "nav": "Retrieval"}
        lead = f"{values['queries']:,} texts, {values['candidates']:,} candidates"
        cautions = []
        if main not in values["certain"]:
            cautions += page.no_better(
                "chance",
                values[main],
                chance,
                "The texts are as near to those of other rows as to their own.",
            )
        if words := self._certain_words():
            cautions.append(page.caution("Some scores say nothing", f"{words}."))
        guess = {"name": "by chance", "mark": "chance"} | page.measure(chance)
        return page.part(
            page.headline(_title(main), measure, values["rows"], guess),
            tiles=[page.share(_title(name), values[name], lead) for name in self.shown[1:]],
            curves=[page.curve(main, _title(main), measure, guess)],
            blocks=[table],
            cautions=cautions,
        )


def _recall(depth: int) -> str:
    return f"recall_at_{depth}"


def _title(name: str) -> str:
    titles = {"mrr": "Mean reciprocal rank", "triplet_accuracy": "Accuracy of triplets"}
    return titles.get(name) or f"Recall at {name.rpartition('_')[2]}"


def _digest(text: str) -> int:
    whole = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(whole, "little", signed=True)


def _expected_mrr(candidates: int) -> float:
    """Of one right text at a random place among so many."""
    return float(np.mean(1.0 / np.arange(1, candidates + 1))) if candidates else 0.0
