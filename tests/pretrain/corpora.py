"""Small corpora in memory, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from bertolt import BertTokenizer
from bertolt.corpus.options import Objective
from bertolt.corpus.shards import (
    MANIFEST,
    SHARDS,
    TOKENIZER,
    Manifest,
    Shard,
    ShardEntry,
    SourceEntry,
    content_fingerprint,
    file_sha256,
    shard_bytes,
)

FIRST_ID, LAST_ID = 5, 97  # of the tiny vocabulary, without its special tokens

Document = Sequence[Sequence[int]]


def shard(documents: Sequence[Document]) -> Shard:
    """Documents of sentences of ids."""
    sentences = [sentence for document in documents for sentence in document]
    return Shard(
        tokens=np.array([token for sentence in sentences for token in sentence], dtype=np.uint16),
        sentence_starts=np.cumsum([0, *map(len, sentences)]),
        document_starts=np.cumsum([0, *map(len, documents)]),
        sources=np.zeros(len(documents), dtype=np.int32),
    )


def random_shards(
    documents: int = 40,
    sentences: tuple[int, int] = (1, 12),
    tokens: float = 12.0,
    shards: int = 2,
    seed: int = 0,
) -> list[Shard]:
    """Documents of sentences whose lengths spread as those of real text do."""
    random = np.random.default_rng(seed)

    def sentence() -> list[int]:
        count = max(1, int(random.lognormal(np.log(tokens), 0.6)))
        ids: list[int] = random.integers(FIRST_ID, LAST_ID, count).tolist()
        return ids

    made = [[sentence() for _ in range(random.integers(*sentences))] for _ in range(documents)]
    return [shard(made[part::shards]) for part in range(shards)]


@st.composite
def any_shards(draw: st.DrawFn, least_documents: int = 1) -> list[Shard]:
    """One to three shards of documents of any shape; each token has an id of its own."""
    count = draw(st.integers(1, 3))
    number = 0
    made = []
    for _ in range(count):
        documents = []
        least = least_documents if len(made) == 0 else 1
        for _ in range(draw(st.integers(least, least + 5))):
            lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
            document = []
            for length in lengths:
                document.append(list(range(number, number + length)))
                number += length
            documents.append(document)
        made.append(shard(documents))
    return made


def write_corpus(
    folder: Path,
    tokenizer: BertTokenizer,
    train: Sequence[Shard],
    held_out: Sequence[Shard] = (),
    *,
    objective: Objective = "mlm",
    max_length: int = 64,
) -> Path:
    """A prepared corpus of these shards."""
    (folder / SHARDS).mkdir(parents=True)
    tokenizer.save_pretrained(folder / TOKENIZER)
    entries = []
    for number, (one, other) in enumerate(zip_longest(train, held_out, fillvalue=shard([]))):
        path = folder / SHARDS / f"{number:05}.arrow"
        path.write_bytes(shard_bytes(one, other))
        size = path.stat().st_size
        entries.append(
            ShardEntry(path.name, file_sha256(path), size, train=one.counts, held_out=other.counts)
        )
    sums = {path.name: file_sha256(path) for path in (folder / TOKENIZER).iterdir()}
    manifest = Manifest(
        objective=objective,
        max_length=max_length,
        vocab_size=len(tokenizer),
        fingerprint=content_fingerprint(entries, sums),
        settings={},
        sources=(SourceEntry("made up", 1, 1, 1),),
        shards=tuple(entries),
        tokenizer=sums,
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def predictable_shards(documents: int, seed: int = 0, sentences: int = 6) -> list[Shard]:
    """Text whose words follow from the word before: letters of the alphabet in a row.

    Its next words can be learned in some hundred steps, and its documents know each other: all
    sentences of one begin with the same word.
    """
    random = np.random.default_rng(seed)

    def document() -> list[list[int]]:
        start = int(random.integers(0, 26))
        return [
            [45 + (start + place) % 26 for place in range(random.integers(6, 20))]
            for _ in range(sentences)
        ]

    return [shard([document() for _ in range(documents)])]
