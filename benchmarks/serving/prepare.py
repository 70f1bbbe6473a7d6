"""A fine-tuned model, texts of mixed lengths, and what `Predictor` answers to them in fp32."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.job import Job, write_rows
from benchmarks.prepare import TUNING_STEPS, Rows, _rows
from benchmarks.runtimes import export_onnx
from benchmarks.session import ROOT, environment
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.tasks.predictor import Predictor

TEXTS = 2000
CHINESE = 0.25
"""The share of Chinese reviews, whose lengths have a long tail, beside movie sentences."""
BATCH = 32
SCORED = 400
"""Rows that the model has not seen, on which an engine has to keep the score."""


@dataclass(frozen=True)
class Material:
    """What all servers are given.

    Attributes:
        folder: with `model/`, the exports of it, and `texts.json`.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """The folder of the fine-tuned model."""
        return self.folder / "model"

    @property
    def held_out(self) -> Path:
        """A file of rows whose labels are known and that the model has not seen."""
        return self.folder / "held-out.csv"

    @property
    def texts(self) -> list[str]:
        """In the order in which they are sent."""
        texts: list[str] = json.loads((self.folder / "texts.json").read_text(encoding="utf-8"))
        return texts

    @property
    def answers(self) -> list[dict[str, float]]:
        """By text, the probability of each label, of one text after the other in fp32."""
        path = self.folder / "answers.json"
        answers: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
        return answers


def prepare(folder: Path, *, threads: int, texts: int = TEXTS) -> Material:
    """Fill `folder`, or take what lies there of an earlier run."""
    material = Material(folder)
    if (folder / "answers.json").is_file() and material.held_out.is_file():
        return material
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    movie, chinese = (_rows(name) for name in ("movie", "zh"))
    order = rng.permutation(len(movie))
    train = [movie[row] for row in order[texts:]]
    _fine_tune(train[: 32 * TUNING_STEPS], folder, threads)
    held_out = [movie[row][0] for row in order[:texts]]
    scored = [movie[row] for row in order[:SCORED]]
    write_rows(material.held_out, [text for text, _ in scored], [label for _, label in scored])
    others = [chinese[row][0] for row in rng.permutation(len(chinese))[:texts]]
    is_chinese = rng.random(texts) < CHINESE
    mixed = [b if which else a for a, b, which in zip(held_out, others, is_chinese, strict=True)]
    (folder / "texts.json").write_text(json.dumps(mixed, ensure_ascii=False), encoding="utf-8")
    predictor = Predictor.from_pretrained(material.model, precision="fp32")
    predictions = list(predictor.predict(mixed))
    export_onnx(
        Job(
            kind="predict",
            folder=str(folder),
            steps=0,
            warmup=0,
            batch_size=BATCH,
            threads=threads,
            max_length=predictor.max_length,
            mean_tokens=float(np.mean([each.tokens - each.tokens_cut for each in predictions])),
        )
    )
    answers = [each.answer["probabilities"] for each in predictions]
    (folder / "limit.json").write_text(json.dumps(predictor.max_length), encoding="utf-8")
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    return material


def _fine_tune(rows: Rows, folder: Path, threads: int) -> None:
    write_rows(folder / "train.csv", [text for text, _ in rows], [label for _, label in rows])
    words = [
        sys.executable,
        "-m",
        "bertolt",
        "finetune",
        str(folder / "train.csv"),
        "--epochs",
        "1",
    ]
    words += ["--model", str(demo_checkpoint()), "--out", str(folder / "model"), "--overwrite"]
    subprocess.run(words, check=True, cwd=ROOT, env=environment(threads, folder))


def write_texts(path: Path, texts: list[str]) -> None:
    """A CSV of texts alone."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
