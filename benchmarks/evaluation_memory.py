"""Memory and time of `evaluate` by rows, for every task, and the curve of the memory.

    python -m benchmarks.evaluation_memory --rows 10000,100000,1000000 [--out DIR]

Rows are generated, and the model is a tiny one that has learned a few of them, so that what grows
is what the rows take. Each measure is a process of its own; memory is what the system could not
take back (RssAnon), without what is mapped from files, looked at twenty times a second. With --out,
`memory.json` there keeps all measures, and `memory.svg` draws the longest one of each task.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.drawing import LINE, OURS, svg_of
from bertolt.base.files import write_text

WORDS = [first + second for first in "bdfgklmnprst" for second in ("an", "or")]
POINTS = 200
"""Of a curve, at most."""
Row = dict[str, Any]
Measure = dict[str, Any]


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


def _chosen(choose: random.Random) -> Row:
    choices = [_text(choose) for _ in range(choose.randrange(2, 5))]
    return {"text": _text(choose), "choices": choices, "label": choose.randrange(len(choices))}


def task_of(name: str) -> str:
    """The task of rows, as `bertolt finetune --task` has it."""
    return "sentence-similarity" if name == "triplets" else name


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
    "multiple-choice": _chosen,
    "next-sentence-prediction": lambda choose: {
        "sentence1": _text(choose),
        "sentence2": _text(choose),
        "label": choose.choice(["is_next", "not_next"]),
    },
    "fill-mask": lambda choose: {"text": _text(choose)},
    "sentence-similarity": lambda choose: {
        "sentence1": _text(choose),
        "sentence2": _text(choose),
        "score": choose.uniform(0, 5),
    },
    "triplets": lambda choose: {
        "anchor": _text(choose),
        "positive": _text(choose),
        "negative": _text(choose),
    },
}
"""A row of each task; triplets are one more kind of sentence-similarity."""


def write_rows(path: Path, task: str, count: int) -> Path:
    """Generated rows of a task as JSON lines."""
    choose = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            file.write(json.dumps(TASKS[task](choose)) + "\n")
    return path


def make_encoder(folder: Path, head: str = "BertModel") -> Path:
    """An encoder of 2 layers of 32 with a vocabulary of the generated words."""
    import torch

    import bertolt

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = bertolt.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    getattr(bertolt, head)(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return folder


def make_model(folder: Path, name: str) -> Path:
    """A model that has learned a few rows; of masks there is nothing to learn from rows."""
    if name == "fill-mask":
        return make_encoder(folder / name, "BertForMaskedLM")
    few = write_rows(folder / f"{name}.jsonl", name, 200)
    words = ["finetune", few, "--task", task_of(name), "--model", folder / "encoder"]
    _run("bertolt", *words, "--out", folder / name, "--epochs", "1", "--precision", "fp32")
    return folder / name


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measure(model: str, file: Path, task: str) -> Measure:
    """Evaluate in this process: the peak in MB, the seconds, and the curve.

    A point of the curve is the seconds since the start, the windows that were answered by then, and
    MB; `answering` is the seconds at which the first batch began.
    """
    from bertolt.commands import evaluate as command
    from bertolt.commands.evaluate_options import EvaluateOptions

    points: list[tuple[float, int, float]] = []
    windows, begun, done = [0], [math.nan], threading.Event()
    started = time.monotonic()
    inner = command.evaluate

    def watched(*values: Any, progress: Callable[[int], None], **named: Any) -> Any:
        def show(count: int) -> None:
            windows[0] = count
            progress(count)

        begun[0] = begun[0] if begun[0] > 0 else time.monotonic() - started
        return inner(*values, progress=show, **named)

    def watch() -> None:
        while not done.wait(0.05):
            points.append((time.monotonic() - started, windows[0], _anonymous() / 1000))

    command.evaluate = watched
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    options = EvaluateOptions(precision="fp32", task=task)
    scores = command.evaluate_file(model, file, options)
    evaluated = time.monotonic() - started
    scores.to_dict()
    done.set()
    watcher.join()
    seconds = time.monotonic() - started
    answering = [each for each in points if each[0] >= begun[0] and each[1]]
    return {
        "peak_mb": max(memory for _, _, memory in points),
        "seconds": evaluated,
        "values_seconds": seconds - evaluated,
        "answering": begun[0],
        "answering_mb": [answering[0][2], max(each[2] for each in answering)],
        "curve": thinned(points),
    }


def thinned(points: Sequence[tuple[float, int, float]], most: int = POINTS) -> list[list[float]]:
    """The highest point of each of so many parts of a curve, which keeps its peak."""
    size = max(1, math.ceil(len(points) / most))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    highest = [max(part, key=lambda point: point[2]) for part in parts]
    return [[round(second, 1), count, round(mb, 1)] for second, count, mb in highest]


def draw(record: Mapping[str, Mapping[str, Measure]]) -> str:
    """An SVG with the memory of each task's longest measure over its time."""
    longest = {
        task: max(each.items(), key=lambda one: int(one[0])) for task, each in record.items()
    }
    with svg_of(len(longest) * 1.25 + 0.3) as (figure, target):
        axes = figure.subplots(len(longest), squeeze=False)[:, 0]
        for place, (task, (rows, each)) in zip(axes, longest.items(), strict=True):
            seconds, _, memory = zip(*each["curve"], strict=True)
            place.fill_between(seconds, memory, color=OURS, alpha=0.25, lw=0)
            place.plot(seconds, memory, color=OURS, lw=1.2)
            place.axvline(each["answering"], color=LINE, lw=0.8, ls=":")
            place.set_xlim(0, seconds[-1])
            place.set_ylim(0, max(600, 1.15 * max(memory)))
            place.spines[["top", "right"]].set_visible(False)
            title = f"{task}: {int(rows):,} rows, MB by seconds; dotted: the first answer"
            place.set_title(title, loc="left", fontsize=9)
    return target.getvalue()


def main() -> None:
    """Make a tiny model of each task, and print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000", help="numbers of rows, with commas")
    parser.add_argument("--tasks", default=",".join(TASKS), help="names of tasks, with commas")
    parser.add_argument("--out", type=Path, help="a folder for memory.json and memory.svg")
    parser.add_argument("--measure", nargs=3, help="model, file and task, in its own process")
    options = parser.parse_args()
    if options.measure:
        model, file, task = options.measure
        print(json.dumps(measure(model, Path(file), task)))
        return
    kept = options.out / "memory.json" if options.out else None
    record = json.loads(kept.read_text()) if kept and kept.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_encoder(folder / "encoder")
        for task in options.tasks.split(","):
            model = make_model(folder, task)
            for rows in map(int, options.rows.split(",")):
                file = write_rows(folder / "rows.jsonl", task, rows)
                words = ["--measure", model, file, task_of(task)]
                each = json.loads(_run("benchmarks.evaluation_memory", *words).splitlines()[-1])
                shown = {key: value for key, value in each.items() if key != "curve"}
                print(task, rows, json.dumps(shown), flush=True)
                record.setdefault(task, {})[str(rows)] = each
                if kept:
                    write_text(kept, json.dumps(record) + "\n")
                    write_text(kept.with_suffix(".svg"), draw(record))


def _run(module: str, *words: object) -> str:
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    return done.stdout


if __name__ == "__main__":
    main()
