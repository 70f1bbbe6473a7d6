"""A graph of every head gives what the model gives, through the engine that pads and packs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import (
    BertConfig,
    BertForNextSentencePrediction,
    BertLMHeadModel,
    PackedBatch,
    RobertaConfig,
)
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.export.graph import Graph
from bertolt.models import heads, word_heads
from bertolt.models.engine import Feed, GraphEngine, near_lengths
from bertolt.models.frozen import freeze
from bertolt.models.precision import FP32

LENGTHS = [3, 41, 7, 40, 160, 1, 9, 9, 30, 2]
PAIRS = torch.arange(len(LENGTHS)) % 2
LABELS: dict[Any, Callable[[PackedBatch], dict[str, torch.Tensor]]] = {
    heads.SequenceClassification: lambda batch: {"labels": PAIRS},
    heads.TokenClassification: lambda batch: {"labels": of_tokens(batch, batch.input_ids % 2)},
    heads.QuestionAnswering: lambda batch: {
        "start_positions": torch.zeros(len(LENGTHS), dtype=torch.long),
        "end_positions": batch.lengths.long() - 1,
    },
    word_heads.MaskedLM: lambda batch: {
        "labels": of_tokens(batch, torch.where(batch.input_ids % 5 == 0, batch.input_ids, -100))
    },
    heads.MultipleChoice: lambda batch: {"labels": PAIRS[:3]},
    heads.SentenceEncoder: lambda batch: {},
    BertForNextSentencePrediction: lambda batch: {"labels": PAIRS},
}
FAMILIES = {"bert": (BertConfig, 2), "roberta": (RobertaConfig, 1)}
CASES = [
    (family, head)
    for family in FAMILIES
    for head in LABELS
    if family == "bert" or head is not BertForNextSentencePrediction
]


def of_tokens(batch: PackedBatch, labels: torch.Tensor) -> torch.Tensor:
    labels[batch.num_tokens :] = -100
    return labels


class Opened:
    """Runs a graph by PyTorch, and notes the shapes that it was run with."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self) -> Callable[[Feed], Mapping[str, Any]]:
        return self.run

    def run(self, feed: Feed) -> Mapping[str, Any]:
        self.shapes.append(feed["input_ids"].shape)
        with torch.no_grad():
            given = {name: torch.from_numpy(value) for name, value in feed.items()}
            return {name: value.numpy() for name, value in self.graph(**given).items()}


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].__name__}")
def model(request: Any, tiny_config: Any, randomised: Any) -> Any:
    family, head = request.param
    kind, segments = FAMILIES[family]
    rows = 160 + (2 if family == "roberta" else 0)
    config = tiny_config(kind, type_vocab_size=segments, max_position_embeddings=rows)
    built = randomised(head(config))
    built.learns = LABELS[head]
    return built


def batch_for(model: Any) -> PackedBatch:
    random = np.random.default_rng(0)
    segments = model.config.type_vocab_size
    choices = isinstance(model, heads.MultipleChoice)
    batch = PackedBatch.from_sequences(
        [random.integers(0, 97, length) for length in LENGTHS],
        [np.sort(random.integers(0, segments, length)) for length in LENGTHS],
        pad_token_id=model.config.pad_token_id,
        num_choices=4 if choices else 1,
        group_starts=torch.tensor([0, 2, 6, 10]) if choices else None,
    )
    return replace(batch, **model.learns(batch))


def engine_of(model: Any, opened: Opened) -> GraphEngine:
    shell = type(model).without_weights(model.config)
    return GraphEngine(shell, "torch", opened.graph.inputs, opened.graph.outputs, opened, FP32)


@torch.inference_mode()
def test_outputs_and_losses_are_the_models_own(model: Any) -> None:
    batch, opened = batch_for(model), Opened(Graph(model))
    engine, frozen = engine_of(model, opened), freeze(model, "fp32")
    for found in (engine(batch), engine.in_one_run(batch)):
        wanted = frozen(batch)
        theirs, ours = engine.model.logits_of(found), model.logits_of(wanted)
        torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-4)
        assert found.loss_terms.keys() == wanted.loss_terms.keys()
        for name, term in wanted.loss_terms.items():
            assert float(found.loss_terms[name].total) == pytest.approx(float(term.total), 1e-4)
            assert int(found.loss_terms[name].count) == int(term.count)
    *parted, whole = opened.shapes
    assert whole == (10, 160)
    assert len(parted) > 1
    assert sum(rows * length for rows, length in parted) < 0.5 * 10 * 160


@torch.inference_mode()
@pytest.mark.parametrize(
    ("head", "given"),
    [(heads.SequenceClassification, (1, 2)), (heads.TokenClassification, (2, 3, 1, 3))],
    ids=["one row for all", "another order"],
)
def test_outputs_that_are_of_other_sequences_are_refused(
    head: Any, given: tuple[int, ...], tiny_config: Any
) -> None:
    model = head(tiny_config())
    out = np.zeros(given, np.float32)
    engine = GraphEngine(
        model, "torch", ("input_ids",), (), lambda: lambda _: {"logits": out}, FP32
    )
    with pytest.raises(CheckpointError, match="are asked for"):
        engine(PackedBatch.from_sequences([[2, 7, 3], [2, 3, 3], [2, 8, 3]]))


@torch.inference_mode()
def test_an_engine_opens_its_graph_anew_in_a_copy(tiny_config: Any, randomised: Any) -> None:
    model = randomised(heads.SequenceClassification(tiny_config()))
    engine = engine_of(model, Opened(Graph(model)))
    batch = PackedBatch.from_sequences([[2, 7, 3]])
    wanted = engine(batch).logits
    for twin in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):  # noqa: S301
        assert torch.equal(twin(batch).logits, wanted)


def test_what_a_graph_would_not_show_is_refused(tiny_config: Any, randomised: Any) -> None:
    hooked = randomised(heads.SequenceClassification(tiny_config()))
    hooked.bert.encoder.register_forward_hook(lambda *given: None)
    for model in (hooked, BertLMHeadModel(tiny_config())):
        with pytest.raises(UsageError, match=r"would not answer as it does: .*has another forward"):
            Graph(model)
    model = randomised(heads.SequenceClassification(tiny_config()))
    engine = engine_of(model, Opened(Graph(model)))
    batch = PackedBatch.from_sequences([[2, 7, 3]])
    moved = replace(batch, position_ids=batch.position_ids + 1)
    with pytest.raises(DataError, match="counts positions by itself"):
        engine(moved)


def test_runs_are_of_near_lengths() -> None:
    lengths = np.array([5, 400, 5, 390, 6, 100])
    runs = [sorted(lengths[run].tolist()) for run in near_lengths(lengths)]
    assert runs == [[390, 400], [6, 100], [5, 5]]  # a little padding costs less than a run
    assert [run.tolist() for run in near_lengths(np.array([7]))] == [[0]]
