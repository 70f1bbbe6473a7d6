"""Long reviews: cutting them beside reading them in windows, over several seeds.

    python -m benchmarks.long_texts --out DIR [--seeds 0,1,2] [--texts 6000] [--ways window]

The reviews are those of `bertolt data fetch zh-reviews` that have 150 characters or more, as many
of each label. A small encoder learns from scratch, so that the runs are done in minutes: two
layers, with a vocabulary of the training reviews. Each run is `bertolt finetune` in a process of
its own, on the same rows, with the same settings; scores are of the same held-out rows. A run that
is done is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertolt import BertConfig, BertForSequenceClassification, BertTokenizer
from bertolt.data import sample_data

WAYS = ("truncate", "head-tail", "window")
SHORTEST = 150
"""Characters of a long review."""


def main() -> None:
    """Make the rows, do the runs, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_texts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--texts", type=int, default=6000, help="reviews, a third held out")
    parser.add_argument("--max-length", type=int, default=64)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files = write_reviews(options.out, options.texts)
    for way in options.ways.split(","):
        runs = [run(options, files, way, seed) for seed in options.seeds.split(",")]
        sys.stdout.write(line(way, runs) + "\n")
        sys.stdout.flush()


def write_reviews(folder: Path, count: int) -> tuple[Path, Path]:
    """The training and the held-out reviews, and the model that all runs begin with."""
    with sample_data.fetch("zh-reviews").open(encoding="utf-8", newline="") as source:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(source)]
    chosen = balanced([row for row in rows if len(row[0]) >= SHORTEST], count)
    third = len(chosen) // 3
    parts = {"train.csv": chosen[third:], "test.csv": chosen[:third]}
    for name, reviews in parts.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as target:
            csv.writer(target).writerows([("text", "label"), *reviews])
    tokenizer = BertTokenizer.train([text for text, _ in parts["train.csv"]], 6000)
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=2,
        hidden_size=128,
        intermediate_size=256,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "train.csv", folder / "test.csv"


def balanced(rows: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """So many rows, as many of each of two labels, in a random order."""
    by_label: dict[str, list[tuple[str, str]]] = {}
    for index in np.random.default_rng(0).permutation(len(rows)).tolist():
        by_label.setdefault(rows[index][1], []).append(rows[index])
    each = min(count // 2, *map(len, by_label.values()))
    pairs = zip(*(part[:each] for part in by_label.values()), strict=True)
    return [row for pair in pairs for row in pair]


def run(options: Any, files: tuple[Path, Path], way: str, seed: str) -> dict[str, float]:
    """One run: its accuracy, the processor's seconds and its peak memory."""
    out = options.out / f"{way}-{seed}"
    kept = out / "benchmark.json"
    if kept.exists():
        values: dict[str, float] = json.loads(kept.read_text())
        return values
    settings = {
        "--model": options.out / "model",
        "--eval": files[1],
        "--epochs": 4,
        "--lr": 1e-3,
        "--batch-size": 32,
        "--max-length": options.max_length,
        "--long": way,
        "--seed": seed,
        "--precision": "fp32",
        "--out": out,
    }
    words = [str(each) for pair in settings.items() for each in pair]
    command = [sys.executable, "-m", "bertolt", "finetune", str(files[0]), *words, "--overwrite"]
    log = options.out / f"{way}-{seed}.log"
    with log.open("w") as target:
        process = subprocess.Popen(command, stderr=target, stdout=target)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way}, seed {seed}: failed; see {log}")
    measured = json.loads((out / "metrics.json").read_text())["eval"]
    values = {
        "accuracy": measured["accuracy"],
        "processor": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1024,
        "cut": measured["lengths"]["tokens_cut"] / measured["lengths"]["tokens"],
    }
    kept.write_text(json.dumps(values))
    return values


def line(way: str, runs: list[dict[str, float]]) -> str:
    """A row of the table."""
    scores = [each["accuracy"] for each in runs]
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    seconds = statistics.median(each["processor"] for each in runs)
    memory = statistics.median(each["megabytes"] for each in runs)
    return (
        f"| {way} | {statistics.mean(scores):.4f} ± {spread:.4f} | {runs[0]['cut']:.0%} | "
        f"{seconds:.0f} s | {memory:,.0f} MB |"
    )


if __name__ == "__main__":
    main()
