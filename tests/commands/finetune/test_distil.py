"""`--distil`: a student that learns from a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bertolt import BertForSequenceClassification, BertForTokenClassification
from bertolt.base.errors import UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import FinetuneResult, finetune
from bertolt.commands.finetune.teacher import load_teacher, with_answers
from bertolt.data.collate import PackingCollator
from bertolt.data.documents import SampledWindows
from bertolt.data.long import LongTexts
from bertolt.models.losses import Distillation, LossTerm
from bertolt.tasks.base import Reading
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.regression import Regression
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from bertolt.tasks.text_classification import TextClassification
from bertolt.train.micro_batches import MicroBatches
from bertolt.train.step import train_step
from tests.conftest import GOOD

Finetune = Callable[..., FinetuneResult]
SINGLE, SEVERAL, NUMBERS = (
    "single_label_classification", "multi_label_classification", "regression",
)  # fmt: skip


def test_the_loss_is_hintons() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(5, 3, generator=draw) for _ in range(2))
    labels = torch.tensor([0, 2, -100, 1, 1])
    hard = LossTerm(torch.tensor(7.0), torch.tensor(4))
    counted = labels != -100

    term = Distillation(SINGLE, 3.0, 0.25)(hard, logits, labels, teacher)
    soft = 9 * F.kl_div(
        (logits / 3).log_softmax(-1)[counted], (teacher / 3).softmax(-1)[counted], reduction="sum"
    )
    assert float(term.total) == pytest.approx(0.75 * 7 + 0.25 * float(soft), rel=1e-5)
    assert int(term.count) == 4

    targets = torch.ones(5, 3)
    term = Distillation(SEVERAL, 3.0, 1.0)(hard, logits, targets, teacher)
    share = (teacher / 3).sigmoid()
    crossed = F.binary_cross_entropy_with_logits(logits / 3, share, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(teacher / 3, share, reduction="sum")
    assert float(term.total) == pytest.approx(9 * float(crossed - entropy) / 3, rel=1e-4)

    term = Distillation(NUMBERS, 3.0, 1.0)(hard, logits, targets, teacher)
    assert float(term.total) == pytest.approx(float(F.mse_loss(logits, teacher)) * 5, rel=1e-5)


def test_outputs_of_a_teacher_are_those_of_the_same_labels() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    ours, theirs = (
        TextClassification(("a", "b", "c"), "a"),
        TextClassification(("c", "a", "b"), "a"),
    )
    assert ours.outputs_of(theirs, logits).tolist() == [[2.0, 3.0, 1.0]]
    several = [MultiLabelClassification.restore(task_config(names), {}) for names in ("ab", "ba")]
    assert several[0].outputs_of(several[1], logits[:, :2]).tolist() == [[2.0, 1.0]]
    numbers = Regression(("x",), (10.0,), (2.0,)), Regression(("x",), (4.0,), (4.0,))
    # 0.5 of the teacher is 6, which is 2 of its scales below the mean of the student.
    assert numbers[0].outputs_of(numbers[1], torch.tensor([[0.5]])).tolist() == [[-2.0]]
    with pytest.raises(UsageError, match="the teacher has the labels c, a, b"):
        TextClassification(("a", "b", "d"), "a").outputs_of(theirs, logits)


def task_config(names: str) -> Any:
    from bertolt import BertConfig

    return BertConfig(id2label=dict(enumerate(names)), problem_type=SEVERAL)


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_parts_of_a_batch_have_its_gradients(
    head: Any, tiny_config: Any, randomised: Any, same_gradients: Any
) -> None:
    draw = np.random.default_rng(0)
    rows = []
    for length in (5, 2, 9, 4):
        row: dict[str, Any] = {"input_ids": draw.integers(5, 97, length).tolist()}
        per_token = head is BertForTokenClassification
        row["labels"] = [n % 3 if n else -100 for n in range(length)] if per_token else length % 3
        shape = (length, 3) if per_token else (3,)
        row["teacher_logits"] = draw.normal(size=shape).astype(np.float32)
        rows.append(row)
    batch = PackingCollator(token_labels=head is BertForTokenClassification)(rows)
    models, losses = [], []
    for distilled, tokens in ((True, None), (True, 7), (False, None)):
        config = tiny_config(
            num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        model = randomised(head(config)).train()
        model.distillation = Distillation(SINGLE, 2.0, 0.5) if distilled else None
        fitting = MicroBatches()
        fitting.tokens = tokens
        kept: dict[str, Any] = {}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        optimizer.register_step_pre_hook(
            lambda *_, model=model, kept=kept: kept.update(
                (name, p.grad.to_dense().clone())
                for name, p in model.named_parameters()
                if p.grad is not None
            )
        )
        losses.append(train_step(model, batch, optimizer, fitting=fitting, max_grad_norm=0).loss)
        for name, parameter in model.named_parameters():
            parameter.grad = kept.get(name)
        models.append(model)
    same_gradients(models[1], models[0])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] != pytest.approx(losses[0], rel=1e-2)


@pytest.fixture
def options(tiny_folder: Path, tmp_path: Path) -> FinetuneOptions:
    return FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path / "out",
        precision="fp32",
        epochs=1,
        batch_size=8,
        lr=1e-3,
    )


def test_a_student_begins_with_layers_of_its_teacher(
    tuned: Path, reviews_csv: Path, options: FinetuneOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without a learning rate the student stays what it begins as.
    settings = replace(options, model=None, distil=str(tuned), student_layers=1, lr=0.0)
    result = finetune(reviews_csv, settings)
    ours, theirs = (
        Predictor.from_pretrained(each, precision="fp32") for each in (result.out, tuned)
    )
    state, source = ours.model.state_dict(), theirs.model.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in state.items())
    both = json.loads((result.out / "metrics.json").read_text())["distillation"]
    assert both["metric"] == "accuracy"
    assert both["teacher"]["score"] > 0.9
    assert both["student"]["parameters"] < both["teacher"]["parameters"]
    assert both["student"]["one_text_ms"] > 0
    said = capsys.readouterr().err
    assert "Student: layers 0 of the teacher's 2, counted from 0" in said
    assert "Teacher: accuracy " in said
    assert "The student beside its teacher" in (result.out / "report.html").read_text()


def test_tags_are_learned_from_a_teacher(
    tmp_path: Path, options: FinetuneOptions, reviews: list[tuple[str, str]]
) -> None:
    tags = tmp_path / "tags.jsonl"
    with tags.open("w", encoding="utf-8") as file:
        for text, _ in reviews[:24]:
            words = text.split()
            labels = ["B-GOOD" if word in GOOD else "O" for word in words]
            file.write(json.dumps({"tokens": words, "tags": labels}) + "\n")
    teacher = finetune(tags, replace(options, out=tmp_path / "teacher"))
    alone = teacher.history.steps[0].loss
    # The student begins as the teacher did, and a teacher of weight 0 says nothing.
    losses = []
    for weight in (0.0, 1.0):
        out = tmp_path / f"student{weight}"
        settings = replace(options, out=out, distil=str(teacher.out), distil_weight=weight)
        result = finetune(tags, settings)
        losses.append(result.history.steps[0].loss)
        assert result.metrics["distillation"]["teacher"]["score"] is not None
    assert losses[0] == alone
    assert losses[1] != pytest.approx(alone, rel=1e-2)


def test_a_text_in_windows_has_one_answer_of_its_teacher(
    tuned: Path, reviews_csv: Path, options: FinetuneOptions, tmp_path: Path
) -> None:
    long = LongTexts(how="window", stride=1)
    table, kind = read_for_task([reviews_csv], Columns())
    index = np.arange(12)
    task = kind.infer(table, np.arange(len(table)), Reading())
    teacher = load_teacher(tuned, task, "fp32", long)
    rows, _ = encode_rows(task, table, index, teacher.tokenizer, 8, long)
    answered = with_answers(rows, task, teacher, tmp_path).encoded
    assert rows.encoded.windows.max() > 1
    assert answered.teacher_logits is not None
    teacher.max_length = 8
    texts = [row["text"] for row in table.examples(index.tolist())]
    for logits, said in zip(answered.teacher_logits, teacher.predict(texts), strict=True):
        ours = dict(zip(task.labels, F.softmax(torch.tensor(logits), -1).tolist(), strict=True))
        assert ours == pytest.approx(said.answer["probabilities"], abs=1e-5)
    sampled = SampledWindows(answered, 1, 0)[int(rows.encoded.windows.argmax())]
    assert (len(sampled["input_ids"]), sampled["teacher_logits"].shape) == (1, (2,))
    windows = replace(options, long="window", max_length=8, distil=str(tuned), distil_weight=1.0)
    result = finetune(reviews_csv, windows)
    hard = finetune(reviews_csv, replace(windows, distil_weight=0.0, out=tmp_path / "hard"))
    assert result.history.steps[0].loss != hard.history.steps[0].loss
    assert result.metrics["distillation"]["teacher"]["score"] > 0.5


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"temperature": 3.0}, ["--temperature", "--distil"]),
        ({"student_layers": 1}, ["--student-layers", "--distil"]),
        ({"distil": "x", "student_layers": 1}, ["--student-layers", "--model"]),
    ],
)
def test_what_does_not_fit_is_refused(
    options: FinetuneOptions, changes: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        replace(options, **changes)
    assert all(part in str(caught.value) for part in parts)


def test_a_teacher_of_something_else_is_refused(
    tuned: Path, options: FinetuneOptions, tmp_path: Path
) -> None:
    path = tmp_path / "other.csv"
    path.write_text("text,label\n" + "good film,yes\nbad film,no\n" * 10, encoding="utf-8")
    with pytest.raises(UsageError, match="the teacher has the labels neg, pos"):
        finetune(path, replace(options, distil=str(tuned)))
    path.write_text("text,label\n" + "good film,1.5\nbad film,2.25\n" * 10, encoding="utf-8")
    with pytest.raises(UsageError, match="the teacher answers text-classification"):
        finetune(path, replace(options, distil=str(tuned), task="regression"))
    path.write_text("text,label\n" + "good film,pos\nbad film,neg\n" * 10, encoding="utf-8")
    with pytest.raises(UsageError, match="the teacher has 2 layers"):
        finetune(path, replace(options, model=None, distil=str(tuned), student_layers=2))
    assert not (tmp_path / "out").exists()
