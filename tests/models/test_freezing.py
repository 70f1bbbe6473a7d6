"""Layers that training leaves as they are."""

from __future__ import annotations

from typing import Any

import pytest

from bertolt import BertForSequenceClassification
from bertolt.base.errors import UsageError
from bertolt.models.freezing import freeze_layers


@pytest.mark.parametrize("lowest", [0, 1, 2, "all"])
def test_the_lowest_layers_are_frozen_with_the_embeddings(tiny_config: Any, lowest: Any) -> None:
    model = BertForSequenceClassification(tiny_config(num_hidden_layers=2))
    count = freeze_layers(model, lowest)
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    assert count == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    layers = {name.split(".")[3] for name in frozen if ".layer." in name}
    assert layers == {str(n) for n in range(2 if lowest == "all" else lowest)}
    assert any("embeddings" in name for name in frozen)
    assert ("bert.pooler.dense.weight" in frozen) == (lowest == "all")
    assert not any(name.startswith("classifier") for name in frozen)


def test_more_layers_than_there_are_is_refused(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config(num_hidden_layers=2))
    with pytest.raises(UsageError, match="the model has 2 layers, and 3 are to be frozen"):
        freeze_layers(model, 3)
    assert all(each.requires_grad for each in model.parameters())
