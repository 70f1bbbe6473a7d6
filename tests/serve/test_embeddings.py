"""Token ids that clients send: the model's own are taken, and no others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")

from bertolt import AutoTokenizer
from bertolt.serve.embeddings import encoded_ids
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits

TEXTS = [
    "A fine film, isn't it?",
    "ca n't",
    "a ##ing",
    "[MASK] of [SEP]",
    "Größe 😀 电影",
    "x" * 120,
]


@pytest.fixture(params=["real_checkpoint", "roberta_folder"])
def predictor(request: pytest.FixtureRequest) -> Any:
    folder: Path = request.getfixturevalue(request.param)
    return SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(folder), max_length=256)


def test_own_ids_are_taken_as_they_are(predictor: Any) -> None:
    ids = predictor.tokenizer.encode_ids(TEXTS)
    encoded = encoded_ids(predictor, ids, Limits())
    assert [list(each.windows[0].ids) for each in encoded] == ids


def test_ids_that_no_text_has_are_refused(predictor: Any) -> None:
    tokenizer = predictor.tokenizer
    words = tokenizer.encode("not good", add_special_tokens=False)
    ends = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    split = tokenizer.convert_tokens_to_ids([*"good"])  # letters, where the text has a longer unit
    for wrong in (words, ends[0] + words, words + ends[1], ends[0] + words[:1] * 2 + [10**6, 2]):
        with pytest.raises(RefusedError) as refused:
            encoded_ids(predictor, [wrong], Limits())
        assert refused.value.code == "other_vocabulary"
    joined = [*ends[0], *tokenizer.convert_tokens_to_ids(["g", "##o"]), *ends[1]]
    other = [*ends[0], *split, *ends[1]] if tokenizer.unk_token_id in joined else joined
    with pytest.raises(RefusedError, match="no text has these ids"):
        encoded_ids(predictor, [other], Limits())
    with pytest.raises(RefusedError, match="258 tokens"):
        encoded_ids(predictor, [[*ends[0], *words[:1] * 256, *ends[1]]], Limits())
