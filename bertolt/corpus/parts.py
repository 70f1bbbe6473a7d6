"""One part of a corpus: some documents in, the bytes of one shard and what was counted out.

`tokenize_part` depends on its arguments alone and touches no file, so it can run anywhere and at
any time, and gives the same bytes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bertolt.corpus.counts import PART_SAMPLE, CorpusCounts, LineSample, histogram
from bertolt.corpus.sentences import split_sentences
from bertolt.corpus.shards import Counts, Shard, Tokens, shard_bytes, token_type

REVISION = 2
"""Raised when the same text and settings give other bytes than before."""

_BATCH = 1 << 16  # characters that the tokenizer is given at once; bounds the memory
_SPECIAL = 2  # [CLS] and [SEP]


@dataclass(frozen=True)
class Setup:
    """The settings that all parts share.

    Attributes:
        tokenizer: the content of `tokenizer.json`.
        vocab_size: every id is below it.
        unknown: the id that stands for what the vocabulary does not have.
        max_length: tokens of a training sequence, special ones included.
        held_out: share of the documents to keep apart.
    """

    tokenizer: str
    vocab_size: int
    unknown: int
    max_length: int
    held_out: float

    def key(self) -> str:
        """A digest of all that decides what becomes of a text."""
        settings = f"{REVISION} {self.vocab_size} {self.unknown} {self.max_length} {self.held_out}"
        return hashlib.sha256(f"{settings} {self.tokenizer}".encode()).hexdigest()


@dataclass(frozen=True)
class ShardJob:
    """Some documents that follow each other.

    Attributes:
        number: its place among the parts.
        text: the documents in UTF-8, with a NUL byte between them.
        sources: (D,) int32, the source of each document.
        key: a digest of the text, the sources and the settings.
        position: bytes of the corpus, as it lies on disk, that were read when this part was whole.
    """

    number: int
    text: bytes
    sources: NDArray[np.int32]
    key: str
    position: int

    @classmethod
    def of(
        cls, number: int, texts: Sequence[str], sources: Sequence[int], setup: str, position: int
    ) -> ShardJob:
        """A part of these documents; `setup` is the key of the settings."""
        text = "\0".join(texts).encode()
        numbers = np.array(sources, np.int32)
        digest = hashlib.blake2b(text, digest_size=16)
        digest.update(numbers.tobytes())
        digest.update(setup.encode())
        return cls(number, text, numbers, digest.hexdigest(), position)


@dataclass(frozen=True)
class Result:
    """A tokenized part: the content of its shard, and its counts."""

    number: int
    key: str
    position: int
    data: bytes
    counts: CorpusCounts


def tokenize_part(part: ShardJob, setup: Setup) -> Result:
    """Split the documents into sentences, tokenize them, and build the shard."""
    documents = part.text.split(b"\0")
    sample = LineSample(PART_SAMPLE)
    for document in documents:
        sample.add(filter(None, map(bytes.strip, document.split(b"\n"))))
    by_document = [split_sentences(document.decode()) for document in documents]
    tokens, lengths = _encode(list(chain(*by_document)), _backend(setup.tokenizer))
    owners = np.repeat(np.arange(len(documents)), [len(sentences) for sentences in by_document])
    narrow: NDArray[Any] = tokens.astype(token_type(setup.vocab_size))
    text = _Text(narrow, lengths, owners, part.sources)
    apart = np.array([_is_held_out(document, setup.held_out) for document in documents])
    train, held_out = text.shard(~apart), text.shard(apart)
    counts = CorpusCounts(
        train=train.counts,
        held_out=held_out.counts,
        sources=_by_source(train, held_out),
        unknown=int((tokens == setup.unknown).sum()),
        long=int((lengths > setup.max_length - _SPECIAL).sum()),
        longest=int(lengths.max(initial=0)),
        sentences=histogram(lengths[lengths > 0]),
        documents=histogram(np.concatenate([_lengths(train), _lengths(held_out)])),
        sample=sample,
    )
    data = shard_bytes(train, held_out).to_pybytes()
    return Result(part.number, part.key, part.position, data, counts)


@lru_cache(maxsize=1)
def _backend(content: str) -> Tokenizer:
    backend = Tokenizer.from_str(content)
    backend.no_padding()
    backend.no_truncation()
    # A text that says "[SEP]" means these five characters.
    backend.encode_special_tokens = True
    return backend


def _encode(
    sentences: Sequence[str], backend: Tokenizer
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The ids of all sentences end to end, (T,), and the number of each, (S,)."""
    tokens, lengths = array("I"), array("q")
    for batch in _batches(sentences):
        for row in backend.encode_batch_fast(batch, add_special_tokens=False):
            ids = row.ids
            tokens.extend(ids)
            lengths.append(len(ids))
    return np.frombuffer(tokens, np.uint32), np.frombuffer(lengths, np.int64)


def _batches(sentences: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for index, sentence in enumerate(sentences):
        size += len(sentence)
        if size >= _BATCH:
            yield sentences[start : index + 1]
            start, size = index + 1, 0
    if start < len(sentences):
        yield sentences[start:]


@dataclass(frozen=True)
class _Text:
    """All documents of a part: tokens (T,), tokens of each sentence (S,), its document (S,)."""

    tokens: Tokens
    lengths: NDArray[np.int64]
    owners: NDArray[np.int64]
    sources: NDArray[np.int32]

    def shard(self, documents: NDArray[np.bool_]) -> Shard:
        """The shard of some documents (D,), without what has no token."""
        chosen = documents[self.owners] & (self.lengths > 0)
        counts = np.bincount(self.owners[chosen], minlength=len(documents))
        filled = counts > 0
        return Shard(
            tokens=self.tokens[np.repeat(chosen, self.lengths)],
            sentence_starts=_starts(self.lengths[chosen]),
            document_starts=_starts(counts[filled]),
            sources=self.sources[filled],
        )


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _is_held_out(document: bytes, share: float) -> bool:
    """By a hash of the text, so that copies of a document are on the same side.

    The pieces of a long document are taken one by one: a corpus that is a single one has held-out
    text all the same.
    """
    digest = hashlib.blake2b(document, digest_size=8, person=b"held-out").digest()
    return int.from_bytes(digest, "little") < share * 2**64


def _lengths(shard: Shard) -> NDArray[np.int64]:
    """Tokens of each document, (D,)."""
    return np.diff(shard.sentence_starts[shard.document_starts])


def _by_source(*shards: Shard) -> dict[int, Counts]:
    by_source: dict[int, Counts] = {}
    for shard in shards:
        sentences, tokens = np.diff(shard.document_starts), _lengths(shard)
        for source in np.unique(shard.sources).tolist():
            of = shard.sources == source
            counts = Counts(int(of.sum()), int(sentences[of].sum()), int(tokens[of].sum()))
            by_source[source] = by_source.get(source, Counts()) + counts
    return by_source
