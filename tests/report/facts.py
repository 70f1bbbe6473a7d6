"""Facts of runs that never were, as `run.json` holds them, and a strict reader of pages."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np

from bertolt.commands.finetune.record import task_part
from bertolt.pretrain.record import explain as explain_pretraining
from bertolt.report import plain
from bertolt.tasks.evaluation import Scores, WrongRow
from bertolt.tasks.page import label_rows
from bertolt.tasks.text_classification import TextClassification

HOSTILE = "<script>alert('x')</script>\"&\x00\x1b\u202e\u2028\ud800"
VOID = {"meta", "link", "br", "img", "hr", "input"}

Facts = dict[str, Any]


def scored(names: Sequence[str], counts: Sequence[Sequence[int]], mistakes: int = 3) -> Scores:
    """Scores of these counts."""
    labels = tuple(names)
    totals = [sum(row) for row in counts]
    task = TextClassification(labels, labels[totals.index(max(totals))])
    scorer = task.scorer()
    scorer.confusion.counts[:] = counts
    wrong = [
        WrongRow(0.99 - i / 100, i, {"label": labels[-1], "probability": 0.99 - i / 100})
        for i in range(mistakes)
    ]
    return Scores(task=task, scorer=scorer, loss=0.398, mistakes=wrong)


def explained(
    scores: Scores | None, labels: Sequence[str] = ("negative", "positive"), text: str = "Sentence"
) -> Facts:
    """The parts of the facts that are particular to text classification."""
    task = scores.task if scores else TextClassification(tuple(labels))
    rows = np.ones(len(task.labels), dtype=np.int64)
    examples = [
        {"row": 1000 + wrong.row, "text": f"{text} {wrong.row}", "label": task.labels[0]}
        for wrong in (scores.mistakes if scores else [])
    ]
    return task_part(task, scores, [label_rows(task.labels, 100 * rows, 50 * rows)], examples, {})


def curve(steps: int) -> dict[str, list[float]]:
    """A falling loss, and what else a step has."""
    numbers = range(1, steps + 1)
    return {
        "step": list(numbers),
        "loss": [0.1 + 0.6 / (1 + step / 50) + 0.05 * (step % 7) for step in numbers],
        "learning_rate": [1e-4 * (1 - step / (steps + 1)) for step in numbers],
        "grad_norm": [1 + step % 3 for step in numbers],
        "samples_per_second": [100 + step % 11 for step in numbers],
    }


def loaded(status: str, name: str, count: int, note: str = "") -> Facts:
    """A row of the load report."""
    return {"status": status, "name": name, "count": count, "note": note}


def evaluated(step: int, **metrics: float | None) -> Facts:
    """An evaluation while training."""
    return {"step": step, "metrics": metrics}


_ANY = {
    "format": 1,
    "started": "2025-11-23 14:02",
    "duration_seconds": 214.7,
    "version": "0.1.0",
    "stopped_early": "",
    "machine": {
        "cpu": "A processor",
        "cores": 2,
        "memory_bytes": 16 * 2**30,
        "torch_threads": 2,
        "device": "cpu",
        "precision": "fp32",
        "precision_reason": "this processor has no bf16 instructions",
        "attention": "grouped",
        "attention_reason": "tensors on the CPU",
        "os": "Linux 6.1",
        "python": "3.11.2",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    },
    "model": {
        "source": "a checkpoint",
        "architecture": "BertForSequenceClassification",
        "layers": 6,
        "hidden_size": 384,
        "heads": 12,
        "vocabulary_size": 30522,
        "parameters": 22_713_986,
        "load_report": [
            loaded("loaded", "encoder.layer.{0..5}.attention.self.query.weight", 6),
            loaded("initialised", "classifier.weight", 1, "normal, std 0.02"),
        ],
    },
}
_ROWS = {
    "files": {"train": "films.csv", "eval": None},
    "columns": [
        {"role": "text", "column": "sentence", "how": "the only column of that name"},
        {"role": "label", "column": "label", "how": "named by --label"},
    ],
    "rows_read": 10_605,
    "dropped": [{"reason": "empty text", "count": 12, "first_rows": [7, 1034]}],
    "split": "20% held out, seed 0",
    "train_rows": 8472,
    "eval_rows": 2121,
    "lengths": {
        "edges": [0, 128, 256, 384, 512, 640],
        "counts": [900, 300, 90, 20, 10],
        "max_length": 512,
        "max_length_source": "the model's position table",
        "longer": "read in windows of 512 tokens",
        "texts_parted": 12,
        "windows": 1361,
        "texts": 1320,
        "texts_cut": 10,
        "tokens": 200_000,
        "tokens_cut": 640,
    },
    "repeated": 0,
}


def finetuned(steps: int = 200, scores: Scores | None = None, **changes: Any) -> Facts:
    """The facts of a fine-tuning run; a dict among the changes changes parts of a part."""
    facts = {
        **copy.deepcopy(_ANY),
        "kind": "finetune",
        "task": "text-classification",
        "title": "Film sentences",
        "command": "bertolt finetune films.csv --epochs 3",
        "data": copy.deepcopy(_ROWS),
        "training": {
            "curve": curve(steps),
            "eval_points": [evaluated(s, loss=0.4, accuracy=0.8 + s / 5000) for s in (100, 200)],
            "unit": "samples",
            "steps": steps,
            "epochs": 3.0,
            "samples_per_second": 118.4,
            "tokens_per_second": 3051.0,
            "padding_share": None,
        },
        "arguments": {"epochs": 3, "learning_rate": 1e-4, "max_length": None},
        **explained(scores or scored(["negative", "positive"], [[890, 161], [156, 914]])),
    }
    return changed(facts, **changes)


def bare(**changes: Any) -> Facts:
    """Nothing measured and nothing to draw: quick to render."""
    nothing = {"curve": {"step": []}, "eval_points": [], "steps": 0, "epochs": 0.0}
    rows = {"dropped": [], "lengths": None, "train_rows": 0, "eval_rows": 0}
    facts = finetuned(training=nothing, data=rows, model={"load_report": []}, **explained(None))
    return changed(facts, **changes)


def changed(facts: Facts, **changes: Any) -> Facts:
    """The facts with some of them changed, as JSON would hold them."""
    merged = {
        name: facts[name] | value
        if isinstance(value, dict) and isinstance(facts.get(name), dict)
        else value
        for name, value in changes.items()
    }
    result: Facts = plain(facts | merged)
    return result


def pretrained(pairs: bool = True, steps: int = 200, stuck: str = "", **corpus: Any) -> Facts:
    """The facts of a pretraining run over such a corpus."""
    columns = curve(steps)
    columns["tokens_per_second"] = [30_000.0 + step for step in columns["step"]]
    columns["peak_share"] = [0.4] * steps
    points = []
    for step in range(50, steps + 1, 50):
        point = evaluated(step, loss=4.0 - step / 100, masked_accuracy=step / 500)
        if pairs:
            point["metrics"]["masked_loss"] = point["metrics"]["loss"]
            point["metrics"]["loss"] += 0.5
            point["metrics"]["next_sentence_accuracy"] = 0.5 + step / 500
        points.append(point)
    facts = {
        **copy.deepcopy(_ANY),
        "kind": "pretrain",
        "task": None,
        "title": "my-corpus: mlm+nsp",
        "command": "bertolt pretrain my-corpus --steps 200",
        "data": _CORPUS | corpus,
        "training": {
            "curve": columns,
            "eval_points": points,
            "unit": "tokens",
            "steps": steps,
            "epochs": 11.3,
            "samples_per_second": 200.0,
            "tokens_per_second": 30_123.0,
            "padding_share": 0.0042,
            "tokens": 33_000_000,
            "flops_per_second": 3.1e11,
            "peak_share": 0.42,
        },
        "arguments": {"mask": 0.2},
    }
    facts["model"]["load_report"] = []
    result: Facts = plain(facts | explain_pretraining(facts, stuck))
    return result


_CORPUS = {
    "folder": "my-corpus",
    "fingerprint": "0123456789abcdef",
    "objective": "mlm+nsp",
    "max_length": 128,
    "documents": 2479,
    "sentences": 9777,
    "tokens": 2_900_000,
    "held_out_documents": 25,
    "held_out_tokens": 31_000,
    "measured_tokens": 33_210,
    "sources": [
        {"name": "reviews.csv", "documents": 2000, "sentences": 7000, "tokens": 2_000_000},
        {"name": "news", "documents": 504, "sentences": 2900, "tokens": 931_000},
    ],
    "warnings": [],
    "token_entropy": 6.19,
    "pairs_baseline": 0.512,
    "left_out": 0,
}


class Page(HTMLParser):
    """Parses a page strictly: every element is closed where it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>: {names}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    @property
    def attributes(self) -> list[tuple[str, str, str]]:
        """Element, name and value of each."""
        return [(tag, *pair) for tag, attributes in self.elements for pair in attributes.items()]

    @property
    def ids(self) -> list[str]:
        return self.attribute("id")

    @property
    def sections(self) -> list[str]:
        """Anchors of the sections, in their order."""
        return [attributes["id"] for attributes in self.all("section") if "id" in attributes]

    @property
    def links(self) -> set[str]:
        """Anchors that something on the page links to."""
        return {value[1:] for value in self.attribute("href") if value.startswith("#")}

    def attribute(self, name: str) -> list[str]:
        """Values of an attribute, wherever it is."""
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such element."""
        return [attributes for name, attributes in self.elements if name == tag]
