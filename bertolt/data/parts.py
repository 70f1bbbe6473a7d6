"""Batches in parts of whole examples."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from torch.nn import functional as F

from bertolt.data.batch import PackedBatch


def split(batch: PackedBatch, most_tokens: int) -> list[PackedBatch]:
    """The same examples in batches of at most so many tokens, filler not counted.

    An example, which is a sequence or several that belong together, makes a batch by itself where
    it has more.
    """
    starts = batch.starts_on_host.tolist()
    real = batch.num_sequences - batch.empty_sequences
    ends = [starts[first] for first in batch.example_starts.tolist() if first <= real]
    parts = _bounds(ends, most_tokens)
    if len(parts) == 1 and not batch.empty_sequences:
        return [batch]
    return [part_of(batch, *ends) for ends in parts]


def split_windows(batch: PackedBatch, most: int) -> list[PackedBatch]:
    """The same examples in batches of at most so many sequences, or of one that has more."""
    parts = _bounds(batch.example_starts.tolist(), most)
    return [batch] if len(parts) == 1 else [part_of(batch, *ends) for ends in parts]


def _bounds(ends: list[int], most: int) -> list[tuple[int, int]]:
    """The first example of each part, and the one behind its last.

    Args:
        ends: what stands before each example, and before the end.
        most: of it in a part, where it has more than one example.
    """
    bounds = [0]
    for example in range(1, len(ends)):
        if ends[example] - ends[bounds[-1]] > most and example - 1 > bounds[-1]:
            bounds.append(example - 1)
    return list(itertools.pairwise([*bounds, len(ends) - 1]))


def split_examples(batch: PackedBatch, most: int) -> list[PackedBatch]:
    """The same examples in batches of at most so many."""
    bounds = [*range(0, batch.num_examples, most), batch.num_examples]
    return [part_of(batch, *ends) for ends in itertools.pairwise(bounds)]


def part_of(batch: PackedBatch, first: int, end: int) -> PackedBatch:
    """The examples from `first` to before `end`, with their targets."""
    starts, groups = batch.starts_on_host, batch.groups[first : end + 1]
    ends, documents = batch.example_starts[first : end + 1], batch.document_starts
    if documents is not None:
        documents = documents[int(groups[0]) : int(groups[-1]) + 1] - ends[0]
    sequences, examples = slice(int(ends[0]), int(ends[-1])), slice(first, end)
    tokens = slice(int(starts[sequences.start]), int(starts[sequences.stop]))
    per_token = batch.labels is not None and batch.labels.shape == batch.input_ids.shape
    targets: dict[str, Any] = {
        name: value[where]
        for name, where in (
            ("token_labels" if per_token else "labels", tokens if per_token else examples),
            ("teacher_logits", tokens if per_token else examples),
            ("next_sentence_label", sequences),
            ("start_positions", sequences),
            ("end_positions", sequences),
        )
        if (value := getattr(batch, name.removeprefix("token_"))) is not None
    }
    part = PackedBatch.from_flat(
        batch.input_ids[tokens],
        batch.cu_seqlens[sequences.start : sequences.stop + 1] - tokens.start,
        batch.token_type_ids[tokens],
        batch.position_ids[tokens],
        pad_token_id=int(batch.input_ids[-1]),  # there is filler behind every batch
        num_choices=int(groups.diff().max()),
        group_starts=None if batch.group_starts is None else groups - groups[0],
        document_starts=documents,
        **targets,
    )
    if batch.inputs_embeds is not None:
        embeds = batch.inputs_embeds[tokens]
        embeds = F.pad(embeds, (0, 0, 0, part.num_rows - len(embeds)))
        part = replace(part, inputs_embeds=embeds)
    return replace(part, is_placeholder=batch.is_placeholder, loss_counts=batch.loss_counts)
