"""One part: its tokens are those of the tokenizer, sentence by sentence, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertolt.corpus import parts
from bertolt.corpus.parts import Result, Setup, ShardJob, tokenize_part
from bertolt.corpus.sentences import split_sentences
from bertolt.corpus.shards import Counts, Shard, read_shard
from bertolt.tokenization import BertTokenizer
from tests.corpus.texts import text_of

Documents = list[list[list[int]]]


def setup_of(folder: Path, **changes: object) -> Setup:
    tokenizer = BertTokenizer.from_pretrained(folder)
    usual: dict[str, object] = {
        "tokenizer": (folder / "tokenizer.json").read_text(encoding="utf-8"),
        "vocab_size": len(tokenizer),
        "unknown": tokenizer.unk_token_id,
        "max_length": 64,
        "held_out": 0.0,
    }
    return Setup(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture
def setup(tokenizer_folder: Path) -> Setup:
    return setup_of(tokenizer_folder)


def run(texts: list[str], setup: Setup, sources: list[int] | None = None) -> Result:
    part = ShardJob.of(0, texts, sources or [0] * len(texts), setup.key(), 0)
    return tokenize_part(part, setup)


def shards(result: Result, folder: Path) -> tuple[Shard, Shard]:
    path = folder / "a.arrow"
    path.write_bytes(result.data)
    return read_shard(path)


def content(shard: Shard) -> Documents:
    starts, bounds = shard.sentence_starts, shard.document_starts
    return [
        [shard.tokens[starts[s] : starts[s + 1]].tolist() for s in range(bounds[d], bounds[d + 1])]
        for d in range(len(shard.sources))
    ]


def encoded(texts: list[str], tokenizer: BertTokenizer) -> Documents:
    return [
        [tokenizer.encode(sentence, add_special_tokens=False) for sentence in split_sentences(text)]
        for text in texts
    ]


def test_tokens_are_those_of_the_tokenizer(
    setup: Setup, tokenizer: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_BATCH", 100)  # many calls of the tokenizer
    texts = text_of(20).split("\n\n")
    result = run(texts, setup)
    train, held_out = shards(result, tmp_path)
    assert content(train) == encoded(texts, tokenizer)
    assert content(held_out) == []
    assert result.counts.train == train.counts
    assert result.counts.unknown == 0


def test_what_has_no_token_leaves_no_sentence_and_no_document(
    setup: Setup, tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    texts = ["\u200b\u200b", "good.\n\u200b\nbad.", " \n "]
    train, _ = shards(run(texts, setup, [3, 4, 5]), tmp_path)
    assert content(train) == encoded(["good.\nbad."], tokenizer)
    assert train.sources.tolist() == [4]


def test_names_of_special_tokens_in_a_text_are_text(setup: Setup, tmp_path: Path) -> None:
    train, _ = shards(run(["[SEP] [MASK] good"], setup), tmp_path)
    assert train.tokens.min() >= 5 or set(train.tokens.tolist()) & {2, 3, 4} == set()
    assert len(train.tokens) > 3


def test_documents_are_held_out_by_their_text(tokenizer_folder: Path, tmp_path: Path) -> None:
    texts = text_of(400).split("\n\n")
    setup = setup_of(tokenizer_folder, held_out=0.2)
    train, held_out = shards(run(texts, setup), tmp_path)
    whole = {str(document) for document in content(held_out)}
    assert 40 < len(held_out.sources) < 130
    assert len(train.sources) + len(held_out.sources) == 400
    # The same text is on the same side wherever it is.
    again, apart = shards(run(texts[::-1] + texts[:50], setup), tmp_path)
    assert {str(document) for document in content(apart)} == whole
    assert not whole & {str(document) for document in content(again)}


def test_counts(tokenizer_folder: Path) -> None:
    setup = setup_of(tokenizer_folder, max_length=8)
    tally = run(
        ["good bad ☃.\ngood bad ☃.", "the film was good and long.", "short"], setup, [0, 2, 2]
    ).counts
    assert tally.train == Counts(3, 4, 16)
    assert tally.sources == {0: Counts(1, 2, 8), 2: Counts(2, 2, 8)}
    assert tally.unknown == 2
    assert (tally.long, tally.longest) == (1, 7)
    assert tally.sample.lines == 4
    assert tally.sample.repeated == 0.25


def test_wide_vocabularies_take_wide_numbers(tokenizer_folder: Path, tmp_path: Path) -> None:
    wide = setup_of(tokenizer_folder, vocab_size=65_536)
    assert shards(run(["good"], wide), tmp_path)[0].tokens.dtype == "uint32"


def test_a_key_tells_text_sources_and_settings_apart(setup: Setup, tokenizer_folder: Path) -> None:
    def key(texts: list[str], sources: list[int], setup: Setup) -> str:
        return ShardJob.of(0, texts, sources, setup.key(), 0).key

    usual = key(["a", "b"], [0, 0], setup)
    assert usual == key(["a", "b"], [0, 0], setup_of(tokenizer_folder))
    others = [
        key(["ab"], [0], setup),
        key(["a", "c"], [0, 0], setup),
        key(["a", "b"], [0, 1], setup),
        key(["a", "b"], [0, 0], setup_of(tokenizer_folder, held_out=0.5)),
        key(["a", "b"], [0, 0], setup_of(tokenizer_folder, max_length=32)),
        key(["a", "b"], [0, 0], setup_of(tokenizer_folder, tokenizer=setup.tokenizer + " ")),
    ]
    assert len({usual, *others}) == len(others) + 1
