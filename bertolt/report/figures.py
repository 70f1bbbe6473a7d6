"""The charts of the report: small SVGs by matplotlib that take the page's fonts and colours.

Colours are drawn as sentinel values and then replaced by CSS variables, so one drawing serves a
light and a dark page. The same record always gives the same bytes.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from bertolt.base.format import is_number, number, percent, plural
from bertolt.report.record import (
    CorpusAccount,
    EvalPoint,
    LengthAccount,
    Measure,
    TrainingLog,
)

Floats = NDArray[np.float64]
Style = dict[str, Any]

# One SVG unit is one point of matplotlib; the page shows the drawings at about this size.
WIDTH, HEIGHT = 420, 250
RAW_POINTS = 600

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


def training_charts(log: TrainingLog, accuracy: Measure, baseline: Measure) -> list[Chart]:
    """The curves of training for which there are numbers: loss, accuracy, rate, gradient, speed."""
    charts = [
        _loss(log),
        _accuracy(log, accuracy, baseline),
        _learning_rate(log),
        _trace(log, "grad_norm", "Gradient norm", "Before clipping."),
        _trace(log, "samples_per_second", "Speed, samples/s", ""),
    ]
    return [chart for chart in charts if chart is not None]


def pretraining_charts(log: TrainingLog, corpus: CorpusAccount) -> list[Chart]:
    """The curves of pretraining for which there are numbers."""
    pairs = any(is_number(p.masked_loss) for p in log.eval_points)
    entropy, majority = corpus.token_entropy, corpus.pairs_baseline
    charts = [
        _loss(log, None if pairs else entropy),
        _masked_loss(log, entropy) if pairs else None,
        _share(log, "accuracy", "masked", "Accuracy on masked tokens, held out"),
        _share(
            log,
            "next_sentence_accuracy",
            "pairs",
            "Accuracy on pairs, held out",
            line=("the more frequent answer", majority),
        ),
        _learning_rate(log),
        _trace(log, "grad_norm", "Gradient norm", "Before clipping."),
        _trace(log, "tokens_per_second", "Speed, tokens/s", ""),
        _trace(log, "peak_share", "Share of the machine's matrix products", ""),
    ]
    return [chart for chart in charts if chart is not None]


def length_chart(lengths: LengthAccount) -> Chart | None:
    """A histogram of token counts with the limit marked and what lies beyond it hatched."""
    if not sum(lengths.counts) or len(lengths.edges) != len(lengths.counts) + 1:
        return None
    limit, stop = lengths.max_length, _histogram_stop(lengths)
    description = (
        f"Histogram of {plural(lengths.texts, 'text')} by tokens. The limit is {limit:,} tokens; "
        f"{plural(lengths.texts_cut, 'text')} are longer."
    )
    title = "Texts by their length in tokens"
    with drawing("lengths", title, description) as (axes, done):
        _bars(axes, lengths)
        axes.set_xlim(min(lengths.edges[0], 0), stop)
        axes.set_xlabel("tokens")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_ylim(0, max(lengths.counts) * 1.16)
        _mark_limit(axes, limit, stop)
    beyond = sum(c for c, left in zip(lengths.counts, lengths.edges, strict=False) if left >= stop)
    longest = f"up to {lengths.edges[-1] - 1:,} tokens"
    note = f"{plural(beyond, 'text')} to the right of the drawing, {longest}."
    return Chart(title, done[0], note if beyond else "")


def _loss(log: TrainingLog, entropy: float | None = None) -> Chart | None:
    steps, losses = _series(log, "loss")
    evaluated = [p for p in log.eval_points if is_number(p.loss)]
    if not steps.size and not evaluated:
        return None
    title = "Loss"
    parts = []
    with drawing("loss", title, _loss_summary(losses, evaluated)) as (axes, done):
        if steps.size:
            window = _draw_trace(axes, steps, losses, "training")
            if window > 1:
                parts.append(f"Thin: each value; thick: mean of the {window} values around it.")
        if evaluated:
            _draw_evaluations(axes, evaluated, "loss")
        if entropy is not None:
            _draw_line(axes, "single tokens", entropy)
        _from_zero(axes)
        parts += _finish_steps(axes, log)
        _legend(axes)
    return Chart(title, done[0], " ".join(parts))


def _masked_loss(log: TrainingLog, entropy: float) -> Chart:
    points = [p for p in log.eval_points if is_number(p.masked_loss)]
    title, last = "Loss of masked tokens, held out", number(points[-1].masked_loss)
    with drawing("masked-loss", title, f"{last} at the end.") as (axes, done):
        _draw_evaluations(axes, points, "masked_loss")
        _draw_line(axes, "single tokens", entropy)
        _from_zero(axes)
        _finish_steps(axes, log)
        _legend(axes)
    return Chart(title, done[0])


def _loss_summary(losses: Floats, evaluated: Sequence[EvalPoint]) -> str:
    parts = []
    if losses.size:
        smooth = _smooth(losses, _window(losses.size))
        parts.append(f"Training loss from {number(smooth[0])} to {number(smooth[-1])}.")
    if evaluated:
        parts.append(f"Evaluation loss {number(evaluated[-1].loss)} at the end.")
    return " ".join(parts)


def _accuracy(log: TrainingLog, accuracy: Measure, baseline: Measure) -> Chart | None:
    return _share(
        log,
        "accuracy",
        "accuracy",
        "Accuracy on the held-out rows",
        final=accuracy,
        line=("majority label", baseline.value),
    )


def _share(
    log: TrainingLog,
    field: str,
    name: str,
    title: str,
    *,
    final: Measure | None = None,
    line: tuple[str, float | None] = ("", None),
) -> Chart | None:
    """A share by the evaluations: with the interval of the final one, and a line to hold it to."""
    points = [p for p in log.eval_points if is_number(getattr(p, field))]
    if not points:
        return None
    last = getattr(points[-1], field)
    with drawing(name, title, f"Accuracy {percent(last)} at the end.") as (axes, done):
        shown = [getattr(p, field) for p in points]
        if final is not None and is_number(final.low) and is_number(final.high):
            band: Style = {"color": ACCENT, "alpha": 0.14, "lw": 0}
            axes.axhspan(final.low, final.high, label="final, 95%", **band)
            shown += [final.low, final.high]
        _draw_evaluations(axes, points, field)
        if is_number(line[1]):
            _draw_line(axes, line[0], line[1])
            shown.append(line[1])
        heights = [value for value in shown if value is not None]
        room = 0.08 * max(max(heights) - min(heights), 0.05)
        axes.set_ylim(max(0, min(heights) - room), min(1.005, max(heights) + room))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        _finish_steps(axes, log)
        _legend(axes)
    return Chart(title, done[0])


def _learning_rate(log: TrainingLog) -> Chart | None:
    steps, rates = _series(log, "learning_rate")
    if not steps.size or not rates.max() > 0:
        return None
    power = math.floor(math.log10(rates.max()))
    exponent = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    title = f"Learning rate, × 10{exponent}"
    peak = f"Highest {rates.max():.3g} at step {int(steps[rates.argmax()]):,}."
    with drawing("rate", title, peak) as (axes, done):
        steps, rates = _thin(steps, rates)
        axes.plot(steps, rates / 10**power, color=PLAIN, lw=2.2, **_dot(steps))
        _from_zero(axes)
        _finish_steps(axes, log)
    return Chart(title, done[0], peak)


def _trace(log: TrainingLog, name: str, title: str, note: str) -> Chart | None:
    steps, values = _series(log, name)
    if not steps.size:
        return None
    summary = f"Median {number(float(np.median(values)))}, highest {number(float(values.max()))}."
    with drawing(name.replace("_", "-"), title, summary) as (axes, done):
        _draw_trace(axes, steps, values, "")
        _from_zero(axes)
        _finish_steps(axes, log)
    return Chart(title, done[0], f"{summary} {note}".strip())


def _draw_trace(axes: Axes, steps: Floats, values: Floats, label: str) -> int:
    """Each value thin and its running mean thick; returns how many values make the mean."""
    window = _window(steps.size)
    if window > 1:
        axes.plot(*_thin(steps, values), color=PLAIN, lw=0.8, alpha=0.45)
        values = _smooth(values, window)
    axes.plot(*_thin(steps, values), color=PLAIN, lw=2.2, label=label, **_dot(steps))
    return window


def _draw_evaluations(axes: Axes, points: Sequence[EvalPoint], name: str) -> None:
    steps = [p.step for p in points]
    style: Style = {"color": ACCENT, "lw": 2, "ls": (0, (4, 2)), "marker": "o", "ms": 6}
    axes.plot(steps, [getattr(p, name) for p in points], label="evaluation", **style)


def _draw_line(axes: Axes, label: str, value: float) -> None:
    """A dotted line to hold the curves against."""
    dots: Style = {"color": PLAIN, "lw": 1.6, "ls": (0, (1, 1.6))}
    axes.axhline(value, label=label, **dots)


def _from_zero(axes: Axes) -> None:
    """Let the vertical axis begin at 0, or below where values are, with room above the highest."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    axes.set_ylim(min(0, 1.05 * low), max(axes.get_ylim()[1], 1.05 * high))


def _dot(steps: Floats) -> Style:
    return {"marker": "o", "ms": 6} if steps.size == 1 else {}


def _finish_steps(axes: Axes, log: TrainingLog) -> list[str]:
    """The axis of steps, with a faint line where an epoch ends; returns what to say about it."""
    axes.set_xlabel("step")
    last = max([log.steps, *(p.step for p in log.curve), *(p.step for p in log.eval_points), 1])
    axes.set_xlim(0, last * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if not (math.isfinite(log.epochs) and 1 < log.epochs <= 20):
        return []
    for epoch in range(1, math.ceil(log.epochs)):
        axes.axvline(epoch * log.steps / log.epochs, color=MUTED, lw=0.8, ls=(0, (1, 3)), zorder=0)
    return ["Dotted verticals: ends of epochs."]


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.03), ncols=3, handlelength=2.2, columnspacing=1.4
    )


def _bars(axes: Axes, lengths: LengthAccount) -> None:
    """One bar a bin; the part of a bar beyond the limit is hatched."""
    first_cut = lengths.max_length + 1
    for left, right, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False):
        middle = min(max(first_cut, left), right)
        if count and left < middle:
            axes.bar(left, count, middle - left, align="edge", color=PLAIN, alpha=0.75, lw=0)
        if count and middle < right:
            style: Style = {"facecolor": "none", "edgecolor": TROUBLE, "hatch": "////", "lw": 1}
            axes.bar(middle, count, right - middle, align="edge", **style)


def _mark_limit(axes: Axes, limit: int, stop: float) -> None:
    top = axes.get_ylim()[1]
    if limit > stop:
        axes.text(stop, top, f"limit {limit:,} →", color=TROUBLE, ha="right", va="top")
        return
    axes.axvspan(limit, stop, color=TROUBLE, alpha=0.08, lw=0)
    axes.axvline(limit, color=TROUBLE, lw=1.8, ls=(0, (5, 2)))
    left = limit < stop / 2
    x = limit + stop * (0.012 if left else -0.012)
    axes.text(x, top, f"limit {limit:,}", color=TROUBLE, ha="left" if left else "right", va="top")


def _histogram_stop(lengths: LengthAccount) -> float:
    """Where the axis ends: a few giants or a far limit must not squeeze the rest into a corner."""
    last, limit = lengths.edges[-1], lengths.max_length
    reached = np.cumsum(lengths.counts) >= 0.995 * sum(lengths.counts)
    bulk = lengths.edges[int(reached.argmax()) + 1]
    stop = min(last, max(1.5 * bulk, 1.3 * limit if limit < 1.6 * bulk else 0))
    return float(max(stop, 1.08 * limit if limit < 1.6 * stop else 0, 1))


def _series(log: TrainingLog, name: str) -> tuple[Floats, Floats]:
    """Steps and finite values of one column of the curve."""
    values = [(p.step, v) for p in log.curve if is_number(v := getattr(p, name))]
    table = np.array(values, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _window(count: int) -> int:
    return 1 if count < 30 else 2 * max(count // 50, 2) + 1


def _smooth(values: Floats, window: int) -> Floats:
    """The mean of the `window` values around each one, or of as many as there are near the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(values.size)
    first = np.maximum(place - window // 2, 0)
    stop = np.minimum(place + window // 2 + 1, values.size)
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
    done: list[str] = []
    with mpl.rc_context():
        # A user's own matplotlib settings must not leak into the page.
        mpl.rcdefaults()
        settings: Any = STYLE | {"svg.hashsalt": name}
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained")
        axes = figure.add_subplot()
        yield axes, done
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    done.append(_inline(target.getvalue(), f"chart-{name}", title, description))


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
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{body}</svg>'
    )


def _round(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}"


def _plain_font(found: re.Match[str]) -> str:
    """Keep the size that matplotlib wrote and leave the family to the page."""
    size = re.search(r"[\d.]+px", found[0])
    return f"font-size: {size[0]}" if size else "font-family: inherit"
