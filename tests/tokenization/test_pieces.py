"""Long texts in pieces have the tokens, places and words of the whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from bertolt import BertTokenizer
from bertolt.tokenization import encoder, pieces

SAMPLES = [
    "good", "film", " ", "  ", "\n", "\t ", "[SEP]", "[MASK]", "好看", "的电影。", "，", "é",
    "e\u0301", "Straße", "İ", "ﬁ", "한국", "עִבְרִית", "😀", "\u200b", "don't", "a.b,c", "x" * 120,
    "1 2 3", "\u00a0", "　", "\u0301", "plot and", "A B", "#", "\u3099", "カ\u3099",
]  # fmt: skip


def texts() -> list[str]:
    draw = random.Random(0)
    return [
        "".join(
            draw.choice(SAMPLES) + draw.choice(["", " ", " "])
            for _ in range(draw.randrange(0, 300))
        )
        for _ in range(60)
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def to(size: int) -> None:
        monkeypatch.setattr(pieces, "PIECE", size)
        monkeypatch.setattr(encoder, "PIECE", size)

    return to


@pytest.fixture(scope="module")
def byte_level() -> BertTokenizer:
    """As RoBERTa has it: a space belongs to the word behind it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", "<unk>", *letters])}
    merges = [("Ġ", "a"), ("Ġ", "f"), ("i", "l")]
    vocabulary |= {a + b: len(vocabulary) + n for n, (a, b) in enumerate(merges)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokens = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<s>"}
    return BertTokenizer(backend, special_tokens=tokens)


@pytest.mark.parametrize("kind", ["real", "byte level"])
def test_tokens_are_those_of_the_whole(
    kind: str, real_checkpoint: Path, byte_level: BertTokenizer, small: Callable[[int], None]
) -> None:
    tokenizer = BertTokenizer.from_pretrained(real_checkpoint) if kind == "real" else byte_level
    where = pieces.cut_where(tokenizer.backend_tokenizer)
    assert where is not None
    ids, words = tokenizer.encode_ids(texts()), tokenizer.encode_words(texts())

    def pairs() -> list[Any]:
        """Cut on either side, to lengths at which no text, one or both of them lose tokens."""
        rows = []
        for tokenizer.truncation_side in ("left", "right"):
            for limit in (9, 64, 10_000):
                rows += tokenizer.encode_pairs(texts(), texts()[::-1], limit)
                rows += tokenizer.encode_pairs(texts(), None, limit)
        return rows

    whole = pairs()
    for size in (5, 40):
        small(size)
        assert sum(len(list(pieces.pieces_of(text, where))) for text in texts()) > 500
        assert tokenizer.encode_ids(texts()) == ids
        assert tokenizer.encode_words(texts()) == words
        assert pairs() == whole


def test_a_text_that_is_no_unicode_is_named_by_its_own_place(
    tiny_tokenizer: BertTokenizer, small: Callable[[int], None]
) -> None:
    small(4)
    with pytest.raises(Exception, match="text 1: character 20"):
        tiny_tokenizer.encode_ids(["good film", "good film good film \ud800 good film", "good"])
    with pytest.raises(Exception, match="text 1: character 20"):
        tiny_tokenizer.encode_pairs(["good"] * 2, ["good", "good film good film \ud800 good"], 8)


def test_what_nobody_knows_is_not_cut(tiny_tokenizer: BertTokenizer) -> None:
    def backend() -> Any:
        return Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())

    assert pieces.cut_where(backend()) is not None
    crossing, stripping, other = backend(), backend(), backend()
    crossing.add_tokens(["New York"])
    assert pieces.cut_where(crossing) is None
    stripping.add_tokens([AddedToken("word", rstrip=True)])
    assert pieces.cut_where(stripping) is None
    other.normalizer = normalizers.Strip()
    assert pieces.cut_where(other) is None
