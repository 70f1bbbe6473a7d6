"""What a measurement is given, and how all of them count. Imports nothing heavy.

Warm-up is left out of every rate and told apart. Clocks run over all that a user waits for:
tokenising, making batches and putting answers into order are inside.
"""

from __future__ import annotations

import csv
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HYPER: dict[str, Any] = {"learning_rate": 1e-4, "weight_decay": 0.01, "warmup_steps": 0.1}
"""Of all training, for everyone."""
LABELS = ("negative", "positive")
BLOCKS = "blocks.npy"
"""(N, max_length) token ids of a corpus, one text after the other, for those who pad nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One work, made ready.

    Attributes:
        kind: as that of the work.
        folder: `train.csv` and `eval.csv` with text and label, `lengths.json` with the tokens of
            each row of the latter, the `model/` to start from, and exports of it; for pretraining
            `shards/` and the same tokens in blocks, instead of texts.
        steps: timed training steps, or timed batches of prediction.
        warmup: steps or batches before them.
        batch_size: texts in each.
        threads: that the contestants may use.
        max_length: most tokens of a text.
        epochs: of a "command".
        mean_tokens: of the texts.
        flops: of the forward pass for each token; training takes three times that.
        flops_needed: the same, without the rows of the last layer that a classifier does not read.
    """

    kind: str
    folder: str
    steps: int
    warmup: int
    batch_size: int
    threads: int
    max_length: int = 512
    epochs: float = 1.0
    mean_tokens: float = 0.0
    flops: float = 0.0
    flops_needed: float = 0.0

    @property
    def model(self) -> Path:
        """The folder of the model to start from."""
        return Path(self.folder) / "model"

    def path(self, name: str) -> Path:
        """A file or a folder of the job."""
        return Path(self.folder) / name

    def rows(self, part: str = "train") -> tuple[list[str], list[int]]:
        """Texts and labels 0/1."""
        with self.path(f"{part}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [row["text"] for row in rows], [LABELS.index(row["label"]) for row in rows]

    def lengths(self) -> list[int]:
        """Tokens of each row of `eval.csv`."""
        lengths: list[int] = json.loads(self.path("lengths.json").read_text(encoding="utf-8"))
        return lengths

    def save(self) -> Path:
        """Write it into its folder, and say where."""
        path = self.path("job.json")
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str) -> Job:
        """Read what `save` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


def write_rows(path: Path, texts: Sequence[str], labels: Sequence[int]) -> None:
    """A CSV as `Job.rows` reads it, and as `bertolt finetune` does."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, (LABELS[label] for label in labels), strict=True))


Found = dict[str, Any]


class StepClock:
    """Counts and times training steps, for everyone in the same way.

    The time of a step is that between the end of the one before and its own end, so that making
    the batch is in it.

    Args:
        job: what is measured.
        started: `time.time()` when the process was started.
    """

    def __init__(self, job: Job, started: float) -> None:
        self._job = job
        self._started = started
        self._first = 0.0
        self._ends: list[float] = []

    def tick(self) -> None:
        """A step has ended."""
        self._first = self._first or time.time() - self._started
        self._ends.append(time.perf_counter())

    def found(self, sequences: list[int], tokens: list[int], slots: list[int]) -> Found:
        """Rates over the steps after the warm-up, from counts of each step.

        Args:
            sequences: texts of each step.
            tokens: real tokens.
            slots: rows that the model computed, filler and padding among them.
        """
        begin = self._job.warmup
        ends = self._ends
        kept = slice(begin, len(ends))
        seconds = [b - a for a, b in zip(ends[begin - 1 :], ends[begin:], strict=False)]
        each = [s / t for s, t in zip(seconds, tokens[kept], strict=True)]
        return {
            "samples": sum(sequences[kept]),
            "tokens": sum(tokens[kept]),
            "seconds": sum(seconds),
            "median_tokens_per_second": 1 / statistics.median(each) if each else None,
            "padding_share": 1 - sum(tokens[kept]) / sum(slots[kept]) if each else None,
            "first_step_seconds": self._first,
            "warmup_seconds": ends[begin - 1] - ends[0],
        }


def time_bulk(
    job: Job,
    started: float,
    answer: Callable[[list[str]], Sequence[int]],
    order: Callable[[list[str], list[int]], list[int]] | None = None,
) -> Found:
    """Time many texts at once, from text to label, in the order in which they were given.

    Args:
        job: what is measured.
        started: `time.time()` when the process was started.
        answer: gives the label 0/1 of each text.
        order: of texts and their tokens, the row numbers in which padded batches take them; None
            where nothing is padded.
    """
    texts, labels = job.rows("eval")
    split = job.warmup * job.batch_size
    begin = time.perf_counter()
    warm = list(answer(texts[:split]))
    warmed, ready = time.perf_counter(), time.time()
    answers = list(answer(texts[split:]))
    seconds = time.perf_counter() - warmed
    assert len(answers) == len(texts) - split, "an answer for each text"
    right = sum(a == b for a, b in zip([*warm, *answers], labels, strict=True))
    share = None
    if order is not None:
        lengths = job.lengths()[split:]
        rows = order(texts[split:], lengths)
        share = padding_share([lengths[row] for row in rows], job.batch_size)
    return {
        "samples": len(answers),
        "seconds": seconds,
        "padding_share": share,
        "warmup_seconds": warmed - begin,
        "first_step_seconds": ready - started,
        "accuracy": right / len(labels),
    }


def time_single(job: Job, started: float, answer: Callable[[str], int]) -> Found:
    """Time one text after the other, from text to label."""
    texts, labels = job.rows("eval")
    first = 0.0
    taken, right = [], 0
    for text, label in zip(texts, labels, strict=True):
        start = time.perf_counter()
        right += answer(text) == label
        taken.append(time.perf_counter() - start)
        first = first or time.time() - started
    kept = taken[job.warmup :]
    return {
        "samples": len(kept),
        "seconds": sum(kept),
        "median_ms": 1000 * statistics.median(kept),
        "ms_95": 1000 * sorted(kept)[math.ceil(0.95 * (len(kept) - 1))],
        "warmup_seconds": sum(taken[: job.warmup]),
        "first_step_seconds": first,
        "accuracy": right / len(labels),
    }


def by_length(texts: Sequence[Any]) -> list[int]:
    """Row numbers, longest first: of texts by characters, of lists of ids by tokens."""
    return sorted(range(len(texts)), key=lambda row: -len(texts[row]))


def batches_of(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of `size` in order, the last one smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def padding_share(lengths: Sequence[int], size: int) -> float:
    """The share of padding where batches of texts, of these lengths in this order, are padded."""
    slots = sum(len(part) * max(part) for part in batches_of(lengths, size))
    return 1 - sum(lengths) / slots


def peak_memory_mb() -> float:
    """Of this process, in MB."""
    kilobytes: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 1024
