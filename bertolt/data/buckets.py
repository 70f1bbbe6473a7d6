"""Batches in few shapes that come again and again, for steps that are replayed on a GPU."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from bertolt.data.batch import IGNORE_INDEX, HostCopies, PackedBatch

LARGE = 8192
"""Tokens from which on filler is left out where sequences are all equally long."""
_SHARE = 8  # numbers are rounded up to a multiple of a power of two, at most this part of them, …
_ROWS = (128, 512)  # … that is within these bounds for rows of tokens
_SEQUENCES = (16, 64)  # … and for sequences, where no one counts them
_LENGTHS = 64  # the longest sequence is rounded up to a multiple of it


def pad_to_bucket(batch: PackedBatch, *, counts_sequences: bool = True) -> PackedBatch:
    """A batch on the CPU with more filler, so that few shapes come again and again.

    A large one whose sequences are all equally long loses its filler instead.

    Args:
        batch: as a collator made it.
        counts_sequences: something is computed for each sequence; without it there may be empty
            ones more.
    """
    tokens, have = batch.num_tokens, batch.input_ids.shape[0]
    even = tokens == batch.num_sequences * batch.max_seqlen
    if even and tokens >= LARGE and tokens % 8 == 0:
        return _with_rows(batch, tokens, batch.cu_seqlens)
    rows = _round_up(tokens + 1, _multiple(tokens, _ROWS))
    starts = batch.cu_seqlens
    if not counts_sequences:
        count = batch.num_sequences
        more = _round_up(count, _multiple(count, _SEQUENCES)) - count
        starts = F.pad(starts, (0, more), value=tokens)
    return batch if rows < have else _with_rows(batch, rows, starts)


def bucket_bounds(batch: PackedBatch, *, positions: int) -> PackedBatch:
    """The batch with bounds for its sizes that hold for all batches of its shape.

    Kernels go by them, and how many random numbers they draw.

    Args:
        batch: as `pad_to_bucket` gives it.
        positions: rows of the model's position table, the most that a sequence may have.
    """
    rows, tokens = batch.input_ids.shape[0], batch.num_tokens
    if rows == tokens:
        return batch
    longest = min(_round_up(batch.max_seqlen, _LENGTHS), positions)
    return replace(
        batch,
        max_seqlen=max(batch.max_seqlen, longest),  # too long a text is still refused by the model
        num_tokens=min(tokens, max(0, rows - _multiple(tokens, _ROWS))),
    )


def _with_rows(batch: PackedBatch, rows: int, starts: Tensor) -> PackedBatch:
    """The batch with so many rows and these starts of sequences."""
    more, filler = rows - batch.input_ids.shape[0], int(batch.input_ids[-1])
    labels, labelled = batch.labels, batch.labelled_rows
    if labels is not None and labelled is not None:
        labels = F.pad(labels, (0, more), value=IGNORE_INDEX)
        count = _round_up(len(labelled), _multiple(len(labelled), _ROWS))
        spare = int((labels == IGNORE_INDEX).int().argmax())
        if labels[spare] == IGNORE_INDEX:  # which takes no part in the loss, however often
            labelled = F.pad(labelled, (0, count - len(labelled)), value=spare)
    return replace(
        batch,
        input_ids=F.pad(batch.input_ids, (0, more), value=filler),
        token_type_ids=F.pad(batch.token_type_ids, (0, more)),
        position_ids=F.pad(batch.position_ids, (0, more)),
        cu_seqlens=starts,
        labels=labels,
        empty_sequences=len(starts) - len(batch.cu_seqlens),
        host=HostCopies(cu_seqlens=starts, labels=labels, starts=starts, labelled_rows=labelled),
    )


def _multiple(number: int, bounds: tuple[int, int]) -> int:
    """What a number is rounded up to a multiple of."""
    least, most = bounds
    power = (1 << (number // _SHARE).bit_length()) >> 1
    return min(most, max(least, power))


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
