"""A temperature that is fitted on held-out rows, kept, and answered by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import UsageError
from bertolt.checkpoint.contract import Contract
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.models.config import BertConfig
from bertolt.tasks.base import Output, Task
from bertolt.tasks.evaluation import Scores
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.regression import Regression
from bertolt.tasks.scorers.calibration import Heat
from bertolt.tasks.text_classification import TextClassification

LABELS = ("a", "b", "c")
ONE = TextClassification(LABELS, "a")
SEVERAL = MultiLabelClassification(LABELS, (0.5, 0.3, 0.7), ("a",))


def rows(task: Task, count: int = 400) -> list[tuple[Output, dict[str, Any]]]:
    """Outputs that are far too sure, with what is true."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, (count, 3))
    made = []
    for values in logits:
        if task is ONE:
            sure, plain = np.exp(4 * values), np.exp(values)
            label: Any = LABELS[generator.choice(3, p=plain / plain.sum())]
            shares = sure / sure.sum()
        else:
            shares = 1 / (1 + np.exp(-4 * values))
            there = generator.random(3) < 1 / (1 + np.exp(-values))
            label = [name for name, flag in zip(LABELS, there, strict=True) if flag]
        made.append((Output([shares.astype(np.float32)], []), {"text": "x", "label": label}))
    return made


def tuned_on(task: Task, made: list[tuple[Output, dict[str, Any]]]) -> Task:
    scorer = task.scorer()
    for output, example in made:
        scorer.add(task.decode(output, example), example)
    return task.tuned(scorer)


@pytest.mark.parametrize("task", [ONE, SEVERAL], ids=["one label", "several labels"])
def test_probabilities_change_and_answers_do_not(task: Any) -> None:
    made = rows(task)
    plain, warm = tuned_on(task, made), tuned_on(task.to_calibrate(), made)
    assert plain.heat == Heat()
    assert warm.heat.temperature == pytest.approx(4, rel=0.2)
    assert warm.heat.rows == 400
    name = "label" if task is ONE else "labels"
    if task is ONE:
        plain = task
    for output, example in made:
        before, after = plain.decode(output, example), warm.decode(output, example)
        assert after[name] == before[name]
        assert after["probabilities"] != before["probabilities"]
    scorer = warm.scorer()
    scorer.settle()
    for output, example in made:
        scorer.add(warm.decode(output, example), example)
    values = scorer.values()
    assert values["ece"] < values["ece_before"] / 2
    assert values["temperature"] == warm.heat.temperature
    assert "fitted on 400 held-out rows" in "\n".join(scorer.lines(0.5))
    config = BertConfig(**warm.config_changes())
    settings = json.loads(json.dumps(warm.settings()))
    assert type(warm).restore(config, settings) == warm
    block = next(each for each in scorer.explain()["blocks"] if each.get("id") == "calibration")
    assert sum(block["blocks"][1]["counts"]) == (400 if task is ONE else 1200)


def test_right_answers_alone_leave_the_probabilities_as_they_are() -> None:
    made = [
        (output, example | {"label": ONE.decode(output, example)["label"]})
        for output, example in rows(ONE)
    ]
    warm: Any = tuned_on(ONE.to_calibrate(), made)
    assert not warm.heat.fitted
    scorer = warm.scorer()
    for output, example in made:
        scorer.add(warm.decode(output, example), example)
    told = str(Scores(task=warm, scorer=scorer, loss=0.5, mistakes=[], tuned=True))
    assert "chosen on these very rows" not in told
    error = next(line for line in told.splitlines() if "calibration error" in line)
    assert error.endswith("no temperature was fitted: " + warm.heat.why)
    assert "all is right already" in warm.heat.why


@pytest.mark.parametrize("task", [ONE, SEVERAL], ids=["one label", "several labels"])
def test_answers_that_are_not_finite_are_scored_and_fit_nothing(task: Any) -> None:
    made = rows(task, 30)
    made[3][0].windows[0][:] = np.nan
    warm = tuned_on(task.to_calibrate(), made)
    assert not warm.heat.fitted
    scorer = warm.scorer()
    for output, example in made:
        scorer.add(warm.decode(output, example), example)
    assert sum(each["count"] for each in scorer.values()["calibration"]["equal_width"]) in (29, 87)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0}, {"temperature": "1"}, {"temperature": 2.0, "temperature_rows": 1.5}],
)
def test_a_contract_with_no_temperature_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="temperature"):
        TextClassification.restore(BertConfig(**ONE.config_changes()), settings)


def test_what_has_no_temperature_is_refused() -> None:
    with pytest.raises(UsageError, match="no labels whose probabilities") as refused:
        Regression(("y",), (0.0,), (1.0,)).to_calibrate()
    assert refused.value.place == "--calibrate"
    with pytest.raises(UsageError, match="fitted on held-out rows"):
        FinetuneOptions(calibrate=True, test_size=0)


def test_a_run_keeps_what_it_fitted(
    tiny_folder: Path, reviews_csv: Path, tmp_path: Path, bertolt: Callable[..., Any]
) -> None:
    words = ["--model", tiny_folder, "--out", tmp_path / "out", "--precision", "fp32"]
    noisy = tmp_path / "noisy.csv"  # every fifth label is turned, so that some answers are wrong
    lines = reviews_csv.read_text(encoding="utf-8").splitlines()
    turned = {"pos": "neg", "neg": "pos"}
    for number in range(5, len(lines), 5):
        text, _, label = lines[number].rpartition(",")
        lines[number] = f"{text},{turned[label]}"
    noisy.write_text("\n".join(lines), encoding="utf-8")
    ended = bertolt(
        "finetune", noisy, *words, "--calibrate", "--epochs", 6, "--lr", 5e-3, "--batch-size", 8
    )
    assert ended[0] == 0, ended
    settings = Contract.read(tmp_path / "out").settings  # type: ignore[union-attr]
    assert settings["temperature_rows"] == 16
    printed = bertolt("evaluate", tmp_path / "out", noisy, "--json", "--precision", "fp32")
    values = json.loads(printed[1])
    assert values["temperature"] == settings["temperature"]
    assert values["ece"] != values["ece_before"]
