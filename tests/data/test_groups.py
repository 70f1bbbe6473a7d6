"""Groups of rows that stay together in a split and in folds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import DataError, UsageError
from bertolt.data.groups import dealt, folds, groups_by, joined_groups
from bertolt.data.labels import split_rows
from bertolt.data.load import read_table
from tests.running import Said


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=12), st.integers(0, 9))
def test_no_group_is_parted_and_no_part_is_empty(rows: list[tuple[int, int]], seed: int) -> None:
    labels, groups = np.array(rows).T
    if len(np.unique(groups)) < 3:
        return
    for part in (dealt(labels, groups, (0.7, 0.3), seed), folds(labels, 3, seed, groups)):
        assert all(len(np.unique(part[groups == group])) == 1 for group in groups)
        assert set(part) == set(range(2 if part.max() == 1 else 3))


def test_strata_are_in_their_shares_as_well_as_groups_allow() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 300, 6000)
    labels = (random.random(6000) < 0.05 + 0.9 * (groups % 4 == 0)).astype(np.int64)
    train, held_out = split_rows(labels, 0.2, 1, groups)
    assert not set(groups[train]) & set(groups[held_out])
    for label in (0, 1):
        assert (labels[held_out] == label).sum() / (labels == label).sum() == pytest.approx(
            0.2, abs=0.02
        )
    fold = folds(labels, 5, 1, groups)
    shares = [(labels[fold == each] == 1).sum() / (labels == 1).sum() for each in range(5)]
    assert shares == pytest.approx([0.2] * 5, abs=0.02)


def test_folds_without_groups_have_each_label_in_its_share() -> None:
    labels = np.repeat([0, 1, 2], [50, 27, 3])
    fold = folds(labels, 5, 3)
    assert np.bincount(fold).tolist() == [16] * 5
    for label, rows in enumerate((50, 27, 3)):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.sum() == rows
        assert counts.max() - counts.min() <= 1
    assert (folds(labels, 5, 3) == fold).all()
    assert (folds(labels, 5, 4) != fold).any()


def test_a_label_of_one_group_is_learned() -> None:
    labels, groups = np.array([0] * 40 + [1] * 10), np.repeat(np.arange(5), 10)
    for seed in range(8):
        train, held_out = split_rows(labels, 0.5, seed, groups)
        assert set(labels[train]) == {0, 1}
        assert len(held_out)
    with pytest.raises(UsageError, match="each label is learned only if all rows train"):
        split_rows(np.array([0, 0, 1, 1]), 0.5, 0, np.array([0, 0, 1, 1]))


def test_one_label_keeps_the_split_that_it_had() -> None:
    groups = np.repeat(np.arange(10), 3)
    _, held_out = split_rows(np.zeros(30, np.int64), 0.2, 42, groups)
    order = np.random.default_rng(42).permutation(10)[:2]
    assert held_out.tolist() == np.flatnonzero(np.isin(groups, order)).tolist()


def test_groups_join_over_any_number_of_steps() -> None:
    users, texts = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 1, 2, 3, 3])
    assert joined_groups(users, texts).tolist() == [0, 0, 0, 0, 4, 4]


def test_values_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            f'{{"text": "film {n}", "label": "a", "user": {user}, "one": 1}}\n'
            for n, user in enumerate(['"x"', "null", '"x"', "null", "1", '"1"'])
        ),
        encoding="utf-8",
    )
    table = read_table(path, keep=["user", "one"])
    assert groups_by(table, "user").tolist() == [0, 1, 0, 2, 3, 4]
    with pytest.raises(DataError, match="all 6 rows have one value"):
        groups_by(table, "one")


def test_rows_with_an_empty_cell_are_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    users = ["x", "", "x", "", "  ", "y"]
    path.write_text(
        "text,label,user\n" + "".join(f"film {n},a,{user}\n" for n, user in enumerate(users))
    )
    assert groups_by(read_table(path, keep=["user"]), "user").tolist() == [0, 1, 0, 2, 3, 4]


def test_finetune_keeps_groups_together_and_says_the_shares(
    bertolt: Callable[..., Said], tiny_folder: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "o"
    lines = [
        f"film {chr(97 + n % 26)} {chr(97 + n // 26)},{'ab'[n % 2]},u{n // 4}" for n in range(80)
    ]
    path.write_text("\n".join(["text,label,user", *lines]), encoding="utf-8")
    words = ("finetune", path, "--model", tiny_folder, "--epochs", 1, "--precision", "fp32")
    said = bertolt(*words, "--group", "user", "--out", out)
    assert said.code == 0, said.err
    split = "20.0% held out (of 'a' 20%, of 'b' 20%), each 'user' in one part (20 groups), seed 42"
    assert split in said.err
    for extra, problem in (
        (["--group", "usr"], "there is no column 'usr'; there are 'text', 'label', 'user'"),
        (["--group", "text"], "each of 80 rows has a value of its own|leave --group out"),
        (["--group", "user", "--test-size", "0"], "--group: it says which rows stay together"),
    ):
        said = bertolt(*words, *extra, "--out", tmp_path / "n")
        assert said.code == 2
        assert not (tmp_path / "n").exists()
        assert all(word in said.err for word in problem.split("|")), said.err


def test_rows_that_all_have_to_train_are_refused_with_what_helps(
    bertolt: Callable[..., Said], tiny_folder: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "o"
    rows = [("Tom is in Oslo.", ["Oslo"]), *[("Ana is in Lima.", x) for x in ([], ["Lima"])]]
    path.write_text(
        "".join(
            json.dumps({"question": f"where {n}?", "context": context, "answers": answers}) + "\n"
            for n, (context, answers) in enumerate(rows)
        ),
        encoding="utf-8",
    )
    words = ("finetune", path, "--model", tiny_folder, "--epochs", 1, "--precision", "fp32")
    for share in (0.5, 0.9):
        said = bertolt(*words, "--test-size", share, "--out", out)
        assert said.code == 2
        assert "2 rows to hold out has a label, kind of span or question without an" in said.err
        assert "or stays together with such a row" in said.err
        assert "--test-size 0 to train on all rows" in said.err
    said = bertolt(*words, "--test-size", 0, "--out", out)  # which is the fix
    assert said.code == 0, said.err
