"""Which rows train and which are held out: no label leaves training whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import UsageError
from bertolt.commands.finetune.data import LoadedRows, load_rows
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.parts import Part
from bertolt.models.families.base import read_config
from bertolt.tasks.token_classification import TokenClassification
from bertolt.tokenization import BertTokenizer

Quick = Callable[..., FinetuneOptions]


@pytest.fixture
def parts(tiny_folder: Path, tmp_path: Path, quick: Quick) -> Callable[..., LoadedRows]:
    """The rows of a run, read from a file of some kind."""

    def read(rows: list[dict[str, Any]], part: Part, **options: Any) -> LoadedRows:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tokenizer = BertTokenizer.from_pretrained(tiny_folder)
        config = read_config(tiny_folder)
        return load_rows([path], quick(**options), tokenizer, config, tiny_folder, part)

    return read


def labelled(kind: str) -> list[dict[str, Any]]:
    """Twenty rows; the label z is the rarest of no row that has it."""
    sets = [["a", "z"], ["b", "z"], ["a"], ["b"], *[["c"]] * 16]
    if kind == "several":
        return [{"text": f"good film {n}", "labels": each} for n, each in enumerate(sets)]
    if kind == "tags":
        tags = [[*(f"B-{name}" for name in each), "O"][:2] for each in sets]
        return [{"tokens": ["good", "film"], "tags": each} for each in tags]
    if kind == "choices":  # of which one label alone says that they are counted from 0
        return [
            {"question": f"what {n}", "choices": list("pqrs"), "label": 1 + n % 3 if n else 0}
            for n in range(20)
        ]
    rows = [
        {"question": f"what {n}", "context": f"good film {n}", "answers": ["film"]}
        for n in range(18)
    ]
    return rows + [{"question": "who", "context": f"bad film {n}", "answers": []} for n in range(2)]


@pytest.mark.parametrize("kind", ["several", "tags", "questions", "choices"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("how", ["fold", "split", "sample"])
def test_what_is_measured_was_learned(
    parts: Callable[..., LoadedRows], kind: str, seed: int, how: str
) -> None:
    rows = labelled(kind)
    few = {"fold": {}, "split": {"test_size": 0.5}, "sample": {"test_size": 0.5}}[how]
    part = {
        "fold": Part(fold=seed % 2, folds=2),
        "split": Part(),
        "sample": Part(sample=7),
    }[how]
    data = parts(rows, part, split_seed=seed, **few)
    assert data.eval is not None
    task: Any = data.task
    task.check(data.train.table)
    if isinstance(task, TokenClassification):
        assert set(task._kinds()) == {"a", "b", "c", "z"}
    if how != "sample":
        both = np.concatenate([data.train.index, data.eval.index])
        assert sorted(both.tolist()) == list(range(20))


def test_a_fold_that_holds_no_row_out_is_refused_before_any_trains(
    parts: Callable[..., LoadedRows],
) -> None:
    rows = [{"text": f"good {n}", "label": label} for n, label in enumerate("aabcd")]
    with pytest.raises(UsageError, match="fold 3 of 3 would hold no row out, for 3 rows of 5"):
        parts(rows, Part(fold=0, folds=3))


def test_rows_that_were_moved_are_counted(parts: Callable[..., LoadedRows]) -> None:
    splits = {
        parts(labelled("several"), Part(), test_size=0.5, split_seed=seed).split
        for seed in range(8)
    }
    assert any("1 row moved to training for labels that it lacked" in s for s in splits)
