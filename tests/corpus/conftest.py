"""A small tokenizer of both scripts, and small corpora."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.corpus.options import PrepareOptions
from bertolt.tokenization import BertTokenizer
from tests.corpus.texts import VOCABULARY, text_of


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of `VOCABULARY`."""
    folder = tmp_path_factory.mktemp("tokenizer")
    vocab = {token: number for number, token in enumerate(VOCABULARY)}
    BertTokenizer.from_vocab(vocab, model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> BertTokenizer:
    """The same, loaded."""
    return BertTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with two files of text: 60 documents, about 9,000 characters."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(text_of(40), encoding="utf-8")
    (folder / "b.txt.gz").write_bytes(gzip.compress(text_of(20, seed=1).encode()))
    return folder


@pytest.fixture
def options(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., PrepareOptions]:
    """Options for small parts in this process, into `tmp_path/out`, but for what is given."""

    def make(**changes: Any) -> PrepareOptions:
        usual: dict[str, Any] = {
            "tokenizer": str(tokenizer_folder),
            "out": tmp_path / "out",
            "shard_size": 1000,
            "workers": 1,
            "held_out": 0.1,
        }
        return PrepareOptions(**{**usual, **changes})

    return make
