"""For the tests of commands on saved models: small models of several tasks, trained once."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest

from bertolt.cli import main

ROWS: dict[str, list[dict[str, Any]]] = {
    "labels": [{"text": "good film", "label": "pos"}, {"text": "bad film", "label": "neg"}],
    "pairs": [
        {"premise": "good film", "hypothesis": "bad film", "label": "no"},
        {"premise": "good film", "hypothesis": "fine film", "label": "yes"},
    ],
    "several": [{"text": "good film", "labels": ["a"]}, {"text": "bad film", "labels": ["b"]}],
    "numbers": [{"text": "good film", "score": 2.5}, {"text": "bad film", "score": 1.0}],
    "tags": [{"tokens": ["good", "film"], "tags": ["B-X", "O"]}],
    "together": [
        {"anchor": f"{one} {two}", "positive": f"{two} and {one}"}
        for one, two in combinations(("good", "bad", "film", "plot", "warm"), 2)
    ],
    "scored": [
        {"sentence1": one, "sentence2": f"{two} {one}", "score": float(number)}
        for number, (one, two) in enumerate(permutations(("good", "bad", "film"), 2))
    ],
}
TASKS = {"numbers": "regression", "scored": "sentence-similarity"}
"""The tasks that columns do not say."""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of models, by the names of `ROWS`; they must not be written to."""
    folders: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in folders:
            parent = tmp_path_factory.mktemp(name)
            data = write_rows(parent / "rows.jsonl", ROWS[name] * 8)
            words = ["finetune", data, "--model", tiny_folder, "--out", parent / "model"]
            task = ["--task", TASKS[name]] if name in TASKS else []
            with pytest.raises(SystemExit) as ended:
                main([*map(str, words), *task, "--epochs", "1", "--precision", "fp32"])
            assert ended.value.code == 0
            folders[name] = parent / "model"
        return folders[name]

    return train
