"""The main figure of each work as bars, Bertolt's in colour; a thin line from lowest to highest."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import LAYOUTS, REFERENCE, summarise
from bertolt.base.format import number

OURS, OTHER, LINE = "#b4451f", "#9aa3ad", "#3c4248"
_WIDTH, _BAR, _HEAD = 9.0, 0.27, 0.85  # inches


def draw(record: dict[str, Any]) -> str:
    """An SVG with a row of bars for each contestant that was measured."""
    bars = {name: _bars(entry) for name, entry in record["works"].items()}
    bars = {name: each for name, each in bars.items() if each}
    heights = [_HEAD + _BAR * len(each) for each in bars.values()] or [_HEAD]
    with svg_of(sum(heights)) as (figure, target):
        axes = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
        for place, (name, each) in zip(axes, bars.items(), strict=False):
            _draw_work(place, record["works"][name], each)
    return target.getvalue()


@contextmanager
def svg_of(height: float) -> Iterator[tuple[Figure, io.StringIO]]:
    """A figure of so many inches, and where its SVG is afterwards: the same bytes each time."""
    target = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, target
        figure.savefig(target, format="svg", metadata={"Date": None})


def draw_curves(
    title: str, along: str, places: Sequence[float], curves: Mapping[str, Sequence[float]]
) -> str:
    """An SVG with a small drawing for each of some curves over the same places, from zero."""
    with svg_of(0.5 + 1.6 * len(curves)) as (figure, target):
        axes = figure.subplots(len(curves), squeeze=False, sharex=True)[:, 0]
        for place, (name, values) in zip(axes, curves.items(), strict=True):
            place.plot(places, values, color=OURS, lw=1.4)
            place.set_ylim(bottom=0, top=1.1 * max(values))
            place.set_ylabel(name)
            place.spines[["top", "right"]].set_visible(False)
        axes[-1].set_xlabel(along)
        axes[0].set_title(title, loc="left", fontsize=10)
    return target.getvalue()


def _bars(entry: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Name, title and spread of the main figure of each contestant that has one."""
    key = LAYOUTS[entry["kind"]].main.key
    summary = summarise(entry)
    return [
        (name, each["title"], summary[name][key])
        for name, each in entry["contestants"].items()
        if key in summary[name]
    ]


def _draw_work(axes: Axes, entry: dict[str, Any], bars: list[tuple[str, str, Any]]) -> None:
    layout = LAYOUTS[entry["kind"]]
    values = [spread.middle for _, _, spread in bars]
    colours = [OURS if name.startswith(REFERENCE) else OTHER for name, _, _ in bars]
    axes.barh(range(len(bars)), values, color=colours, height=0.72)
    for row, (_, _, spread) in enumerate(bars):
        axes.plot([spread.low, spread.high], [row, row], color=LINE, lw=1.2)
        end = max(spread.high, spread.middle)
        axes.annotate(
            number(spread.middle), (end, row), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(bars)), [title for _, title, _ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    better = "less is better" if layout.lower_is_better else "more is better"
    title = textwrap.fill(entry["title"], 62)
    axes.set_title(f"{title}\n{layout.main.title}, {better}", loc="left", fontsize=10)
