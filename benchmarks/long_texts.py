"""Long reviews: cutting them beside reading them in windows, over several seeds.

    python -m benchmarks.long_texts --out DIR [--seeds 0,1,2] [--texts 900] [--ways truncate,window]

A review is 5 to 12 movie sentences one after the other, and its label is that of most of them: what
decides stands anywhere in it. Each run is `bertolt finetune` in a process of its own, on the same
rows, with the same settings; scores are of the same held-out rows. A run that is done is not done
again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.checkpoint.demo import SENTENCES
from bertolt.data import sample_data

WAYS = ("truncate", "head-tail", "window")


def main() -> None:
    """Make the rows, do the runs, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_texts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--texts", type=int, default=900, help="reviews, a third held out")
    parser.add_argument("--max-length", type=int, default=64)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files = write_reviews(options.out, options.texts)
    for way in options.ways.split(","):
        runs = [run(options, files, way, seed) for seed in options.seeds.split(",")]
        sys.stdout.write(line(way, runs) + "\n")
        sys.stdout.flush()


def write_reviews(folder: Path, count: int) -> tuple[Path, Path]:
    """The training and the held-out reviews, of other sentences each."""
    with Path(sample_data.fetch(SENTENCES)).open(encoding="utf-8", newline="") as source:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(source)]
    choose = np.random.default_rng(0)
    order = choose.permutation(len(rows))
    third = len(rows) // 3
    parts = {
        "train.csv": (order[third:], count - count // 3),
        "test.csv": (order[:third], count // 3),
    }
    for name, (sentences, number) in parts.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(["text", "label"])
            for _ in range(number):
                size = 2 * int(choose.integers(2, 6)) + 1
                chosen = [rows[index] for index in choose.choice(sentences, size, replace=False)]
                labels = [label for _, label in chosen]
                text = " ".join(text for text, _ in chosen)
                writer.writerow([text, max(sorted(set(labels)), key=labels.count)])
    return folder / "train.csv", folder / "test.csv"


def run(options: Any, files: tuple[Path, Path], way: str, seed: str) -> dict[str, float]:
    """One run: its accuracy, its seconds and its peak memory."""
    out = options.out / f"{way}-{seed}"
    kept = out / "benchmark.json"
    if kept.exists():
        values: dict[str, float] = json.loads(kept.read_text())
        return values
    settings = {
        "--eval": files[1],
        "--epochs": 3,
        "--lr": 1e-4,
        "--batch-size": 16,
        "--max-length": options.max_length,
        "--long": way,
        "--seed": seed,
        "--precision": "fp32",
        "--out": out,
    }
    words = [str(each) for pair in settings.items() for each in pair]
    command = [sys.executable, "-m", "bertolt", "finetune", str(files[0]), *words, "--overwrite"]
    begun = time.monotonic()
    with (options.out / f"{way}-{seed}.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way}, seed {seed}: failed; see {options.out}/{way}-{seed}.log")
    metrics = json.loads((out / "metrics.json").read_text())
    values = {
        "accuracy": metrics["eval"]["accuracy"],
        "seconds": time.monotonic() - begun,
        "processor": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1024,
        "windows": metrics["eval"]["lengths"]["windows"],
        "cut": metrics["eval"]["lengths"]["tokens_cut"] / metrics["eval"]["lengths"]["tokens"],
    }
    kept.write_text(json.dumps(values))
    return values


def line(way: str, runs: list[dict[str, float]]) -> str:
    """A row of the table."""
    scores = [each["accuracy"] for each in runs]
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    seconds, memory = (
        statistics.median(r[name] for r in runs) for name in ("processor", "megabytes")
    )
    return (
        f"| {way} | {statistics.mean(scores):.4f} ± {spread:.4f} | {runs[0]['cut']:.0%} | "
        f"{seconds:.0f} s | {memory:,.0f} MB |"
    )


if __name__ == "__main__":
    main()
