"""A rate of its own for each layer."""

from __future__ import annotations

from typing import Any

import pytest

from bertolt import BertForSequenceClassification
from bertolt.train.optim import layered_groups, parameter_groups


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_each_layer_has_its_share_of_the_rate_above_and_decays_as_before(
    tiny_config: Any, decay: float
) -> None:
    model = BertForSequenceClassification(tiny_config(num_hidden_layers=2))
    groups = layered_groups(model, 0.01, 8.0, decay)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        below = 3 if "embeddings." in name else 0
        below = {"0": 2, "1": 1}[name.split(".")[3]] if ".layer." in name else below
        assert rates[id(parameter)] == 8.0 * decay**below
    assert groups[0]["lr"] == 8.0, "what is logged is the peak rate"
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    plain = {
        id(p): group["weight_decay"]
        for group in parameter_groups(model, 0.01)
        for p in group["params"]
    }
    assert decays == plain
