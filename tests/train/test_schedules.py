"""Learning-rate schedules; beside the peer's they are in `tests/parity/test_schedules.py`."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from bertolt.base.errors import UsageError
from bertolt.train.optim import AdamW
from bertolt.train.schedules import SCHEDULES, get_scheduler
from tests.train.small import tied

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
