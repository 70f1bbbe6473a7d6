"""Parameter groups and AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForPreTraining
from transformers.trainer_pt_utils import get_parameter_names

from bertolt.base.errors import UsageError
from bertolt.train.optim import AdamW, parameter_groups
from tests.train.small import tied


def train(model, optimizer, steps=5):
    torch.manual_seed(1)
    for _ in range(steps):
        ids = torch.randint(0, 7, (8,))
        loss = nn.functional.cross_entropy(model(ids), ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


# --- parameter_groups ----------------------------------------------------------------------------


def test_groups_by_hand():
    model = tied()
    decayed, spared = parameter_groups(model, 0.01)
    assert decayed["weight_decay"] == 0.01
    assert [id(p) for p in decayed["params"]] == [id(model.embed.weight)]
    assert spared["weight_decay"] == 0.0
    expected = [model.norm.weight, model.norm.bias, model.decoder.bias]
    assert [id(p) for p in spared["params"]] == [id(p) for p in expected]


def test_groups_equal_the_peers_on_bert():
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForPreTraining(BertConfig(vocab_size=50, num_hidden_layers=2, **sizes))
    # The rule of the peer's Trainer (get_decay_parameter_names).
    patterns = ["bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    names = set(get_parameter_names(model, [nn.LayerNorm], patterns))
    wanted = {id(p) for name, p in model.named_parameters() if name in names}
    decayed, spared = parameter_groups(model, 0.1)
    assert {id(p) for p in decayed["params"]} == wanted
    everything = decayed["params"] + spared["params"]
    assert len(everything) == len({id(p) for p in everything}) == len(list(model.parameters()))


def test_an_empty_group_stays_and_trains():
    model = nn.Linear(3, 2, bias=False)
    decayed, spared = parameter_groups(model, 0.01)
    assert (len(decayed["params"]), len(spared["params"])) == (1, 0)
    optimizer = AdamW([decayed, spared])
    model(torch.ones(3)).sum().backward()
    before = model.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model.weight)


def test_groups_refuse():
    with pytest.raises(UsageError, match="every parameter is frozen"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.01)
    with pytest.raises(UsageError, match=r"weight_decay is -0\.1"):
        parameter_groups(tied(), -0.1)


# --- AdamW ---------------------------------------------------------------------------------------


def test_defaults_are_the_ones_of_the_notes():
    optimizer = AdamW(tied().parameters(), lr=5e-5)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (5e-5, (0.9, 0.999), 1e-6)
    assert group["weight_decay"] == 0.0
    assert isinstance(optimizer, torch.optim.AdamW)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "eps": 1e-8, "amsgrad": True}])
def test_fused_is_the_default_and_equals_the_plain_update(options):
    first, second = tied(), tied()
    fused = AdamW(first.parameters(), lr=1e-2, **options)
    assert fused.param_groups[0]["fused"] is True
    plain = torch.optim.AdamW(
        second.parameters(), lr=1e-2, **{"eps": 1e-6, "weight_decay": 0.0, **options}, fused=False
    )
    for ours, theirs in zip(train(first, fused, 20), train(second, plain, 20), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"fused": False}, {"foreach": True}, {"differentiable": True}])
def test_fused_gives_way(options):
    assert not AdamW(tied().parameters(), **options).param_groups[0]["fused"]


def test_fused_needs_a_device_that_has_it():
    assert not AdamW(tied().to("meta").parameters()).param_groups[0]["fused"]


def test_generators_and_later_groups():
    model = tied()
    optimizer = AdamW([{"params": model.norm.parameters()}], lr=1e-3)
    optimizer.add_param_group({"params": model.decoder.parameters()})
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    assert all(group["fused"] for group in optimizer.param_groups)


def test_state_dict_round_trip():
    model, other = tied(), tied(seed=3)
    optimizer = AdamW(parameter_groups(model, 0.01), lr=1e-2)
    train(model, optimizer)
    other.load_state_dict(model.state_dict())
    again = AdamW(parameter_groups(other, 0.01), lr=1.0)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for ours, theirs in zip(train(model, optimizer), train(other, again), strict=True):
        assert torch.equal(ours, theirs)


def test_old_arguments():
    AdamW(tied().parameters(), 5e-5, (0.9, 0.999), 1e-6, 0.0, True, True)
    with pytest.raises(UsageError, match="correct_bias=False is not offered"):
        AdamW(tied().parameters(), correct_bias=False)
