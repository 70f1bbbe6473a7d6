"""Tokenizers of RoBERTa's kind: ids, layout and places equal to the peer's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from bertolt import AutoTokenizer

TEXTS = [
    "a good film, with café and 日本 in it.",
    "the plot was bad   and the cast is dull",
    "Emoji 😀👩‍👩‍👧 are many bytes",
    "naïve, naïve\n\nlines\tand tabs ",
    "",
    " leading",
]
PAIRS = [*TEXTS[3:], *TEXTS[:3]]


@pytest.fixture(scope="module")
def peer(byte_level: Any) -> Any:
    merges = json.loads(byte_level.to_str())["model"]["merges"]
    return transformers.RobertaTokenizerFast(
        vocab=byte_level.get_vocab(), merges=[tuple(pair) for pair in merges]
    )


@pytest.fixture(params=["tokenizer.json alone", "the peer's folder", "saved again"])
def ours(request: Any, roberta_folder: Path, peer: Any, tmp_path: Path) -> Any:
    """The tokenizer from a folder that names no token, from the peer's, and from our own."""
    folder = roberta_folder
    if request.param == "the peer's folder":
        peer.save_pretrained(folder := tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if request.param == "saved again":
        tokenizer.save_pretrained(folder := tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def test_the_vocabulary_and_its_special_tokens(ours: Any, peer: Any) -> None:
    assert ours.get_vocab() == peer.get_vocab()
    assert len(ours) == len(peer)
    for name in ("bos", "eos", "cls", "sep", "pad", "unk", "mask"):
        assert getattr(ours, f"{name}_token") == getattr(peer, f"{name}_token")
        assert getattr(ours, f"{name}_token_id") == getattr(peer, f"{name}_token_id")


@pytest.mark.filterwarnings("ignore:.*were longer than")
@pytest.mark.parametrize("max_length", [None, 12, 7])
@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["texts", "pairs"])
def test_ids_places_and_segments(
    ours: Any, peer: Any, pairs: list[str] | None, max_length: int | None
) -> None:
    options = {"truncation": max_length is not None, "max_length": max_length, "padding": True}
    found = ours(TEXTS, pairs, return_offsets_mapping=True, **options)
    wanted = peer(TEXTS, pairs, return_offsets_mapping=True, **options)
    assert {**found} == {**wanted}
    segments = ours(TEXTS, pairs, return_token_type_ids=True, **options)["token_type_ids"]
    assert not any(map(any, segments))
    for row in range(len(TEXTS)):
        assert found.word_ids(row) == wanted.word_ids(row)
        assert found.sequence_ids(row) == wanted.sequence_ids(row)


def test_the_fast_ways_give_the_same_ids(ours: Any, peer: Any) -> None:
    assert ours.encode_ids(TEXTS) == peer(TEXTS)["input_ids"]
    for limit in (200, 9):
        rows = ours.encode_pairs(TEXTS, PAIRS, limit)
        wanted = peer(TEXTS, PAIRS, truncation=True, max_length=limit)["input_ids"]
        assert [row.ids for row in rows] == wanted
        assert not any(any(row.segments) for row in rows)


def test_the_layout_of_pairs_from_ids(ours: Any) -> None:
    assert ours.build_inputs_with_special_tokens([9, 8]) == [0, 9, 8, 2]
    assert ours.build_inputs_with_special_tokens([9], [8, 7]) == [0, 9, 2, 2, 8, 7, 2]
    assert ours.create_token_type_ids_from_sequences([9], [8, 7]) == [0] * 7
    assert ours.num_special_tokens_to_add(pair=True) == 4


def test_text_comes_back(ours: Any, peer: Any) -> None:
    for row in peer(TEXTS, PAIRS)["input_ids"]:
        for skip in (True, False):
            assert ours.decode(row, skip) == peer.decode(row, skip)


def test_what_is_saved_opens_in_the_peer(
    ours: Any, peer: Any, roberta_folder: Path, tmp_path: Path
) -> None:
    ours.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((roberta_folder / "config.json").read_bytes())
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS, PAIRS)["input_ids"] == peer(TEXTS, PAIRS)["input_ids"]
    assert again.special_tokens_map == peer.special_tokens_map


def test_the_limit_leaves_the_rows_of_the_padding_out(roberta_folder: Path) -> None:
    assert AutoTokenizer.from_pretrained(roberta_folder).model_max_length == 160


def test_words_are_where_they_stand_and_space_is_none(ours: Any) -> None:
    for text, words in zip(TEXTS, ours.encode_words(TEXTS), strict=True):
        spelt = [text[slice(*place)] for place in words.offsets]
        for piece, word in zip(spelt, words.words, strict=True):
            assert word is not None or not piece.strip()
        places = [
            {p for p, w in zip(words.offsets, words.words, strict=True) if w == word}
            for word in dict.fromkeys(words.words)
            if word is not None
        ]
        joined = [text[min(p)[0] : max(e for _, e in p)] for p in places]
        assert "".join(joined) == "".join(text.split())
        assert not any(word[0].isspace() or word[-1].isspace() for word in joined)


def test_a_sentencepiece_vocabulary_equals_the_peers(tmp_path: Path) -> None:
    """XLM-RoBERTa's kind: pieces that begin words are marked, and pairs have its layout."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=tokens, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS * 20, trainer)
    vocab = [tuple(entry) for entry in json.loads(backend.to_str())["model"]["vocab"]]
    peer = transformers.XLMRobertaTokenizerFast(vocab=vocab)
    peer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert len(ours) == len(peer)
    assert (ours.cls_token, ours.pad_token, ours.mask_token) == ("<s>", "<pad>", "<mask>")
    for pairs in (None, PAIRS):
        found = ours(TEXTS, pairs, return_offsets_mapping=True)
        wanted = peer(TEXTS, pairs, return_offsets_mapping=True)
        for name in ("input_ids", "offset_mapping"):
            assert found[name] == wanted[name], name
        assert not any(map(any, found["token_type_ids"]))
    for text, words in zip(TEXTS, ours.encode_words(TEXTS), strict=True):
        spelt = {text[start:end] for start, end in words.offsets}
        assert not any(piece[:1].isspace() for piece in spelt), spelt
