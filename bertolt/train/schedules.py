"""Learning-rate schedules.

A schedule is a plain function from the step to a factor on the initial learning rate; `LambdaLR`
of torch applies it. Two schedules follow a measured value instead, and take it in `step(value)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, SupportsFloat

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from bertolt.base.errors import UsageError, nearest


def _rise(step: int, num_warmup_steps: int) -> float:
    """Linear warmup from 0."""
    return step / max(1, num_warmup_steps)


def _progress(step: int, num_warmup_steps: int, num_training_steps: int) -> float:
    """Share of the way from the end of warmup to the end of training; passes 1 beyond it."""
    return (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)


def _wave(turns: float) -> float:
    """A cosine between 1 and 0: 1 at whole turns, 0 at half turns."""
    return 0.5 * (1.0 + math.cos(2.0 * math.pi * turns))


def constant(step: int) -> float:
    """The initial rate throughout."""
    return 1.0


def constant_with_warmup(step: int, *, num_warmup_steps: int) -> float:
    """Linear warmup, then the initial rate."""
    return _rise(step, num_warmup_steps) if step < num_warmup_steps else 1.0


def linear(step: int, *, num_warmup_steps: int, num_training_steps: int) -> float:
    """Linear warmup, then a straight line to 0 at the last step: BERT's own schedule."""
    if step < num_warmup_steps:
        return _rise(step, num_warmup_steps)
    return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))


def cosine(
    step: int, *, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5
) -> float:
    """Linear warmup, then `num_cycles` of a cosine; half a cycle falls from 1 to 0."""
    if step < num_warmup_steps:
        return _rise(step, num_warmup_steps)
    return _wave(num_cycles * _progress(step, num_warmup_steps, num_training_steps))


def cosine_with_restarts(
    step: int, *, num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1
) -> float:
    """Linear warmup, then `num_cycles` falls from 1 to 0, each starting again at 1."""
    if step < num_warmup_steps:
        return _rise(step, num_warmup_steps)
    progress = _progress(step, num_warmup_steps, num_training_steps)
    return 0.0 if progress >= 1.0 else _wave((num_cycles * progress) % 1.0 / 2.0)


def polynomial(
    step: int,
    *,
    num_warmup_steps: int,
    num_training_steps: int,
    base_lr: float,
    lr_end: float = 1e-7,
    power: float = 1.0,
) -> float:
    """Linear warmup, then a fall to `lr_end` along a power of the share of steps left."""
    if lr_end >= base_lr:
        raise UsageError(
            f"lr_end={lr_end:g} is not below the learning rate {base_lr:g}",
            place="scheduler 'polynomial'",
            fix=f'pass scheduler_specific_kwargs={{"lr_end": {base_lr / 100:g}}}, for instance',
        )
    if step < num_warmup_steps:
        return _rise(step, num_warmup_steps)
    left = max(0.0, 1.0 - _progress(step, num_warmup_steps, num_training_steps))
    return ((base_lr - lr_end) * math.pow(left, power) + lr_end) / base_lr


def inverse_sqrt(step: int, *, num_warmup_steps: int, timescale: int | None = None) -> float:
    """Linear warmup, then 1 over the square root of the steps, in units of `timescale`.

    `timescale` is the warmup, or 10,000 without one.
    """
    if step < num_warmup_steps:
        return _rise(step, num_warmup_steps)
    scale = timescale or num_warmup_steps or 10_000
    return 1.0 / math.sqrt((step - num_warmup_steps + scale) / scale)


def cosine_with_min_lr(
    step: int,
    *,
    num_warmup_steps: int,
    num_training_steps: int,
    base_lr: float,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> float:
    """`cosine`, but down to `min_lr`, or to `min_lr_rate` of the initial rate."""
    floor = _floor(base_lr, min_lr, min_lr_rate)
    if step < num_warmup_steps:
        return _rise(step, num_warmup_steps)
    wave = _wave(num_cycles * _progress(step, num_warmup_steps, num_training_steps))
    return floor + (1.0 - floor) * wave


def cosine_warmup_with_min_lr(
    step: int,
    *,
    num_warmup_steps: int,
    num_training_steps: int,
    base_lr: float,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> float:
    """`cosine_with_min_lr` counted from 1, so that no step has a rate of 0.

    Warmup starts at `warmup_lr_rate` of the initial rate, or at one part in `num_warmup_steps`.
    """
    floor = _floor(base_lr, min_lr, min_lr_rate)
    if step < num_warmup_steps and warmup_lr_rate is None:
        return _rise(step + 1, num_warmup_steps)
    if step < num_warmup_steps and warmup_lr_rate is not None:
        return warmup_lr_rate + (1.0 - warmup_lr_rate) * step / max(1, num_warmup_steps - 1)
    wave = _wave(num_cycles * _progress(step + 1, num_warmup_steps, num_training_steps))
    return floor + (1.0 - floor) * wave


def _floor(base_lr: float, min_lr: float | None, min_lr_rate: float | None) -> float:
    """The lowest factor, from whichever of the two options is given."""
    if (min_lr is None) == (min_lr_rate is None):
        raise UsageError(
            "exactly one of min_lr and min_lr_rate is needed",
            place="a cosine schedule with a lowest rate",
            fix='pass scheduler_specific_kwargs={"min_lr_rate": 0.1}, for instance',
        )
    return min_lr / base_lr if min_lr is not None else float(min_lr_rate or 0.0)


# Shapes of a rise from 0 to 1; a fall is each of them turned round.
_RISES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: share,
    "cosine": lambda share: _wave((1.0 - share) / 2.0),
    "1-sqrt": lambda share: 1.0 - math.sqrt(1.0 - share),
}


def warmup_stable_decay(
    step: int,
    *,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
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
    rise = _shape("warmup_type", warmup_type)
    fall = _shape("decay_type", decay_type)
    stable = _stable_steps(num_warmup_steps, num_decay_steps, num_training_steps, num_stable_steps)
    into_decay = step - num_warmup_steps - stable
    if step < num_warmup_steps:
        factor = rise(_rise(step, num_warmup_steps))
    elif into_decay < 0:
        return 1.0
    elif into_decay < num_decay_steps:
        share = into_decay / num_decay_steps
        factor = _wave(num_cycles * share) if decay_type == "cosine" else fall(1.0 - share)
    else:
        return min_lr_ratio
    return max(0.0, min_lr_ratio + (1.0 - min_lr_ratio) * factor)


def _shape(option: str, name: str) -> Callable[[float], float]:
    if name not in _RISES:
        raise UsageError(
            f"{option} is {name!r}",
            place="get_scheduler",
            fix=f"choose one of {', '.join(map(repr, _RISES))}",
        )
    return _RISES[name]


def _stable_steps(warmup: int, decay: int, total: int | None, stable: int | None) -> int:
    if stable is not None:
        return stable
    if total is None:
        raise UsageError(
            "'warmup_stable_decay' needs num_training_steps",
            place="get_scheduler",
            fix="pass num_training_steps, or num_stable_steps in scheduler_specific_kwargs",
        )
    if warmup + decay > total:
        raise UsageError(
            f"{warmup} steps of warmup and {decay} of decay pass num_training_steps={total}",
            place="get_scheduler",
            fix="make num_warmup_steps or num_decay_steps smaller",
        )
    return total - warmup - decay


class GreedyLR(ReduceLROnPlateau):
    """Raises the rate while a measured value keeps improving, lowers it while it does not.

    After more than `patience` improvements in a row the rate is divided by `factor`, after as many
    failures multiplied by it, within `min_lr` and `max_lr`. When `reset_start` reductions find it
    at the floor already, it starts again from the initial rate. Source: "GreedyLR: a novel
    adaptive learning rate scheduler", arXiv:2512.14527.

    Args:
        optimizer: whose rates are set.
        mode: "min" if a smaller value is better, "max" if a greater one is.
        factor: below 1.
        patience: measured values in a row that change nothing yet.
        threshold: how much counts as an improvement.
        threshold_mode: whether that is "abs" or "rel" to the best value so far.
        cooldown: values ignored after a reduction.
        warmup: values ignored after an increase.
        min_lr: floor, for all groups or for each.
        max_lr: ceiling, for all groups or for each.
        eps: a smaller change of the rate is not made.
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
            optimizer,
            mode=mode,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode=threshold_mode,
            cooldown=cooldown,
            min_lr=min_lr,
            eps=eps,
        )
        groups = optimizer.param_groups
        self.max_lrs = list(max_lr) if isinstance(max_lr, list) else [max_lr] * len(groups)
        self.initial_lrs = [float(group["lr"]) for group in groups]
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
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

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
        floors = list(zip(self.optimizer.param_groups, self.min_lrs, strict=True))
        for group, floor in floors:
            self._set_rate(group, max(group["lr"] * self.factor, floor))
        if all(group["lr"] <= floor for group, floor in floors):
            self.floor_hits += 1
            if self.floor_hits >= self.reset_start:
                for (group, _), initial in zip(floors, self.initial_lrs, strict=True):
                    group["lr"] = initial
                self._start_again()

    def _set_rate(self, group: dict[str, Any], rate: float) -> None:
        if abs(rate - group["lr"]) > self.eps:
            group["lr"] = rate

    def _start_again(self) -> None:
        self.best = self.mode_worse
        self.num_good_epochs = self.num_bad_epochs = self.cooldown_counter = self.floor_hits = 0
        self.window = []

    def _check_range(self) -> None:
        for rate, low, high in zip(self.initial_lrs, self.min_lrs, self.max_lrs, strict=True):
            if not low <= rate <= high:
                raise UsageError(
                    f"the learning rate {rate:g} is outside min_lr={low:g} .. max_lr={high:g}",
                    place="scheduler 'greedy'",
                    fix=f"pass scheduler_specific_kwargs={{'min_lr': {rate / 100:g}, "
                    f"'max_lr': {rate * 10:g}}}, for instance",
                )


_FACTORS: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        linear,
        cosine,
        cosine_with_restarts,
        polynomial,
        constant,
        constant_with_warmup,
        inverse_sqrt,
        cosine_with_min_lr,
        cosine_warmup_with_min_lr,
        warmup_stable_decay,
    )
}
_MEASURED: dict[str, type[ReduceLROnPlateau]] = {
    "reduce_lr_on_plateau": ReduceLROnPlateau,
    "greedy": GreedyLR,
}
SCHEDULES: tuple[str, ...] = (*_FACTORS, *_MEASURED)


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
    if name not in _FACTORS:
        close = nearest(name, list(SCHEDULES))
        raise UsageError(
            f"there is no schedule {name!r}; there are {', '.join(SCHEDULES)}",
            place="get_scheduler",
            fix=f"did you mean {close!r}?" if close else "choose one of these",
        )
    common = {
        "num_warmup_steps": num_warmup_steps,
        "num_training_steps": num_training_steps,
        "base_lr": float(optimizer.defaults["lr"]),
    }
    known = inspect.signature(_FACTORS[name]).parameters
    _check_options(name, _FACTORS[name], {"step": 0, **common}, options)
    wanted = {key: value for key, value in common.items() if key in known}
    return LambdaLR(optimizer, partial(_FACTORS[name], **wanted, **options))


def _measured(
    name: str, optimizer: torch.optim.Optimizer, options: Mapping[str, Any]
) -> ReduceLROnPlateau:
    _check_options(name, _MEASURED[name], {"optimizer": optimizer}, options)
    try:
        return _MEASURED[name](optimizer, **options)
    except ValueError as error:
        raise UsageError(
            str(error), place=f"scheduler {name!r}", fix="change it in scheduler_specific_kwargs"
        ) from error


def _check_options(
    name: str, function: Callable[..., Any], common: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Refuse options that `function` lacks, and missing values that it cannot do without."""
    parameters = inspect.signature(function).parameters
    own = [key for key in parameters if key not in common]
    place = f"scheduler {name!r}"
    for key in options:
        if key not in own:
            close = nearest(key, own)
            raise UsageError(
                f"there is no option {key!r}; it has {', '.join(own) or 'none'}",
                place=place,
                fix=f"did you mean {close!r}?" if close else f"leave {key!r} out",
            )
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and {**common, **options}.get(key) is None:
            inner = f'scheduler_specific_kwargs={{"{key}": ...}}'
            how = f"{key}=..." if key in common else inner
            raise UsageError(f"{key} is needed", place=place, fix=f"pass {how}")
