"""The charts of the report: small SVGs by matplotlib that take the page's fonts and colours.

Colours are drawn as sentinel values and then replaced by CSS variables, so one drawing serves a
light and a dark page. The same facts always give the same bytes.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from bertolt.base.format import clean, is_number, number, plural, shorten
from bertolt.base.threads import ignored_warnings
from bertolt.report.shown import shown

Floats = NDArray[np.float64]
Style = dict[str, Any]

# One SVG unit is one point of matplotlib; the page shows the drawings at about this size.
WIDTH, HEIGHT = 420, 250
RAW_POINTS = 600
MOST_POINTS = 2000
_LAYERS = 8

INK, MUTED, RULE = "#a10001", "#a10002", "#a10003"
PLAIN, ACCENT, TROUBLE = "#a10004", "#a10005", "#a10006"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PLAIN: "var(--plain)",
    ACCENT: "var(--accent)",
    TROUBLE: "var(--trouble)",
}
STYLE: Style = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.fontsize": 12,
    "hatch.linewidth": 1.2,
    "path.simplify_threshold": 0.3,
    "text.parse_math": False,
}


_UNUSED = re.compile(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", re.S)


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, the `<svg>` element, and a line to read under it."""

    title: str
    svg: str
    note: str = ""


def training_charts(
    training: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]
) -> list[Chart]:
    """The curves of training for which there are numbers: loss, metrics, rate, gradient, speed.

    Args:
        training: the part of the facts.
        curves: which evaluation metrics are drawn, and what they are held against.
    """
    lines = {curve["metric"]: curve.get("baseline") for curve in curves}
    unit = training.get("unit", "samples")
    charts = [
        _loss(training, lines.get("loss")),
        *(_metric(training, curve) for curve in curves if curve["metric"] != "loss"),
        _learning_rate(training),
        _trace(training, "grad_norm", "Gradient norm", "Before clipping."),
        _trace(training, f"{unit}_per_second", f"Speed, {unit}/s", ""),
        _trace(training, "peak_share", "Share of the machine's matrix products", ""),
    ]
    return [chart for chart in charts if chart is not None]


def length_chart(lengths: Mapping[str, Any]) -> Chart | None:
    """A histogram of token counts with the limit marked, and hatched what was cut beyond it."""
    edges, counts, limit = lengths["edges"], lengths["counts"], lengths["max_length"]
    if not sum(counts):
        return None
    # Where longer texts run in several windows, none is cut.
    cut = lengths["texts_cut"] > 0 or edges[-1] - 1 <= limit
    kind = "limit" if cut else "window"
    stop = _histogram_stop(edges, counts, limit)
    beyond = sum(c for c, left in zip(counts, edges, strict=False) if left >= stop)
    note = f"{plural(beyond, 'text')} to the right of the drawing, up to {edges[-1] - 1:,} tokens."
    bars = {
        "x_label": "tokens",
        "edges": edges,
        "counts": counts,
        "mark": {"value": limit, "label": f"{kind} {limit:,}", "beyond": cut},
        "note": note if beyond else "",
    }
    summary = (
        f"Histogram of {plural(lengths['texts'], 'text')} by tokens. The {kind} is {limit:,} "
        f"tokens; {plural(lengths['texts_cut'], 'text')} cut."
    )
    return histogram_chart("lengths", "Texts by their length in tokens", bars, stop, summary)


def histogram_chart(
    name: str, title: str, bars: Mapping[str, Any], stop: float | None = None, summary: str = ""
) -> Chart | None:
    """Counts over bins, perhaps with a mark.

    Args:
        name: of the drawing, unique on its page.
        title: above it.
        bars: a block of the facts: `edges`, one more than the `counts`, `x_label`, `note`, `mark`.
        stop: where the axis ends; at the last edge if None.
        summary: what there is to see, for who does not see it.
    """
    edges, counts = bars["edges"], bars["counts"]
    if not sum(counts) or len(edges) != len(counts) + 1:
        return None
    start, stop = min(edges[0], 0) if stop else edges[0], stop or edges[-1]
    mark = bars.get("mark")
    first_beyond = mark["value"] + 1 if mark and mark.get("beyond") else math.inf
    with drawing(name, title, summary or f"Histogram of {sum(counts):,}.") as (axes, svg):
        _bars(axes, edges, counts, first_beyond)
        axes.set_xlim(start, stop)
        axes.set_xlabel(label_words(bars["x_label"]))
        tick(axes.yaxis, whole, integer=True, steps=[1, 2, 5, 10])
        tick(axes.xaxis, plain_number)
        axes.set_ylim(0, max(counts) * 1.16)
        if mark:
            _draw_mark(axes, mark, start, stop)
    return Chart(title, svg[0], bars.get("note", ""))


def scatter_chart(name: str, title: str, block: Mapping[str, Any]) -> Chart | None:
    """Points, and the diagonal on which both of their numbers are equal.

    Args:
        name: of the drawing, unique on its page.
        title: above it.
        block: of the facts: `points`, pairs of numbers, `x_label`, `y_label`, `diagonal`, `note`.
    """
    finite = [point for point in block["points"] if is_number(point[0]) and is_number(point[1])]
    if not finite:
        return None
    chosen = np.linspace(0, len(finite) - 1, min(len(finite), MOST_POINTS)).round().astype(int)
    points = np.array(finite, dtype=np.float64)[chosen]
    notes = [block.get("note", "")]
    if len(points) < len(finite):
        notes.append(f"Drawn are {len(points):,} of the {plural(len(finite), 'point')}.")
    with drawing(name, title, f"{plural(len(finite), 'point')}.") as (axes, svg):
        # Lines of no length are round dots. Those of one path cover each other, so it takes
        # several to show where many points lie.
        for part in (points[first::_LAYERS] for first in range(min(_LAYERS, len(points)))):
            path = Path(np.repeat(part, 2, axis=0), [Path.MOVETO, Path.LINETO] * len(part))
            path.should_simplify = False
            dots: Style = {"ec": ACCENT, "fc": "none", "lw": 5, "alpha": 0.45}
            axes.add_patch(PathPatch(path, capstyle="round", **dots))
        axes.autoscale_view()
        if block.get("diagonal"):
            # One scale for both axes: the diagonal is whole, and a spread looks as large as it is.
            ends = [*axes.get_xlim(), *axes.get_ylim()]
            limits = min(ends), max(ends)
            axes.set(xlim=limits, ylim=limits)
            axes.plot(limits, limits, color=PLAIN, lw=1.6, ls=(0, (4, 2)))
        axes.set_xlabel(label_words(block["x_label"]))
        axes.set_ylabel(label_words(block["y_label"]), labelpad=10)
        for axis in (axes.xaxis, axes.yaxis):
            tick(axis, plain_number, steps=[1, 2, 2.5, 5, 10])
    return Chart(title, svg[0], " ".join(filter(None, notes)))


def _loss(training: Mapping[str, Any], line: Mapping[str, Any] | None) -> Chart | None:
    steps, losses = _series(training, "loss")
    evaluated = _evaluated(training, "loss")
    if not steps.size and not evaluated:
        return None
    title = "Loss"
    parts = []
    with drawing("loss", title, _loss_summary(losses, evaluated)) as (axes, svg):
        if steps.size:
            window = _draw_trace(axes, steps, losses, "training")
            if window > 1:
                parts.append(f"Thin: each value; thick: mean of the {window} values around it.")
        if evaluated:
            _draw_evaluations(axes, evaluated)
        _draw_line(axes, line)
        _from_zero(axes)
        parts += _finish_steps(axes, training)
        legend(axes)
    return Chart(title, svg[0], " ".join(parts))


def _loss_summary(losses: Floats, evaluated: Sequence[tuple[int, float]]) -> str:
    parts = []
    if losses.size:
        smooth = _smooth(losses, _window(losses.size))
        parts.append(f"Training loss from {number(smooth[0])} to {number(smooth[-1])}.")
    if evaluated:
        parts.append(f"Evaluation loss {number(evaluated[-1][1])} at the end.")
    return " ".join(parts)


def _metric(training: Mapping[str, Any], curve: Mapping[str, Any]) -> Chart | None:
    """A metric by the evaluations: with the interval of the final one, and what it is held to."""
    points = _evaluated(training, curve["metric"])
    if not points:
        return None
    format, final = curve.get("format", "number"), curve.get("final") or {}
    summary = f"{curve['label']} {shown(points[-1][1], format)} at the end."
    with drawing(f"metric-{curve['metric']}", curve["title"], summary) as (axes, svg):
        heights = [value for _, value in points]
        if is_number(final.get("low")) and is_number(final.get("high")):
            band: Style = {"color": ACCENT, "alpha": 0.14, "lw": 0}
            axes.axhspan(final["low"], final["high"], label="final, 95%", **band)
            heights += [final["low"], final["high"]]
        _draw_evaluations(axes, points)
        heights += _draw_line(axes, curve.get("baseline"))
        if format == "percent":
            near(axes, heights)
        else:
            _from_zero(axes)
        _finish_steps(axes, training)
        legend(axes)
    return Chart(curve["title"], svg[0])


def near(axes: Axes, heights: Sequence[float]) -> None:
    """Let a vertical axis of shares end near the values."""
    room = 0.08 * max(max(heights) - min(heights), 0.05)
    axes.set_ylim(max(0, min(heights) - room), min(1.005, max(heights) + room))
    tick(axes.yaxis, lambda value: f"{100 * value:g}%", steps=[1, 2, 5, 10])


def _learning_rate(training: Mapping[str, Any]) -> Chart | None:
    steps, rates = _series(training, "learning_rate")
    if not steps.size or not rates.max() > 0:
        return None
    power = math.floor(math.log10(rates.max()))
    exponent = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    title = f"Learning rate, × 10{exponent}"
    peak = f"Highest {rates.max():.3g} at step {int(steps[rates.argmax()]):,}."
    with drawing("rate", title, peak) as (axes, svg):
        steps, rates = _thin(steps, rates)
        axes.plot(steps, rates / 10**power, color=PLAIN, lw=2.2, **_dot(steps))
        _from_zero(axes)
        _finish_steps(axes, training)
    return Chart(title, svg[0], peak)


def _trace(training: Mapping[str, Any], name: str, title: str, note: str) -> Chart | None:
    steps, values = _series(training, name)
    if not steps.size:
        return None
    summary = f"Median {number(float(np.median(values)))}, highest {number(float(values.max()))}."
    with drawing(name.replace("_", "-"), title, summary) as (axes, svg):
        _draw_trace(axes, steps, values, "")
        _from_zero(axes)
        _finish_steps(axes, training)
    return Chart(title, svg[0], f"{summary} {note}".strip())


def _draw_trace(axes: Axes, steps: Floats, values: Floats, label: str) -> int:
    """Each value thin and its running mean thick; returns how many values make the mean."""
    window = _window(steps.size)
    if window > 1:
        axes.plot(*_thin(steps, values), color=PLAIN, lw=0.8, alpha=0.45)
        values = _smooth(values, window)
    axes.plot(*_thin(steps, values), color=PLAIN, lw=2.2, label=label, **_dot(steps))
    return window


def _draw_evaluations(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    style: Style = {"color": ACCENT, "lw": 2, "ls": (0, (4, 2)), "marker": "o", "ms": 6}
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, label="evaluation", **style)


def _draw_line(axes: Axes, line: Mapping[str, Any] | None) -> list[float]:
    """A dotted line to hold the curves against; returns its height, if it has one."""
    if line is None or not is_number(line["value"]):
        return []
    dots: Style = {"color": PLAIN, "lw": 1.6, "ls": (0, (1, 1.6))}
    axes.axhline(line["value"], label=label_words(line["name"]), **dots)
    return [line["value"]]


def _from_zero(axes: Axes) -> None:
    """Let the vertical axis begin at 0, or below where values are, with room above the highest."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    axes.set_ylim(min(0, 1.05 * low), max(axes.get_ylim()[1], 1.05 * high))
    tick(axes.yaxis, plain_number)


def _dot(steps: Floats) -> Style:
    return {"marker": "o", "ms": 6} if steps.size == 1 else {}


def _finish_steps(axes: Axes, training: Mapping[str, Any]) -> list[str]:
    """The axis of steps, with a faint line where an epoch ends; returns what to say about it."""
    axes.set_xlabel("step")
    evaluated = [point["step"] for point in training["eval_points"]]
    last = max([training["steps"], *training["curve"]["step"], *evaluated, 1])
    axes.set_xlim(0, last * 1.02)
    tick(axes.xaxis, whole, integer=True, steps=[1, 2, 2.5, 5, 10])
    epochs = training["epochs"]
    if not (is_number(epochs) and 1 < epochs <= 20):
        return []
    for epoch in range(1, math.ceil(epochs)):
        step = epoch * training["steps"] / epochs
        axes.axvline(step, color=MUTED, lw=0.8, ls=(0, (1, 3)), zorder=0)
    return ["Dotted verticals: ends of epochs."]


def legend(axes: Axes) -> None:
    """Name what is drawn, above the drawing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.03), ncols=3, handlelength=2.2, columnspacing=1.4
    )


def _bars(axes: Axes, edges: Sequence[float], counts: Sequence[int], beyond: float) -> None:
    """One bar a bin; what of it lies beyond a value is hatched."""
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        middle = min(max(beyond, left), right)
        if count and left < middle:
            axes.bar(left, count, middle - left, align="edge", color=PLAIN, alpha=0.75, lw=0)
        if count and middle < right:
            style: Style = {"facecolor": "none", "edgecolor": TROUBLE, "hatch": "////", "lw": 1}
            axes.bar(middle, count, right - middle, align="edge", **style)


def _draw_mark(axes: Axes, mark: Mapping[str, Any], start: float, stop: float) -> None:
    """A line at a value of the horizontal axis with its name; what lies beyond it may be tinted."""
    top, value, label = axes.get_ylim()[1], mark["value"], label_words(mark["label"])
    if value > stop:
        axes.text(stop, top, f"{label} →", color=TROUBLE, ha="right", va="top")
        return
    if mark.get("beyond"):
        axes.axvspan(value, stop, color=TROUBLE, alpha=0.08, lw=0)
    axes.axvline(value, color=TROUBLE, lw=1.8, ls=(0, (5, 2)))
    left = value - start < (stop - start) / 2
    x = value + (stop - start) * (0.012 if left else -0.012)
    axes.text(x, top, label, color=TROUBLE, ha="left" if left else "right", va="top")


def _histogram_stop(edges: Sequence[int], counts: Sequence[int], limit: int) -> float:
    """Where the axis ends: a few giants or a far limit must not squeeze the rest into a corner."""
    reached = np.cumsum(counts) >= 0.995 * sum(counts)
    bulk = edges[int(reached.argmax()) + 1]
    stop = min(edges[-1], max(1.5 * bulk, 1.3 * limit if limit < 1.6 * bulk else 0))
    return float(max(stop, 1.08 * limit if limit < 1.6 * stop else 0, 1))


def _series(training: Mapping[str, Any], name: str) -> tuple[Floats, Floats]:
    """Steps and finite values of one column of the curve."""
    curve = training["curve"]
    pairs = zip(curve["step"], curve.get(name, ()), strict=False)
    table = np.array([pair for pair in pairs if is_number(pair[1])], dtype=np.float64)
    table = table.reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _evaluated(training: Mapping[str, Any], metric: str) -> list[tuple[int, float]]:
    """Steps of the evaluations at which a metric was finite, and its values."""
    points = ((p["step"], p["metrics"].get(metric)) for p in training["eval_points"])
    return [(step, value) for step, value in points if is_number(value)]


def tick(axis: Axis, words: Callable[[float], str], **places: Any) -> None:
    """Write the numbers beside an axis; with `places`, at about five places of that kind."""
    if places:
        axis.set_major_locator(MaxNLocator(5, **places))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


def whole(value: float) -> str:
    """A whole number with its thousands parted."""
    return f"{value:,.0f}"


def plain_number(value: float) -> str:
    """A number with a minus sign and not a hyphen."""
    return f"{value:,.6g}".replace("-", "−")


def label_words(text: str) -> str:
    """Words of the facts, fit to stand in a drawing."""
    return clean(shorten(text, 60))


def _window(count: int) -> int:
    return 1 if count < 30 else 2 * max(count // 50, 2) + 1


def _smooth(values: Floats, window: int) -> Floats:
    """The mean of the `window` values around each one, or of as many as there are near the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(values.size)
    first = np.maximum(index - window // 2, 0)
    stop = np.minimum(index + window // 2 + 1, values.size)
    smooth: Floats = (total[stop] - total[first]) / (stop - first)
    return smooth


def _thin(steps: Floats, values: Floats, most: int = RAW_POINTS) -> tuple[Floats, Floats]:
    """At most `most` points: the lowest and highest value of each stretch, so that peaks stay."""
    if steps.size <= most:
        return steps, values
    keep = set()
    for stretch in np.array_split(np.arange(steps.size), most // 2):
        keep |= {stretch[values[stretch].argmin()], stretch[values[stretch].argmax()]}
    index = np.array(sorted(keep | {0, steps.size - 1}))
    return steps[index], values[index]


@contextmanager
def drawing(name: str, title: str, description: str) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on; when the block ends, the list holds the finished SVG."""
    svg: list[str] = []
    name = re.sub(r"[^A-Za-z0-9]+", "-", name)
    # The page's fonts have what the one that is measured with here may lack.
    with ignored_warnings("Glyph .* missing"), mpl.rc_context():
        # A user's own matplotlib settings must not leak into the page.
        mpl.rcdefaults()
        settings: Any = STYLE | {"svg.hashsalt": name}
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained")
        axes = figure.add_subplot()
        yield axes, svg
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg.append(_inline(target.getvalue(), f"chart-{name}", title, description))


def _inline(svg: str, name: str, title: str, description: str) -> str:
    """The `<svg>` element alone, with ids of its own, the page's fonts and colours, and a title."""
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = _UNUSED.sub("", body).replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    names = {one or other for one, other in used}
    body = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in names else "", body)
    body = re.sub(r'(href="#|url\(#| id=")', rf"\g<1>{name}-", body)
    body = re.sub(r' d="[^"]*"', lambda m: re.sub(r"\d+\.\d{2,}", _round, m[0]), body)
    body = re.sub(r"font(-family)?: [^;\"]*DejaVu Sans[^;\"]*", _plain_font, body)
    for sentinel, variable in VARIABLES.items():
        body = body.replace(sentinel, variable)
    body = re.sub(r">\s+<", "><", body.strip())
    view = re.search(r'viewBox="[^"]+"', svg)
    return (
        f'<svg {view[0] if view else ""} role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{html.escape(clean(title))}</title>'
        f'<desc id="{name}-desc">{html.escape(clean(description))}</desc>{body}</svg>'
    )


def _round(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}"


def _plain_font(font: re.Match[str]) -> str:
    """Keep the size that matplotlib wrote and leave the family to the page."""
    size = re.search(r"[\d.]+px", font[0])
    return f"font-size: {size[0]}" if size else "font-family: inherit"
