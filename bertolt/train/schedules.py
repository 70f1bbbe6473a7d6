"""Learning-rate schedules.

A schedule is a plain function from the step to a factor on the initial learning rate; `LambdaLR`
of torch applies it. Two schedules follow a measured value instead, and take it in `step(value)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, SupportsFloat

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from bertolt.base.errors import UsageError, meant


class _Run(NamedTuple):
    """What a schedule knows of a run: steps of warmup, steps in all, the rate that it scales."""

    warmup: int
    total: int | None
    base_lr: float

    @property
    def length(self) -> int:
        """Steps from the end of warmup to the end of training."""
        assert self.total is not None
        return self.total - self.warmup

    def progress(self, step: int) -> float:
        """Share of these steps behind `step`; passes 1 beyond the end."""
        return (step - self.warmup) / max(1, self.length)


def _wave(turns: float) -> float:
    """A cosine between 1 and 0: 1 at whole turns, 0 at half turns."""
    return 0.5 * (1.0 + math.cos(2.0 * math.pi * turns))


def constant(step: int, run: _Run) -> float:
    """The initial rate throughout."""
    return 1.0


def linear(step: int, run: _Run) -> float:
    """A straight line to 0 at the last step: BERT's own schedule."""
    return max(0.0, (run.length - (step - run.warmup)) / max(1, run.length))


def cosine(step: int, run: _Run, *, num_cycles: float = 0.5) -> float:
    """`num_cycles` of a cosine; half a cycle falls from 1 to 0."""
    return _wave(num_cycles * run.progress(step))


def cosine_with_restarts(step: int, run: _Run, *, num_cycles: int = 1) -> float:
    """`num_cycles` falls from 1 to 0, each starting again at 1."""
    progress = run.progress(step)
    return 0.0 if progress >= 1.0 else _wave((num_cycles * progress) % 1.0 / 2.0)


def polynomial(step: int, run: _Run, *, lr_end: float = 1e-7, power: float = 1.0) -> float:
    """A fall to `lr_end` along a power of the share of steps left."""
    if lr_end >= run.base_lr:
        raise UsageError(
            f"lr_end={lr_end:g} is not below the learning rate {run.base_lr:g}",
            place="scheduler 'polynomial'",
            fix=f"give lr_end={run.base_lr / 100:g}, for instance; get_scheduler takes it as "
            f'scheduler_specific_kwargs={{"lr_end": {run.base_lr / 100:g}}}',
        )
    left = max(0.0, 1.0 - run.progress(step))
    return ((run.base_lr - lr_end) * math.pow(left, power) + lr_end) / run.base_lr


def inverse_sqrt(step: int, run: _Run, *, timescale: int | None = None) -> float:
    """1 over the root of the steps, in units of `timescale`: the warmup, or 10,000 without one."""
    scale = timescale or run.warmup or 10_000
    return 1.0 / math.sqrt((step - run.warmup + scale) / scale)


def cosine_with_min_lr(
    step: int,
    run: _Run,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> float:
    """`cosine`, but down to `min_lr`, or to `min_lr_rate` of the initial rate."""
    if (min_lr is None) == (min_lr_rate is None):
        raise UsageError(
            "exactly one of min_lr and min_lr_rate is needed",
            place="a cosine schedule with a lowest rate",
            fix="give min_lr_rate=0.1, for instance; get_scheduler takes it as "
            'scheduler_specific_kwargs={"min_lr_rate": 0.1}',
        )
    floor = min_lr / run.base_lr if min_lr is not None else float(min_lr_rate or 0.0)
    return floor + (1.0 - floor) * cosine(step, run, num_cycles=num_cycles)


def cosine_warmup_with_min_lr(
    step: int,
    run: _Run,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> float:
    """`cosine_with_min_lr` counted from 1, so that no step has a rate of 0.

    Warmup starts at `warmup_lr_rate` of the initial rate, or at one part in `num_warmup_steps`.
    """
    fall = cosine_with_min_lr(
        step + 1, run, num_cycles=num_cycles, min_lr=min_lr, min_lr_rate=min_lr_rate
    )
    if step >= run.warmup:
        return fall
    if warmup_lr_rate is None:
        return (step + 1) / run.warmup
    return warmup_lr_rate + (1.0 - warmup_lr_rate) * step / max(1, run.warmup - 1)


# Shapes of a rise from 0 to 1; a fall is each of them turned round.
_RISES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: share,
    "cosine": lambda share: _wave((1.0 - share) / 2.0),
    "1-sqrt": lambda share: 1.0 - math.sqrt(1.0 - share),
}


def warmup_stable_decay(
    step: int,
    run: _Run,
    *,
    num_decay_steps: int,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> float:
    """Warmup from `min_lr_ratio`, a level stretch, a fall to `min_lr_ratio`, and that from then on.

    The level stretch is `num_stable_steps`, or what warmup and decay leave of
    `num_training_steps`. Both types are "linear", "cosine" or "1-sqrt"; `num_cycles` is the
    cosine's, in the fall only.
    """
    rise, fall = _rise("warmup_type", warmup_type), _rise("decay_type", decay_type)
    stable = _stable_steps(run, num_decay_steps) if num_stable_steps is None else num_stable_steps
    into_decay = step - run.warmup - stable
    if step < run.warmup:
        factor = rise(step / run.warmup)
    elif into_decay < 0:
        return 1.0
    elif into_decay < num_decay_steps:
        share = into_decay / num_decay_steps
        factor = _wave(num_cycles * share) if decay_type == "cosine" else fall(1.0 - share)
    else:
        return min_lr_ratio
    return max(0.0, min_lr_ratio + (1.0 - min_lr_ratio) * factor)


def _rise(option: str, name: str) -> Callable[[float], float]:
    if name not in _RISES:
        raise UsageError(
            f"{option} is {name!r}",
            place="get_scheduler",
            fix=f"choose one of {', '.join(map(repr, _RISES))}",
        )
    return _RISES[name]


def _stable_steps(run: _Run, decay: int) -> int:
    if run.total is None:
        raise UsageError(
            "'warmup_stable_decay' needs num_training_steps",
            place="get_scheduler",
            fix="pass num_training_steps, or num_stable_steps in scheduler_specific_kwargs",
        )
    if decay > run.length:
        raise UsageError(
            f"{run.warmup} steps of warmup and {decay} of decay pass "
            f"num_training_steps={run.total}",
            place="get_scheduler",
            fix="make num_warmup_steps or num_decay_steps smaller",
        )
    return run.length - decay


class GreedyLR(ReduceLROnPlateau):
    """Raises the rate while a measured value keeps improving, lowers it while it does not.

    After more than `patience` improvements in a row the rate is divided by `factor`, after as many
    failures multiplied by it, within `min_lr` and `max_lr`. When `reset_start` reductions find it
    at the floor already, it starts again from the initial rate. Source: "GreedyLR: a novel
    adaptive learning rate scheduler", arXiv:2512.14527.

    Args, beside those of `ReduceLROnPlateau`, whose defaults differ:
        warmup: values ignored after an increase, as `cooldown` are after a reduction.
        max_lr: ceiling, for all groups or for each.
        smooth: judge the mean of the last `window_size` values instead of each.
        window_size: of `smooth`.
        reset_start: reductions at the floor before starting again.

    Raises:
        UsageError: the rate of the optimizer is not within `min_lr` and `max_lr`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: Literal["rel", "abs"] = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float | list[float] = 1e-3,
        max_lr: float | list[float] = 1.0,
        eps: float = 1e-8,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int = 500,
    ) -> None:
        super().__init__(
            optimizer, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps
        )
        self.initial_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        count = len(self.initial_lrs)
        self.max_lrs = list(max_lr) if isinstance(max_lr, list) else [max_lr] * count
        self._check_range()
        self.warmup = warmup
        self.window_size = window_size if smooth else 1
        self.reset_start = reset_start
        self.window: list[float] = []
        self.num_good_epochs = self.floor_hits = 0

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take a measured value and change the rate if it is time to."""
        self.window = [*self.window, float(metrics)][-self.window_size :]
        value = sum(self.window) / len(self.window)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
        elif self._improves(value):
            self.best = value
            self.num_good_epochs, self.num_bad_epochs = self.num_good_epochs + 1, 0
        else:
            self.num_good_epochs, self.num_bad_epochs = 0, self.num_bad_epochs + 1
        if self.num_good_epochs > self.patience:
            self._raise_rate()
            self.num_good_epochs, self.cooldown_counter = 0, self.warmup
        elif self.num_bad_epochs > self.patience:
            self._lower_rate()
            self.num_bad_epochs, self.cooldown_counter = 0, self.cooldown

    def get_last_lr(self) -> list[float | Tensor]:
        """The rate of each group, as the optimizer has it."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _improves(self, value: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        margin = sign * self.threshold
        goal = self.best * (1.0 + margin) if self.threshold_mode == "rel" else self.best + margin
        return bool(sign * value > sign * goal)

    def _raise_rate(self) -> None:
        for group, ceiling in zip(self.optimizer.param_groups, self.max_lrs, strict=True):
            self._set_rate(group, min(group["lr"] / self.factor, ceiling))
        self.floor_hits = 0

    def _lower_rate(self) -> None:
        groups = self.optimizer.param_groups
        for group, floor in zip(groups, self.min_lrs, strict=True):
            self._set_rate(group, max(group["lr"] * self.factor, floor))
        if all(group["lr"] <= floor for group, floor in zip(groups, self.min_lrs, strict=True)):
            self.floor_hits += 1
            if self.floor_hits >= self.reset_start:
                self._start_again()

    def _set_rate(self, group: dict[str, Any], rate: float) -> None:
        if abs(rate - group["lr"]) > self.eps:
            group["lr"] = rate

    def _start_again(self) -> None:
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial
        self.best, self.window = self.mode_worse, []
        self.num_good_epochs = self.num_bad_epochs = self.cooldown_counter = self.floor_hits = 0

    def _check_range(self) -> None:
        for rate, low, high in zip(self.initial_lrs, self.min_lrs, self.max_lrs, strict=True):
            if not low <= rate <= high:
                raise UsageError(
                    f"the learning rate {rate:g} is outside min_lr={low:g} .. max_lr={high:g}",
                    place="scheduler 'greedy'",
                    fix=f"pass scheduler_specific_kwargs={{'min_lr': {rate / 100:g}, "
                    f"'max_lr': {rate * 10:g}}}, for instance",
                )


# Each shape, what it needs beside its own options, and whether linear warmup comes before it: there
# is none, or the shape has its own, where not.
_ALL_STEPS, _WARMUP = ("num_warmup_steps", "num_training_steps"), ("num_warmup_steps",)
_SHAPES: dict[str, tuple[Callable[..., float], tuple[str, ...], bool]] = {
    "linear": (linear, _ALL_STEPS, True),
    "cosine": (cosine, _ALL_STEPS, True),
    "cosine_with_restarts": (cosine_with_restarts, _ALL_STEPS, True),
    "polynomial": (polynomial, _ALL_STEPS, True),
    "constant": (constant, (), False),
    "constant_with_warmup": (constant, _WARMUP, True),
    "inverse_sqrt": (inverse_sqrt, _WARMUP, True),
    "cosine_with_min_lr": (cosine_with_min_lr, _ALL_STEPS, True),
    "cosine_warmup_with_min_lr": (cosine_warmup_with_min_lr, _ALL_STEPS, False),
    "warmup_stable_decay": (warmup_stable_decay, _WARMUP, False),
}
_MEASURED: dict[str, type[ReduceLROnPlateau]] = {
    "reduce_lr_on_plateau": ReduceLROnPlateau,
    "greedy": GreedyLR,
}
SCHEDULES: tuple[str, ...] = (*_SHAPES, *_MEASURED)


def _with_warmup(shape: Callable[..., float], step: int, run: _Run, **options: Any) -> float:
    """A shape, and a straight line from 0 to the initial rate before it."""
    # In warmup as well, where the shape refuses options that it cannot go by.
    level = shape(max(step, run.warmup), run, **options)
    return step / run.warmup if step < run.warmup else level


def get_scheduler(
    name: str,
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LRScheduler:
    """A learning-rate schedule by the name that it has in `transformers`.

    Call its `step()` after each `optimizer.step()`; for "reduce_lr_on_plateau" and "greedy",
    which return a `ReduceLROnPlateau`, call `step(value)` after each evaluation. `state_dict` and
    `load_state_dict` carry a schedule over to a later run.

    Args:
        name: one of `SCHEDULES`.
        optimizer: whose rates are scheduled; its rate at this moment is the highest.
        num_warmup_steps: optimizer steps of warmup; needed by all but "constant" and the two above.
        num_training_steps: optimizer steps in all; needed by the schedules that end.
        scheduler_specific_kwargs: further options of the schedule, such as `num_cycles`.

    Raises:
        UsageError: an unknown name or option, or one that is needed and not given.
    """
    name = str(getattr(name, "value", name))  # an enum that is also a string
    options = dict(scheduler_specific_kwargs or {})
    if name in _MEASURED:
        return _measured(name, optimizer, options)
    if name not in _SHAPES:
        raise UsageError(
            f"there is no schedule {name!r}; there are {', '.join(SCHEDULES)}",
            place="get_scheduler",
            fix=meant(name, list(SCHEDULES), "choose one of these"),
        )
    return _by_step(name, optimizer, num_warmup_steps, num_training_steps, options)


def _by_step(
    name: str,
    optimizer: torch.optim.Optimizer,
    warmup: int | None,
    total: int | None,
    options: Mapping[str, Any],
    last_epoch: int = -1,
) -> LambdaLR:
    shape, needs, warms_up = _SHAPES[name]
    steps = {"num_warmup_steps": warmup, "num_training_steps": total}
    _check_options(name, shape, options, {key: steps[key] for key in needs})
    run = _Run(warmup or 0, total, float(optimizer.defaults["lr"]))
    factor = partial(_with_warmup, shape) if warms_up else shape
    return LambdaLR(optimizer, partial(factor, run=run, **options), last_epoch)


def _measured(
    name: str, optimizer: torch.optim.Optimizer, options: Mapping[str, Any]
) -> ReduceLROnPlateau:
    _check_options(name, _MEASURED[name], options, {})
    try:
        return _MEASURED[name](optimizer, **options)
    except ValueError as error:
        raise UsageError(
            str(error), place=f"scheduler {name!r}", fix="change it in scheduler_specific_kwargs"
        ) from error


def _check_options(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], needs: Mapping[str, Any]
) -> None:
    """Refuse options that `function` lacks, and missing values that it cannot do without."""
    parameters = inspect.signature(function).parameters
    own = [key for key in parameters if key not in ("step", "run", "optimizer")]
    place = f"scheduler {name!r}"
    for key in options:
        if key not in own:
            raise UsageError(
                f"there is no option {key!r}; it has {', '.join(own) or 'none'}",
                place=place,
                fix=meant(key, own, f"leave {key!r} out"),
            )
    required = [key for key in own if parameters[key].default is inspect.Parameter.empty]
    for key in (*needs, *required):
        if {**needs, **options}.get(key) is None:
            inner = f'scheduler_specific_kwargs={{"{key}": ...}}'
            how = f"{key}=..." if key in needs else inner
            raise UsageError(f"{key} is needed", place=place, fix=f"pass {how}")


# The peer's function for each schedule. `last_epoch` is the step that a schedule goes on from:
# of an optimizer whose groups have their "initial_lr", as its loaded state does.


def get_constant_schedule(optimizer: torch.optim.Optimizer, last_epoch: int = -1) -> LambdaLR:
    """The optimizer's rate throughout; see `get_scheduler`."""
    return _by_step("constant", optimizer, None, None, {}, last_epoch)


def get_constant_schedule_with_warmup(
    optimizer: torch.optim.Optimizer, num_warmup_steps: int, last_epoch: int = -1
) -> LambdaLR:
    """A rise from 0, then the optimizer's rate; see `get_scheduler`."""
    return _by_step("constant_with_warmup", optimizer, num_warmup_steps, None, {}, last_epoch)


def get_linear_schedule_with_warmup(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    last_epoch: int = -1,
) -> LambdaLR:
    """A rise from 0, then a straight line to 0 at the last step; see `get_scheduler`."""
    return _by_step("linear", optimizer, num_warmup_steps, num_training_steps, {}, last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """A rise from 0, then `num_cycles` of a cosine; see `get_scheduler`."""
    options = {"num_cycles": num_cycles}
    return _by_step("cosine", optimizer, num_warmup_steps, num_training_steps, options, last_epoch)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: int = 1,
    last_epoch: int = -1,
) -> LambdaLR:
    """A rise from 0, then `num_cycles` falls, each from the top; see `get_scheduler`."""
    name, options = "cosine_with_restarts", {"num_cycles": num_cycles}
    return _by_step(name, optimizer, num_warmup_steps, num_training_steps, options, last_epoch)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """A rise from 0, then a fall to `lr_end` along a power; see `get_scheduler`.

    Raises:
        UsageError: `lr_end` is not below the optimizer's rate.
    """
    name, options = "polynomial", {"lr_end": lr_end, "power": power}
    return _by_step(name, optimizer, num_warmup_steps, num_training_steps, options, last_epoch)


def get_inverse_sqrt_schedule(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    timescale: int | None = None,
    last_epoch: int = -1,
) -> LambdaLR:
    """A rise from 0, then 1 over the root of the steps; see `get_scheduler`."""
    options = {"timescale": timescale}
    return _by_step("inverse_sqrt", optimizer, num_warmup_steps, None, options, last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LambdaLR:
    """A rise from 0, then a cosine down to `min_lr`; see `get_scheduler`.

    Raises:
        UsageError: there is neither `min_lr` nor `min_lr_rate`, or there are both.
    """
    name = "cosine_with_min_lr"
    options = {"num_cycles": num_cycles, "min_lr": min_lr, "min_lr_rate": min_lr_rate}
    return _by_step(name, optimizer, num_warmup_steps, num_training_steps, options, last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> LambdaLR:
    """The same, but from `warmup_lr_rate` of the optimizer's rate on, and never 0.

    Raises:
        UsageError: there is neither `min_lr` nor `min_lr_rate`, or there are both.
    """
    name = "cosine_warmup_with_min_lr"
    options = {"num_cycles": num_cycles, "min_lr": min_lr, "min_lr_rate": min_lr_rate}
    options["warmup_lr_rate"] = warmup_lr_rate
    return _by_step(name, optimizer, num_warmup_steps, num_training_steps, options, last_epoch)


def get_wsd_schedule(
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """A rise, a level stretch, and a fall; see `get_scheduler`.

    Raises:
        UsageError: neither `num_training_steps` nor `num_stable_steps` says how long it is level.
    """
    options = {
        **{"num_decay_steps": num_decay_steps, "num_stable_steps": num_stable_steps},
        **{"warmup_type": warmup_type, "decay_type": decay_type},
        **{"min_lr_ratio": min_lr_ratio, "num_cycles": num_cycles},
    }
    name = "warmup_stable_decay"
    return _by_step(name, optimizer, num_warmup_steps, num_training_steps, options, last_epoch)


def get_reduce_on_plateau_schedule(
    optimizer: torch.optim.Optimizer, **options: Any
) -> ReduceLROnPlateau:
    """Lower rates while a measured value does not improve; see `get_scheduler`."""
    return _measured("reduce_lr_on_plateau", optimizer, options)


def get_greedy_schedule(optimizer: torch.optim.Optimizer, **options: Any) -> ReduceLROnPlateau:
    """Rates that follow a measured value, up and down; see `get_scheduler`."""
    return _measured("greedy", optimizer, options)
