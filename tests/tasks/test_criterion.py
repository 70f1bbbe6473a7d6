"""Losses in another form than plain cross-entropy: weights of labels, focus, smoothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bertolt import BertForSequenceClassification, BertForTokenClassification
from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import PackedBatch
from bertolt.models.losses import Criterion, token_loss
from bertolt.tasks.criterion import LossChoices, criterion_of
from bertolt.tasks.regression import Regression
from bertolt.tasks.text_classification import TextClassification

LABELS = ("bad", "fair", "good")
TARGETS = np.array([0, 2, 2, 2, 1, 2, -100, 2])


def logits_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(8, 3), torch.from_numpy(TARGETS)


def test_without_choices_it_is_the_plain_loss() -> None:
    assert criterion_of(LossChoices(), LABELS, TARGETS) is None
    logits, labels = logits_and_labels()
    plain, ours = token_loss(logits, labels), Criterion()(logits, labels)
    assert ours.total == pytest.approx(plain.total)
    assert ours.count == plain.count == 7


def test_weights_and_smoothing_are_those_of_torch() -> None:
    logits, labels = logits_and_labels()
    weights = torch.tensor([2.0, 0.5, 1.0])
    term = Criterion(weights, smoothing=0.1)(logits, labels)
    expected = F.cross_entropy(logits, labels, weights, label_smoothing=0.1, reduction="sum")
    assert term.total == pytest.approx(expected)


def test_focal_loss_by_hand() -> None:
    logits, labels = logits_and_labels()
    known = labels >= 0
    right = logits.softmax(-1)[known].gather(1, labels[known][:, None])[:, 0]
    expected = (-((1 - right) ** 2) * right.log()).sum()
    assert Criterion(focal=2.0)(logits, labels).total == pytest.approx(expected)


def test_with_auto_every_label_weighs_as_much_as_another_and_the_mean_weight_is_one() -> None:
    criterion = criterion_of(LossChoices(class_weights="auto"), LABELS, TARGETS)
    assert criterion is not None
    assert criterion.weights is not None
    counts = np.array([1, 1, 5])
    weights = criterion.weights.numpy()
    np.testing.assert_allclose(weights * counts, [7 / 3] * 3, rtol=1e-6)
    assert (weights * counts).sum() / 7 == pytest.approx(1.0)


def test_weights_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"bad": 3}))
    criterion = criterion_of(LossChoices(class_weights=str(path)), LABELS, TARGETS)
    assert criterion is not None
    assert criterion.weights is not None
    np.testing.assert_allclose(criterion.weights / criterion.weights[2], [3, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"goof": 1}', "there is no label 'goof'"),
        ('{"good": -1}', "the weight of 'good' is -1"),
        ('{"good": "1"}', "the weight of 'good' is '1'"),
        ('{"good": true}', "the weight of 'good' is True"),
        ('{"good": 1' + "0" * 400 + "}", "the weight of 'good' is 1000"),
        ('{"good": 1e300}', r"the weight of 'good' is 1e\+300"),
        ('{"good": 0, "fair": 0, "bad": 0}', "all weights are 0"),
        ("[1, 2]", "no object of weights"),
        ("{}", "no object of weights"),
        ('{"good": ', "cannot be read"),
        (None, "there is no such file of weights"),
    ],
)
def test_weights_that_cannot_be_are_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "weights.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=words) as refused:
        criterion_of(LossChoices(class_weights=str(path)), LABELS, TARGETS)
    assert str(path) in refused.value.place
    assert refused.value.fix


@pytest.mark.parametrize(
    ("choices", "option"),
    [
        (LossChoices(class_weights="auto"), "--class-weights"),
        (LossChoices(focal=2.0), "--focal"),
        (LossChoices(label_smoothing=0.1), "--label-smoothing"),
    ],
)
def test_a_task_without_classes_refuses_them(choices: LossChoices, option: str) -> None:
    task = Regression(("x",), (0.0,), (1.0,))
    assert task.criterion(LossChoices(), TARGETS) is None
    with pytest.raises(UsageError, match="regression learns something else") as refused:
        task.criterion(choices, TARGETS)
    assert refused.value.place == option


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_a_head_learns_by_it_and_its_files_know_nothing_of_it(
    head: Any, tiny_config: Any, randomised: Any, tmp_path: Path
) -> None:
    model = randomised(head(tiny_config(num_labels=3))).eval()
    per_token = head is BertForTokenClassification
    labels = [[2, 0, -100]] if per_token else [2]
    batch = PackedBatch.from_sequences(
        [np.array([2, 5, 3])],
        labels=None if per_token else torch.tensor(labels),
        token_labels=[np.array(labels[0])] if per_token else None,
    )
    with torch.no_grad():
        plain = model(batch)
    model.criterion = TextClassification(LABELS, "good").criterion(
        LossChoices(class_weights="auto", focal=1.0), TARGETS
    )
    with torch.no_grad():
        output = model(batch)
    flat = torch.tensor(labels).flatten()
    expected = model.criterion(output.logits[: len(flat)], flat)
    assert output.loss == pytest.approx(expected.total.item() / int(expected.count))
    assert output.loss != pytest.approx(plain.loss.item())
    model.save_pretrained(tmp_path)
    assert head.from_pretrained(tmp_path, verbose=False).criterion is None
