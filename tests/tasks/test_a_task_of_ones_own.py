"""A task defined outside of the package goes through every command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt import BertForSequenceClassification, Predictor
from bertolt.data.cells import label_cell, text_cell
from bertolt.tasks import base, page


@dataclass(frozen=True)
class Stars(base.Task):
    """How many stars a text deserves: classes in order, answered by their mean."""

    name = "stars"
    primary = base.Primary(name="mae", title="MAE", greater=False)
    head = BertForSequenceClassification
    stars: tuple[int, ...] = (1, 2, 3, 4, 5)

    @classmethod
    def recognise(cls, sample: Any, reading: Any) -> str:
        return "stars" if sample.columns.get("label") == ["stars"] else ""

    @classmethod
    def cells(cls, sample: Any, reading: Any) -> Any:
        label = {"label": label_cell(["stars"])} if "label" in sample.columns else {}
        return {"text": text_cell(sample.columns["text"]), **label}

    @classmethod
    def infer(cls, table: Any, train: Any, reading: Any) -> Stars:
        return cls(tuple(sorted({int(star) for star in table.labels_at(train)})))

    @classmethod
    def restore(cls, config: Any, settings: Mapping[str, Any]) -> Stars:
        return cls(tuple(settings["stars"]))

    @classmethod
    def serves(cls, config: Any) -> bool:
        return False

    def config_changes(self) -> dict[str, Any]:
        names = {index: f"{star} stars" for index, star in enumerate(self.stars)}
        return {"id2label": names, "problem_type": "single_label_classification"}

    def settings(self) -> dict[str, Any]:
        return {"stars": list(self.stars)}

    def targets(self, table: Any, index: Any, rows: Any) -> Any:
        return np.array([self.stars.index(int(star)) for star in table.labels_at(index)])

    def activate(self, logits: Any) -> Any:
        return logits.softmax(-1)

    def decode(self, output: base.Output, example: base.Example) -> base.Answer:
        return {"stars": float(output.windows[0] @ np.array(self.stars))}

    def scorer(self) -> Errors:
        return Errors()

    def describe_answer(self, answer: base.Answer) -> str:
        return f"{answer['stars']:.1f}"

    def truth(self, example: base.Example) -> str:
        return str(example["label"])

    def flat_names(self) -> list[str]:
        return ["stars"]

    def flat(self, answer: base.Answer) -> list[Any]:
        return [answer["stars"]]


class Errors(base.Scorer):
    shown = ("mae",)

    def __init__(self) -> None:
        self.sums = np.zeros(2)

    def add(self, answer: base.Answer, example: base.Example) -> float:
        error = abs(answer["stars"] - int(example["label"]))
        self.sums += [error, 1]
        return float(error)

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def merge(self, state: Mapping[str, Any]) -> None:
        self.sums += state["sums"]

    def values(self) -> dict[str, Any]:
        return {"mae": float(self.sums[0] / self.sums[1]), "rows": int(self.sums[1])}

    def lines(self, loss: float) -> Iterator[str]:
        yield f"off by {self.values()['mae']:.2f} stars"

    def explain(self) -> dict[str, Any]:
        value, rows = page.measure(self.values()["mae"]), self.values()["rows"]
        return page.part(page.headline("MAE", value, rows, None, format="number", scale=None))


@pytest.fixture
def stars() -> Iterator[None]:
    base.register(Stars)
    yield
    del base.TASKS["stars"]


@pytest.mark.usefixtures("stars")
def test_it_goes_through_every_command(
    reviews: list[tuple[str, str]],
    tiny_folder: Path,
    tmp_path: Path,
    bertolt: Callable[..., Any],
) -> None:
    path, out = tmp_path / "films.csv", tmp_path / "out"
    rows = [(text, 5 if label == "pos" else 1) for text, label in reviews]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "stars"), *rows])
    options = ("--model", tiny_folder, "--out", out, "--lr", "3e-3", "--batch-size", "8")
    code, _, err = bertolt("finetune", path, *options, "--epochs", "10", "--precision", "fp32")
    assert code == 0, err
    assert "Task: stars" in err
    assert "off by 0." in err
    measured = json.loads((out / "metrics.json").read_text())["eval"]
    assert measured["primary"] == "mae"
    assert measured["mae"] < 1
    code, told, _ = bertolt("evaluate", out, path, "--json", "--precision", "fp32")
    assert (code, json.loads(told)["rows"]) == (0, 80)
    code, told, _ = bertolt("predict", out, "--text", "a great film", "--precision", "fp32")
    assert json.loads(told)["stars"] > 3
    code, told, _ = bertolt("predict", out, path, "--format", "csv", "--keep", "stars")
    assert told.startswith("row,kept_stars,text,stars,tokens_cut\n")
    assert bertolt("inspect", out, "--selftest")[0] == 0
    before = (out / "report.html").read_bytes()
    assert bertolt("report", out)[0] == 0
    assert (out / "report.html").read_bytes() == before
    assert b"MAE" in before
    assert Predictor.from_pretrained(out).task == Stars((1, 5))
