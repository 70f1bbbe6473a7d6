"""What several runs come to: mean and spread, runs that collapsed, a learning curve, and the page.

Fine-tuning is known to fail now and then by its seed alone, with answers that are all alike or no
better than a guess: Mosbach et al. 2021, "On the Stability of Fine-tuning BERT"; Dodge et al. 2020,
"Fine-Tuning Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping".
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bertolt.base.errors import BertoltError
from bertolt.base.format import ABSENT, is_number, number
from bertolt.base.json_files import JsonError, read_json
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.planned import ALL_ROWS, Goal, Outcome, Plan
from bertolt.report import RUN, read_facts
from bertolt.report.shown import shown
from bertolt.train.folder import METRICS

_LAST = 3
"""Sizes at the end of a learning curve to which a line is fitted."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Several runs together.

    Attributes:
        kind: "seeds", "folds", "samples" or "search".
        words: what they are, as in "5 seeds".
        goal: the metric that compares them.
        runs: that were measured, in their order.
        best: name of the run whose model is the result.
        spread: for each metric its mean, least and greatest value, the number of runs that have it,
            and, where those are two or more, its sample standard deviation.
        format: how the page writes the goal's metric.
        primary: whether that is the task's primary one.
        importance: share of each setting in what makes a trial good, where that was reckoned.
    """

    kind: str
    words: str
    goal: Goal
    runs: Sequence[Outcome]
    best: str
    spread: Mapping[str, Mapping[str, float]]
    format: str = "number"
    primary: bool = True
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def collapsed(self) -> list[Outcome]:
        """Runs that have learned nothing, or came to no score."""
        return [each for each in self.runs if each.collapsed or each.problem]

    @property
    def scored(self) -> list[Outcome]:
        """Runs with a score that is comparable: those that were ended early are not."""
        return [each for each in self.runs if each.score is not None and not each.pruned]

    def curve(self) -> Curve | None:
        """What a learning curve says, of samples."""
        return fitted(self) if self.kind == "samples" else None

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        curve = self.curve()
        own: dict[str, Any] = {
            "kind": self.kind,
            "metric": self.goal.metric,
            "greater_is_better": self.goal.greater,
            "best": self.best,
            "spread": self.spread,
            "runs": [_told(each) for each in self.runs],
        }
        if curve is not None:
            own["learning_curve"] = {**asdict(curve), "sentence": curve.words(self)}
        return own | ({"importance": self.importance} if self.importance else {})

    def lines(self) -> list[str]:
        """The same for a terminal."""
        lines = [f"{self.words[0].upper()}{self.words[1:]}: {self.sentence()}"]
        names = [name for name in self.spread if name != self.goal.metric]
        settings = [name for name in self._settings() if self.kind == "search"]
        head = ["run", *settings, self.goal.metric, *names]
        rows = [
            [
                each.title,
                *(value_words(each.values.get(name)) for name in settings),
                *(_cell(each.metrics.get(name)) for name in [self.goal.metric, *names]),
            ]
            for each in self.runs
        ]
        if self.kind in ("seeds", "folds") and self.goal.metric in self.spread:
            for word in ("mean", "standard_deviation"):
                own = [_cell(self.spread.get(name, {}).get(word)) for name in head[1:]]
                rows.append([word.replace("_", " "), *own])
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in [head, *rows]:
            numbers = zip(row[1:], widths[1:], strict=True)
            lines.append(
                f"{row[0]:<{widths[0]}}  {'  '.join(f'{v:>{w}}' for v, w in numbers)}".rstrip()
            )
        curve = self.curve()
        return [*lines, *([curve.words(self)] if curve else [])]

    def _settings(self) -> list[str]:
        """What the runs differ by, but for their number."""
        keys = dict.fromkeys(key for each in self.runs for key in each.values)
        return list(keys)[1:]

    @property
    def title(self) -> str:
        """The goal's metric within a sentence."""
        title = self.goal.title
        return title[:1].lower() + title[1:] if title[1:2].islower() else title

    def sentence(self) -> str:
        """The numbers of the goal in a few words."""
        title, known = self.title, self.spread.get(self.goal.metric)
        if known is None:
            return f"no run came to a {title}"
        best = next((each for each in self.runs if each.name == self.best), None)
        if self.kind == "samples" and best is not None:
            return f"{title} {self.shown(best.score)} with {best.title}"
        if self.kind == "search" and best is not None:
            return f"best {title} {self.shown(best.score)}, of {best.title}"
        deviation = self.difference(known.get("standard_deviation"))
        return (
            f"{title} {self.shown(known['mean'])} in the mean, standard deviation {deviation}, "
            f"from {self.shown(known['min'])} to {self.shown(known['max'])}"
        )

    def difference(self, value: float | None) -> str:
        """A difference of two values of the goal's metric: of shares in points."""
        if value is None:
            return ABSENT
        return f"{100 * value:.1f} points" if self.format == "percent" else number(value)

    def shown(self, value: float | None) -> str:
        """A value of the goal's metric as the page has it."""
        return shown(value, self.format)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A straight line through the last scores over the logarithm of their rows.

    Attributes:
        first, last: rows of the first and the last score that it is fitted to.
        gain: by which the score gets better with each doubling of the rows.
        rise: by which the fitted score got better from the first to the last.
        noise: half of the 95% interval of such a difference, or None where scores have none.
        next_score: at twice as many rows as the last.
        verdict: whether more labels would help: "yes", "no sign" or "not known".
    """

    first: int
    last: int
    gain: float
    rise: float
    noise: float | None
    next_score: float
    verdict: str

    def words(self, summary: Summary) -> str:
        """Whether more labels would help, with the numbers that say it."""
        title, show = summary.title, summary.difference
        answers = {
            "yes": "More labels would help",
            "no sign": "There is no sign that more labels would help",
            "not known": "Whether more labels would help cannot be told from this",
        }
        better = "better" if self.rise >= 0 else "worse"
        noise = "" if self.noise is None else f", where chance makes up to {show(self.noise)}"
        return (
            f"{answers[self.verdict]}: from {self.first:,} to {self.last:,} rows the {title} gets "
            f"{show(abs(self.rise))} {better}{noise}; that is {show(abs(self.gain))} with each "
            f"doubling{self._forecast(summary)}."
        )

    def _forecast(self, summary: Summary) -> str:
        """What the line says of twice as many rows, where that can be."""
        if summary.format == "percent" and not 0 <= self.next_score <= 1:
            return ""
        return f", so about {summary.shown(self.next_score)} with {2 * self.last:,} rows"


def fitted(summary: Summary) -> Curve | None:
    """The line through the last scores; None: there are fewer than two.

    More labels help for sure where the rise is more than what chance makes of a difference of two
    scores. Their intervals are taken as those of independent rows, which is too wide for one set of
    held-out rows: who is told "yes" can rely on it.
    """
    points = [each for each in summary.runs if each.score is not None][-_LAST:]
    if len(points) < 2:
        return None
    sizes = [math.log2(each.rows) for each in points]
    scores = [each.score or 0.0 for each in points]
    slope, intercept = statistics.linear_regression(sizes, scores)
    sign = 1 if summary.goal.greater else -1
    halves = [_half(each) for each in (points[0], points[-1])]
    known = [half for half in halves if half is not None]
    noise = math.hypot(*known) if len(known) == 2 else None
    rise = sign * slope * (sizes[-1] - sizes[0])
    verdict = "no sign" if rise <= 0 else "not known"
    if noise is not None and rise > noise:
        verdict = "yes"
    if all(each.collapsed for each in points):  # they have learned nothing of their rows
        verdict = "not known"
    return Curve(
        first=points[0].rows,
        last=points[-1].rows,
        gain=sign * slope,
        rise=rise,
        noise=noise,
        next_score=intercept + slope * (sizes[-1] + 1),
        verdict=verdict,
    )


def _half(outcome: Outcome) -> float | None:
    ends = outcome.interval
    return None if ends is None else (ends[1] - ends[0]) / 2


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the facts that a run has left, and somebody altered, into an error.

    Raises:
        BertoltError: something of them is missing, or of another kind.
    """
    try:
        yield
    except BertoltError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BertoltError(
            f"its facts are not those of a run ({type(error).__name__}: {error})",
            place=str(folder / RUN),
            fix="begin anew: --overwrite, or another --out",
        ) from error


def outcome_of(known: Outcome, folder: Path, goal: Goal, problem: str) -> Outcome:
    """What came of a run, by the files that it has left.

    Args:
        known: what is known of it already.
        folder: of the run.
        goal: the metric to compare runs by.
        problem: why it came to no score, if it did not.
    """
    facts = read_facts(folder)
    values = _values_of(folder)
    points = [point["metrics"] for point in facts["training"]["eval_points"]]
    names = list(points[-1]) if points else []
    metrics = {name: values.get(name) for name in names} if values else {}
    score, ends = values.get(goal.metric), values.get(f"{goal.metric}_interval")
    return replace(
        known,
        done=True,
        score=score if is_number(score) else None,
        interval=ends if ends and all(map(is_number, ends)) else None,
        metrics=metrics,
        evaluations=[point.get(goal.metric) for point in points],
        problem=problem or ("" if is_number(score) or not names else "it has no score"),
        collapsed=_collapsed(facts) if is_number(score) else "",
        rows=facts["data"]["train_rows"],
        seconds=facts["duration_seconds"],
    )


def _values_of(folder: Path) -> dict[str, Any]:
    """The scores of a run; empty if it was not measured."""
    try:
        return dict(read_json(folder / METRICS)["eval"] or {})
    except (JsonError, OSError, KeyError, TypeError) as error:
        raise BertoltError(
            f"its metrics cannot be read: {error}",
            place=str(folder / METRICS),
            fix="begin anew: --overwrite, or another --out",
        ) from error


def _collapsed(facts: Mapping[str, Any]) -> str:
    """Why a model has learned nothing: its answers are all alike, or no better than a guess."""
    headline = facts.get("headline") or {}
    if headline.get("alike"):
        return f"every row is answered alike: {headline['alike']}"
    baseline = headline.get("baseline") or {}
    value, bar = headline.get("value"), baseline.get("value")
    if not (is_number(value) and is_number(bar)):
        return ""
    better = value > bar + 1e-9 if headline.get("greater_is_better", True) else value < bar - 1e-9
    format = headline.get("format", "number")
    return "" if better else f"no better than {baseline['name']}, {shown(bar, format)}"


def summarise(
    plan: Plan,
    done: Sequence[Outcome],
    goal: Goal,
    winner: Outcome,
    options: FinetuneOptions,
) -> Summary:
    """Put the runs that are done together."""
    runs = [each for each in done if each.name != ALL_ROWS]
    facts = read_facts(options.out / (runs[0] if winner.name == ALL_ROWS else winner).name)
    headline = facts.get("headline") or {}
    primary = _values_of(options.out / runs[0].name).get("primary", goal.metric)
    importance = getattr(plan, "importance", None)
    return Summary(
        kind=plan.kind,
        words=plan.words,
        goal=goal,
        runs=runs,
        best=winner.name,
        spread=spread_of([each for each in runs if not each.pruned], goal),
        format="number" if goal.metric == "loss" else headline.get("format", "number"),
        primary=goal.metric == primary,
        importance=importance(runs) if importance else {},
    )


def spread_of(runs: Sequence[Outcome], goal: Goal) -> dict[str, dict[str, float]]:
    """Mean and spread of every metric, the goal's first."""
    names = dict.fromkeys([goal.metric, *(name for each in runs for name in each.metrics)])
    spread = {}
    for name in names:
        values = [value for each in runs if is_number(value := each.metrics.get(name))]
        if values:
            spread[name] = {
                "mean": statistics.fmean(values),
                **({"standard_deviation": statistics.stdev(values)} if len(values) > 1 else {}),
                "min": min(values),
                "max": max(values),
                "runs": len(values),
            }
    return spread


def _told(outcome: Outcome) -> dict[str, Any]:
    """What `metrics.json` has of a run."""
    values = asdict(outcome)
    return {name: values[name] for name in values if name not in ("changes", "done")}


def _cell(value: float | None) -> str:
    return f"{value:.4f}" if is_number(value) else "n/a"


def value_words(value: Any) -> str:
    """A setting as people write it."""
    if isinstance(value, bool) or value is None:
        return "not set" if value is None else str(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def values_words(values: Mapping[str, Any]) -> str:
    """Settings of a run in a few words."""
    return ", ".join(f"{name} {value_words(value)}" for name, value in values.items())
