"""results.html: the tables and four drawings on one page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from results import Results, tables
from steps import SCRATCH

from bertolt.base.files import write_text
from bertolt.base.format import is_number, number, percent
from bertolt.report.build import environment
from bertolt.report.figures import ACCENT, INK, PLAIN, Chart, drawing

LOOKS: dict[str, dict[str, Any]] = {
    SCRATCH: {"color": PLAIN, "marker": "D"},
    "mlm": {"color": ACCENT, "marker": "o"},
    "mlm+nsp": {"color": INK, "marker": "s"},
}
# Curves that lie on each other are both to be seen.
DASHES = {"mlm": "-", "mlm+nsp": (0, (3, 2))}


def write_page(results: Results, path: Path) -> None:
    """Draw the results.

    Raises:
        BertoltError: the file cannot be written there.
    """
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    charts = [(chart.title, Markup(chart.svg), chart.note) for chart in _charts(results)]
    page = environment().from_string(template)
    text = page.render(results=results, tables=tables(results), charts=charts, best=_best(results))
    write_text(path, text.strip() + "\n")


def _best(results: Results) -> tuple[str, Any]:
    """The start with the highest mean."""
    starts = results["finetuning"]["starts"]
    name = max(starts, key=lambda start: starts[start]["mean"])
    return name, starts[name]


def _charts(results: Results) -> Iterator[Chart]:
    yield _accuracies(results)
    runs = results["pretraining"]
    entropy = max(run["token_entropy"] for run in runs.values())
    baselines = [run["pairs_baseline"] for run in runs.values() if run["pairs_baseline"]]
    title = "Loss of masked tokens, held out"
    yield _curves(runs, "masked_loss", title, ("single tokens", entropy))
    yield _curves(runs, "masked_accuracy", "Masked tokens right, held out")
    if baselines:
        line = ("the more frequent answer", baselines[0])
        yield _curves(runs, "pairs_accuracy", "Pairs right, held out", line)


def _accuracies(results: Results) -> Chart:
    """A dot for each run, and a bar with the mean of each start."""
    found = results["finetuning"]
    starts = found["starts"]
    title = f"Accuracy on {found['rows']:,} reviews"
    means = ", ".join(f"{name} {percent(run['mean'])}" for name, run in starts.items())
    with drawing("accuracies", title, f"Means: {means}.") as (axes, done):
        for place, (name, run) in enumerate(starts.items()):
            _dots(axes, place, name, run)
        axes.set_xlim(-0.5, len(starts) - 0.3)
        axes.set_xticks(range(len(starts)), list(starts))
        _shares(axes)
    note = f"A mark for each seed; the bar is their mean. {_always(found)}"
    return Chart(title, done[0], note)


def _always(found: Results) -> str:
    return f"Always the same answer would be {percent(found['baseline_accuracy'])}."


def _dots(axes: Axes, place: int, name: str, run: Results) -> None:
    values = list(run["accuracy"].values())
    beside = [place + 0.09 * (each - (len(values) - 1) / 2) for each in range(len(values))]
    axes.plot(beside, values, ls="", ms=7, **LOOKS[name])
    axes.hlines(run["mean"], place - 0.22, place + 0.22, color=LOOKS[name]["color"], lw=2.2)
    axes.text(place + 0.26, run["mean"], percent(run["mean"]), va="center")


def _curves(runs: Results, field: str, title: str, line: tuple[str, float] | None = None) -> Chart:
    """One value of both runs by step, and a dotted line to hold it against."""
    ends = []
    with drawing(field.replace("_", "-"), title, "By steps of pretraining.") as (axes, done):
        for name, run in runs.items():
            points = [p for p in run["curve"] if is_number(p[field])]
            if points:
                steps = [p["step"] for p in points]
                style: dict[str, Any] = {"lw": 2, "ms": 4, "ls": DASHES[name], **LOOKS[name]}
                axes.plot(steps, [p[field] for p in points], label=name, **style)
                last = points[-1][field]
                shown = number(last) if field == "masked_loss" else percent(last)
                ends.append(f"{name} {shown}")
        if line is not None:
            axes.axhline(line[1], label=line[0], color=PLAIN, lw=1.6, ls=(0, (1, 1.6)))
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.margins(y=0.12)
        if field != "masked_loss":
            _shares(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.03), ncols=3, columnspacing=1.4)
    return Chart(title, done[0], f"At the end: {', '.join(ends)}.")


def _shares(axes: Axes) -> None:
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
