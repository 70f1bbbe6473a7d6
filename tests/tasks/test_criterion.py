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
from bertolt.models.losses import BinaryCriterion, Criterion, sequence_loss, span_loss, token_loss
from bertolt.tasks.criterion import LossChoices, criterion_of, criterion_of_sets, facts_of
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.regression import Regression
from bertolt.tasks.text_classification import TextClassification

LABELS = ("bad", "fair", "good")
TARGETS = np.array([0, 2, 2, 2, 1, 2, -100, 2])
FLAGS = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=np.float32)


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
    """Each by itself; of both together a row weighs as its own label says."""
    logits, labels = logits_and_labels()
    weights = torch.tensor([2.0, 0.5, 1.0])
    weighted = F.cross_entropy(logits, labels, weights, reduction="sum")
    assert Criterion(weights)(logits, labels).total == pytest.approx(weighted)
    terms = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    assert Criterion(smoothing=0.1)(logits, labels).total == pytest.approx(terms.sum())
    known = labels >= 0
    expected = (weights[labels[known]] * terms[known]).sum()
    assert Criterion(weights, smoothing=0.1)(logits, labels).total == pytest.approx(expected)


def test_smoothing_teaches_no_rare_label_however_much_it_weighs() -> None:
    """The logits with the least loss for a row are for its own label."""
    logits = torch.zeros(1, 2, requires_grad=True)
    flag = torch.zeros(1, 1, requires_grad=True)
    descent = torch.optim.SGD([logits, flag], lr=2.0)
    one = Criterion(torch.tensor([0.5, 50.0]), smoothing=0.1)
    several = BinaryCriterion(torch.tensor([99.0]), smoothing=0.1)
    for _ in range(400):
        descent.zero_grad()
        loss = one(logits, torch.tensor([0])).total + several(flag, torch.zeros(1, 1)).total
        loss.backward()
        descent.step()
    np.testing.assert_allclose(logits.softmax(-1).detach(), [[0.95, 0.05]], atol=1e-3)
    np.testing.assert_allclose(flag.sigmoid().detach(), [[0.05]], atol=1e-3)


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


def logits_and_flags() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(5, 3), torch.from_numpy(FLAGS)


def test_weights_of_several_labels_are_the_pos_weight_of_torch() -> None:
    logits, flags = logits_and_flags()
    weights = torch.tensor([3.0, 0.5, 1.0])
    term = BinaryCriterion(weights)(logits, flags)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=weights)(logits, flags)
    assert term.total / term.count == pytest.approx(theirs)
    plain = sequence_loss(logits, flags, "multi_label_classification")
    same = BinaryCriterion()(logits, flags)
    assert same.total == pytest.approx(plain.total)
    assert same.count == plain.count == 5


def test_smoothing_of_several_labels_is_half_for_each_answer() -> None:
    logits, flags = logits_and_flags()
    weights = torch.tensor([3.0, 0.5, 1.0])
    term = BinaryCriterion(weights, smoothing=0.2)(logits, flags)
    soft = torch.where(flags == 1, 0.9, 0.1)
    terms = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    own = torch.where(flags == 1, weights, 1.0)
    assert term.total / term.count == pytest.approx((own * terms).mean())


def test_focal_loss_of_several_labels_by_hand() -> None:
    logits, flags = logits_and_flags()
    shares = logits.sigmoid()
    right = torch.where(flags == 1, shares, 1 - shares)
    expected = (-((1 - right) ** 2) * right.log()).mean()
    term = BinaryCriterion(focal=2.0)(logits, flags)
    assert term.total / term.count == pytest.approx(expected)
    # One label at p = 0.9 and one at p = 0.2: 0.1^2 · -ln 0.9 and 0.8^2 · -ln 0.2, halved.
    few = torch.tensor([[0.9, 0.8]]).logit()
    term = BinaryCriterion(focal=2.0)(few, torch.tensor([[1.0, 0.0]]))
    assert term.total == pytest.approx(0.5155469, rel=1e-5)


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0])
def test_a_certain_answer_has_a_finite_slope(focal: float) -> None:
    """A power below 1 is infinitely steep at 0, where a certain answer is."""
    logits = torch.tensor([[200.0, -200.0], [0.3, 0.1]], requires_grad=True)
    for term in (
        Criterion(focal=focal)(logits, torch.tensor([0, 1])),
        Criterion(focal=focal, smoothing=0.1, ragged=True)(logits, torch.tensor([0, 1])),
        BinaryCriterion(focal=focal)(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
    ):
        (slope,) = torch.autograd.grad(term.total, logits)
        assert slope.isfinite().all()
        assert slope[1].abs().min() > 0


def test_with_auto_rows_with_and_without_a_label_weigh_alike() -> None:
    task = MultiLabelClassification(LABELS, (0.5,) * 3)
    criterion = task.criterion(LossChoices(class_weights="auto"), FLAGS)
    assert isinstance(criterion, BinaryCriterion)
    assert criterion.weights is not None
    # 3 rows without "bad" for 2 with it; "fair" is in no row, and "good" in all of them.
    assert criterion.weights.tolist() == [1.5, 1.0, 1.0]
    assert criterion_of_sets(LossChoices(), LABELS, FLAGS) is None


def test_weights_of_a_file_are_taken_as_they_stand_for_several_labels(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"bad": 3}))
    criterion = criterion_of_sets(LossChoices(class_weights=str(path)), LABELS, FLAGS)
    assert facts_of(criterion, LABELS) == {
        "of": "binary cross-entropy",
        "class_weights": {"bad": 3.0, "fair": 1.0, "good": 1.0},
        "focal": 0.0,
        "label_smoothing": 0.0,
    }
    path.write_text(json.dumps({"goof": 3}))
    with pytest.raises(DataError, match="there is no label 'goof'"):
        criterion_of_sets(LossChoices(class_weights=str(path)), LABELS, FLAGS)


def test_smoothing_over_choices_leaves_out_those_that_a_row_does_not_have() -> None:
    torch.manual_seed(2)
    logits = torch.randn(3, 4)
    logits[1, 2:] = -torch.inf
    labels = torch.tensor([3, 1, -100])
    logits.requires_grad_()
    term = Criterion(smoothing=0.1, ragged=True)(logits, labels)
    each = [
        F.cross_entropy(row[:size], label, label_smoothing=0.1)
        for row, size, label in zip(logits[:2], (4, 2), labels, strict=False)
    ]
    assert term.total.item() == pytest.approx(torch.stack(each).sum().item())
    assert term.count == 2
    (slope,) = torch.autograd.grad(term.total, logits)
    assert slope.isfinite().all()
    assert slope[1, 2:].abs().sum() == slope[2].abs().sum() == 0


def test_smoothing_of_an_end_is_over_the_tokens_of_its_own_window() -> None:
    torch.manual_seed(3)
    batch = PackedBatch.from_sequences([np.arange(5), np.arange(3), np.arange(4)])
    logits, places = torch.randn(12), torch.tensor([4, 0, 9])
    criterion = Criterion(focal=1.0, smoothing=0.1, ragged=True)
    term = span_loss(logits, places, batch, criterion)
    total = torch.zeros(())
    for start, end, place in ((0, 5, 4), (5, 8, 0)):  # the third stands outside of its window
        row, label = logits[start:end], torch.tensor(place)
        wrong = 1 - row.softmax(-1)[label]
        total += wrong * F.cross_entropy(row, label, label_smoothing=0.1)
    assert term.total == pytest.approx(total)
    assert term.count == 2


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (MultipleChoice(), "choices are other texts in each row"),
        (QuestionAnswering(), "answers are places in texts"),
    ],
)
def test_what_has_no_names_has_no_weights(task: Any, words: str) -> None:
    assert task.criterion(LossChoices(), TARGETS) is None
    assert task.criterion(LossChoices(focal=2.0), TARGETS) == Criterion(focal=2.0, ragged=True)
    with pytest.raises(UsageError, match=words) as refused:
        task.criterion(LossChoices(class_weights="auto", focal=2.0), TARGETS)
    assert refused.value.place == "--class-weights"
    assert refused.value.fix == "leave it out; --focal and --label-smoothing are taken"


def test_a_head_of_several_labels_learns_by_it(tiny_config: Any, randomised: Any) -> None:
    config = tiny_config(num_labels=3, problem_type="multi_label_classification")
    model = randomised(BertForSequenceClassification(config)).eval()
    batch = PackedBatch.from_sequences(
        [np.array([2, 5, 3]), np.array([2, 3])], labels=torch.from_numpy(FLAGS[:2])
    )
    model.criterion = BinaryCriterion(torch.tensor([3.0, 0.5, 1.0]))
    with torch.no_grad():
        output = model(batch)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=model.criterion.weights)
    assert output.loss == pytest.approx(theirs(output.logits, torch.from_numpy(FLAGS[:2])))


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
