"""Shards and manifests: what is written is read again, mapped, and damage is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base.errors import DataError
from bertolt.corpus import shards
from bertolt.corpus.shards import (
    MANIFEST,
    SHARDS,
    TOKENIZER,
    Corpus,
    Counts,
    Manifest,
    Shard,
    ShardEntry,
    SourceEntry,
    content_fingerprint,
    file_sha256,
    read_shard,
    shard_bytes,
    token_type,
)

Documents = list[tuple[int, list[list[int]]]]  # the source and the sentences of each

documents = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.lists(st.lists(st.integers(0, 65_535), min_size=1, max_size=4), min_size=1, max_size=3),
    ),
    max_size=4,
)


def shard_of(content: Documents, dtype: type = np.uint16) -> Shard:
    sentences = [sentence for _, document in content for sentence in document]
    return Shard(
        tokens=np.array([token for sentence in sentences for token in sentence], dtype),
        sentence_starts=np.cumsum([0, *map(len, sentences)]).astype(np.int64),
        document_starts=np.cumsum([0, *(len(document) for _, document in content)]),
        sources=np.array([source for source, _ in content], np.int32),
    )


def content_of(shard: Shard) -> Documents:
    starts, bounds = shard.sentence_starts, shard.document_starts
    return [
        (
            int(source),
            [
                shard.tokens[starts[s] : starts[s + 1]].tolist()
                for s in range(bounds[d], bounds[d + 1])
            ],
        )
        for d, source in enumerate(shard.sources)
    ]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(train=documents, held_out=documents, wide=st.booleans())
def test_what_is_written_is_read(
    train: Documents, held_out: Documents, wide: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dtype = np.uint32 if wide else np.uint16
    path = tmp_path_factory.mktemp("shard") / "a.arrow"
    path.write_bytes(shard_bytes(shard_of(train, dtype), shard_of(held_out, dtype)))
    first, second = read_shard(path)
    assert (content_of(first), content_of(second)) == (train, held_out)
    assert first.tokens.dtype == second.tokens.dtype == dtype
    assert first.sentence_starts.dtype == first.document_starts.dtype == np.int64
    assert first.sources.dtype == np.int32


def test_the_smallest_numbers_are_taken() -> None:
    assert token_type(65_535) is np.uint16
    assert token_type(65_536) is np.uint32


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_shard_is_mapped_read_only_and_holds_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "mapped.arrow"
    path.write_bytes(shard_bytes(shard_of([(0, [[1, 2, 3]])]), shard_of([])))
    before = len(list(Path("/proc/self/fd").iterdir()))
    shard, _ = read_shard(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="read-only"):
        shard.tokens[0] = 7


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of two shards, written by hand."""
    folder = tmp_path / "corpus"
    (folder / SHARDS).mkdir(parents=True)
    (folder / TOKENIZER).mkdir()
    (folder / TOKENIZER / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    entries = []
    for number, held_out in enumerate(([], [(1, [[9]])])):
        path = folder / SHARDS / f"{number:05}.arrow"
        train = [(0, [[1, 2], [3]])]
        path.write_bytes(shard_bytes(shard_of(train), shard_of(held_out)))
        counts = Counts(1, 2, 3), Counts(len(held_out), len(held_out), len(held_out))
        size = path.stat().st_size
        entries.append(ShardEntry(path.name, file_sha256(path), size, *counts))
    tokenizer = {"vocab.txt": file_sha256(folder / TOKENIZER / "vocab.txt")}
    manifest = Manifest(
        objective="mlm",
        max_length=128,
        vocab_size=10,
        fingerprint=content_fingerprint(entries, tokenizer),
        settings={"held_out": 0.01},
        sources=(SourceEntry("a.txt", 2, 4, 6), SourceEntry("b.txt", 1, 1, 1)),
        shards=tuple(entries),
        tokenizer=tokenizer,
        warnings=("this is a test",),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def test_a_corpus_opens_with_its_manifest_and_its_shards(corpus: Path) -> None:
    opened = Corpus.open(corpus)
    assert opened.manifest == Manifest.from_json(opened.manifest.to_json(), "here")
    assert opened.manifest.train == Counts(2, 4, 6)
    assert opened.manifest.held_out == Counts(1, 1, 1)
    assert opened.tokenizer_folder == corpus / TOKENIZER
    assert [content_of(shard) for shard in opened.train] == [[(0, [[1, 2], [3]])]] * 2
    assert [content_of(shard) for shard in opened.held_out] == [[(1, [[9]])]]


@pytest.mark.parametrize("name", [f"{SHARDS}/00001.arrow", f"{TOKENIZER}/vocab.txt"])
def test_a_changed_byte_is_found_and_named(corpus: Path, name: str) -> None:
    content = bytearray((corpus / name).read_bytes())
    content[len(content) // 2] ^= 1
    (corpus / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*checksum differs"):
        Corpus.open(corpus)
    Corpus.open(corpus, verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_a_shortened_shard_is_found_even_without_its_checksum(corpus: Path, verify: bool) -> None:
    path = corpus / SHARDS / "00000.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="bytes where the manifest says"):
        Corpus.open(corpus, verify=verify)


def test_a_missing_shard_is_named(corpus: Path) -> None:
    (corpus / SHARDS / "00000.arrow").unlink()
    with pytest.raises(DataError, match=r"00000\.arrow: .*No such file"):
        Corpus.open(corpus, verify=False)


def test_an_edited_manifest_is_refused(corpus: Path) -> None:
    path = corpus / MANIFEST
    path.write_text(path.read_text().replace('"vocab_size": 10', '"vocab_size": 11'))
    with pytest.raises(DataError, match="damaged or was edited"):
        Corpus.open(corpus)


@pytest.mark.parametrize("name", ["../../elsewhere.arrow", "/dev/zero"])
@pytest.mark.parametrize("part", ["shard", "tokenizer"])
def test_a_manifest_names_files_of_its_own_folder(corpus: Path, part: str, name: str) -> None:
    path = corpus / MANIFEST
    content = json.loads(path.read_text())
    content.pop("checksum")
    if part == "shard":
        content["shards"][0]["file"] = name
    else:
        content["tokenizer"][name] = "0" * 64
    path.write_text(json.dumps({**content, "checksum": shards._checksum(content)}))
    with pytest.raises(DataError, match="is not a file of this folder"):
        Corpus.open(corpus)


def test_another_version_is_refused(corpus: Path) -> None:
    path = corpus / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(DataError, match="version 99"):
        Corpus.open(corpus)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other", "version": 1}'])
def test_what_is_no_corpus_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no prepared corpus"):
        Corpus.open(tmp_path)
    with pytest.raises(DataError, match="no prepared corpus"):
        Corpus.open(tmp_path / "nowhere")


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    path = tmp_path / "a.arrow"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="no shard of tokens"):
        read_shard(path)
    with pa.ipc.new_file(str(path), pa.schema([("text", pa.string())])) as file:
        file.write_batch(pa.record_batch({"text": ["a"]}))
    with pytest.raises(DataError, match="no shard of tokens"):
        read_shard(path)
