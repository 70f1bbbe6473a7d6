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
    answer = {"label": labels[0], "probabilities": {name: 1 / len(labels) for name in labels}}
    written = Contract(
        task="text-classification",
        columns={"text": [column], "label": ["label"]},
        settings={"majority": labels[-1]},
        max_length=limit,
        library_version="1.2",
        golden=[Golden(example={"text": text}, answer=answer)],
    )
    written.write(folder)
    assert Contract.read(folder) == written
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_folder_without_one(tmp_path: Path) -> None:
    assert Contract.read(tmp_path) is None


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "task": "text-classification",
        "columns": {"text": ["text"], "label": ["label"]},
        "settings": {"majority": "b"},
        "max_length": 128,
        "library_version": "0.1.0",
    } | changes


def first_version(**changes: Any) -> dict[str, Any]:
    return {
        "task": "sequence-classification",
        "text_column": "text",
        "label_column": "label",
        "labels": ["a", "b"],
        "majority_label": "b",
        "max_length": 128,
        "longer_text": "cut at the end",
        "library_version": "0.1.0",
    } | changes


def test_other_scripts_are_written_as_they_are(tmp_path: Path) -> None:
    Contract(**fields(settings={"majority": "差"})).write(tmp_path)
    assert '"差"' in (tmp_path / FILE).read_text(encoding="utf-8")


def test_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(fields(surprise=1)))
    assert Contract.read(tmp_path) == Contract(**fields())


def test_one_of_the_first_version_still_opens(tmp_path: Path) -> None:
    shares = {"a": 0.25, "b": 0.75}
    golden = [{"text": "x", "label": "b", "probabilities": shares}]
    (tmp_path / FILE).write_text(json.dumps(first_version(golden=golden)))
    contract = Contract.read(tmp_path)
    assert contract is not None
    assert contract.columns == {"text": ["text"], "label": ["label"]}
    assert contract.settings["majority"] == "b"
    answer = {"label": "b", "probability": 0.75, "probabilities": shares}
    assert contract.golden == [Golden(example={"text": "x"}, answer=answer)]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps(fields(columns={})),
        json.dumps(fields(columns={"text": "text"})),
        json.dumps(fields(settings=[])),
        json.dumps(fields(task=5)),
        json.dumps(fields(max_length="many")),
        json.dumps(fields(max_length=2)),
        json.dumps(fields(max_length=True)),
        json.dumps(fields(golden=[{"text": "x"}])),
        json.dumps(fields(golden=[{"example": "x", "answer": {}}])),
        json.dumps(fields(golden=5)),
        json.dumps(first_version(labels=[])),
        json.dumps(first_version(labels="ab")),
        json.dumps(first_version(labels=[1, 2])),
        json.dumps(first_version(majority_label="c")),
        json.dumps(first_version(golden=[{"text": "x", "label": "a", "probabilities": {"a": 1}}])),
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
