"""Parameter groups, AdamW and schedules."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import BertConfig, BertForPreTraining
from transformers.trainer_pt_utils import get_parameter_names

from bertolt.errors import UsageError
from bertolt.train.optim import SCHEDULES, AdamW, get_scheduler, parameter_groups


class Tied(nn.Module):
    """An embedding that is also the decoder, a normalisation, a bias, and a frozen layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embed.weight

    def forward(self, ids):
        return self.decoder(self.frozen(self.norm(self.embed(ids))))


def train(model, optimizer, steps=5):
    torch.manual_seed(1)
    for _ in range(steps):
        ids = torch.randint(0, 7, (8,))
        loss = nn.functional.cross_entropy(model(ids), ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def tied(seed=0):
    torch.manual_seed(seed)
    return Tied()


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


# --- get_scheduler -------------------------------------------------------------------------------

NEEDS = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 4},
}


def scheduled(name, lr=5e-2, **options):
    optimizer = AdamW(tied().parameters(), lr=lr)
    return optimizer, get_scheduler(name, optimizer, 3, 20, {**NEEDS.get(name, {}), **options})


def follow(optimizer, scheduler, values):
    rates = []
    for value in values:
        measured = isinstance(scheduler, ReduceLROnPlateau)
        scheduler.step(*([value] if measured else []))
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_linear_by_hand():
    optimizer, scheduler = scheduled("linear", lr=1.0)
    optimizer.step()
    rates = [1.0 * 0, *follow(optimizer, scheduler, range(22))]
    assert rates[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert rates[4] == pytest.approx(16 / 17)
    assert rates[20:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_carries_a_schedule_over(name, tmp_path):
    torch.manual_seed(0)
    values = torch.rand(20).tolist()
    optimizer, scheduler = scheduled(name)
    optimizer.step()
    follow(optimizer, scheduler, values[:9])
    state = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save(state, tmp_path / "state.pt")
    rest = follow(optimizer, scheduler, values[9:])

    optimizer, scheduler = scheduled(name)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)  # plain values, no code
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    optimizer.step()
    assert follow(optimizer, scheduler, values[9:]) == rest


def test_no_warning_in_the_right_order():
    optimizer, scheduler = scheduled("linear")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("liner", {}, r"(?s)no schedule 'liner'.*polynomial.*did you mean 'linear'"),
        ("linear", {"num_training_steps": 9}, r"(?s)num_warmup_steps is needed.*num_warmup_steps="),
        ("cosine", {"num_warmup_steps": 0}, "'cosine': num_training_steps is needed"),
        ("constant_with_warmup", {}, "num_warmup_steps is needed"),
        (
            "warmup_stable_decay",
            {"num_warmup_steps": 0, "num_training_steps": 9},
            r'(?s)num_decay_steps is needed.*scheduler_specific_kwargs=\{"num_decay_steps"',
        ),
    ],
)
def test_scheduler_names_what_is_missing(name, given, message):
    with pytest.raises(UsageError, match=message):
        get_scheduler(name, AdamW(tied().parameters()), **given)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"num_cycle": 2}, r"(?s)no option 'num_cycle'.*did you mean 'num_cycles'"),
        ("linear", {"base_lr": 1.0}, "no option 'base_lr'; it has none"),
        ("linear", {"step": 3}, "no option 'step'"),
        ("constant", {"num_cycles": 2}, "no option 'num_cycles'"),
        ("polynomial", {"lr_end": 0.1}, r"lr_end=0\.1 is not below the learning rate 0\.05"),
        ("cosine_with_min_lr", {"min_lr": 1e-3}, "exactly one of min_lr and min_lr_rate"),
        ("warmup_stable_decay", {"num_decay_steps": 18}, "pass num_training_steps=20"),
        ("warmup_stable_decay", {"decay_type": "sqrt"}, "decay_type is 'sqrt'"),
        ("reduce_lr_on_plateau", {"factor": 2.0}, "Factor should be"),
        ("reduce_lr_on_plateau", {"warmup": 2}, "no option 'warmup'"),
        ("greedy", {"mode": "least"}, "mode least is unknown"),
        ("greedy", {"max_lr": 1e-2}, r"0\.05 is outside min_lr=0\.001 \.\. max_lr=0\.01"),
    ],
)
def test_scheduler_refuses_options(name, options, message):
    with pytest.raises(UsageError, match=message):
        scheduled(name, **options)


def test_cosine_with_min_lr_needs_a_floor():
    optimizer = AdamW(tied().parameters(), lr=1e-3)
    with pytest.raises(UsageError, match="exactly one of min_lr and min_lr_rate"):
        get_scheduler("cosine_with_min_lr", optimizer, 0, 10)
    with pytest.raises(UsageError, match="needs num_training_steps"):
        get_scheduler(
            "warmup_stable_decay", optimizer, 0, scheduler_specific_kwargs={"num_decay_steps": 2}
        )


def test_polynomial_where_warmup_lasts_to_the_end():
    optimizer = AdamW(tied().parameters(), lr=1e-3)
    scheduler = get_scheduler("polynomial", optimizer, 10, 10)
    optimizer.step()
    assert follow(optimizer, scheduler, range(12))[8:] == pytest.approx([9e-4, 1e-3, 1e-7, 1e-7])
