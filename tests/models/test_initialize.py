"""Starts of weights that are more than a call of PyTorch's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bertolt import BertForMaskedLM, BertForSequenceClassification, BertModel
from bertolt.base.errors import CheckpointError
from bertolt.models.initialize import sinusoids, skip_init


@pytest.mark.parametrize("width", [64, 65])
def test_sinusoids_are_the_published_ones_at_the_asked_deviation(width: int) -> None:
    table = sinusoids(200, width, std=0.02)
    assert table.shape == (200, width)
    for place, column in ((0, 0), (3, 10), (199, width - 1)):
        angle = place / 10_000 ** ((column - column % 2) / width)
        wave = math.sin(angle) if column % 2 == 0 else math.cos(angle)
        assert float(table[place, column]) == pytest.approx(0.02 * math.sqrt(2) * wave, abs=1e-6)
    assert float(table.square().mean().sqrt()) == pytest.approx(0.02, rel=0.02)


def test_neighbours_are_more_alike_than_others() -> None:
    table = sinusoids(128, 256, std=1.0)
    alike = torch.nn.functional.cosine_similarity(table[:1], table[1:])
    assert float(alike[0]) > 0.95
    assert float(alike[0]) > float(alike[5]) > float(alike[50])


def test_layers_that_are_left_undefined_draw_nothing() -> None:
    before = torch.get_rng_state()
    with skip_init():
        layers = [nn.Linear(3, 5), nn.Embedding(7, 3, padding_idx=0), nn.LayerNorm(3)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, 3), (7, 3), (3,)]
    assert torch.equal(layers[2].weight, torch.ones(3))
    nn.init.normal_(layers[0].weight)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def words(tiny_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that has no pooler."""
    folder = tmp_path_factory.mktemp("words")
    torch.manual_seed(0)
    BertForMaskedLM(tiny_config()).save_pretrained(folder)
    return folder


def test_a_layer_that_a_subclass_puts_in_is_tied(words: Path) -> None:
    class Again(BertForMaskedLM):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.cls.predictions.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    model = Again.from_pretrained(words, verbose=False)
    table = model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.weight is table


def test_a_model_inside_of_another_is_read_in_earnest(words: Path) -> None:
    class Counted(BertModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.register_buffer("drawn", nn.init.normal_(torch.zeros(3)), persistent=False)

    class Mine(BertForSequenceClassification):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.teacher = [Counted.from_pretrained(words, verbose=False)]

    model = Mine.from_pretrained(words, verbose=False)
    (teacher,) = model.teacher
    assert float(teacher.pooler.dense.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert teacher.drawn.abs().min() > 0
    table = model.bert.embeddings.word_embeddings.weight
    assert torch.equal(teacher.embeddings.word_embeddings.weight, table)


def test_what_is_read_is_on_the_cpu(words: Path) -> None:
    with torch.device("meta"):
        model = BertModel.from_pretrained(words, verbose=False)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_rule_is_called_for_what_is_new_alone(words: Path) -> None:
    class Watched(BertForSequenceClassification):
        def _init_weights(self, module: nn.Module) -> None:
            super()._init_weights(module)
            called.append(type(module).__name__)

    called: list[str] = []
    Watched.from_pretrained(words, verbose=False)
    assert called == ["Linear", "Linear", "BertPooler", "BertModel", "Watched"]


def test_a_model_that_does_not_fit_into_memory_is_refused(tmp_path: Path, tiny_config: Any) -> None:
    tiny_config(hidden_size=1_000_000).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="does not fit into memory"):
        BertModel.from_pretrained(tmp_path)
