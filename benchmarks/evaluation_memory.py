"""Peak memory and time of `evaluate` by rows, for every task.

    python -m benchmarks.evaluation_memory --rows 10000,100000,1000000

Rows are generated, and the model is a tiny one that has learned a few of them, so that what grows
is what the rows take. Each measure is a process of its own; memory is the highest that the system
could not take back (RssAnon), without what is mapped from files.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = [first + second for first in "bdfgklmnprst" for second in ("an", "or")]
Row = dict[str, Any]


def _text(choose: random.Random) -> str:
    return " ".join(choose.choices(WORDS, k=choose.randrange(4, 13)))


def _tagged(choose: random.Random) -> Row:
    words = _text(choose).split()
    return {"tokens": words, "tags": ["B-X" if word == "fan" else "O" for word in words]}


def _asked(choose: random.Random) -> Row:
    text = _text(choose)
    answer = {"text": [text.split()[0]], "answer_start": [0]}
    nothing: dict[str, list[Any]] = {"text": [], "answer_start": []}
    return {
        "question": choose.choice(WORDS),
        "context": text,
        "answers": answer if choose.random() < 0.8 else nothing,
    }


TASKS: dict[str, Callable[[random.Random], Row]] = {
    "text-classification": lambda choose: {
        "text": _text(choose),
        "label": choose.choice(["bad", "fair", "good"]),
    },
    "multi-label-classification": lambda choose: {
        "text": _text(choose),
        "labels": choose.sample(["a", "b", "c", "d", "e"], choose.randrange(4)),
    },
    "regression": lambda choose: {"text": _text(choose), "rating": choose.uniform(0, 5)},
    "token-classification": _tagged,
    "question-answering": _asked,
}


def write_rows(path: Path, task: str, count: int) -> Path:
    """Generated rows of a task as JSON lines."""
    choose = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            file.write(json.dumps(TASKS[task](choose)) + "\n")
    return path


def make_encoder(folder: Path) -> Path:
    """An encoder of 2 layers of 32 with a vocabulary of the generated words."""
    import torch

    from bertolt import BertConfig, BertModel

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return folder


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measure(model: str, file: Path) -> dict[str, float]:
    """Evaluate in this process; the peak in MB and the seconds."""
    from bertolt.commands.evaluate import evaluate_file
    from bertolt.commands.evaluate_options import EvaluateOptions

    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started = time.monotonic()
    scores = evaluate_file(model, file, EvaluateOptions(precision="fp32"))
    evaluated = time.monotonic() - started
    interval_started = time.monotonic()
    scores.to_dict()
    interval = time.monotonic() - interval_started
    done.set()
    watcher.join()
    return {"peak_mb": peak[0] / 1000, "seconds": evaluated, "values_seconds": interval}


def main() -> None:
    """Train a tiny model of each task, and print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000", help="numbers of rows, with commas")
    parser.add_argument("--tasks", default=",".join(TASKS), help="names of tasks, with commas")
    parser.add_argument("--measure", nargs=2, help="model and file, in a process of its own")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = make_encoder(folder / "encoder")
        for task in options.tasks.split(","):
            model = folder / task
            few = write_rows(folder / f"{task}.jsonl", task, 200)
            words = ["finetune", few, "--task", task, "--model", encoder, "--out", model]
            _run("bertolt", *words, "--epochs", "1", "--precision", "fp32")
            for rows in map(int, options.rows.split(",")):
                file = write_rows(folder / "rows.jsonl", task, rows)
                printed = _run("benchmarks.evaluation_memory", "--measure", model, file)
                print(task, rows, printed.splitlines()[-1], flush=True)


def _run(module: str, *words: object) -> str:
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    return done.stdout


if __name__ == "__main__":
    main()
