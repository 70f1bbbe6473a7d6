"""The commands on a model of another family than BERT: they take its classes and its tokenizer."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertolt import AutoTokenizer, Predictor
from tests.commands.conftest import write_rows

Run = Callable[..., Any]
QUICK = ("--batch-size", 8, "--lr", "3e-3", "--precision", "fp32")
HEADS = {
    "text-classification": "SequenceClassification",
    "regression": "SequenceClassification",
    "token-classification": "TokenClassification",
}
PRIMARY = {
    "text-classification": ("accuracy", 0.8),
    "regression": ("spearman", 0.7),
    "token-classification": ("f1", 0.7),
}


@pytest.fixture(scope="module")
def rows(reviews: list[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """The reviews as rows of each task: their label, how good they are, and their good words."""
    from tests.conftest import GOOD

    texts = [(text.split(), label) for text, label in reviews]
    return {
        "text-classification": [{"text": t, "label": label} for t, label in reviews],
        "regression": [
            {"text": " ".join(w), "score": 1.5 + 2.0 * sum(word in GOOD for word in w)}
            for w, _ in texts
        ],
        "token-classification": [
            {"tokens": w, "tags": ["B-GOOD" if word in GOOD else "O" for word in w]}
            for w, _ in texts
        ],
    }


@pytest.fixture(scope="module")
def made(
    rows: dict[str, list[dict[str, Any]]],
    roberta_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, Path]]:
    """A file of a task's rows, and a RoBERTa that learnt them by heart."""
    from bertolt.cli import main

    folders: dict[str, tuple[Path, Path]] = {}

    def train(task: str) -> tuple[Path, Path]:
        if task not in folders:
            folder = tmp_path_factory.mktemp(task)
            file, out = write_rows(folder / "rows.jsonl", rows[task]), folder / "out"
            words = ("finetune", file, "--model", roberta_folder, "--out", out, "--eval", file)
            with pytest.raises(SystemExit) as ended:
                main([str(word) for word in (*words, "--task", task, "--epochs", 20, *QUICK)])
            assert ended.value.code == 0
            folders[task] = file, out
        return folders[task]

    return train


every_task = pytest.mark.parametrize("task", HEADS)


@every_task
def test_a_finetuned_folder_has_the_class_of_its_family(task: str, made: Any) -> None:
    _, out = made(task)
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "roberta"
    assert config["architectures"] == [f"RobertaFor{HEADS[task]}"]
    assert json.loads((out / "bertolt.json").read_text())["max_length"] == 160
    name, least = PRIMARY[task]
    assert json.loads((out / "metrics.json").read_text())["eval"][name] > least


@every_task
def test_inspect_evaluate_and_predict(task: str, made: Any, bertolt: Run, tmp_path: Path) -> None:
    file, out = made(task)
    said = bertolt("inspect", out, "--selftest")
    assert (said.code, "self-test passed" in said.out) == (0, True)
    assert f"RobertaFor{HEADS[task]}" in said.out
    assert "160 positions" in said.out
    said = bertolt("evaluate", out, file, "--precision", "fp32", "--json")
    name = PRIMARY[task][0]
    measured = json.loads((out / "metrics.json").read_text())["eval"][name]
    assert json.loads(said.out)[name] == pytest.approx(measured, abs=1e-6)
    answers = tmp_path / "answers.jsonl"
    assert bertolt("predict", out, file, "--out", answers).code == 0
    assert len(answers.read_text().splitlines()) == 80


@every_task
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_frozen_layers_answer_as_the_modules_do(
    task: str, precision: str, made: Any, rows: Any
) -> None:
    _, out = made(task)
    predictor = Predictor.from_pretrained(out, precision=precision, device=torch.device("cpu"))
    assert predictor.engine.encoder is not None
    slow = Predictor.from_pretrained(out, precision="fp32", device=torch.device("cpu"))
    slow.model.set_attention_backend("reference")
    slow.refresh()
    assert slow.engine.encoder is None
    examples = [{"text": row.get("text", row.get("tokens"))} for row in rows[task][:40]]
    pairs = list(zip(predictor.predict(examples), slow.predict(examples), strict=True))
    gaps = [difference(fast.answer, plain.answer) for fast, plain in pairs]
    assert max(gaps) < {"fp32": 1e-4, "bf16": 0.1, "int8": 0.2}[precision]


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    from bertolt.tasks.base import difference

    return difference(one, other)


@pytest.mark.parametrize("task", ["text-classification", "regression"])
def test_the_peer_opens_the_folder_and_answers_the_same(task: str, made: Any, rows: Any) -> None:
    _, out = made(task)
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert type(peer) is transformers.RobertaForSequenceClassification
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    predictor = Predictor.from_pretrained(out, precision="fp32", device=torch.device("cpu"))
    texts = [row["text"] for row in rows[task][:20]]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert AutoTokenizer.from_pretrained(out)(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    with torch.no_grad():
        logits = peer(**batch).logits
        ours = predictor.model(**batch).logits
    torch.testing.assert_close(ours, logits, atol=1e-4, rtol=0)


def test_pairs_have_the_layout_and_the_segments_of_the_family(
    roberta_folder: Path, bertolt: Run, tmp_path: Path
) -> None:
    pairs = [
        {"premise": f"{one} film", "hypothesis": f"{other} film", "label": str(one == other)}
        for one in ("good", "bad", "dull")
        for other in ("good", "bad", "dull")
    ]
    file = write_rows(tmp_path / "pairs.jsonl", pairs * 2)
    out = tmp_path / "out"
    said = bertolt("finetune", file, "--model", roberta_folder, "--out", out, "--eval", file,
                   "--epochs", 2, *QUICK)  # fmt: skip
    assert said.code == 0, said.err
    predictor = Predictor.from_pretrained(out, precision="fp32")
    encoded = next(iter(predictor.task.encode(
        [{"text": "good film", "text_pair": "bad film"}], predictor.tokenizer, 60
    )))  # fmt: skip
    tokens = predictor.tokenizer.convert_ids_to_tokens(encoded.windows[0].ids)
    assert tokens.count("</s>") == 3
    assert tokens[tokens.index("</s>") + 1] == "</s>"
    assert bertolt("inspect", out, "--selftest").code == 0


@every_task
def test_a_walk_of_a_text(task: str, made: Any, bertolt: Run) -> None:
    _, out = made(task)
    said = bertolt("inspect", out, "--text", "good film")
    assert said.code == 0, said.err
    assert "narrow(0, 2, " in said.out


def test_a_walk_without_a_head(roberta_folder: Path, bertolt: Run) -> None:
    assert bertolt("inspect", roberta_folder, "--text", "good film").code == 0


def test_a_bench(roberta_folder: Path, bertolt: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertolt.commands.bench.SECONDS", 0.05)
    monkeypatch.setattr("bertolt.commands.bench.TEXTS", 200)
    monkeypatch.setattr("bertolt.models.precision._CPU_SHAPES", ((64, 64, 64),))
    said = bertolt("bench", "--model", roberta_folder)
    assert said.code == 0, said.err
    assert "one text at a time" in said.out


def test_evaluate_takes_a_folder_of_the_peers_own(
    made: Any, roberta_folder: Path, bertolt: Run, tmp_path: Path
) -> None:
    """Without a contract the task follows from the class that is saved."""
    _, out = made("text-classification")
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    peer.save_pretrained(tmp_path / "peer")
    source = roberta_folder / "tokenizer.json"
    (tmp_path / "peer" / "tokenizer.json").write_bytes(source.read_bytes())
    file = tmp_path / "few.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), ("good film", "pos"), ("bad", "neg")])
    said = bertolt("evaluate", tmp_path / "peer", file, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["rows"] == 2
