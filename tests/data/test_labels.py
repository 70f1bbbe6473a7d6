"""Label maps, labels as classes, and stratified splits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base.errors import DataError, UsageError
from bertolt.data.labels import LabelMap, encode_labels, label_map, split_rows
from bertolt.data.load import Table, read_table


def table_of(folder: Path, *labels: str) -> Table:
    path = folder / "a.csv"
    path.write_text("text,label\n" + "".join(f"words,{label}\n" for label in labels), "utf-8")
    return read_table(path)


def test_labels_are_in_order_of_spelling_and_numbers_of_value() -> None:
    assert label_map(["pos", "neg", "pos"]).names == ("neg", "pos")
    assert label_map(["10", "2", "1", "2"]).names == ("1", "2", "10")
    assert label_map(["0.5", "-1", "1e1"]).names == ("-1", "0.5", "1e1")
    assert label_map(["10", "2", "x"]).names == ("10", "2", "x")
    assert label_map(["nan", "2", "10"]).names == ("10", "2", "nan")
    assert label_map(["1_0", "2", "10"]).names == ("10", "1_0", "2")


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from(["1", "2", "10", "a", "b", "中"]), min_size=2).filter(
        lambda x: len(set(x)) > 1
    )
)
def test_a_map_does_not_depend_on_the_order_of_rows(labels: list[str]) -> None:
    names = label_map(labels)
    assert names == label_map(labels[::-1])
    assert set(names.names) == set(labels)
    assert [names.id2label[index] for index in names.encode(labels)] == labels


def test_a_label_map_goes_both_ways() -> None:
    names = LabelMap(("neg", "pos"))
    assert len(names) == 2
    assert names.id2label == {0: "neg", 1: "pos"}
    assert names.label2id == {"neg": 0, "pos": 1}
    encoded = names.encode(["pos", "neg", "pos"])
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [1, 0, 1]


def test_one_label_only() -> None:
    with pytest.raises(DataError, match="only one label, 'pos', in 3 rows") as caught:
        label_map(["pos"] * 3, place="a.csv, column 'label'")
    assert caught.value.place == "a.csv, column 'label'"
    with pytest.raises(DataError, match="no label"):
        label_map([])


def test_a_column_that_is_nearly_unique_is_no_label() -> None:
    with pytest.raises(DataError, match="60 different values in 100 rows"):
        label_map([f"name {number % 60}" for number in range(100)])
    with pytest.raises(DataError, match="11 different values in 11 rows"):
        label_map([f"name {number}" for number in range(11)])
    assert len(label_map([f"name {number % 60}" for number in range(120)])) == 60
    assert len(label_map([f"name {number}" for number in range(10)])) == 10


def test_labels_are_encoded_by_the_map_of_training(tmp_path: Path) -> None:
    names = LabelMap(("neg", "neutral", "pos"))
    assert encode_labels(table_of(tmp_path, "pos", "neg"), names).tolist() == [2, 0]


def test_encoding_follows_a_selection_of_rows(tmp_path: Path) -> None:
    table = table_of(tmp_path, "pos", "neg", "odd", "pos")
    chosen = dataclasses.replace(table, data=table.data.take([3, 1]))
    assert encode_labels(chosen, LabelMap(("neg", "pos"))).tolist() == [1, 0]
    chosen = dataclasses.replace(table, data=table.data.take([1, 2]))
    with pytest.raises(DataError, match=r"row 3 \(line 4\)"):
        encode_labels(chosen, LabelMap(("neg", "pos")))


def test_a_label_that_training_never_had(tmp_path: Path) -> None:
    table = table_of(tmp_path, "pos", "postive", "neg", "x")
    with pytest.raises(DataError) as caught:
        encode_labels(table, LabelMap(("negative", "positive", "pos", "neg")))
    assert caught.value.place == f"{table.path}, row 2 (line 3), column 'label'"
    assert "'postive' (2 rows have such labels)" in caught.value.problem
    assert "'negative', 'positive', 'pos', 'neg'" in caught.value.problem
    assert "'positive' is meant" in caught.value.fix


def test_a_table_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,mark\nfine,1\n")
    with pytest.raises(DataError, match="without labels; there are 'text', 'mark'"):
        encode_labels(read_table(path, need_label=False), LabelMap(("0", "1")))


def test_a_split_keeps_the_shares() -> None:
    labels = np.array([0] * 70 + [1] * 25 + [2] * 4 + [3])
    train, test = split_rows(labels, 0.2, seed=0)
    assert np.bincount(labels[test], minlength=4).tolist() == [14, 5, 1, 0]
    assert np.bincount(labels[train], minlength=4).tolist() == [56, 20, 3, 1]


def test_a_split_is_the_seeds_and_no_other() -> None:
    labels = np.arange(1000) % 3
    first, again, other = (split_rows(labels, 0.1, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert split_rows(np.arange(12) % 2, 0.25, seed=0)[1].tolist() == [4, 6, 9]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    test_size=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_any_split_is_whole_ordered_and_near_its_size(
    labels: list[int], test_size: float, seed: int
) -> None:
    classes = np.array(labels)
    try:
        train, test = split_rows(classes, test_size, seed)
    except UsageError:
        alone = len(set(labels)) == len(labels)
        assert alone or round(len(labels) * test_size) in (0, len(labels))
        return
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert train.tolist() == sorted(train)
    assert test.tolist() == sorted(test)
    assert len(test) >= 1
    assert set(labels) == {labels[row] for row in train}
    for label in set(labels):
        share = labels.count(label) * test_size
        taken = sum(labels[row] == label for row in test)
        assert taken <= share + 1.01
        assert taken >= min(share - 1.01, labels.count(label) - 1)


@pytest.mark.parametrize("test_size", [0.0, 1.0, -0.5, 20, float("nan")])
def test_a_test_size_that_is_no_share(test_size: float) -> None:
    with pytest.raises(UsageError, match="not a share") as caught:
        split_rows(np.array([0, 1, 0, 1]), test_size, seed=0)
    assert caught.value.place == "--test-size"


@pytest.mark.parametrize(
    ("labels", "test_size", "part"),
    [
        ([0, 1, 0, 1], 0.1, "test"),
        ([0, 1, 0, 1], 0.9, "training"),
        ([0, 1, 2, 3], 0.5, "test"),
        ([], 0.5, "test"),
    ],
)
def test_a_test_size_that_leaves_nothing(labels: list[int], test_size: float, part: str) -> None:
    with pytest.raises(UsageError, match=f"leaves no {part} rows") as caught:
        split_rows(np.array(labels, dtype=np.int64), test_size, seed=0)
    assert caught.value.place == "--test-size"
    assert "--eval" in caught.value.fix
