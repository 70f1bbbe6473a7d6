"""The drawing of several runs: a dot for each, with its interval, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bertolt.base.format import is_number, plural
from bertolt.report import figures
from bertolt.report.figures import ACCENT, PLAIN, TROUBLE, Chart, Style
from bertolt.report.shown import shown

_MOST_NAMES = 12
"""Runs whose names stand below the axis, each below its dot."""
_MARKS: Mapping[str, tuple[str, Style]] = {
    "": ("", {"mfc": PLAIN, "mec": PLAIN, "marker": "o"}),
    "best": ("the result", {"mfc": ACCENT, "mec": ACCENT, "marker": "D"}),
    "collapsed": ("collapsed", {"mfc": "none", "mec": TROUBLE, "marker": "X"}),
    "pruned": ("ended early", {"mfc": "none", "mec": PLAIN, "marker": "v"}),
}


def dots_chart(name: str, title: str, block: Mapping[str, Any]) -> Chart | None:
    """A dot for each run; see `blocks.py`.

    Args:
        name: of the drawing, unique on its page.
        title: above it.
        block: of the facts.
    """
    points = [point for point in block["points"] if is_number(point["y"])]
    if not points:
        return None
    format = block.get("format", "number")
    heights = [
        point[key] for point in points for key in ("y", "low", "high") if is_number(point[key])
    ]
    low, high = (
        shown(end, format) for end in (min(p["y"] for p in points), max(p["y"] for p in points))
    )
    summary = f"{plural(len(points), 'run')}, from {low} to {high}."
    with figures.drawing(name, title, summary) as (axes, svg):
        heights += _draw_common(axes, block)
        for mark, (label, style) in _MARKS.items():
            _draw_points(axes, [point for point in points if point["mark"] == mark], label, style)
        if format == "percent":
            figures.near(axes, heights)
        else:
            room = 0.08 * ((max(heights) - min(heights)) or 1.0)
            axes.set_ylim(min(heights) - room, max(heights) + room)
            figures.tick(axes.yaxis, figures.plain_number, steps=[1, 2, 2.5, 5, 10])
        _name_places(axes, points, block)
        if axes.get_legend_handles_labels()[0]:
            figures.legend(axes)
    return Chart(title, svg[0], block.get("note", ""))


def _draw_common(axes: Axes, block: Mapping[str, Any]) -> list[float]:
    """The band, the line and the path behind the dots; the heights that they need."""
    heights: list[float] = []
    if band := block.get("band"):
        axes.axhspan(*band, color=PLAIN, alpha=0.14, lw=0)
        heights += band
    if line := block.get("line"):
        axes.axhline(line["value"], color=PLAIN, lw=1.6, ls=(0, (1, 1.6)), label=line["name"])
    if path := block.get("path"):
        places, values = zip(*path, strict=True)
        axes.plot(places, values, color=PLAIN, lw=1.6, ls=(0, (4, 2)))
        heights += values
    return heights


def _draw_points(axes: Axes, points: Sequence[Mapping[str, Any]], label: str, style: Style) -> None:
    colour = style["mec"]
    for point in points:
        if is_number(point["low"]) and is_number(point["high"]):
            axes.vlines(point["x"], point["low"], point["high"], color=colour, lw=1.6, alpha=0.55)
    if points:
        places, values = [point["x"] for point in points], [point["y"] for point in points]
        axes.plot(places, values, ls="", ms=8, mew=1.6, label=label or None, **style)


def _name_places(axes: Axes, points: Sequence[Mapping[str, Any]], block: Mapping[str, Any]) -> None:
    """Name the runs below the axis, or number them where they are many."""
    axes.set_xlabel(figures.label_words(block["x_label"]))
    names = {point["x"]: point["label"] for point in points}
    if block.get("logarithmic"):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        ends = [*names, *(place for place, _ in block.get("path") or ())]
        axes.set_xlim(min(ends) * 0.85, max(ends) * 1.18)
        names = {place: f"{place:,}" for place in names}
    else:
        axes.set_xlim(min(names) - 0.6, max(names) + 0.6)
    if len(names) <= _MOST_NAMES:
        axes.xaxis.set_major_locator(FixedLocator(list(names)))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: figures.label_words(names.get(round(value), "")))
        )
    else:
        figures.tick(axes.xaxis, figures.whole, integer=True, steps=[1, 2, 5, 10])
