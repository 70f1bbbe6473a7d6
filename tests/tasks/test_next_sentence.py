"""Whether one text follows another: spellings of the label, pretrained heads, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import (
    BertForNextSentencePrediction,
    BertForPreTraining,
    PackingCollator,
    Predictor,
)
from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.models.losses import Criterion
from bertolt.tasks.base import Reading
from bertolt.tasks.next_sentence import LABELS
from bertolt.tasks.rows import Columns, read_for_task

NAME = "next-sentence-prediction"


def written(path: Path, column: str, labels: list[Any]) -> Path:
    rows = [{"sentence1": "a film", "sentence2": "it was", column: label} for label in labels]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("label", [0, 1]),
        ("label", ["0", "1"]),
        ("next_sentence_label", [0, 1]),
        ("is_next", [1, 0]),
        ("is_next", [True, False]),
        ("label", [True, False]),
        ("label", ["is_next", "not_next"]),
        ("label", ["IsNext", "Not next"]),
        ("label", ["yes", "no"]),
    ],
)
def test_labels_in_every_spelling(tmp_path: Path, column: str, labels: list[Any]) -> None:
    """Numbers are classes in the peer's order, and answers where the column asks for one."""
    table, kind = read_for_task(
        written(tmp_path / "rows.jsonl", column, labels), Columns(), task=NAME
    )
    assert table.labels == list(LABELS)
    task = kind.infer(table, np.arange(2), Reading())
    assert task.config_changes()["id2label"] == {0: "is_next", 1: "not_next"}


@pytest.mark.parametrize(
    ("column", "labels", "name"),
    [
        ("next_sentence_label", [0, 1, 1], NAME),
        ("is_next", [True, False, True], NAME),
        ("label", ["is_next", "not_next", "is_next"], NAME),
        ("label", [0, 1, 1], "text-classification"),
        ("label", ["yes", "no", "no"], "text-classification"),
    ],
)
def test_files_that_say_it_are_recognised(
    tmp_path: Path, column: str, labels: list[Any], name: str
) -> None:
    _, kind = read_for_task(written(tmp_path / "rows.jsonl", column, labels), Columns())
    assert kind.name == name


@pytest.mark.parametrize(
    ("label", "reason"), [(2, "label that is neither"), (None, "empty label"), (" ", "empty label")]
)
def test_labels_that_are_neither(tmp_path: Path, label: Any, reason: str) -> None:
    path = written(tmp_path / "rows.jsonl", "label", [0, 1, label])
    table, _ = read_for_task(path, Columns(), task=NAME)
    assert table.dropped == {reason: [3]}
    with pytest.raises(DataError, match="column 'label'") as refused:
        read_for_task(path, Columns(on_bad_row="error"), task=NAME)
    assert "row 3" in refused.value.place


def test_one_label_and_single_texts_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", "label", [0, 0])
    table, kind = read_for_task(path, Columns(), task=NAME)
    with pytest.raises(DataError, match="only one label, 'is_next'"):
        kind.infer(table, np.arange(2), Reading())
    path.write_text('{"text": "a film", "label": 1}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="needs pairs") as refused:
        read_for_task(path, Columns(), task=NAME)
    assert "--text-pair" in refused.value.fix


@pytest.fixture(scope="module")
def pretrained(
    tiny_folder: Path, tiny_config: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders of both pretrained models that have the head."""
    folders = {}
    for kind in (BertForPreTraining, BertForNextSentencePrediction):
        folders[kind.__name__] = folder = tmp_path_factory.mktemp("next") / kind.__name__
        torch.manual_seed(0)
        kind(tiny_config(initializer_range=0.3)).save_pretrained(folder)
        copy(tiny_folder / "vocab.txt", folder)
    return folders


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForNextSentencePrediction"])
def test_a_pretrained_head_answers_without_labels(
    pretrained: dict[str, Path], bertolt: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    folder = pretrained[kind]
    named = ("--task", NAME) if kind == "BertForPreTraining" else ()
    typed = ("--text", "a film", "--pair", "it was good", "--precision", "fp32", *named)
    code, told, err = bertolt("predict", folder, *typed)
    assert code == 0, err
    answer = json.loads(told)
    model = BertForNextSentencePrediction.from_pretrained(folder, verbose=False).eval()
    tokenizer = Predictor.from_pretrained(folder, task=NAME).tokenizer
    with torch.no_grad():
        logits = model(**tokenizer("a film", "it was good", return_tensors="pt")).logits
    share = logits.softmax(-1)[0, 0].item()
    assert answer["probabilities"]["is_next"] == pytest.approx(share, abs=1e-5)
    path = written(tmp_path / "rows.jsonl", "label", [0, 1, 1])
    code, told, err = bertolt("evaluate", folder, path, "--json", *named)
    assert code == 0, err
    assert json.loads(told)["rows"] == 3


def test_training_goes_on_with_the_pretrained_head_and_says_a_new_one(
    pretrained: dict[str, Path], tiny_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    path = written(tmp_path / "rows.jsonl", "is_next", [True, False] * 6)
    for model, new in ((pretrained["BertForPreTraining"], False), (tiny_folder, True)):
        out = tmp_path / f"out-{new}"
        options = FinetuneOptions(model=str(model), out=out, epochs=1, lr=0.0, precision="fp32")
        finetune(path, options)
        said = capsys.readouterr().err
        assert ("cls.seq_relationship.weight" in said) == new
        head = BertForNextSentencePrediction.from_pretrained(out, verbose=False).cls
        if not new:
            before = BertForNextSentencePrediction.from_pretrained(model, verbose=False).cls
            assert torch.equal(head.seq_relationship.weight, before.seq_relationship.weight)
        assert Predictor.from_pretrained(out).task.name == NAME
    with pytest.raises(UsageError, match=f"was trained for {NAME}"):
        Predictor.from_pretrained(out, task="text-classification")


def test_a_head_that_was_never_trained_does_not_answer(tiny_folder: Path) -> None:
    with pytest.raises(BertoltError, match="seq_relationship"):
        Predictor.from_pretrained(tiny_folder, task=NAME)


def test_roberta_has_no_such_head(roberta_folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", "is_next", [True, False] * 6)
    options = FinetuneOptions(model=str(roberta_folder), out=tmp_path / "out")
    with pytest.raises(BertoltError, match="for 'bert' models") as refused:
        finetune(path, options)
    assert refused.value.fix
    assert not (tmp_path / "out").exists()


def test_its_loss_takes_other_forms(tiny_config: Any, randomised: Any) -> None:
    """Weights of labels, focus and smoothing act on every head of classes."""
    model = randomised(BertForNextSentencePrediction(tiny_config()))
    batch = PackingCollator()(
        [{"input_ids": [2, 5, 3], "label": 1}, {"input_ids": [2], "label": 0}]
    )
    logits, plain = model(batch).logits, model(batch).loss
    model.criterion = Criterion(weights=torch.tensor([1.0, 3.0]))
    term = model.criterion(logits, batch.labels)
    assert model(batch).loss.item() == pytest.approx((term.total / term.count).item())
    assert model(batch).loss.item() != pytest.approx(plain.item())
