"""What near-duplicates of many rows take: `python -m benchmarks.near_duplicates 1000000`.

Rows are runs of words of the movie sentences, 5 to 30 words long, and one in a hundred is another
row with one word changed. Processor time and the growth of peak memory are measured; found are the
changed rows that reach the threshold, as comparing each with its source says.
"""

from __future__ import annotations

import csv
import resource
import sys
import time
from pathlib import Path

import numpy as np

from bertolt.base.console import info
from bertolt.data import sample_data
from bertolt.data.near import ALIKE, components, near_pairs, similarity_of


def texts_of(rows: int, seed: int = 0) -> tuple[list[str], dict[int, int]]:
    """Texts, and the row that each changed one is of."""
    source = Path(sample_data.fetch("movie-sentences", progress=info))
    with source.open(encoding="utf-8", newline="") as file:
        words = [word for row in csv.DictReader(file) for word in row["text"].lower().split()]
    random = np.random.default_rng(seed)
    starts = random.integers(0, len(words) - 31, rows)
    lengths = random.integers(5, 31, rows)
    pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
    texts = [" ".join(words[start : start + length]) for start, length in pairs]
    changed: dict[int, int] = {}
    for row in range(100, rows, 100):
        of = int(random.integers(0, row))
        parts = texts[of].split()
        parts[int(random.integers(0, len(parts)))] = words[int(random.integers(0, len(words)))]
        texts[row], changed[row] = " ".join(parts), of
    return texts, changed


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1])
    texts, changed = texts_of(rows)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    near = near_pairs(rows, [lambda places: [texts[place] for place in places.tolist()]])
    groups = components(rows, near.pairs)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    alike = [r for r, of in changed.items() if similarity_of(texts[r], texts[of]) >= ALIKE]
    together = sum(groups[row] == groups[changed[row]] for row in alike)
    characters = sum(map(len, texts)) / 1e6
    print(
        f"{rows:,} rows, {characters:.0f} M characters: {seconds:.0f} s of processor time, "
        f"{grown:.0f} MB more; {len(near.pairs):,} pairs; {together:,} of {len(alike):,} changed "
        "rows are with their source"
    )


if __name__ == "__main__":
    main()
