"""`bertolt bench`, and the counts that its shares rest on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bertolt import BertConfig, BertTokenizer, bench
from bertolt.bench import forward_flops, generate_texts, product_rate
from bertolt.cli import main

LARGE = BertConfig(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
)


@pytest.mark.parametrize(
    ("config", "length", "mflop"),
    [(BertConfig(), 128, 545), (BertConfig(), 512, 588), (LARGE, 128, 1879), (LARGE, 512, 1992)],
)
def test_training_flops_are_the_published_ones(config: BertConfig, length: int, mflop: int) -> None:
    lengths = np.full(10, length)
    found = 3e-6 * forward_flops(config, lengths, labelled=0.15)
    assert found == pytest.approx(mflop, rel=2e-3)


def test_flops_are_those_that_torch_counts(tiny_config: Callable[..., BertConfig]) -> None:
    """Of an encoder as the peer computes it, without padding."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig as PeerConfig
    from transformers import BertModel as PeerModel

    config = tiny_config()
    peer = PeerModel(
        PeerConfig(**config.to_dict(), attn_implementation="eager"), add_pooling_layer=False
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        peer(torch.ones(3, 10, dtype=torch.long))
    assert counter.get_total_flops() == pytest.approx(
        30 * forward_flops(config, np.array([10, 10, 10]))
    )


def test_a_classifier_needs_less_of_the_last_layer() -> None:
    config, lengths = BertConfig(num_hidden_layers=1), np.array([10, 30])
    d, f = 768, 3072
    # Keys and values of 40 tokens; queries, scores, mixing, output and feed-forward of 2.
    needed = 40 * 4 * d * d + 2 * (4 * d * d + 4 * d * f) + (10 + 30) * 4 * d
    assert forward_flops(config, lengths, first_token_only=True) == pytest.approx(needed / 40)
    two = forward_flops(config.changed(num_hidden_layers=2), lengths, first_token_only=True)
    one = forward_flops(config, lengths, first_token_only=True)
    assert two - one == pytest.approx(forward_flops(config, lengths))


def test_generated_texts_are_words_of_the_vocabulary(tiny_tokenizer: BertTokenizer) -> None:
    texts = generate_texts(tiny_tokenizer, 500)
    assert texts == generate_texts(tiny_tokenizer, 500)
    assert len(texts) == 500
    words = {word for text in texts for word in text.split()}
    assert words <= set(tiny_tokenizer.get_vocab())
    assert not words & set(tiny_tokenizer.all_special_tokens)
    counts = sorted(len(text.split()) for text in texts)
    assert counts[0] >= 1
    assert 15 < counts[250] < 30


def test_product_rate_is_a_rate() -> None:
    assert 0.1 < product_rate(torch.float32, seconds=0.01) < 1e6


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertolt.bench.SECONDS", 0.05)
    monkeypatch.setattr("bertolt.bench.TEXTS", 200)
    monkeypatch.setattr("bertolt.bench._CPU_SHAPES", ((64, 64, 64),))


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, words)])
    return int(str(ended.value.code))


@pytest.mark.usefixtures("quick")
def test_the_table(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", tiny_folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "200 generated texts" in lines[2]
    names = [line[:20].strip() for line in lines[5:]]
    assert names == [
        "matrix products",
        "fine-tuning",
        "prediction in bulk",
        "one text at a time",
        "peak memory",
    ]


@pytest.mark.usefixtures("quick")
def test_given_texts_as_json(
    tiny_folder: Path, reviews_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(reviews_csv, "--model", tiny_folder, "--precision", "fp32", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert str(reviews_csv) in found["texts"]
    assert found["precision"] == "fp32: as requested"
    assert set(found["products"]) == {"bf16", "fp32"}
    for rate in (found["training"], found["prediction"]):
        assert 0 < rate["texts_per_second"] < rate["tokens_per_second"]
        assert rate["share"] > 0
    assert 0 < found["milliseconds"] <= found["milliseconds_95"]
    assert found["peak_memory"] > 2**26


def test_a_column_needs_a_file(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", tiny_folder, "--column", "text") == 2
    assert "--column names a column of a file" in capsys.readouterr().err


def test_it_is_a_module_with_docs() -> None:
    assert bench.bench.__doc__
