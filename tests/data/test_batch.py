"""Packing, unpacking and the collators."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from bertolt import PackedBatch
from bertolt.base.errors import DataError
from bertolt.data.batch import starts_of

sequences_of_ids = st.lists(
    st.lists(st.integers(1, 30_000), min_size=1, max_size=40), min_size=1, max_size=10
)
multiples = st.sampled_from([1, 8, 16, 100, 128])


def check_invariants(batch: PackedBatch, row_multiple: int) -> None:
    """What every backend and every head counts on."""
    rows = batch.input_ids.shape[0]
    starts = batch.cu_seqlens.tolist()
    assert starts[0] == 0
    assert starts[-1] == batch.num_tokens < rows
    assert rows % row_multiple == 0
    assert rows - batch.num_tokens <= row_multiple
    assert batch.cu_seqlens.dtype == torch.int32
    assert batch.lengths.min() >= 1
    assert batch.max_seqlen == batch.lengths.max()
    assert batch.num_sequences == len(starts) - 1
    assert batch.first_rows.tolist() == starts[:-1]
    for values in (batch.input_ids, batch.token_type_ids, batch.position_ids):
        assert values.shape == (rows,)
        assert values.dtype == torch.int64


def unpacked(batch: PackedBatch, values: torch.Tensor) -> list[list[int]]:
    starts = batch.cu_seqlens.tolist()
    return [values[start:stop].tolist() for start, stop in itertools.pairwise(starts)]


# ---- from sequences ----


@given(ids=sequences_of_ids, row_multiple=multiples, arrays=st.booleans())
def test_sequences_are_laid_end_to_end(
    ids: list[list[int]], row_multiple: int, arrays: bool
) -> None:
    types = [[index % 2 for index in range(len(row))] for row in ids]
    given_ids: Any = [np.asarray(row, np.int32) for row in ids] if arrays else ids
    batch = PackedBatch.from_sequences(given_ids, types, row_multiple=row_multiple, pad_token_id=7)
    check_invariants(batch, row_multiple)
    assert unpacked(batch, batch.input_ids) == ids
    assert unpacked(batch, batch.token_type_ids) == types
    assert unpacked(batch, batch.position_ids) == [list(range(len(row))) for row in ids]
    assert (batch.input_ids[batch.num_tokens :] == 7).all()
    assert not batch.token_type_ids[batch.num_tokens :].any()
    assert not batch.position_ids[batch.num_tokens :].any()


@pytest.mark.parametrize(
    ("tokens", "rows"), [(1, 8), (7, 8), (8, 16), (767, 768), (768, 800), (4096, 4224)]
)
def test_there_is_always_a_row_of_filler(tokens: int, rows: int) -> None:
    assert PackedBatch.from_sequences([[1] * tokens]).input_ids.shape == (rows,)
    ids = torch.ones(1, tokens, dtype=torch.long)
    assert PackedBatch.from_padded(ids)[0].input_ids.shape == (rows,)


@pytest.mark.parametrize(
    ("ids", "words"), [([], "no sequence"), ([[1], [], [2]], "sequence 1 empty")]
)
def test_nothing_to_pack_is_refused(ids: list[list[int]], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        PackedBatch.from_sequences(ids)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("types", "row"), [([[0], [1, 1, 1]], 0), ([[0, 0], [1]], 1), ([[0, 0]], 1)]
)
def test_segment_ids_must_be_as_many_as_the_tokens(types: list[list[int]], row: int) -> None:
    with pytest.raises(DataError, match=f"sequence {row} .* token_type_ids"):
        PackedBatch.from_sequences([[5, 6], [7, 8]], types)


def test_sequences_are_packed_by_numpy() -> None:
    """An operator of PyTorch takes as long as all of it, and a text is packed in each answer."""
    called: list[str] = []

    class Listing(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    labels = [[1, 2, 3], [4]]
    with Listing():
        batch = PackedBatch.from_sequences([[5, 6, 7], [8]], labels, token_labels=labels)
    assert set(called) <= {"aten.lift_fresh.default"}  # what takes in an array of numpy
    assert (batch.num_tokens, batch.max_seqlen) == (4, 3)
    with Listing():
        PackedBatch.from_flat(torch.tensor([5, 6, 7]), starts_of(torch.tensor([3])))
    assert "aten.arange.default" in called  # what is listed at all


def test_what_stands_end_to_end_is_packed_as_its_sequences_are() -> None:
    ids, types = [[5, 6, 7], [8], [9, 4]], [[0, 0, 1], [0], [1, 1]]
    labels = [[1, -100, 2], [3], [4, 5]]
    flat = [torch.tensor([*itertools.chain(*each)]) for each in (ids, types, labels)]
    batch = PackedBatch.from_flat(
        flat[0], starts_of(torch.tensor([3, 1, 2])), flat[1], token_labels=flat[2], pad_token_id=7
    )
    wanted = PackedBatch.from_sequences(ids, types, token_labels=labels, pad_token_id=7)
    for field in dataclasses.fields(PackedBatch):
        have, want = getattr(batch, field.name), getattr(wanted, field.name)
        assert torch.equal(have, want) if isinstance(want, torch.Tensor) else have == want
    assert batch.position_ids[:6].tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, -100, 2, 3, 4, 5, -100, -100]
    assert batch.input_ids[6:].tolist() == [7, 7]
    moved = PackedBatch.from_flat(flat[0], starts_of(torch.tensor([6])), position_ids=flat[2])
    assert moved.position_ids[:6].tolist() == flat[2].tolist()


# ---- from padded, and back ----


@st.composite
def padded_batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    size, length = draw(st.integers(1, 6)), draw(st.integers(1, 20))
    mask = draw(
        st.lists(
            st.lists(st.booleans(), min_size=length, max_size=length).filter(any),
            min_size=size,
            max_size=size,
        )
    )
    ids = torch.arange(1, size * length + 1).view(size, length)
    return ids, torch.tensor(mask).long()


@given(made=padded_batches(), row_multiple=multiples)
def test_packing_and_unpacking_is_the_identity_on_real_tokens(
    made: tuple[torch.Tensor, torch.Tensor], row_multiple: int
) -> None:
    ids, mask = made
    batch, layout = PackedBatch.from_padded(ids, mask, ids % 2, row_multiple=row_multiple)
    check_invariants(batch, row_multiple)
    assert torch.equal(layout.unpack(batch.input_ids), ids * mask)
    assert torch.equal(layout.unpack(batch.token_type_ids), ids % 2 * mask)
    # One more dimension behind goes along.
    wide = torch.stack([batch.input_ids, -batch.input_ids], dim=1)
    assert torch.equal(layout.unpack(wide), torch.stack([ids * mask, -ids * mask], dim=-1))


@given(ids=sequences_of_ids, left=st.booleans(), wider_by=st.integers(0, 5))
def test_both_ways_to_a_batch_give_the_same_batch(
    ids: list[list[int]], left: bool, wider_by: int
) -> None:
    width = max(map(len, ids)) + wider_by
    padded = torch.zeros(len(ids), width, dtype=torch.long)
    for row, values in enumerate(ids):
        where = slice(width - len(values), width) if left else slice(0, len(values))
        padded[row, where] = torch.tensor(values)
    one = PackedBatch.from_sequences(ids)
    other = PackedBatch.from_padded(padded, (padded != 0).long())[0]
    for name, value in vars(one).items():
        same = vars(other)[name]
        assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, name


def test_unpacking_carries_the_gradient_back() -> None:
    ids = torch.tensor([[3, 4, 0], [5, 0, 0]])
    batch, layout = PackedBatch.from_padded(ids, (ids != 0).long())
    packed = torch.zeros(batch.input_ids.shape[0], 2, requires_grad=True)
    (layout.unpack(packed) * torch.arange(12.0).view(2, 3, 2)).sum().backward()
    assert packed.grad[:3].tolist() == [[0, 1], [2, 3], [6, 7]]
    assert not packed.grad[3:].any()


def test_given_positions_are_kept() -> None:
    ids = torch.ones(2, 3, dtype=torch.long)
    batch = PackedBatch.from_padded(ids, position_ids=torch.tensor([[7, 8, 9]]))[0]
    assert unpacked(batch, batch.position_ids) == [[7, 8, 9], [7, 8, 9]]


def test_a_hole_in_the_mask_keeps_its_place() -> None:
    ids = torch.ones(1, 4, dtype=torch.long)
    batch = PackedBatch.from_padded(ids, torch.tensor([[1, 0, 1, 1]]))[0]
    assert unpacked(batch, batch.position_ids) == [[0, 2, 3]]


@pytest.mark.parametrize(
    ("ids", "mask", "words"),
    [
        (torch.ones(3, dtype=torch.long), None, r"shape \(3,\)"),
        (torch.ones(2, 3).long(), torch.ones(2, 4), r"\(2, 4\).*\(2, 3\)"),
        (torch.ones(2, 3).long(), torch.tensor([[1, 1, 1], [0, 0, 0]]), "row 1 of attention_mask"),
    ],
)
def test_shapes_that_cannot_be_packed(ids: Any, mask: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        PackedBatch.from_padded(ids, mask)
    assert caught.value.fix


# ---- labels ----


def test_a_batch_moves_whole_and_the_old_one_stays() -> None:
    batch = PackedBatch.from_sequences([[1, 2], [3]], labels=torch.tensor([0, 1]))
    moved = batch.to("meta")
    for value in (moved.input_ids, moved.cu_seqlens, moved.labels, moved.position_ids):
        assert value.device.type == "meta"
    assert (moved.max_seqlen, moved.num_tokens) == (2, 3)
    assert batch.input_ids.device.type == "cpu"
    assert torch.equal(copy.deepcopy(batch).input_ids, batch.input_ids)
