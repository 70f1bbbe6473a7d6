"""Whether a graph answers as the model that it is of: outputs over a grid of shapes, then answers.

Shapes: B sequences, L tokens of the longest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertolt.base.errors import BertoltError
from bertolt.data.batch import PackedBatch
from bertolt.models.engine import GraphEngine
from bertolt.tasks.answers import TOLERANCE, difference
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Predictor

SIZES = (1, 2, 5)
LENGTHS = (2, 8, 33)
LONGEST = 512
"""Of the grid: B, and L beside the model's own limit, or this where it takes longer texts."""
OUTPUTS = 1e-4
"""How far a graph in fp32 may be from its model: another order of sums makes a hundredth of it."""


class ParityError(BertoltError):
    """A graph answers otherwise than the model that it was made of."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far a graph was from its model.

    Attributes:
        outputs: largest difference, beside the size of the outputs where they are larger than 1.
        answers: largest difference of the numbers in answers; None: there was nothing to ask.
        shapes: B and L that were tried.
        texts: how many were answered.
    """

    outputs: float
    answers: float | None
    shapes: list[tuple[int, int]]
    texts: int


def require_parity(model: Predictor, graph: Predictor, examples: Sequence[Example]) -> Parity:
    """Hold a graph to its model.

    Args:
        model: that was exported, answering in fp32.
        graph: what was written.
        examples: to answer with both, those of the contract for one.

    Raises:
        ParityError: they disagree; the place is the shape or the text.
    """
    worst, shapes = 0.0, list(_shapes(model))
    for size, length in shapes:
        gap = _gap_at(model, graph, size, length)
        if not gap <= OUTPUTS:
            raise _apart(f"outputs differ by {gap:.2g}", f"batch {size}, length {length}", OUTPUTS)
        worst = max(worst, gap)
    return Parity(
        outputs=worst,
        answers=_answers(model, graph, examples),
        shapes=shapes,
        texts=len(examples),
    )


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a graph is from its model where no limit is set, as one in 8 bits is.

    Attributes:
        outputs: largest difference, beside the size of the outputs where they are larger than 1.
        answers: largest difference of the numbers in answers that have the same form; None: there
            are none.
        others: answers of another form, as with another number of spans.
    """

    outputs: float
    answers: float | None
    others: int


def distance(model: Predictor, graph: Predictor, examples: Sequence[Example]) -> Distance:
    """How far a graph is from its model.

    Args:
        model: that was exported, answering in fp32.
        graph: what was written.
        examples: to answer with both.

    Raises:
        ParityError: an output is of another shape or not finite.
    """
    worst = 0.0
    for size, length in _shapes(model):
        gap = _gap_at(model, graph, size, length)
        if not math.isfinite(gap):
            where = f"batch {size}, length {length}"
            raise _apart("outputs are not finite, or of another shape", where, OUTPUTS)
        worst = max(worst, gap)
    public, both = model.task.public, (model.predict(examples), graph.predict(examples))
    gaps = [
        difference(public(one.answer), public(other.answer))
        for one, other in zip(*both, strict=True)
    ]
    near = [gap for gap in gaps if math.isfinite(gap)]
    return Distance(
        outputs=worst, answers=max(near) if near else None, others=len(gaps) - len(near)
    )


def _gap_at(model: Predictor, graph: Predictor, size: int, length: int) -> float:
    """The largest difference of the outputs of one batch, of texts or of windows of texts."""
    engine = graph.engine
    assert isinstance(engine, GraphEngine)
    batches = [_batch(model, size, length)]
    if model.task.vectors:  # those of windows are others: they are not normalized yet
        batches.append(replace(batches[0], windows_apart=True))
    return max(
        _gap(_outputs(model, batch), engine.model.logits_of(engine.in_one_run(batch)))
        for batch in batches
    )


def _shapes(model: Predictor) -> Iterator[tuple[int, int]]:
    longest = min(model.model.config.max_tokens, LONGEST)
    lengths = [each for each in LENGTHS if each < longest]
    yield from itertools.product(SIZES, lengths)
    yield from ((1, longest), (2, longest))


def _batch(predictor: Predictor, size: int, length: int) -> PackedBatch:
    """Random ids: a first sequence of L tokens, others of at most as many."""
    model, random = predictor.model, np.random.default_rng((size, length))
    choices = 2 if model.logits_per_choice else 1
    lengths = random.integers(1, length + 1, size * choices)
    lengths[0] = length
    vocabulary, segments = model.config.vocab_size, min(2, model.config.type_vocab_size)
    batch = PackedBatch.from_sequences(
        [random.integers(0, vocabulary, n) for n in lengths],
        [np.sort(random.integers(0, segments, n)) for n in lengths],
        pad_token_id=model.config.pad_token_id,
        num_choices=choices,
    )
    if not model.reads_places:
        return batch
    # Some words are asked for, in places that differ from sequence to sequence.
    labels = torch.full_like(batch.input_ids, -100)
    labels[: batch.num_tokens : 3] = 0
    return replace(batch, labels=labels)


@torch.inference_mode()
def _outputs(predictor: Predictor, batch: PackedBatch) -> Tensor:
    return predictor.model.logits_of(predictor.engine(batch))


def _gap(reference: Tensor, found: Tensor) -> float:
    """The largest difference; infinite if the shapes differ, or one of both is not finite."""
    if reference.shape != found.shape:
        return float("inf")
    gap = float((reference - found).abs().max()) / max(1.0, float(reference.abs().max()))
    return gap if np.isfinite(gap) else float("inf")


def _answers(model: Predictor, graph: Predictor, examples: Sequence[Example]) -> float | None:
    if not examples:
        return None
    worst = 0.0
    both = zip(model.predict(examples), graph.predict(examples), strict=True)
    for number, (one, other) in enumerate(both, start=1):
        task = model.task
        answers: list[dict[str, Any]] = [task.public(each.answer) for each in (one, other)]
        if fault := task.differs(*answers):
            said = [task.describe_answer(each.answer) for each in (one, other)]
            raise _apart(
                f"the model answers {said[0]!r}, the graph {said[1]!r}: {fault}",
                f"golden text {number}",
                TOLERANCE,
            )
        worst = max(worst, difference(*answers))
    return worst


def _apart(how: str, place: str, tolerance: float) -> ParityError:
    return ParityError(
        f"the graph does not answer as the model does: {how}, and {tolerance:g} is allowed",
        place=place,
        fix="nothing was exported; try the other --format, and report it with the model's config",
    )
