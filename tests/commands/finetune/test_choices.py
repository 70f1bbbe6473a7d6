"""Choices of training: which loss, which layers, and when to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt import BertForSequenceClassification, Predictor
from bertolt.base.errors import UsageError
from bertolt.base.json_files import read_json
from bertolt.cli import main
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.report import read_facts
from tests.commands.conftest import ROWS, write_rows


def run(folder: Path, model: Path, **choices: Any) -> Any:
    path = write_rows(folder / "rows.jsonl", ROWS["labels"] * 4)
    options = FinetuneOptions(
        model=str(model), out=folder / "out", precision="fp32", lr=1e-3, **choices
    )
    return finetune(path, options)


def test_frozen_layers_stay_as_they_were_and_the_report_says_it(
    tmp_path: Path, tiny_folder: Path
) -> None:
    run(tmp_path, tiny_folder, epochs=4, freeze=1, layer_decay=0.5, accumulate=2, focal=1.0)
    before = BertForSequenceClassification.from_pretrained(tiny_folder, verbose=False)
    after = BertForSequenceClassification.from_pretrained(tmp_path / "out", verbose=False)
    old = before.bert.state_dict()
    same = {name for name, each in after.bert.state_dict().items() if torch.equal(each, old[name])}
    assert {name for name in same if "layer.1" in name} == set()
    assert {name for name in old if "layer.0" in name or "embeddings" in name} <= same
    arguments = read_facts(tmp_path / "out")["arguments"]
    assert {"freeze": "1", "layer_decay": "0.5", "accumulate": "2"}.items() <= arguments.items()


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path, tiny_folder: Path) -> None:
    result = run(tmp_path, tiny_folder, epochs=9, patience=1, metric="accuracy", freeze="all")
    evaluations = result.history.evaluations
    assert 2 <= len(evaluations) < 9
    best = max(values["eval_accuracy"] for _, values in evaluations)
    assert result.scores.to_dict()["accuracy"] == best


FORMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "several": ("multi-label-classification", ROWS["several"] * 4 + ROWS["several"][:1] * 8),
    "choices": (
        "multiple-choice",
        [
            {"text": "good film", "choices": ["fine film", "bad film", "plot"], "label": "A"},
            {"text": "bad film", "choices": ["good film", "bad plot"], "label": "B"},
        ]
        * 4,
    ),
    "questions": (
        "question-answering",
        [
            {"question": "what film", "context": "a good film", "answer": "good film"},
            {"question": "what plot", "context": "the plot is bad", "answer": "bad"},
        ]
        * 4,
    ),
    "next": (
        "next-sentence-prediction",
        [
            {"first": "good film", "second": "fine plot", "is_next": 1},
            {"first": "good film", "second": "bad film", "is_next": 0},
            {"first": "warm film", "second": "bad plot", "is_next": 0},
        ]
        * 4,
    ),
}
WEIGHTED = ("several", "next")


@pytest.mark.parametrize("name", FORMS)
def test_every_task_of_labels_and_of_choices_learns_by_another_loss(
    tmp_path: Path, tiny_folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line; what the loss was stands in the terminal, the metrics and the page."""
    task, rows = FORMS[name]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    losses = []
    for out, more in (("plain", []), ("other", ["--focal", "1.5", "--label-smoothing", "0.1"])):
        more = [*more, *(["--class-weights", "auto"] if more and name in WEIGHTED else [])]
        columns = ["--text", "first", "--text-pair", "second"] if name == "next" else []
        words = ["finetune", path, "--model", tiny_folder, "--out", tmp_path / out, "--task", task]
        fixed = [*columns, "--epochs", "2", "--lr", "1e-3", "--precision", "fp32", "--seed", "1"]
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), *fixed, *more])
        assert ended.value.code == 0
        losses.append(read_json(tmp_path / out / "metrics.json"))
    plain, other = losses
    of = "binary cross-entropy" if name == "several" else "cross-entropy"
    assert "criterion" not in plain["train"]
    criterion = other["train"]["criterion"]
    weights = criterion.pop("class_weights")
    assert criterion == {"of": of, "focal": 1.5, "label_smoothing": 0.1}
    weighted = "weighted, " if name in WEIGHTED else ""
    told = f"Loss: {of}, {weighted}focal 1.5, labels smoothed by 0.1"
    assert capsys.readouterr().err.count(told) == 1
    assert other["eval"]["loss"] != pytest.approx(plain["eval"]["loss"])
    page = (tmp_path / "other" / "report.html").read_text(encoding="utf-8")
    assert told.removeprefix("Loss: ") in page
    if name == "several":
        assert weights["a"] < 1 < weights["b"]
    assert (weights is not None) == (name in WEIGHTED)
    assert ("Weights of labels in the loss" in page) == (name in WEIGHTED)


def test_the_loss_of_several_labels_is_that_of_torch_to_the_end(
    tmp_path: Path, tiny_folder: Path
) -> None:
    """The loss in the metrics is the mean over the held-out rows by PyTorch's own function."""
    path = write_rows(tmp_path / "rows.jsonl", FORMS["several"][1])
    held_out = write_rows(tmp_path / "held_out.jsonl", ROWS["several"] * 2)
    (tmp_path / "weights.json").write_text('{"a": 0.25, "b": 4}')
    options = FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path / "out",
        eval=held_out,
        precision="fp32",
        class_weights=str(tmp_path / "weights.json"),
    )
    result = finetune(path, options)
    predictor = Predictor.from_pretrained(tmp_path / "out", precision="fp32")
    texts = [row["text"] for row in ROWS["several"] * 2]
    shares = [[a.answer["probabilities"][n] for n in "ab"] for a in predictor.predict(texts)]
    flags = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 2)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.25, 4.0]))
    assert result.scores is not None
    expected = loss(torch.tensor(shares).logit(), flags).item()
    assert result.scores.loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"metric": "rmse", "keep": "best"}, "text-classification give no 'rmse'"),
        ({"freeze": 40}, "40 are to be frozen"),
        ({"class_weights": "weights.json"}, "no such file of weights"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    tmp_path: Path, tiny_folder: Path, choices: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        run(tmp_path, tiny_folder, **choices)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("choices", "place"),
    [
        ({"metric": "accuracy"}, "--metric"),
        ({"patience": 2, "test_size": 0.0}, "--patience"),
        ({"keep": "best", "test_size": 0.0}, "--keep"),
    ],
)
def test_choices_that_do_not_go_together(choices: dict[str, Any], place: str) -> None:
    with pytest.raises(UsageError) as refused:
        FinetuneOptions(**choices)
    assert refused.value.place == place


def test_less_of_an_error_is_better(tmp_path: Path, tiny_folder: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["numbers"] * 4)
    options = FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path / "out",
        keep="best",
        metric="rmse",
        epochs=3,
        lr=1e-3,
        task="regression",
    )
    result = finetune(path, options)
    best = min(values["eval_rmse"] for _, values in result.history.evaluations)
    assert result.scores is not None
    assert result.scores.to_dict()["rmse"] == pytest.approx(best, rel=1e-2)


def test_an_exponent_with_which_nothing_is_learned_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="from 0 to 10"):
        FinetuneOptions(model=str(tiny_folder), focal=1e9)
