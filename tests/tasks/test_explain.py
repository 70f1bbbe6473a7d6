"""What the page says of a text classifier."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bertolt.tasks.evaluation import Scores
from tests.report.facts import explained, scored


def claims(scores: Scores) -> list[str]:
    return [caution["claim"] for caution in explained(scores)["cautions"]]


def confusions(scores: Scores) -> list[list[Any]]:
    """The rows of the table beside the matrix; none where it is left out."""
    blocks = explained(scores)["blocks"]
    stack = blocks[0]["blocks"][0] if blocks[0]["kind"] == "row" else blocks[0]
    return [row for block in stack["blocks"][1:] for row in block["rows"]]


def test_confusions_are_ordered_and_leave_out_right_answers() -> None:
    counts = [[8, 1, 1, 0], [0, 10, 0, 0], [5, 0, 5, 0], [0, 0, 0, 2]]
    assert confusions(scored("abcd", counts)) == [
        ["c", "a", 5, 0.5],
        ["a", "b", 1, 0.1],
        ["a", "c", 1, 0.1],
    ]
    assert confusions(scored("abc", [row[:3] for row in counts[:3]])) == [], "the matrix says it"


def test_no_more_confusions_are_listed_than_can_be_read() -> None:
    assert len(confusions(scored("abcdefgh", np.ones((8, 8), dtype=int).tolist()))) == 12


def test_the_matrix_leaves_room_beside_it_while_labels_are_few() -> None:
    kinds = {
        n: [
            block["kind"]
            for block in explained(scored("abcdefgh"[:n], np.eye(n).tolist()))["blocks"]
        ]
        for n in (6, 7)
    }
    assert kinds == {6: ["row", "mistakes"], 7: ["stack", "table", "mistakes"]}


def test_the_headline_is_held_to_the_majority() -> None:
    headline = explained(scored(["a", "b"], [[30, 10], [5, 15]]))["headline"]
    assert headline["value"] == 45 / 60
    assert headline["low"] < headline["value"] < headline["high"]
    assert headline["baseline"]["value"] == 40 / 60
    assert headline["rows"] == 60


def test_without_scores_there_are_the_rows_of_each_label_alone() -> None:
    facts = explained(None)
    assert facts["headline"]["value"] is None
    assert facts["blocks"] == facts["tiles"] == facts["cautions"] == facts["calm"] == []
    assert facts["data_blocks"][0]["rows"] == [["negative", 100, 50], ["positive", 100, 50]]


def test_scores_no_better_than_the_majority_are_warned_of() -> None:
    poor = claims(scored(["a", "b"], [[10, 0], [10, 0]]))
    assert poor == ["No better than guessing the majority label", "1 label never predicted"]
    close = claims(scored(["a", "b"], [[9, 1], [8, 2]]))
    assert close == ["Not surely better than guessing the majority label"]
    assert claims(scored(["a", "b"], [[10, 0], [0, 10]])) == []


def test_a_label_absent_from_the_held_out_rows_is_not_called_unpredicted() -> None:
    counts = [[9, 1, 0], [1, 9, 0], [0, 0, 0]]
    assert claims(scored(["a", "b", "c"], counts)) == ["1 label not measured"]


@pytest.mark.parametrize("length", [2000, 2001])
def test_a_long_text_is_cut_and_its_length_kept(length: int) -> None:
    facts = explained(scored("ab", [[5, 1], [2, 4]], 1), text="z" * (length - 2))
    item = facts["blocks"][1]["items"][0]
    assert len(item["text"]) == 2000
    assert item["characters"] == (None if length == 2000 else length)


def test_the_facts_are_plain_enough_for_json() -> None:
    facts = explained(scored("ab", [[5, 1], [2, 4]]))
    assert json.loads(json.dumps(facts)) == facts
