"""Students with and without their teacher, over several seeds.

    python -m benchmarks.distillation OUT [--seeds 0,1,2] [--layers 2] [--labelled 1000]

A teacher of six layers learns some labelled sentences about films. Each student begins with some of
its layers and makes as many steps: on the same sentences with their labels alone, with half and all
of the loss from the teacher, and on more sentences that nobody has labelled. Those stand in the
file with what the teacher answered (`bertolt predict`), and with `--distil-weight 1` a label has no
part in the loss. All are scored on the same other sentences. A run that is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.task_scores.page import spread
from benchmarks.task_scores.texts import Sizes, read_rows, reviews, write_rows
from bertolt.checkpoint.demo import demo_checkpoint

WAYS = {
    "labels alone": ("labelled", 0.0),
    "half from the teacher": ("labelled", 0.5),
    "all from the teacher": ("labelled", 1.0),
    "all from the teacher, and texts without labels": ("all", 1.0),
}
"""The rows, and the share of the teacher in the loss."""


def bertolt(*words: object) -> str:
    """Run a command."""
    command = [sys.executable, "-m", "bertolt", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    return done.stdout


def teach(out: Path, options: argparse.Namespace) -> None:
    """Write the rows and make the teacher, who answers the texts without labels."""
    if (out / "all.jsonl").exists():
        return
    parts = reviews(Sizes(train=options.labelled + options.more, watched=0, test=options.test))
    labelled, more = parts.train[: options.labelled], parts.train[options.labelled :]
    write_rows(out / "labelled.jsonl", labelled)
    write_rows(out / "test.jsonl", parts.test)
    asked = write_rows(out / "more.jsonl", [{"text": row["text"]} for row in more])
    words = ["--model", demo_checkpoint(), "--eval", out / "test.jsonl", "--out", out / "teacher"]
    words += ["--epochs", 3, "--lr", options.lr, "--batch-size", 16, "--max-length", 64]
    bertolt("finetune", out / "labelled.jsonl", *words, "--overwrite")
    bertolt("predict", out / "teacher", asked, "--out", out / "answered.jsonl", "--overwrite")
    answered = [{"text": r["text"], "label": r["label"]} for r in read_rows(out / "answered.jsonl")]
    write_rows(out / "all.jsonl", [*labelled, *answered])


def student(out: Path, way: str, seed: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run: what its metrics say of the student and the teacher."""
    rows, weight = WAYS[way]
    folder = out / f"{rows}-{weight:g}-{options.layers}-{options.temperature:g}-{seed}"
    if not (folder / "complete.json").exists():
        visits = options.labelled + options.more
        epochs = 1 if rows == "all" else visits / options.labelled
        words = ["--distil", out / "teacher", "--student-layers", options.layers, "--seed", seed]
        words += ["--distil-weight", weight, "--temperature", options.temperature]
        words += ["--epochs", epochs, "--lr", options.lr, "--batch-size", 16, "--max-length", 64]
        file, test = out / f"{rows}.jsonl", out / "test.jsonl"
        bertolt("finetune", file, "--eval", test, *words, "--out", folder, "--overwrite")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {**metrics["distillation"], "accuracy": metrics["eval"]["accuracy"]}


def main() -> None:
    """Make the teacher and all students, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distillation")
    add = parser.add_argument
    add("out", type=Path)
    add("--seeds", default="0,1,2")
    add("--layers", type=int, default=2)
    add("--labelled", type=int, default=1000)
    add("--more", type=int, default=5000)
    add("--test", type=int, default=2000)
    add("--lr", type=float, default=1e-4)
    add("--temperature", type=float, default=2.0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    teach(options.out, options)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in options.seeds.split(","):
        for way, done in runs.items():
            done.append(student(options.out, way, seed, options))
            print(seed, way, json.dumps(done[-1]), flush=True)
    print(
        "| | accuracy of the seeds | mean | texts/s beside the teacher's |\n"
        "| --- | --- | --- | --- |"
    )
    for way, done in runs.items():
        scores = [run["accuracy"] for run in done]
        rates = [
            run["student"]["texts_per_second"] / run["teacher"]["texts_per_second"] for run in done
        ]
        each = ", ".join(f"{score:.4f}" for score in scores)
        print(f"| {way} | {each} | {spread(scores)} | {min(rates):.1f}–{max(rates):.1f} |")
    print(f"teacher: {done[0]['teacher']}")


if __name__ == "__main__":
    main()
