"""The report of what was loaded: an object first, printed second."""

from __future__ import annotations

import pytest

from bertolt import LoadReport
from bertolt.base.errors import CheckpointError
from bertolt.checkpoint.report import Mismatch, fold


def report(**fields: object) -> LoadReport:
    return LoadReport(source="some/model", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["pooler.dense.weight"], [("pooler.dense.weight", 1)]),
        (
            [f"layer.{number}.dense.bias" for number in (0, 2, 1)],
            [("layer.{0..2}.dense.bias", 3)],
        ),
        (["layer.4.a", "layer.7.a"], [("layer.{4,7}.a", 2)]),
        (["layer.4.a"], [("layer.4.a", 1)]),
        (["layer.9.a", "layer.10.a", "layer.11.a"], [("layer.{9..11}.a", 3)]),
        (
            ["layer.0.a", "layer.0.b", "head", "layer.1.a", "layer.1.b"],
            [("layer.{0..1}.a", 2), ("layer.{0..1}.b", 2), ("head", 1)],
        ),
        (["norm.0", "0.norm"], [("norm.0", 1), ("0.norm", 1)]),
    ],
)
def test_names_that_differ_in_a_layer_number_are_folded(
    names: list[str], expected: list[tuple[str, int]]
) -> None:
    assert fold(names) == expected


def test_rows_tell_each_status_with_its_count_and_note() -> None:
    rows = report(
        loaded={f"layer.{number}.a": f"layer.{number}.a" for number in range(3)},
        initialised={
            "classifier.weight": "normal, std 0.02",
            "classifier.bias": "zeros",
        },
        unexpected=["cls.0.x", "cls.1.x"],
        mismatched=[Mismatch("classifier.weight", (5, 32), (3, 32))],
        ignored={"position_ids": "position_ids$"},
        conflicting={"head.bias": "decoder.bias"},
        tied={"decoder.weight": "word_embeddings.weight"},
        untied={"other.weight": "word_embeddings.weight"},
    ).rows()
    assert rows == [
        ("loaded", "layer.{0..2}.a", 3, ""),
        ("initialised", "classifier.weight", 1, "normal, std 0.02"),
        ("initialised", "classifier.bias", 1, "zeros"),
        ("mismatched", "classifier.weight", 1, "model [5, 32], file [3, 32]"),
        ("unexpected", "cls.{0..1}.x", 2, ""),
        ("ignored", "position_ids", 1, "by the pattern position_ids$"),
        ("ignored", "head.bias", 1, "decoder.bias has other values, which were taken"),
        ("tied", "decoder.weight", 1, "to word_embeddings.weight"),
        ("untied", "other.weight", 1, "the file has other values for word_embeddings.weight"),
    ]


def test_printed_it_is_short_and_leaves_out_what_went_as_it_should() -> None:
    text = str(
        report(
            loaded={f"layer.{number}.a": f"layer.{number}.a" for number in range(12)},
            initialised={f"head.{number}.b": "zeros" for number in range(4)},
            unexpected=["cls.bias"],
        )
    )
    assert text.splitlines() == [
        "Loaded 12 tensors from some/model, each compared with the file after copying.",
        "  new, not from the file: head.{0..3}.b (4 tensors): zeros",
        "  in the file, no place in the model: cls.bias",
    ]


@pytest.mark.parametrize(
    ("fields", "exact"),
    [
        ({}, True),
        ({"ignored": {"position_ids": "position_ids$"}}, True),
        ({"tied": {"a": "b"}}, True),
        ({"untied": {"a": "b"}}, False),
        ({"conflicting": {"a": "b"}}, False),
        ({"initialised": {"a": "zeros"}}, False),
        ({"initialised": {"a": "zeros"}, "ignored": {"a": "^a"}}, True),
        ({"unexpected": ["a"]}, False),
        ({"mismatched": [Mismatch("a", (1,), (2,))], "initialised": {"a": "zeros"}}, False),
    ],
)
def test_exact_means_no_difference_that_no_pattern_excuses(
    fields: dict[str, object], exact: bool
) -> None:
    made = report(**fields)
    assert made.exact == exact
    if exact:
        made.require_exact()
    else:
        with pytest.raises(CheckpointError, match=r"strict=True.*\n.*Loaded"):
            made.require_exact()


def test_it_answers_to_the_names_that_the_peer_uses() -> None:
    made = report(
        initialised={"a": "zeros", "b": "zeros", "c": "zeros"},
        ignored={"b": "^b", "x": "x"},
        mismatched=[Mismatch("c", (5, 32), (3, 32))],
        unexpected=["d"],
    )
    assert dict(made) == {
        "missing_keys": ["a"],
        "unexpected_keys": ["d"],
        "mismatched_keys": [("c", (3, 32), (5, 32))],
        "error_msgs": [],
    }
    with pytest.raises(KeyError, match="loaded"):
        made["loaded"]


def test_what_a_pattern_excuses_was_not_trained_either() -> None:
    made = report(initialised={"head.bias": "zeros"}, ignored={"head.bias": "^head"})
    made.require_exact()
    with pytest.raises(CheckpointError, match=r"head\.bias not in the file"):
        made.require_trained("classification")


def test_what_was_never_trained_is_refused_with_the_way_out() -> None:
    report(unexpected=["a"], loaded={"b": "b"}).require_trained("classification")
    with pytest.raises(CheckpointError, match=r"classifier\.bias not in the file") as caught:
        report(initialised={"classifier.bias": "zeros"}).require_trained("classification")
    assert caught.value.fix.endswith("bertolt finetune TRAIN --model some/model")
