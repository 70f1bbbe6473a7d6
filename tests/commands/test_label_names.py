"""Folders that the peer's library wrote, measured on files that name labels in their own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.commands.conftest import write_rows

TEXTS = ["good film", "bad film", "the plot was dull", "a fresh and warm book"]


@pytest.fixture(scope="module")
def stranger(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of the peer's classes."""

    def make(head: str, **config: Any) -> Path:
        folder = tmp_path_factory.mktemp("stranger")
        shape = json.loads((tiny_folder / "config.json").read_text())
        names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        names += ("intermediate_size", "max_position_embeddings")
        settings = {name: shape[name] for name in names}
        model = getattr(transformers, f"BertFor{head}")
        model(transformers.BertConfig(**settings, **config)).save_pretrained(folder)
        transformers.BertTokenizerFast.from_pretrained(tiny_folder).save_pretrained(folder)
        return folder

    return make


NAMED = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
TAGS = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}
SEVERAL = {"num_labels": 3, "problem_type": "multi_label_classification"}
ONE, TOKENS = "SequenceClassification", "TokenClassification"


def labelled(*labels: Any, key: str = "label") -> list[dict[str, Any]]:
    return [{"text": text, key: label} for text, label in zip(TEXTS, labels, strict=True)]


def tagged(one: Any, none: Any) -> list[dict[str, Any]]:
    return [
        {"tokens": text.split(), "tags": [one, *[none] * (len(text.split()) - 1)]} for text in TEXTS
    ]


@pytest.mark.parametrize(
    ("head", "config", "rows", "words", "names"),
    [
        (ONE, {"num_labels": 2}, labelled(0, 1, 0, 1), "", ["LABEL_0", "LABEL_1"]),
        (ONE, NAMED, labelled(0, 1, 0, 1), "", ["NEGATIVE", "POSITIVE"]),
        (
            ONE,
            NAMED,
            labelled("neg", "pos", "neg", "pos"),
            "NEGATIVE=neg,POSITIVE=pos",
            ["neg", "pos"],
        ),
        (
            ONE,
            NAMED,
            labelled("neg", "pos", "Neg", "POSITIVE"),
            "NEGATIVE=neg,NEGATIVE=Neg,POSITIVE=POSITIVE,POSITIVE=pos",
            ["neg", "POSITIVE"],
        ),
        (
            ONE,
            SEVERAL,
            labelled([0], [1, 2], [], [2], key="labels"),
            "",
            ["LABEL_0", "LABEL_1", "LABEL_2"],
        ),
        (
            ONE,
            SEVERAL,
            labelled(["a"], ["b"], [], ["c"], key="labels"),
            "names.json",
            ["a", "b", "c"],
        ),
        (TOKENS, TAGS, tagged(1, 0), "", ["X"]),
        (TOKENS, {"num_labels": 3}, tagged("B-X", "O"), "LABEL_0=O,LABEL_1=B-X,LABEL_2=I-X", ["X"]),
    ],
)
def test_labels_find_their_outputs(
    stranger: Any, bertolt: Any, tmp_path: Path, head: str, config: Any, rows: Any, words: str,
    names: list[str],
) -> None:  # fmt: skip
    path = write_rows(tmp_path / "rows.jsonl", rows)
    if words.endswith(".json"):
        words = str(tmp_path / words)
        mapping = {f"LABEL_{place}": name for place, name in enumerate("abc")}
        Path(words).write_text(json.dumps(mapping))
    more = ["--label-map", words] if words else []
    said = bertolt("evaluate", stranger(head, **config), path, "--json", *more)
    assert said.code == 0, said.err
    values = json.loads(said.out)
    assert values["rows"] == 4
    assert list(values.get("per_class", values.get("per_type"))) == names
    assert ("numbers, read as those of the model's outputs" in said.err) == (not words)


def test_questions_and_numbers_need_no_names(stranger: Any, bertolt: Any, tmp_path: Path) -> None:
    rows = [
        {
            "question": "what",
            "context": text,
            "answers": {"text": [text.split()[0]], "answer_start": [0]},
        }
        for text in TEXTS
    ]
    path = write_rows(tmp_path / "asked.jsonl", rows)
    said = bertolt("evaluate", stranger("QuestionAnswering"), path, "--json")
    assert json.loads(said.out)["primary"] == "f1"
    path = write_rows(tmp_path / "scores.jsonl", labelled(1.5, 2.5, 0.1, 4.2, key="score"))
    said = bertolt("evaluate", stranger(ONE, num_labels=1), path, "--json")
    assert json.loads(said.out)["primary"] == "rmse"


@pytest.mark.parametrize(
    ("words", "problem", "fix"),
    [
        (None, "the model has the labels 'NEGATIVE', 'POSITIVE'", "NEGATIVE=negative,POSITIVE=…"),
        ("POSITIVE", "does not say what the file calls", "--label-map LABEL_0=bad"),
        ("POSITIV=Pos", "the model has no label 'POSITIV'", "'POSITIVE' is meant"),
        ("POSITIVE=NEGATIVE", "two labels would be called 'NEGATIVE'", "its own name"),
        ("NEGATIVE=a,NEGATIVE=Pos,POSITIVE=Pos", "two labels would be called 'Pos'", "its own"),
        ("gone.json", "there is no such file of names", "LABEL_0"),
        ("list.json", "the name of 'POSITIVE' is ['Pos']", "a text"),
        ("POSITIVE=Pos", "training had no label 'negative'", "--label-map"),
    ],
)
def test_names_that_do_not_fit(
    stranger: Any, bertolt: Any, tmp_path: Path, words: str | None, problem: str, fix: str
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", labelled("negative", "Pos", "negative", "Pos"))
    (tmp_path / "list.json").write_text('{"POSITIVE": ["Pos"]}')
    more = ["--label-map", words.replace("list.json", f"{tmp_path}/list.json")] if words else []
    said = bertolt("evaluate", stranger(ONE, **NAMED), path, *more)
    assert said.code == 2
    assert problem in said.err
    assert fix in said.err.partition("fix:")[2]
