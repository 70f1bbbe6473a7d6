"""Every learning-rate schedule against the peer's, step by step."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.optimization import get_scheduler as peer_get_scheduler
from transformers.trainer_utils import SchedulerType

import bertolt
from bertolt.train.schedules import SCHEDULES, get_scheduler

STEPS = 200

FLOOR = {"min_lr": 1e-6}
WSD = {"num_decay_steps": 60}

# name, warmup, total, options. Totals below and above the 200 steps show the course past the end.
CASES = [
    ("constant", None, None, {}),
    ("constant", 20, 150, {}),
    ("constant_with_warmup", 20, None, {}),
    ("constant_with_warmup", 0, 150, {}),
    ("linear", 0, 150, {}),
    ("linear", 20, 150, {}),
    ("linear", 20, 400, {}),
    ("linear", 160, 150, {}),
    ("linear", 150, 150, {}),
    ("cosine", 20, 150, {}),
    ("cosine", 0, 200, {"num_cycles": 2.25}),
    ("cosine_with_restarts", 20, 150, {}),
    ("cosine_with_restarts", 7, 200, {"num_cycles": 3}),
    ("polynomial", 20, 150, {}),
    ("polynomial", 0, 200, {"lr_end": 1e-5, "power": 2.5}),
    ("inverse_sqrt", 20, None, {}),
    ("inverse_sqrt", 0, 150, {}),
    ("inverse_sqrt", 10, 150, {"timescale": 50}),
    ("cosine_with_min_lr", 20, 150, FLOOR),
    ("cosine_with_min_lr", 0, 200, {"min_lr_rate": 0.0}),
    ("cosine_with_min_lr", 20, 200, {"min_lr_rate": 0.2, "num_cycles": 1.5}),
    ("cosine_warmup_with_min_lr", 20, 150, FLOOR),
    ("cosine_warmup_with_min_lr", 0, 200, {"min_lr_rate": 0.2}),
    ("cosine_warmup_with_min_lr", 20, 200, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.05}),
    ("cosine_warmup_with_min_lr", 1, 200, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.0}),
    ("warmup_stable_decay", 20, 150, WSD),
    ("warmup_stable_decay", 0, 200, {**WSD, "decay_type": "linear", "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", 20, None, {**WSD, "num_stable_steps": 40, "decay_type": "1-sqrt"}),
    ("warmup_stable_decay", 30, 180, {**WSD, "warmup_type": "cosine", "num_cycles": 1.5}),
    ("warmup_stable_decay", 30, 180, {**WSD, "warmup_type": "1-sqrt", "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 20, 150, {"num_decay_steps": 0}),
]


def optimizer(lr=5e-5):
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups = [{"params": [first]}, {"params": [second], "lr": lr / 3}]
    return torch.optim.SGD(groups, lr=lr)


def course(get, name, lr=5e-5, values=None, **given):
    """The learning rates of both groups over the steps."""
    optim = optimizer(lr)
    scheduler = get(name, optim, **given)
    rates = []
    for step in range(STEPS):
        rates.append([group["lr"] for group in optim.param_groups])
        optim.step()
        scheduler.step(*([] if values is None else [values[step]]))
    return rates


def assert_equal_courses(ours, peers):
    for step, (our, peer) in enumerate(zip(ours, peers, strict=True)):
        assert our == pytest.approx(peer, rel=1e-12, abs=1e-12 * 5e-5), f"step {step}"


@pytest.mark.parametrize(("name", "warmup", "total", "options"), CASES)
def test_schedule_equals_the_peer(name, warmup, total, options):
    given = {
        "num_warmup_steps": warmup,
        "num_training_steps": total,
        "scheduler_specific_kwargs": options,
    }
    assert_equal_courses(
        course(get_scheduler, name, **given), course(peer_get_scheduler, name, **given)
    )


# A measured value that falls, rises, stands still and falls again.
VALUES = [
    *[1.0 - 0.01 * i for i in range(60)],
    *[0.4 + 0.002 * i for i in range(60)],
    *[0.5] * 40,
    *[0.3 * math.exp(-i / 20) for i in range(40)],
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("reduce_lr_on_plateau", {}),
        ("reduce_lr_on_plateau", {"mode": "max", "factor": 0.5, "patience": 3, "cooldown": 2}),
        ("greedy", {}),
        ("greedy", {"patience": 2, "factor": 0.8}),
        ("greedy", {"mode": "max", "patience": 2, "factor": 0.7, "threshold_mode": "rel"}),
        ("greedy", {"patience": 1, "factor": 0.5, "cooldown": 3, "warmup": 2, "max_lr": 0.5}),
        ("greedy", {"patience": 1, "factor": 0.5, "smooth": True, "window_size": 5}),
        ("greedy", {"patience": 0, "factor": 0.3, "min_lr": [0.02, 0.01], "reset_start": 4}),
        ("greedy", {"patience": 0, "factor": 0.3, "reset_start": 3, "cooldown": 2}),
    ],
)
def test_measured_schedule_equals_the_peer(name, options):
    given = {"lr": 0.1, "values": VALUES, "scheduler_specific_kwargs": options}
    ours = course(get_scheduler, name, **given)
    assert_equal_courses(ours, course(peer_get_scheduler, name, **given))
    assert len({tuple(rates) for rates in ours}) > 1, "the rate never moved"


def test_every_name_of_the_peer_is_here_and_compared():
    peers = {kind.value for kind in TYPE_TO_SCHEDULER_FUNCTION}
    assert set(SCHEDULES) == peers
    compared = {case[0] for case in CASES} | {"reduce_lr_on_plateau", "greedy"}
    assert compared == peers


def test_the_peers_enum_is_a_name_too():
    scheduler = get_scheduler(SchedulerType.COSINE, optimizer(), 0, 10)
    assert scheduler.get_last_lr() == [5e-5, 5e-5 / 3]


@pytest.mark.parametrize(
    ("name", "steps", "options"),
    [
        ("get_constant_schedule", (), {}),
        ("get_constant_schedule_with_warmup", (20,), {}),
        ("get_linear_schedule_with_warmup", (20, 150), {}),
        ("get_cosine_schedule_with_warmup", (20, 150), {"num_cycles": 1.5}),
        ("get_cosine_with_hard_restarts_schedule_with_warmup", (20, 150), {"num_cycles": 3}),
        ("get_polynomial_decay_schedule_with_warmup", (20, 150), {"lr_end": 1e-6, "power": 2.0}),
        ("get_inverse_sqrt_schedule", (20,), {"timescale": 50}),
        ("get_cosine_with_min_lr_schedule_with_warmup", (20, 150), {"min_lr": 1e-6}),
        (
            "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
            (20, 150),
            {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2},
        ),
        ("get_wsd_schedule", (20, 50, 150), {"min_lr_ratio": 0.1, "decay_type": "linear"}),
    ],
)
@pytest.mark.parametrize("last_epoch", [-1, 30])
def test_functions_equal_the_peers(name, steps, options, last_epoch):
    def rates(module):
        optim = optimizer()
        if last_epoch >= 0:
            for group in optim.param_groups:
                group["initial_lr"] = group["lr"]
        scheduler = getattr(module, name)(optim, *steps, **options, last_epoch=last_epoch)
        followed = []
        for _ in range(STEPS):
            followed.append([group["lr"] for group in optim.param_groups])
            optim.step()
            scheduler.step()
        return followed

    assert_equal_courses(rates(bertolt), rates(transformers))
