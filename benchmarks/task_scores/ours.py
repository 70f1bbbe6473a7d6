"""Bertolt as people use it: its commands, and what they answered."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.task_scores.comparisons import HYPER, Run

PRETRAINING: dict[str, Any] = {
    "vocabulary": 8000,
    "max_length": 256,
    "config": "small",
    "steps": 750,
    "batch_tokens": 2048,
}
"""Of the Chinese encoder: short, for a benchmark of fine-tuning."""
_BERTOLT = [sys.executable, "-m", "bertolt"]
_EMPTY = "\n\n"


def finetune(run: Run) -> list[str]:
    """The command that trains; thresholds are chosen on the watched rows."""
    settings = run.settings
    options = {
        "model": run.model,
        "eval": run.rows("watched"),
        "task": settings.task,
        "label": settings.label,
        **_columns(run),
        "epochs": settings.epochs,
        "batch-size": settings.batch_size,
        "lr": settings.learning_rate,
        "weight-decay": HYPER["weight_decay"],
        "warmup": HYPER["warmup"],
        "schedule": HYPER["schedule"],
        "order": settings.order,
        "max-length": settings.max_length,
        "precision": "bf16",
        "seed": run.seed,
        "out": _model(run),
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [*_BERTOLT, "finetune", str(run.rows("train")), *words]


def _columns(run: Run) -> dict[str, Any]:
    """The columns of the texts where they are named, and what windows share."""
    of = run.settings
    options = {"text": of.text, "text-pair": of.text_pair, "stride": of.stride}
    return {name: value for name, value in options.items() if value}


def predict(run: Run) -> list[str]:
    """The command that answers the test rows."""
    words = ["predict", str(_model(run)), str(run.rows("test"))]
    return [*_BERTOLT, *words, "--precision", "bf16", "--out", str(_answered(run))]


def pretraining(corpus: Path, folder: Path) -> list[list[str]]:
    """The commands from a corpus to an encoder in `folder/encoder`."""
    of = PRETRAINING
    tokenizer, shards = folder / "tokenizer", folder / "shards"
    lines = [str(corpus), "--documents", "lines"]
    vocabulary = ["--vocab-size", str(of["vocabulary"])]
    length = ["--max-length", str(of["max_length"]), "--objective", "mlm"]
    length += ["--tokenizer", str(tokenizer)]
    shape = ["--config", of["config"], "--steps", str(of["steps"])]
    size = ["--batch-tokens", str(of["batch_tokens"]), "--precision", "bf16"]
    encoder = ["--out", str(folder / "encoder"), "--resume"]
    return [
        [*_BERTOLT, "tokenizer", *lines, *vocabulary, "--out", str(tokenizer), "--overwrite"],
        [*_BERTOLT, "prepare", *lines, *length, "--out", str(shards)],
        [*_BERTOLT, "pretrain", str(shards), *shape, *size, *encoder],
    ]


def collect(run: Run) -> list[Any]:
    """The answers of all test rows, in their order: tags, a number, a label, a text, or labels'
    probabilities."""
    text = _answered(run).read_text(encoding="utf-8")
    if run.settings.task == "token-classification":
        rows = text.removesuffix(_EMPTY).split(_EMPTY)
        return [[line.split("\t")[1] for line in row.split("\n")] for row in rows]
    answers = [json.loads(line) for line in text.splitlines()]
    single = {
        "regression": "value",
        "multiple-choice": "index",
        "text-classification": "label",
        "next-sentence-prediction": "label",
        "question-answering": "answer",
    }
    if name := single.get(run.settings.task):
        return [answer[name] for answer in answers]
    return [answer["probabilities"] for answer in answers]


def given_labels(run: Run) -> list[list[str]]:
    """The labels of all test rows by the thresholds of the model."""
    text = _answered(run).read_text(encoding="utf-8")
    return [json.loads(line)["labels"] for line in text.splitlines()]


def answers_by_odds(run: Run) -> list[str]:
    """Of each question the best answer, or none where none is more probable than it: as the peer
    decides, without a threshold that was chosen."""
    answers = [json.loads(line) for line in _answered(run).read_text("utf-8").splitlines()]
    return [
        best[0]["text"] if (best := each["best"]) and best[0]["probability"] >= each["no_answer"]
        else ""
        for each in answers
    ]  # fmt: skip


def thresholds(run: Run) -> dict[str, float]:
    """Of each label, from the contract of the model."""
    contract = json.loads((_model(run) / "bertolt.json").read_text(encoding="utf-8"))
    return dict(contract["settings"]["thresholds"])


def _model(run: Run) -> Path:
    return Path(run.out) / "model"


def _answered(run: Run) -> Path:
    ending = "conll" if run.settings.task == "token-classification" else "jsonl"
    return Path(run.out) / f"answered.{ending}"
