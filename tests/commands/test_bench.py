"""`bertolt bench`, and the counts that its shares rest on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bertolt import BertTokenizer
from bertolt.base.errors import BertoltError
from bertolt.cli import main
from bertolt.commands.bench import generate_texts
from bertolt.commands.engines import _in_a_process
from bertolt.models.precision import product_rate


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


def test_where_a_product_takes_long_larger_ones_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = []

    def linear(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        rows.append(len(a))
        return a @ b.t()

    monkeypatch.setattr("bertolt.models.precision._CPU_SHAPES", ((8, 8, 8), (64, 64, 64)))
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    product_rate(torch.float32, seconds=0.0)
    assert rows == [8, 8]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertolt.commands.bench.SECONDS", 0.05)
    monkeypatch.setattr("bertolt.commands.bench.TEXTS", 200)
    monkeypatch.setattr("bertolt.models.precision._CPU_SHAPES", ((64, 64, 64),))


def test_what_lies_in_the_folder_one_is_in_is_no_code_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "sprung"
    for name in ("json", "torch", "bertolt"):
        (tmp_path / f"{name}.py").write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    job = {"threads": 1, "folder": str(tmp_path / "none"), "precision": "fp32", "engine": "torch"}
    with pytest.raises(BertoltError) as refused:
        _in_a_process(job)
    assert refused.value.place == job["folder"]
    assert not trap.exists()


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
