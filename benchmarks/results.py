"""What a session found, as numbers with their spread and as tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertolt.base.format import ABSENT, gibibytes, number, percent, plural

REFERENCE = "bertolt"
"""The contestant that the others are held against."""
Record = dict[str, Any]
Values = dict[str, float]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: of the value in `measures`.
        title: at its head.
        show: makes words of a value.
    """

    key: str
    title: str
    show: Callable[[float | None], str] = number


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of work; the first decides who is faster.

    Attributes:
        columns: from left to right.
        lower_is_better: of the first.
    """

    columns: tuple[Column, ...]
    lower_is_better: bool = False

    @property
    def main(self) -> Column:
        """The first column."""
        return self.columns[0]


@dataclass(frozen=True)
class Spread:
    """A value over the repeats."""

    middle: float
    low: float
    high: float
    count: int


_MEMORY = Column("peak_memory_mb", "peak memory, MB")
_SHARES = (
    Column("share", "share of the products", lambda value: percent(value, 0)),
    Column("share_needed", "… needed ones", lambda value: percent(value, 0)),
)
_PADDING = Column("padding_share", "padding", lambda value: percent(value, 0))
_ACCURACY = Column("accuracy", "accuracy", lambda value: number(value, 4))
_WARMUP = Column("warmup_seconds", "warm-up, s")
_TRAIN = Layout(
    (
        Column("texts_per_second", "texts/s"),
        Column("tokens_per_second", "tokens/s"),
        _PADDING,
        *_SHARES,
        _MEMORY,
        Column("first_step_seconds", "start to first step, s"),
        _WARMUP,
    )
)
_REQUESTS = Column("requests_per_second", "requests/s")
_OFFERED = Column("offered_per_second", "sent/s")
_P50, _P99 = Column("p50_ms", "p50, ms"), Column("p99_ms", "p99, ms")
_OF_SERVER = (
    Column("cpu_ms_per_request", "processor of the server, ms a request"),
    Column("memory_mb", "memory, MB"),
    Column("agree", "same label as `predict`", lambda value: percent(value, 1)),
    Column("refused", "not answered"),
)
LAYOUTS = {
    "train": _TRAIN,
    "mlm": _TRAIN,
    "pretrain": _TRAIN,
    "start": Layout((Column("first_step_seconds", "seconds"), _MEMORY), lower_is_better=True),
    "predict": Layout(
        (
            Column("texts_per_second", "texts/s"),
            Column("tokens_per_second", "tokens/s"),
            _PADDING,
            *_SHARES,
            _ACCURACY,
            _MEMORY,
            _WARMUP,
        )
    ),
    "single": Layout(
        (
            Column("median_ms", "median, ms"),
            Column("ms_95", "95% within, ms"),
            _ACCURACY,
            _MEMORY,
            Column("first_step_seconds", "start to first answer, s"),
        ),
        lower_is_better=True,
    ),
    "command": Layout((Column("seconds", "seconds"), _ACCURACY, _MEMORY), lower_is_better=True),
    "closed": Layout((_REQUESTS, _P50, _P99, *_OF_SERVER)),
    "open": Layout((_P99, _P50, _REQUESTS, _OFFERED, *_OF_SERVER), lower_is_better=True),
}


def measures(entry: Record, run: Record, products: float) -> Values:
    """All values of one measurement.

    Rates of training are those of real tokens, divided by the mean tokens of a text, so that the
    lengths of the batches that happened to be timed matter less.

    Args:
        entry: of the work.
        run: what the measurement found.
        products: GFLOP/s of this machine's products in the same round, in its faster format.
    """
    values = {name: v for name, v in run.items() if isinstance(v, int | float)}
    job, kind = entry.get("job", {}), entry["kind"]
    if kind in ("train", "mlm", "pretrain"):
        values["tokens_per_second"] = run["tokens"] / run["seconds"]
        values["texts_per_second"] = values["tokens_per_second"] / job["mean_tokens"]
    elif kind == "predict":
        values["texts_per_second"] = run["samples"] / run["seconds"]
        values["tokens_per_second"] = values["texts_per_second"] * job["mean_tokens"]
    if "tokens_per_second" in values:
        passes = 1 if kind == "predict" else 3
        unit = passes * values["tokens_per_second"] / (products * 1e9)
        values |= {"share": unit * job["flops"], "share_needed": unit * job["flops_needed"]}
    return values


def summarise(entry: Record) -> dict[str, dict[str, Spread]]:
    """By contestant and column key, the median and the spread over the repeats."""
    found = {}
    for name, each in entry["contestants"].items():
        runs = _all_measures(entry, each)
        keys = [column.key for column in LAYOUTS[entry["kind"]].columns]
        values = {key: [run[key] for run in runs if key in run] for key in keys}
        found[name] = {key: _spread(numbers) for key, numbers in values.items() if numbers}
    return found


def _all_measures(entry: Record, contestant: Record) -> list[Values]:
    rounds = zip(contestant["runs"], entry["products"], strict=False)
    return [measures(entry, run, max(products.values())) for run, products in rounds]


def _spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values), len(values))


def times_faster(entry: Record, name: str, against: str) -> float | None:
    """How many times as fast one contestant is as another: the median over the repeats of both."""
    layout = LAYOUTS[entry["kind"]]
    pairs = zip(
        *(_all_measures(entry, entry["contestants"][each]) for each in (name, against)),
        strict=False,
    )
    ratios = [mine[layout.main.key] / theirs[layout.main.key] for mine, theirs in pairs]
    if not ratios:
        return None
    middle = float(statistics.median(ratios))
    return 1 / middle if layout.lower_is_better else middle


def fastest_other(entry: Record) -> str | None:
    """The fastest contestant that is not Bertolt, if any was measured."""
    layout = LAYOUTS[entry["kind"]]
    rates = {
        name: found[layout.main.key].middle
        for name, found in summarise(entry).items()
        if not name.startswith(REFERENCE) and layout.main.key in found
    }
    if not rates:
        return None
    return (min if layout.lower_is_better else max)(rates, key=rates.__getitem__)


def markdown(record: Record, legend: str = "") -> str:
    """The whole record as a page; `legend` says how it was measured, if otherwise than usual."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        f"# Measured on {record['date']}",
        f"{machine['cpu']}, {plural(machine['cores'], 'core')}, {gibibytes(machine['memory'])}; "
        f"{plural(record['threads'], 'thread')} for everyone; commit {record['commit']}.",
        f"{versions}.",
        f"`{' '.join(record['command'])}`",
        (legend or _LEGEND).format(repeats=plural(record["repeats"], "repeat")),
        *(_section(entry) for entry in record["works"].values()),
    ]
    return "\n\n".join(parts) + "\n"


_LEGEND = """\
Each figure is the median of {repeats}, every measurement a process of its own, one contestant
after the other; brackets hold the lowest and the highest. Warm-up is left out of the rates. Rates
count real tokens and texts, no padding; *padding* is the share of rows of the linear layers that
hold no token. The share is that of the products a forward pass (and twice as many for its
gradients) takes, 2P + 4·L·d·s̄ + 2m(d² + dV) for each token, done in the measured time, over the
rate of plain products in bfloat16 or fp32, whichever is faster here, and the faster of two before
and after the same round; *needed ones* leaves out the rows of the last layer that the head does not
read. ONNX Runtime and OpenVINO get batches sorted by length; `tuned by hand` is the peer with
attention in plain products and lengths rounded up to eights, which its pages do not advise and
which may suit this machine. `Bertolt is` says how many times as fast Bertolt is as the contestant
of that row."""


def _section(entry: Record) -> str:
    parts = [f"## {entry['title']}", _products(entry)]
    if "job" in entry:
        job = entry["job"]
        tokens = number(job["mean_tokens"])
        if entry["kind"] not in ("command", "start"):
            parts[1] += f" {plural(job['steps'], 'step')} of {plural(job['batch_size'], 'text')}"
            parts[1] += f", after {job['warmup']} of warm-up."
        parts[1] += f" Texts have {tokens} tokens on average."
    parts.append(table(entry))
    other = fastest_other(entry)
    if other is not None:
        times = times_faster(entry, REFERENCE, other) if REFERENCE in entry["contestants"] else None
        title = entry["contestants"][other]["title"]
        parts.append(f"The fastest other: {title}. Bertolt is {number(times)} times as fast.")
    return "\n\n".join(parts)


def _products(entry: Record) -> str:
    if not entry["products"]:
        return "Not measured yet."
    words = []
    for name in entry["products"][0]:
        found = _spread([each[name] for each in entry["products"]])
        words.append(f"{name} {_with_spread(found, number)} GFLOP/s")
    return f"Products: {', '.join(words)}."


def table(entry: Record) -> str:
    """One work as a Markdown table; who could not take part is in it, with the reason."""
    layout = LAYOUTS[entry["kind"]]
    heads = ["", layout.main.title, "Bertolt is", *(c.title for c in layout.columns[1:]), "note"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " --- |" * (len(heads) - 1)]
    found = summarise(entry)
    for name, each in entry["contestants"].items():
        values = found[name]
        ratio = times_faster(entry, REFERENCE, name) if REFERENCE in entry["contestants"] else None
        cells = [each["title"], _cell(values, layout.main, spread=True), _times(ratio)]
        cells += [_cell(values, c, spread=c is _ACCURACY) for c in layout.columns[1:]]
        notes = sorted({run["note"] for run in each["runs"] if "note" in run})
        cells.append(", ".join(notes) if each["state"] == "ok" else each["state"])
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def _times(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{number(ratio)} ×"


def _cell(values: dict[str, Spread], column: Column, *, spread: bool) -> str:
    found = values.get(column.key)
    if found is None:
        return ABSENT
    return _with_spread(found, column.show) if spread else column.show(found.middle)


def _with_spread(found: Spread, show: Callable[[float | None], str]) -> str:
    words = show(found.middle)
    return words if found.count == 1 else f"{words} ({show(found.low)}–{show(found.high)})"
