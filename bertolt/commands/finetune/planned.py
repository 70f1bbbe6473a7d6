"""What a run of several is planned as, what comes of it, and what a plan of them has to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from bertolt.commands.finetune.parts import WHOLE, Part
from bertolt.train.events import TrainerCallback

ALL_ROWS = "all-rows"
"""The folder of the run that follows the folds."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of several.

    Attributes:
        name: of its folder.
        title: for people.
        changes: of the options of the command.
        part: the rows that it trains and is measured on.
        values: by which it differs from the others, as a table shows them.
        fold: number of the fold whose answers are kept, or None.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    part: Part = WHOLE
    values: Mapping[str, Any] = field(default_factory=dict)
    fold: int | None = None


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The metric by which runs are compared.

    Attributes:
        metric: as in `metrics.json`.
        title: for people.
        greater: whether more is better.
    """

    metric: str
    title: str
    greater: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run, as plain values.

    Attributes:
        name, title, changes, values: as planned.
        done: whether it has come to its end.
        score: by the goal, or None.
        interval: 95% interval of the score, or None.
        metrics: what evaluations tell, by name.
        evaluations: the goal's metric at each evaluation while training.
        problem: why there is no score; empty if there is one.
        collapsed: why the model has learned nothing, in words; empty if it has.
        pruned: ended before its time, as others were better by then.
        rows: that it trained on.
        seconds: that it took.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    score: float | None = None
    interval: Sequence[float] | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    evaluations: Sequence[float | None] = ()
    problem: str = ""
    collapsed: str = ""
    pruned: bool = False
    rows: int = 0
    seconds: float = 0.0


class Plan(Protocol):
    """Which runs there are, each decided when those before it are done.

    Attributes:
        kind: its name in `metrics.json`.
    """

    kind: ClassVar[str]

    @property
    def words(self) -> str:
        """What it is called, as in "5 seeds"."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides which runs these are, by the names that the user knows."""

    @property
    def total(self) -> int:
        """How many runs there are."""

    def name(self, number: int) -> str:
        """The folder of a run, counted from 0; empty beyond the last."""

    def next(self, done: Sequence[Outcome], begun: Outcome | None) -> Planned | None:
        """The run after those that are done; None: there is no other.

        Args:
            done: in their order.
            begun: the run that was broken off, if there is one.
        """

    def know(self, goal: Goal) -> None:
        """Take over the goal, which the first run tells."""

    def callbacks(
        self, goal: Callable[[], Goal], note_pruned: Callable[[], None]
    ) -> list[TrainerCallback]:
        """What watches the run that `next` gave.

        Args:
            goal: gives the goal, once that run has begun.
            note_pruned: to be called where the run is ended before its time.
        """

    def winner(self, done: Sequence[Outcome], goal: Goal) -> Outcome | None:
        """The run whose model is the result; None: no run has one."""


def best_of(done: Sequence[Outcome], goal: Goal) -> Outcome | None:
    """The run with the best score, the first of equal ones, of those that were not ended early."""
    scored = [each for each in done if each.score is not None and not each.pruned]
    sign = -1 if goal.greater else 1
    return min(scored, key=lambda each: sign * (each.score or 0.0), default=None)
