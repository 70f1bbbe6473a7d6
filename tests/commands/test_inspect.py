"""`bertolt inspect --selftest` and others on a contract that somebody has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.commands.inspect import walk_text
from bertolt.tasks.predictor import Predictor

Run = Callable[..., Any]
BAD_ANSWERS: list[dict[str, Any]] = [
    {},
    {"label": 3, "probability": "x", "probabilities": [], "labels": 3, "value": "x", "spans": 3},
    {"spans": [3], "value": None, "labels": [{}], "probabilities": {"a": "x"}},
]


@pytest.fixture
def changed(trained: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model whose contract has these values."""

    def copy(name: str, **values: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(trained(name), folder, dirs_exist_ok=True)
        path = folder / "bertolt.json"
        contract = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(contract | values), encoding="utf-8")
        return folder

    return copy


@pytest.mark.parametrize("answer", BAD_ANSWERS)
@pytest.mark.parametrize("name", ["labels", "several", "numbers", "tags"])
def test_a_golden_answer_that_is_none(
    name: str, answer: dict[str, Any], bertolt: Run, changed: Callable[..., Path]
) -> None:
    golden = [{"example": {"text": "good film"}, "answer": answer}]
    said = bertolt("inspect", changed(name, golden=golden), "--selftest")
    assert said.code in (1, 2)
    assert said.code == 1 or ("golden text 1" in said.err and "bertolt.json" in said.err)
    assert answer or said.code == 2


@pytest.mark.parametrize(
    "example", [{}, {"text": 3}, {"text": [3]}, {"text": "a", "text_pair": 3}, {"words": "a"}]
)
def test_a_golden_example_without_a_text(
    example: dict[str, Any], bertolt: Run, changed: Callable[..., Path]
) -> None:
    golden = [{"example": example, "answer": {}}]
    said = bertolt("inspect", changed("labels", golden=golden), "--selftest")
    assert said.code == 2
    assert "golden example has no text" in said.err


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("labels", "regression"),
        ("labels", "multi-label-classification"),
        ("several", "text-classification"),
        ("numbers", "text-classification"),
        ("tags", "text-classification"),
    ],
)
def test_a_contract_that_names_another_task_than_the_config(
    name: str, task: str, bertolt: Run, changed: Callable[..., Path]
) -> None:
    said = bertolt("predict", changed(name, task=task, settings={}), "--text", "good film")
    assert said.code == 2
    assert not said.out
    assert task in said.err


@pytest.mark.parametrize(
    "settings",
    [{"label_separator": 3}, {"label_separator": ""}, {"usual": "a"}, {"usual": ["nobody"]}],
)
def test_settings_of_several_labels_that_cannot_be(
    settings: dict[str, Any], bertolt: Run, changed: Callable[..., Path]
) -> None:
    said = bertolt("predict", changed("several", settings=settings), "--text", "good film")
    assert said.code == 2
    assert next(iter(settings)) in said.err


@pytest.mark.parametrize("task", [{}, {"task": "sequence-classification"}])
def test_a_contract_of_the_first_version_opens(
    task: dict[str, str], bertolt: Run, changed: Callable[..., Path]
) -> None:
    folder = changed("labels")
    path = folder / "bertolt.json"
    golden = json.loads(path.read_text("utf-8"))["golden"]
    first = {
        "text_column": "text",
        "label_column": "label",
        "labels": ["neg", "pos"],
        "majority_label": "neg",
        "max_length": 160,
        "library_version": "0.1.0",
        "golden": [
            {
                "text": entry["example"]["text"],
                "label": entry["answer"]["label"],
                "probabilities": entry["answer"]["probabilities"],
            }
            for entry in golden
        ],
    }
    path.write_text(json.dumps(first | task), encoding="utf-8")
    said = bertolt("inspect", folder, "--selftest")
    if task:
        assert (said.code, "self-test passed" in said.out) == (0, True)
    else:
        assert said.code == 2


ANSWERS = {
    "labels": "Label Probability",
    "pairs": "Label Probability",
    "several": "Label Probability Threshold Given",
    "numbers": "Column Value",
    "tags": "",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_walk_ends_with_the_answer_of_the_task(
    name: str, bertolt: Run, trained: Callable[[str], Path]
) -> None:
    folder = trained(name)
    example = {"text": "good film"} | ({"text_pair": "bad film"} if name == "pairs" else {})
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    (prediction,) = predictor.predict([example])
    said = bertolt("inspect", folder, *_options(example))
    assert said.code == 0
    _, _, answer = said.out.partition("\nAnswer: ")
    words, *table = answer.splitlines()
    assert words == predictor.task.describe_answer(prediction.answer)
    assert not ANSWERS[name] or " ".join(table[0].split()) == ANSWERS[name]


@pytest.mark.parametrize("name", ANSWERS)
def test_the_walk_takes_the_tokens_that_the_task_takes(
    name: str, trained: Callable[[str], Path]
) -> None:
    folder = trained(name)
    example = {"text": "good film , bad"} | ({"text_pair": "film"} if name == "pairs" else {})
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    walk = walk_text(
        str(folder), **{{"text_pair": "pair"}.get(k, k): v for k, v in example.items()}
    )
    (encoded,) = predictor.task.encode([example], predictor.tokenizer, predictor.max_length)
    (window,) = encoded.windows
    ids = [token.id for token in walk.tokens if not token.padding]
    assert ids == list(window.ids)


def test_a_walk_through_a_model_of_pairs_asks_for_the_second_text(
    bertolt: Run, trained: Callable[[str], Path]
) -> None:
    said = bertolt("inspect", trained("pairs"), "--text", "good film")
    assert said.code == 0
    assert "give the second one with --pair" in said.out
    assert "Answer:" not in said.out


def test_a_walk_of_a_pair_through_a_model_of_texts_says_so(
    bertolt: Run, trained: Callable[[str], Path]
) -> None:
    said = bertolt("inspect", trained("labels"), "--text", "good film", "--pair", "bad film")
    assert said.code == 0
    assert "trained on single texts" in said.out


def _options(example: dict[str, str]) -> list[str]:
    """An example as options of `inspect`."""
    names = {"text": "--text", "text_pair": "--pair"}
    return [word for role, text in example.items() for word in (names[role], text)]
