"""Collators: rows to packed batches and to padded ones, equal to the peer's and to each other."""

from __future__ import annotations

import itertools
from dataclasses import make_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertolt import BertTokenizer
from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.data.collate import (
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PackingCollator,
    count_tokens,
    default_data_collator,
)


def unpacked(batch: PackedBatch, values: torch.Tensor) -> list[list[int]]:
    starts = batch.cu_seqlens.tolist()
    return [values[start:stop].tolist() for start, stop in itertools.pairwise(starts)]


@st.composite
def padded_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows with a label for each id, some padded on the left, on the right, or on both sides."""
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        ids = draw(st.lists(st.integers(1, 999), min_size=1, max_size=8))
        left, right = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        rows.append(
            {
                "input_ids": [0] * left + ids + [0] * right,
                "token_type_ids": [0] * left + [i % 2 for i in ids] + [0] * right,
                "attention_mask": [0] * left + [1] * len(ids) + [0] * right,
                "labels": [7] * left + [i + 1 for i in ids] + [7] * right,
                "first": left,
            }
        )
    return rows


# ---- packing ----


@pytest.mark.parametrize("name", ["label", "labels", "label_ids"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0], torch.tensor([1, 0])),
        ([np.int64(1), np.int64(0)], torch.tensor([1, 0])),
        ([True, False], torch.tensor([1, 0])),
        ([0.5, 1.0], torch.tensor([0.5, 1.0])),
        ([[1.0, 0.0], [0.0, 0.0]], torch.tensor([[1.0, 0.0], [0.0, 0.0]])),
        ([torch.tensor(1), torch.tensor(0)], torch.tensor([1, 0])),
    ],
    ids=str,
)
def test_packing_takes_labels_of_every_kind(
    name: str, values: list[Any], expected: torch.Tensor
) -> None:
    rows = [{"input_ids": [2, 3], name: values[0]}, {"input_ids": [4], name: values[1]}]
    torch.testing.assert_close(PackingCollator()(rows).labels, expected)


def test_packing_takes_padding_out_and_leaves_other_keys_out() -> None:
    rows = [
        {"input_ids": [0, 5, 6], "attention_mask": [0, 1, 1], "token_type_ids": [0, 0, 1], "x": 1},
        {"input_ids": [7, 8, 9], "attention_mask": [1, 1, 1], "token_type_ids": [1, 1, 1]},
    ]
    batch = PackingCollator(row_multiple=8, pad_token_id=3)(rows)
    assert unpacked(batch, batch.input_ids) == [[5, 6], [7, 8, 9]]
    assert unpacked(batch, batch.token_type_ids) == [[0, 1], [1, 1, 1]]
    assert batch.labels is None
    assert batch.input_ids.tolist()[5:] == [3, 3, 3]


@pytest.mark.parametrize("cast", [list, np.array, torch.tensor], ids=["list", "numpy", "torch"])
@given(rows=padded_rows())
def test_labels_of_tokens_lose_the_padding_that_their_ids_lose(
    rows: list[dict[str, Any]], cast: Any
) -> None:
    given_rows = [{k: v if k == "first" else cast(v) for k, v in row.items()} for row in rows]
    batch = PackingCollator(token_labels=True)(given_rows)
    ids = unpacked(batch, batch.input_ids)
    assert ids == [[i for i in row["input_ids"] if i] for row in rows]
    assert unpacked(batch, batch.labels) == [[i + 1 for i in sequence] for sequence in ids]
    assert (batch.labels[batch.num_tokens :] == IGNORE_INDEX).all()
    assert batch.num_tokens == sum(map(count_tokens, given_rows))


@given(rows=padded_rows(), data=st.data())
def test_answers_keep_pointing_at_their_tokens(rows: list[dict[str, Any]], data: Any) -> None:
    for row in rows:
        row["start_positions"] = data.draw(st.integers(-1, len(row["input_ids"])))
        row["end_positions"] = np.int64(row["start_positions"])
        del row["labels"]
    batch = PackingCollator()(rows)
    sequences = unpacked(batch, batch.input_ids)
    for row, ids, place in zip(rows, sequences, batch.start_positions.tolist(), strict=True):
        at = row["start_positions"]
        real = row["first"] <= at < row["first"] + len(ids)
        assert place == (at - row["first"] if real else IGNORE_INDEX)
        assert not real or ids[place] == row["input_ids"][at]
    assert torch.equal(batch.start_positions, batch.end_positions)


def test_both_labels_of_pretraining_go_along() -> None:
    rows = [
        {"input_ids": [1, 2], "labels": [-100, 5], "next_sentence_label": 1},
        {"input_ids": [3], "labels": [-100], "next_sentence_label": 0},
    ]
    batch = PackingCollator(token_labels=True)(rows)
    assert batch.labels[:3].tolist() == [-100, 5, -100]
    assert batch.next_sentence_label.tolist() == [1, 0]
    alone = PackingCollator()([{k: v for k, v in row.items() if k != "labels"} for row in rows])
    assert alone.labels is None
    assert alone.next_sentence_label.tolist() == [1, 0]


@pytest.mark.parametrize("cast", [list, torch.tensor], ids=["list", "torch"])
def test_choices_become_sequences_side_by_side(cast: Any) -> None:
    first = {
        "input_ids": [[1, 2, 0], [3, 4, 5]],
        "token_type_ids": [[0, 1, 0], [0, 1, 1]],
        "attention_mask": [[1, 1, 0], [1, 1, 1]],
    }
    second = {name: values[::-1] for name, values in first.items()}
    rows = [
        {**{name: cast(values) for name, values in row.items()}, "label": label}
        for row, label in ((first, 0), (second, 1))
    ]
    batch = PackingCollator()(rows)
    assert unpacked(batch, batch.input_ids) == [[1, 2], [3, 4, 5], [3, 4, 5], [1, 2]]
    assert unpacked(batch, batch.token_type_ids) == [[0, 1], [0, 1, 1], [0, 1, 1], [0, 1]]
    assert batch.num_choices == 2
    assert batch.labels.tolist() == [0, 1]
    assert list(map(count_tokens, rows)) == [5, 5]


def test_rows_may_have_more_choices_and_fewer() -> None:
    rows = [
        {"input_ids": [[1, 2], [3]], "token_type_ids": [[0, 1], [0]], "label": 1},
        {"input_ids": [[4], [5, 6, 7], [8]], "token_type_ids": [[0], [1, 1, 0], [1]], "label": 2},
        {"input_ids": [[9]], "token_type_ids": [[0]], "label": 0},
    ]
    batch = PackingCollator()(rows)
    assert unpacked(batch, batch.input_ids) == [[1, 2], [3], [4], [5, 6, 7], [8], [9]]
    assert unpacked(batch, batch.token_type_ids)[3] == [1, 1, 0]
    assert batch.groups.tolist() == [0, 2, 5, 6]
    assert (batch.num_examples, batch.num_choices, batch.is_ragged) == (3, 3, True)
    assert batch.slots.tolist() == [0, 1, 3, 4, 5, 6]
    assert batch.labels.tolist() == [1, 2, 0]
    padded = batch.padded()
    assert padded["input_ids"].shape == (3, 3, 3)
    assert padded["attention_mask"].sum(-1).tolist() == [[2, 1, 0], [1, 3, 1], [1, 0, 0]]
    assert padded["input_ids"][1, 1].tolist() == [5, 6, 7]
    even = PackingCollator()([rows[0], {**rows[0], "label": 0}])
    assert (even.num_examples, even.num_choices, even.is_ragged) == (2, 2, False)
    assert even.groups.tolist() == [0, 2, 4] == replace(even, group_starts=None).groups.tolist()
    for name, values in even.padded().items():
        assert torch.equal(values, replace(even, group_starts=None).padded()[name])


def test_a_single_text_encoded_as_a_batch_of_one_is_one_sequence() -> None:
    """`tokenizer(text, return_tensors="pt")` gives (1, L), and data sets often keep that."""
    rows = [
        {"input_ids": torch.tensor([[1, 2]]), "label": 1},
        {"input_ids": torch.tensor([[3]]), "label": 0},
    ]
    batch = PackingCollator()(rows)
    assert unpacked(batch, batch.input_ids) == [[1, 2], [3]]
    assert batch.num_choices == 1
    assert batch.group_starts is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"input_ids": [1], "label": 0}, {"input_ids": [2]}], "row 1 of the batch has no label,"),
        (
            [{"input_ids": [1], "token_type_ids": [0]}, {"input_ids": [2]}],
            "row 1 of the batch has no token_type_ids",
        ),
        ([{"input_ids": [1]}, {"text": "b"}], "row 1 of the batch has no input_ids"),
        ([{"text": "a", "label": 0}], "rows have no input_ids; found: text, label"),
        ([], "no input_ids; found: no row"),
        (
            [{"input_ids": [1, 2], "attention_mask": [1, 1, 0]}],
            "row 0 of the batch has 2 input_ids and 3 values of attention_mask",
        ),
        (
            [{"input_ids": [1]}, {"input_ids": [1, 2], "token_type_ids": [0]}][1:],
            "row 0 of the batch has 2 input_ids and 1 values of token_type_ids",
        ),
        ([{"input_ids": [1], "label": "good"}], "labels .* cannot become one tensor"),
        (
            [{"input_ids": [1], "labels": [0]}, {"input_ids": [2, 3], "labels": [0, 1]}],
            "labels .* cannot become one tensor",
        ),
        ([{"input_ids": [[1], [2]]}, {"input_ids": [3]}], "from 0 to 2 choices"),
        ([{"input_ids": []}], "sequence 0 empty"),
        (
            [{"input_ids": [[1], [2]], "attention_mask": [[1], [1]]}, {"input_ids": [[1], [2]]}],
            "row 1 of the batch has no attention_mask",
        ),
        (
            [{"input_ids": [[1], [2]]}, {"input_ids": [[1], [2]], "token_type_ids": [[0], [0]]}],
            "row 0 of the batch has no token_type_ids",
        ),
        (
            [{"input_ids": [[1, 2], [3]], "token_type_ids": [[0, 0]]}],
            "row 0 of the batch has 2 choices, and its token_type_ids are not as many",
        ),
        ([{"input_ids": [1.5, 2.5]}], "row 0 of the batch has input_ids that are no list of whole"),
        ([{"input_ids": "abc"}], "row 0 of the batch has input_ids that are no list of whole"),
        ([{"input_ids": ([1, 2], 3)}], "has input_ids that are no list of whole numbers"),
        ([{"input_ids": 5}], "row 0 of the batch has input_ids that are no list of whole"),
        (
            [{"input_ids": [1], "position_ids": [0, 1]}],
            "row 0 of the batch has 1 input_ids and 2 values of position_ids",
        ),
        ([{"input_ids": [1, 2], "start_positions": [0, 1]}], "start_positions .* not one whole"),
        ([{"input_ids": [1, 2], "end_positions": 0.5}], "end_positions .* not one whole number"),
        ([([1, 2], 1)], "row 0 of the batch is a tuple"),
    ],
)
def test_rows_that_cannot_be_packed_are_named(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        PackingCollator()(rows)
    assert caught.value.fix


def test_positions_of_ones_own_go_along() -> None:
    rows = [
        {"input_ids": [0, 5, 6], "attention_mask": [0, 1, 1], "position_ids": [9, 3, 2]},
        {"input_ids": [7], "attention_mask": [1], "position_ids": np.array([8])},
    ]
    batch = PackingCollator()(rows)
    assert unpacked(batch, batch.position_ids) == [[3, 2], [8]]
    assert not batch.position_ids[3:].any()
    choices = [{"input_ids": [[1, 2], [3]], "position_ids": [[4, 5], [6]]}]
    batch = PackingCollator()(choices)
    assert unpacked(batch, batch.position_ids) == [[4, 5], [6]]


def test_token_labels_of_a_batch_of_one_are_not_lost() -> None:
    batch = PackingCollator(token_labels=True)([{"input_ids": [[1, 2]], "labels": [[3, 4]]}])
    assert unpacked(batch, batch.labels) == [[3, 4]]


@pytest.mark.parametrize("collate", ["packed", "padded"])
@pytest.mark.parametrize("labels", [[1], [1, 2, 3], 1])
def test_labels_of_tokens_must_be_as_many_as_the_tokens(
    tiny_tokenizer: BertTokenizer, collate: str, labels: Any
) -> None:
    padded = DataCollatorForTokenClassification(tiny_tokenizer)
    make: Any = PackingCollator(token_labels=True) if collate == "packed" else padded
    rows = [{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [1, 2], "labels": labels}]
    with pytest.raises(DataError, match=r"row 1 .* has 2 input_ids and \d values of label"):
        make(rows)


# ---- padding, as the peer pads ----


@pytest.fixture(params=["right", "left"])
def tokenizers(request: Any, tiny_folder: Any) -> tuple[BertTokenizer, Any]:
    """The same tokenizer, ours and the peer's, padding on one side."""
    peer = transformers.BertTokenizer.from_pretrained(tiny_folder)
    peer.padding_side = request.param
    return BertTokenizer.from_pretrained(tiny_folder, padding_side=request.param), peer


def encoded(tokenizer: BertTokenizer) -> list[dict[str, Any]]:
    return [dict(tokenizer(text)) for text in ("a good film", "dull", "the end was very very cold")]


def same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert type(ours[name]) is type(values), name
        assert ours[name].dtype == values.dtype, name
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"pad_to_multiple_of": 16},
    {"padding": "max_length", "max_length": 20},
    {"return_tensors": "np"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["label", "labels", "label_ids"])
def test_padding_equals_the_peers(tokenizers: Any, options: dict[str, Any], name: str) -> None:
    ours, peer = tokenizers
    rows = [{**row, name: label} for row, label in zip(encoded(ours), [1, 0, 2], strict=True)]
    theirs = transformers.DataCollatorWithPadding(peer, **options)(rows)
    same(DataCollatorWithPadding(ours, **options)(rows), theirs)
    assert theirs["labels"].tolist() == [1, 0, 2]


@pytest.mark.parametrize("options", [*OPTIONS, {"label_pad_token_id": 9}], ids=str)
def test_padding_of_token_labels_equals_the_peers(tokenizers: Any, options: dict[str, Any]) -> None:
    ours, peer = tokenizers
    rows = [{**row, "labels": [i % 3 for i in row["input_ids"]]} for row in encoded(ours)]
    theirs = transformers.DataCollatorForTokenClassification(peer, **options)(rows)
    same(DataCollatorForTokenClassification(ours, **options)(rows), theirs)
    tensors = [{name: torch.tensor(values) for name, values in row.items()} for row in rows]
    same(DataCollatorForTokenClassification(ours, **options)(tensors), theirs)


@pytest.mark.parametrize("options", [o for o in OPTIONS if "return_tensors" not in o], ids=str)
@pytest.mark.parametrize("name", ["label", "labels"])
def test_padding_of_choices_equals_the_peers(
    tokenizers: Any, options: dict[str, Any], name: str
) -> None:
    ours, peer = tokenizers
    texts = [("a good film", "dull"), ("the end was very very cold", "a")]
    rows = [{**ours(list(two)), name: label} for two, label in zip(texts, [1, 0], strict=True)]
    theirs = transformers.DataCollatorForMultipleChoice(peer, **options)([dict(r) for r in rows])
    same(DataCollatorForMultipleChoice(ours, **options)(rows), theirs)
    arrays = DataCollatorForMultipleChoice(ours, **options, return_tensors="np")(rows)
    same(arrays, {name: values.numpy() for name, values in theirs.items()})


def test_choices_without_labels_and_rows_without_choices(tiny_tokenizer: BertTokenizer) -> None:
    collate = DataCollatorForMultipleChoice(tiny_tokenizer)
    row = dict(tiny_tokenizer(["a good film", "dull"]))
    assert "labels" not in collate([row])
    assert collate([row])["input_ids"].shape == (1, 2, 5)
    with pytest.raises(DataError, match="no choices"):
        collate([dict(tiny_tokenizer("a good film"))])
    with pytest.raises(DataError, match="from 2 to 3 choices") as refused:
        collate([row, dict(tiny_tokenizer(["a", "film", "good"]))])
    assert "PackingCollator" in refused.value.fix


def test_rows_without_token_labels_are_padded_alone(tiny_tokenizer: BertTokenizer) -> None:
    rows = encoded(tiny_tokenizer)
    same(
        DataCollatorForTokenClassification(tiny_tokenizer)(rows),
        DataCollatorWithPadding(tiny_tokenizer)(rows),
    )


def test_a_mapping_of_columns_is_padded_as_in_the_notes(tiny_tokenizer: BertTokenizer) -> None:
    rows = [{**row, "label": 1} for row in encoded(tiny_tokenizer)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    collate = DataCollatorWithPadding(tokenizer=tiny_tokenizer, padding="longest")
    same(collate(columns), collate(rows))
    assert [len(row) for row in collate(columns)["input_ids"]] == [8, 8, 8]


@given(rows=padded_rows())
def test_both_doors_get_the_same_tokens_and_labels(
    tiny_tokenizer: BertTokenizer, rows: list[dict[str, Any]]
) -> None:
    packed = PackingCollator(token_labels=True)(rows)
    bare = [{k: v for k, v in row.items() if k != "first"} for row in rows]
    padded = DataCollatorForTokenClassification(tiny_tokenizer)(bare)
    real = padded["attention_mask"].bool()
    for name in ("input_ids", "token_type_ids", "labels"):
        values = getattr(packed, name)[: packed.num_tokens]
        assert torch.equal(padded[name].masked_select(real), values), name


# ---- the default collator ----


ROWS: list[Any] = [
    [{"input_ids": [1, 2], "label": 1}, {"input_ids": [3, 4], "label": 0}],
    [{"input_ids": [1, 2], "label": 1.5}, {"input_ids": [3, 4], "label": 0.0}],
    [{"input_ids": [1, 2], "label": True}, {"input_ids": [3, 4], "label": False}],
    [{"x": [0.5], "label_ids": [1, 2]}, {"x": [1.5], "label_ids": [3, 4]}],
    [{"x": [0.5], "label_ids": [1.0, 2]}, {"x": [1.5], "label_ids": [3.0, 4]}],
    [{"x": torch.tensor([1, 2]), "label": torch.tensor(1)}] * 2,
    [{"x": torch.tensor([1, 2]), "label_ids": torch.tensor([1, 0])}] * 2,
    [{"x": np.array([1.0, 2.0]), "labels": np.array([1, 2])}] * 2,
    [{"x": 3, "text": "left out", "none": None, "label": np.float64(0.25)}] * 2,
    [{"x": [[1, 2], [3, 4]], "labels": [1, 2]}] * 2,
]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_the_default_collator_equals_the_peers(rows: list[dict[str, Any]]) -> None:
    same(default_data_collator(rows), transformers.default_data_collator(rows))


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_the_default_collator_makes_arrays_too(rows: list[dict[str, Any]]) -> None:
    tensors, arrays = default_data_collator(rows), default_data_collator(rows, "np")
    theirs = transformers.default_data_collator(rows, return_tensors="np")
    assert set(arrays) == set(theirs)
    for name, values in arrays.items():
        assert isinstance(values, np.ndarray)
        np.testing.assert_array_equal(values, tensors[name])
        np.testing.assert_allclose(values, theirs[name])


def test_the_default_collator_takes_objects() -> None:
    example = make_dataclass("example", ["input_ids", "label"])
    batch = default_data_collator([example([1, 2], 0), example([3, 4], 1)])
    assert batch["input_ids"].tolist() == [[1, 2], [3, 4]]
    assert batch["labels"].tolist() == [0, 1]
    packed = PackingCollator()([example([1, 2], 0), example([3], 1)])
    assert unpacked(packed, packed.input_ids) == [[1, 2], [3]]
    assert packed.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "a batch cannot be made of no rows"),
        ([([1, 2], 1)], "row 0 of the batch is a tuple"),
        ([{"x": [1]}, {"x": [1, 2]}], "the x of the rows cannot be stacked"),
        ([{"x": torch.ones(1)}, {"x": torch.ones(2)}], "the x of the rows cannot be stacked"),
        ([{"x": np.ones(1)}, {"x": np.ones(2)}], "the x of the rows cannot be stacked"),
        ([{"x": ["a"]}, {"x": ["b"]}], "the x of the rows cannot be stacked"),
        ([{"x": 1, "y": 1}, {"x": 1}], "row 1 of the batch has no y"),
        ([{"x": 1, "label": 1}, {"x": 1}], "row 1 of the batch has no label"),
    ],
)
def test_rows_that_cannot_be_stacked_are_named(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BertoltError, match=words) as caught:
        default_data_collator(rows)
    assert caught.value.fix


def test_an_unknown_kind_of_tensor_is_refused() -> None:
    with pytest.raises(UsageError, match="return_tensors='tf'"):
        default_data_collator([{"x": 1}], return_tensors="tf")  # type: ignore[arg-type]


# ---- subclasses as the peer's collators have them ----


@pytest.mark.parametrize(
    "base", [DataCollatorWithPadding, DataCollatorForTokenClassification], ids=lambda c: c.__name__
)
def test_a_subclass_may_define_torch_call(tiny_tokenizer: BertTokenizer, base: Any) -> None:
    class Own(base):  # type: ignore[misc]
        def torch_call(self, features: Any) -> Any:
            batch = super().torch_call(features)
            batch["more"] = torch.ones(len(features))
            return batch

    class Further(Own):
        """Inherits it."""

    rows = encoded(tiny_tokenizer)
    for kind in (Own, Further):
        batch = kind(tiny_tokenizer)(rows)
        assert batch["more"].shape == (3,)
        assert torch.equal(batch["input_ids"], base(tiny_tokenizer)(rows)["input_ids"])


def test_methods_that_nothing_calls_are_refused() -> None:
    with pytest.raises(UsageError, match="Own: numpy_call is defined, and nothing calls it"):
        type("Own", (DataCollatorWithPadding,), {"numpy_call": lambda self, features: None})
