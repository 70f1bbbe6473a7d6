"""Small corpora, in memory and on disk, and runs of a second over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt import BertTokenizer
from bertolt.pretrain.batches import Batches
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.plan import Device
from tests.pretrain.corpora import predictable_shards, random_shards, write_corpus


@pytest.fixture
def batches(tiny_tokenizer: BertTokenizer) -> Callable[..., Batches]:
    """Batches of 1,024 rows over a few random documents, but for what is given."""

    def make(shards: Any = None, **changes: Any) -> Batches:
        settings: dict[str, Any] = {"max_length": 64, "rows": 1024}
        shards = random_shards(120) if shards is None else shards
        return Batches(shards, tiny_tokenizer, **(settings | changes))

    return make


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: BertTokenizer) -> Path:
    """A corpus whose words can be told from their neighbours; 30,000 tokens, 12,000 held out."""
    return write_corpus(
        tmp_path_factory.mktemp("corpus") / "letters",
        tiny_tokenizer,
        predictable_shards(400),
        predictable_shards(160, seed=1),
    )


@pytest.fixture
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the machine's peak as known, and not as something to measure for two seconds."""
    device = Device(name="this machine", count=1, peak=1e11, memory=None, on_cpu=True)
    monkeypatch.setattr("bertolt.pretrain.setup.this_device", lambda precision: device)


@pytest.fixture
def options(tmp_path: Path, quick_peak: None) -> Callable[..., PretrainOptions]:
    """Options for a run of a second: 30 steps of 512 tokens with a tiny model."""

    def make(**changes: Any) -> PretrainOptions:
        config = tmp_path / "config.json"
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"intermediate_size": 64, "max_position_embeddings": 64}
        config.write_text(json.dumps(shape), encoding="utf-8")
        values: dict[str, Any] = {
            "config": None if "model" in changes else str(config),
            "steps": None if {"epochs", "tokens"} & changes.keys() else 30,
            "batch_tokens": 512,
            "lr": 3e-3,
            "eval_every": 10,
            "save_every": 10,
            "precision": "fp32",
            "out": tmp_path / "out",
        }
        return PretrainOptions(**(values | changes))

    return make
