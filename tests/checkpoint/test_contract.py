"""`bertolt.json`: written whole, read back the same, and refused when broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import CheckpointError
from bertolt.checkpoint.contract import FILE, Contract, Golden

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    labels=st.lists(names, min_size=2, max_size=5, unique=True),
    column=names,
    text=names,
    limit=st.integers(3, 512),
)
def test_it_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    labels: list[str],
    column: str,
    text: str,
    limit: int,
) -> None:
    folder = tmp_path_factory.mktemp("contract")
    shares = {name: 1 / len(labels) for name in labels}
    written = Contract(
        text_column=column,
        label_column="label",
        labels=labels,
        majority_label=labels[-1],
        max_length=limit,
        library_version="1.2",
        golden=[Golden(text=text, label=labels[0], probabilities=shares)],
    )
    written.write(folder)
    assert Contract.read(folder) == written
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_folder_without_one(tmp_path: Path) -> None:
    assert Contract.read(tmp_path) is None


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "text_column": "text",
        "label_column": "label",
        "labels": ["a", "b"],
        "majority_label": "b",
        "max_length": 128,
        "library_version": "0.1.0",
    } | changes


def test_other_scripts_are_written_as_they_are(tmp_path: Path) -> None:
    Contract(**fields(labels=["好", "差"], majority_label="差")).write(tmp_path)
    assert '"好"' in (tmp_path / FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps(fields(surprise=1)),
        json.dumps(fields(labels=[])),
        json.dumps(fields(labels="ab")),
        json.dumps(fields(labels=[1, 2])),
        json.dumps(fields(max_length="many")),
        json.dumps(fields(max_length=2)),
        json.dumps(fields(golden=[{"text": "x"}])),
        json.dumps(fields(golden=[{"text": "x", "label": "a", "probabilities": {"a": 1.0}}])),
        json.dumps(fields(golden=5)),
    ],
)
def test_a_broken_one_is_refused_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(CheckpointError, match="not a readable contract") as refused:
        Contract.read(tmp_path)
    assert refused.value.place == str(tmp_path / FILE)
    assert refused.value.fix


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not a readable contract"):
        Contract.read(tmp_path)
