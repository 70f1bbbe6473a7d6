"""Batches over small corpora in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bertolt import BertTokenizer
from bertolt.pretrain.batches import Batches
from tests.pretrain.corpora import random_shards


@pytest.fixture
def batches(tiny_tokenizer: BertTokenizer) -> Callable[..., Batches]:
    """Batches of 1,024 rows over a few random documents, but for what is given."""

    def make(shards: Any = None, **changes: Any) -> Batches:
        settings: dict[str, Any] = {"max_length": 64, "rows": 1024}
        shards = random_shards(120) if shards is None else shards
        return Batches(shards, tiny_tokenizer, **(settings | changes))

    return make
