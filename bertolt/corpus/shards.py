"""A prepared corpus on disk: token shards on Arrow, mapped into memory, and their manifest.

    corpus/
        manifest.json          settings, counts, statistics, and the SHA-256 of every other file
        tokenizer/             the tokenizer that made the tokens
        shards/00000-KEY.arrow

A shard is an Arrow IPC file with one row a document: `sentences`, a list of lists of token ids, and
`source`. Its first record batch holds the documents to train on, its second those that are held
out. Arrow's own offsets are the index, so nothing is copied or built when a shard is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertolt.base.checks import are_texts, is_whole
from bertolt.base.errors import BertoltError, DataError
from bertolt.base.json_files import parse_json
from bertolt.base.paths import is_utf8, require_inside
from bertolt.corpus.options import Objective as Objective

Tokens = NDArray[np.uint16] | NDArray[np.uint32]

MANIFEST, TOKENIZER, SHARDS = "manifest.json", "tokenizer", "shards"
FORMAT, VERSION = "bertolt-corpus", 1

_READ = 1 << 22  # bytes of a file that is hashed in memory at a time
_AGAIN = "prepare the corpus again: bertolt prepare … --overwrite"


@dataclass(frozen=True)
class Counts:
    """How much text there is."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.documents + other.documents,
            self.sentences + other.sentences,
            self.tokens + other.tokens,
        )


@dataclass(frozen=True, eq=False)
class Shard:
    """Tokens of some documents, whole, without special tokens; read only.

    Sentence s is `tokens[sentence_starts[s]:sentence_starts[s + 1]]`; document d has the sentences
    from `document_starts[d]` up to `document_starts[d + 1]`. None of them is empty.

    Attributes:
        tokens: (T,) ids, uint16 where the vocabulary has less than 65,536 entries, else uint32.
        sentence_starts: (S + 1,) int64 into `tokens`.
        document_starts: (D + 1,) int64 into sentences.
        sources: (D,) int32 into `Manifest.sources`.
    """

    tokens: Tokens
    sentence_starts: NDArray[np.int64]
    document_starts: NDArray[np.int64]
    sources: NDArray[np.int32]

    @property
    def counts(self) -> Counts:
        """The numbers of documents, sentences and tokens."""
        return Counts(len(self.sources), len(self.sentence_starts) - 1, len(self.tokens))


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest knows of one shard."""

    file: str
    sha256: str
    bytes: int
    train: Counts
    held_out: Counts

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The same from what `dataclasses.asdict` gives."""
        both = {name: Counts(**content[name]) for name in ("train", "held_out")}
        entry = cls(**{**content, **both})
        numbers = (entry.bytes, *astuple(entry.train), *astuple(entry.held_out))
        if not are_texts((entry.file, entry.sha256)) or not all(map(is_whole, numbers)):
            raise TypeError(f"the entry of the shard {entry.file!r} has values of other kinds")
        require_inside(entry.file)
        return entry


@dataclass(frozen=True)
class SourceEntry:
    """What came from one source; both parts of the corpus are counted."""

    name: str
    documents: int
    sentences: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a prepared corpus is, as `manifest.json` says it.

    Attributes:
        objective: what the corpus was checked for. Either objective can be trained on either.
        max_length: tokens of a segment, special ones counted, that the corpus was measured for.
        vocab_size: of the tokenizer; every id is below it.
        fingerprint: SHA-256 over the shards and the tokenizer, in hex: the content, whatever the
            names of the files it came from.
        settings: the options that decide the content.
        sources: where the documents are from, by the number that `Shard.sources` holds.
        shards: in order.
        tokenizer: the SHA-256 of each file in the folder `tokenizer`.
        statistics: shares and histograms.
        warnings: what the run warned about.
    """

    objective: Objective
    max_length: int
    vocab_size: int
    fingerprint: str
    settings: dict[str, Any]
    sources: tuple[SourceEntry, ...]
    shards: tuple[ShardEntry, ...]
    tokenizer: dict[str, str]
    statistics: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def train(self) -> Counts:
        """What there is to train on."""
        return sum((shard.train for shard in self.shards), Counts())

    @property
    def held_out(self) -> Counts:
        """What is kept for the held-out loss."""
        return sum((shard.held_out for shard in self.shards), Counts())

    def to_json(self) -> str:
        """The text of `manifest.json`, with a checksum over the rest of it."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        content["counts"] = {"train": asdict(self.train), "held_out": asdict(self.held_out)}
        content["checksum"] = _checksum(content)
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, place: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            DataError: it is not a manifest, of a newer version, or was changed.
        """
        try:
            content = parse_json(text)
            known = content["format"] == FORMAT
            version = content["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise _no_corpus(place) from error
        if not known:
            raise _no_corpus(place)
        if version != VERSION:
            raise DataError(
                f"this corpus is of version {version}, and this Bertolt reads version {VERSION}",
                place=place,
                fix=_AGAIN,
            )
        if content.pop("checksum", None) != _checksum(content):
            raise DataError("the manifest is damaged or was edited", place=place, fix=_AGAIN)
        try:
            return cls._from_dict(content)
        except BertoltError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the manifest does not describe a corpus ({type(error).__name__}: {error})",
                place=place,
                fix=_AGAIN,
            ) from error

    @classmethod
    def _from_dict(cls, content: Mapping[str, Any]) -> Self:
        values = {f.name: content[f.name] for f in fields(cls)}
        values["sources"] = tuple(SourceEntry(**entry) for entry in values["sources"])
        values["shards"] = tuple(map(ShardEntry.from_dict, values["shards"]))
        values["warnings"] = tuple(values["warnings"])
        for name, sha256 in values["tokenizer"].items():
            if not are_texts((name, sha256)):
                raise TypeError(f"{name!r} has the checksum {sha256!r}")
            require_inside(name)
        return cls(**values)


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def content_fingerprint(shards: Iterable[ShardEntry], tokenizer: Mapping[str, str]) -> str:
    """SHA-256 over the checksums of all shards and tokenizer files, in hex."""
    return _checksum(
        {"shards": [shard.sha256 for shard in shards], "tokenizer": dict(tokenizer.items())}
    )


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus; `Corpus.open` makes one.

        corpus = Corpus.open("shards")
        shard = corpus.train[0]
        first = shard.tokens[: shard.sentence_starts[1]]

    Attributes:
        folder: where it lies.
        manifest: what it is.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, verify: bool = True) -> Self:
        """Open the folder that `bertolt prepare` wrote.

        Args:
            folder: of the corpus.
            verify: read every file and compare it with its checksum; else only sizes are compared.

        Raises:
            DataError: no corpus there, or a file of it is missing or damaged.
        """
        path = Path(folder)
        try:
            text = (path / MANIFEST).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _no_corpus(str(path)) from error
        manifest = Manifest.from_json(text, str(path / MANIFEST))
        for shard in manifest.shards:
            _check(path / SHARDS / shard.file, shard.sha256 if verify else "", shard.bytes)
        for name, sha256 in manifest.tokenizer.items():
            _check(path / TOKENIZER / name, sha256 if verify else "")
        return cls(path, manifest)

    @property
    def tokenizer_folder(self) -> Path:
        """The folder with the tokenizer that made the tokens."""
        return self.folder / TOKENIZER

    @cached_property
    def train(self) -> tuple[Shard, ...]:
        """The shards to train on, mapped when first asked for; those without documents left out."""
        return tuple(train for train, _ in self._both if len(train.sources))

    @cached_property
    def held_out(self) -> tuple[Shard, ...]:
        """The documents that are kept for the held-out loss, in the same form."""
        return tuple(held_out for _, held_out in self._both if len(held_out.sources))

    @cached_property
    def _both(self) -> list[tuple[Shard, Shard]]:
        return [read_shard(self.folder / SHARDS / entry.file) for entry in self.manifest.shards]


def _no_corpus(place: str) -> DataError:
    return DataError(
        "this is no prepared corpus",
        place=place,
        fix="name the folder that was given to bertolt prepare as --out",
    )


def _check(path: Path, sha256: str, size: int | None = None) -> None:
    """Compare a file with what the manifest says of it; without a checksum, its size alone."""
    try:
        actual = path.stat().st_size
        if size is not None and actual != size:
            raise DataError(
                f"the file has {actual:,} bytes where the manifest says {size:,}",
                place=str(path),
                fix=_AGAIN,
            )
        if sha256 and file_sha256(path) != sha256:
            raise DataError(
                "the file is not the one that was written: its checksum differs",
                place=str(path),
                fix=_AGAIN,
            )
    except OSError as error:
        raise DataError(
            f"a file of the corpus cannot be read ({error.strerror or error})",
            place=str(path),
            fix=_AGAIN,
        ) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ):
            digest.update(chunk)
    return digest.hexdigest()


def token_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest kind of number that holds every id."""
    return np.uint16 if vocab_size < 1 << 16 else np.uint32


def _schema(tokens: pa.DataType) -> pa.Schema:
    sentence = pa.large_list(pa.field("token", tokens, nullable=False))
    sentences = pa.large_list(pa.field("sentence", sentence, nullable=False))
    return pa.schema(
        [
            pa.field("sentences", sentences, nullable=False),
            pa.field("source", pa.int32(), nullable=False),
        ]
    )


def shard_bytes(train: Shard, held_out: Shard) -> pa.Buffer:
    """The content of a shard file: the same shards give the same bytes."""
    schema = _schema(pa.from_numpy_dtype(train.tokens.dtype))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as file:
        for part in (train, held_out):
            file.write_batch(_batch(part, schema))
    return sink.getvalue()


def _batch(shard: Shard, schema: pa.Schema) -> pa.RecordBatch:
    kind = schema.field("sentences").type
    sentences = pa.LargeListArray.from_arrays(
        pa.array(shard.sentence_starts), pa.array(shard.tokens), type=kind.value_type
    )
    documents = pa.LargeListArray.from_arrays(pa.array(shard.document_starts), sentences, type=kind)
    return pa.RecordBatch.from_arrays([documents, pa.array(shard.sources)], schema=schema)


def read_shard(path: Path) -> tuple[Shard, Shard]:
    """Map a shard file: its documents to train on, and those that are held out.

    Raises:
        DataError: it is missing or no shard.
    """
    if not is_utf8(path):
        raise DataError(
            "the path is not in UTF-8, and shards are opened by no other",
            place=str(path),
            fix="rename the folder",
        )
    try:
        # The mapping outlives its file: the arrays keep it, and no file handle stays open.
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            batches = [file.get_batch(index) for index in range(file.num_record_batches)]
            kind = file.schema.field("sentences").type.value_type.value_type
            fits = file.schema == _schema(kind) and len(batches) == 2
    except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
        raise _no_shard(path, str(error)) from error
    if not fits:
        raise _no_shard(path, "it holds other columns")
    return _shard(batches[0]), _shard(batches[1])


def _no_shard(path: Path, why: str) -> DataError:
    return DataError(f"this is no shard of tokens ({why})", place=str(path), fix=_AGAIN)


def _shard(batch: pa.RecordBatch) -> Shard:
    documents = batch.column("sentences")
    sentences = documents.values
    return Shard(
        tokens=sentences.values.to_numpy(zero_copy_only=True),
        sentence_starts=_offsets(sentences),
        document_starts=_offsets(documents),
        sources=batch.column("source").to_numpy(zero_copy_only=True),
    )


def _offsets(lists: pa.LargeListArray) -> NDArray[np.int64]:
    """Where each list begins, and the end; Arrow leaves that out where there is no list at all."""
    if not len(lists):
        return np.zeros(1, np.int64)
    starts: NDArray[np.int64] = lists.offsets.to_numpy(zero_copy_only=True)
    return starts
