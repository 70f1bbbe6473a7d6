"""Starts of weights that are more than a call of PyTorch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bertolt.model.initialize import left_undefined, sinusoids


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
    with left_undefined():
        layers = [nn.Linear(3, 5), nn.Embedding(7, 3, padding_idx=0), nn.LayerNorm(3)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, 3), (7, 3), (3,)]
    assert torch.equal(layers[2].weight, torch.ones(3))
    nn.init.normal_(layers[0].weight)
    assert not torch.equal(torch.get_rng_state(), before)
