"""The model that training begins with: outputs are taken over by their names, or are new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt.base.errors import CheckpointError
from bertolt.checkpoint.contract import Contract
from bertolt.models import heads
from bertolt.models.families.roberta import RobertaConfig
from bertolt.tasks.base import Task
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.regression import Regression
from bertolt.tasks.start import started
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.token_classification import TokenClassification


@pytest.fixture
def saved(tiny_config: Any, randomised: Any, tmp_path: Path) -> Callable[..., Any]:
    """A model of a task with random weights, and its folder."""

    def make(task: Task, *, contract: bool = True, **config: Any) -> tuple[Any, Path]:
        model = randomised(task.head(tiny_config(**config).changed(**task.config_changes())))
        model.save_pretrained(tmp_path / "model")
        if contract:
            Contract(
                task=task.name,
                columns={"text": ["text"]},
                settings=task.settings(),
                max_length=16,
                library_version="0",
            ).write(tmp_path / "model")
        return model, tmp_path / "model"

    return make


def several(*labels: str) -> MultiLabelClassification:
    return MultiLabelClassification(labels, (0.5,) * len(labels))


@pytest.mark.parametrize(
    ("theirs", "ours", "places", "said"),
    [
        (TextClassification(("p", "n")), TextClassification(("n", "p")), [1, 0], "'n', 'p' taken"),
        (
            TextClassification(("p", "n")),
            TextClassification(("a", "n", "p")),
            [None, 1, 0],
            "'n', 'p' taken over by name; new: 'a'",
        ),
        (several("x", "y", "z"), several("z", "x"), [2, 0], "by name; left out: 'y'"),
        (
            TokenClassification(("O", "B-A", "B-B")),
            TokenClassification(("B-B", "O", "B-C")),
            [2, 0, None],
            "new: 'B-C'; left out: 'B-A'",
        ),
        (
            TextClassification(("n", "p")),
            TextClassification(("a", "b")),
            [None, None],
            "a new one for text-classification with 'a', 'b'; the model had one for "
            "text-classification with 'n', 'p'",
        ),
        (
            TokenClassification(("O", "B-A")),
            TextClassification(("O", "B-A")),
            [None, None],
            "the model had one for token-classification",
        ),
        (several("n", "p"), TextClassification(("n", "p")), [None, None], "for multi-label"),
        (
            Regression(("score",), (0.0,), (1.0,)),
            MultipleChoice(),
            [None],
            "a new one for multiple-choice; the model had one for regression with 'score'",
        ),
        (TextClassification(("n", "p", "q")), MultipleChoice(), [None], "a new one for multiple"),
    ],
)
@pytest.mark.parametrize("config", [{}, {"kind": RobertaConfig}])
def test_outputs_are_taken_over_by_their_names(
    saved: Any,
    theirs: Task,
    ours: Task,
    places: list[int | None],
    said: str,
    config: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, folder = saved(theirs, **config)
    model = started(ours, folder)
    old, new = (each.get_submodule(each._output_layer) for each in (before, model))
    if before._output_layer == model._output_layer:
        assert said in capsys.readouterr().err
    assert len(new.weight) == len(places)
    for row, place in enumerate(places):
        taken = (new.weight[row] == old.weight).all(dim=1)
        assert taken.nonzero().flatten().tolist() == ([] if place is None else [place])
        assert new.bias[row] == (0.0 if place is None else old.bias[place])
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(
        model.base_model.get_parameter(words), before.base_model.get_parameter(words)
    )
    whole = None not in places
    assert model.load_report is not None
    assert bool(model.load_report.initialised) != whole
    told = str(model.load_report)
    partly = any(place is not None for place in places) and not whole
    assert ("from the file in part: " in told) == partly
    if partly:
        taken = sum(place is not None for place in places)
        assert f"{taken} of {len(places)} outputs, by name; the others: normal" in told
        assert not {"new, not from the file", "excused"} & {
            line.split(":")[0].strip()
            for line in told.splitlines()
            if model._output_layer and model._output_layer in line
        }


def test_numbers_are_taken_over_in_the_units_of_the_rows(saved: Any) -> None:
    before, folder = saved(Regression(("a", "b"), (10.0, 0.0), (2.0, 1.0)))
    model = started(Regression(("b", "a"), (1.0, 4.0), (2.0, 3.0)), folder)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        old, new = before(ids).logits[0], model.eval()(ids).logits[0]
    assert new[1] * 3 + 4 == pytest.approx(float(old[0] * 2 + 10), abs=1e-5)
    assert new[0] * 2 + 1 == pytest.approx(float(old[1]), abs=1e-5)


@pytest.mark.parametrize("labels", [("n", "p"), ("0", "1")])
def test_the_same_labels_and_made_up_names_stay_where_they_are(
    saved: Any, labels: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("LABEL_0", "LABEL_1") if labels[0] == "0" else labels
    before, folder = saved(TextClassification(names), contract=labels[0] != "0")
    model = started(TextClassification(labels), folder)
    assert torch.equal(model.classifier.weight, before.classifier.weight)
    assert torch.equal(model.classifier.bias, before.classifier.bias)
    assert "new" not in capsys.readouterr().err


def test_a_backbone_of_another_size_stays_refused(saved: Any, tiny_config: Any) -> None:
    _, folder = saved(TextClassification(("n", "p")))
    tiny_config(intermediate_size=32, architectures=["BertForSequenceClassification"]).to_json_file(
        folder / "config.json"
    )
    with pytest.raises(CheckpointError, match="in the file and") as refused:
        started(TextClassification(("a", "b", "c")), folder)
    assert "name a folder whose config.json is that of its weights" in str(refused.value)
    assert heads.SequenceClassification._output_layer == "classifier"
