"""What the report says before it draws: the verdict, and what the reader should be wary of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertolt.base.format import is_number, number, percent, plural, shorten
from bertolt.report.facts import Facts
from bertolt.report.shown import ends, listed, shown, within

LEFT_OUT = "rows_left_out"
"""The check whose caution says of dropped rows more than this module would."""
EXPECTED_STATUSES = ("loaded", "tied", "ignored", "initialised", "in part", "not needed")


@dataclass(frozen=True)
class Caution:
    """One thing to be wary of: a short claim, and the numbers behind it."""

    claim: str
    detail: str


@dataclass(frozen=True)
class Scale:
    """The headline drawn between the least and the greatest that it could be; places are shares.

    Attributes:
        label: the whole drawing in words.
        low, high: names of the two ends.
        at: place of the value.
        span: places of the two ends of its interval, or None.
        baseline: place of the number that it is held against, or None.
        mark: name of that number.
        better: whether greater values are better.
    """

    label: str
    low: str
    high: str
    at: str
    span: tuple[str, str] | None
    baseline: str | None
    mark: str
    better: bool


@dataclass(frozen=True)
class Verdict:
    """The headline: name, value and interval of what was measured, and the rest of the sentence."""

    name: str
    value: str
    ends: str
    sentence: str
    scale: Scale | None = None


def verdict(facts: Facts) -> Verdict:
    """The number that matters and what to hold it against."""
    headline: Mapping[str, Any] = facts.get("headline") or {}
    name, value = headline.get("name", ""), headline.get("value")
    if not is_number(value):
        missing = f"the {name.lower()} was not measured" if name else "nothing was measured"
        steps = plural(facts["training"]["steps"], "step")
        rest = headline.get("sentence") or missing
        return Verdict("", "", "", _hyphens(f"Trained for {steps}; {rest}."))
    format = headline.get("format", "number")
    interval = ends(headline, format)
    return Verdict(
        name=_hyphens(name),
        value=shown(value, format),
        ends=f"({interval})" if interval else "",
        sentence=_hyphens(_sentence(headline, format)),
        scale=_scale(headline, format) if headline.get("scale") else None,
    )


def _sentence(headline: Mapping[str, Any], format: str) -> str:
    if headline.get("sentence"):
        return f", {headline['sentence']}"
    baseline = headline.get("baseline") or {}
    sentence = f" on {plural(headline['rows'], 'held-out row')}"
    if is_number(baseline.get("value")):
        sentence += f"; {baseline['name']} would give {shown(baseline['value'], format)}"
    return f"{sentence}."


def _hyphens(text: str) -> str:
    """The text with hyphens at which no line breaks."""
    return text.replace("held-out", "held‑out").replace("Held-out", "Held‑out")


def _scale(headline: Mapping[str, Any], format: str) -> Scale:
    low, high = headline["scale"]
    value, baseline = headline["value"], headline.get("baseline") or {}
    least, most = (shown(end, format).replace(".0%", "%") for end in (low, high))
    least = "0" if low == 0 else least
    mark = baseline.get("mark") or baseline.get("name", "")
    label = f"On a scale from {least} to {most}: {headline['name'].lower()} {shown(value, format)}"
    bar = baseline.get("value")
    if is_number(bar):
        label += f", {mark} {shown(bar, format)}"
    span = [headline.get(end) for end in ("low", "high")]
    return Scale(
        label=label,
        low=least,
        high=most,
        at=within(value, low, high),
        span=(within(span[0], low, high), within(span[1], low, high))
        if is_number(span[0]) and is_number(span[1])
        else None,
        baseline=within(bar, low, high) if is_number(bar) else None,
        mark=mark,
        better=headline.get("greater_is_better", True),
    )


def loaded_counts(model: Mapping[str, Any]) -> list[tuple[str, int]]:
    """How many tensors have each status, in the order of the load report."""
    totals: dict[str, int] = {}
    for row in model["load_report"]:
        totals[row["status"]] = totals.get(row["status"], 0) + row["count"]
    return list(totals.items())


def calm(facts: Facts) -> str:
    """What may be said of a run of which there is nothing to be wary."""
    data = facts.get("data") or {}
    claims = ["no row was dropped"] if "dropped" in data else []
    claims += ["no text was cut"] if data.get("lengths") else []
    return f"Nothing to warn about: {', '.join([*claims, *facts.get('calm', ())])}."


def cautions(facts: Facts) -> list[Caution]:
    """Everything that the reader should know before trusting the verdict, gravest first."""
    stopped = facts.get("stopped_early")
    early = [Caution("The run stopped early", stopped)] if stopped else []
    told, data = _told(facts)
    return [
        *early,
        *told,
        *_about_training(facts["training"]),
        *data,
        *_about_loading(facts["model"]),
    ]


def data_cautions(facts: Facts) -> list[Caution]:
    """Everything that the reader should know of rows before they are learned."""
    told, data = _told(facts)
    return [*told, *data]


def _told(facts: Facts) -> tuple[list[Caution], list[Caution]]:
    """What the checks told, and what the account of the rows says."""
    others = facts.get("cautions", ())
    told = any(each.get("check") == LEFT_OUT for each in others)
    cautions = [Caution(each["claim"], each["detail"]) for each in others]
    return cautions, _about_data(facts.get("data") or {}, told=told)


def _about_training(training: Mapping[str, Any]) -> list[Caution]:
    cautions = []
    curve = training["curve"]
    # A loss that is not finite is null in the facts; one that was not logged is no column.
    broken = [s for s, v in zip(curve["step"], curve.get("loss", ()), strict=False) if v is None]
    if broken:
        detail = f"First at step {broken[0]:,}. The curve leaves them out."
        cautions.append(
            Caution(f"The loss was not finite at {plural(len(broken), 'step')}", detail)
        )
    rates = curve.get("learning_rate", ())
    if rates and not any(rates):
        detail = "The weights are as they were before. Give --warmup 0, or make more steps."
        cautions.append(Caution("No step had a learning rate above 0", detail))
    points = [(p["metrics"].get("loss"), p["step"]) for p in training["eval_points"]]
    losses = [(loss, step) for loss, step in points if is_number(loss)]
    if len(losses) > 1 and losses[-1][0] > 1.1 * min(losses)[0]:
        best, step = min(losses)
        detail = f"{number(best)} at step {step:,}, {number(losses[-1][0])} at the end."
        cautions.append(Caution("The evaluation loss rose after its best", detail))
    return cautions


def _about_data(data: Mapping[str, Any], told: bool) -> list[Caution]:
    """What there is to say of texts that stand on both sides, are cut, or dropped if not told."""
    cautions = []
    if repeated := data.get("repeated"):
        claim = f"{plural(repeated, 'evaluation text')} seen in training"
        words = f"of {data['eval_rows']:,} stand word for word among the training texts"
        if "measured_rows" in data:  # each row was held out once, in its fold
            claim = f"{plural(repeated, 'text stands', 'texts stand')} in other folds too"
            words = (
                f"of {data['measured_rows']:,} were answered by a model that had learned the same "
                "text, word for word"
            )
        detail = f"{repeated:,} {words}{_first_rows(data)}, which flatters every number here."
        cautions.append(Caution(claim, detail))
    lengths = data.get("lengths")
    if lengths and lengths["texts_cut"]:
        share = percent(lengths["texts_cut"] / max(lengths["texts"], 1))
        detail = (
            f"{share} of the texts lost some by the limit of {lengths['max_length']:,} tokens; "
            f"{plural(lengths['tokens_cut'], 'token')} of {lengths['tokens']:,} were never seen."
        )
        cautions.append(Caution(f"{plural(lengths['texts_cut'], 'text')} cut", detail))
    reasons = [each for each in data.get("dropped", ()) if each["count"]]
    if reasons and not told:
        counts = ", ".join(f"{each['reason']} {each['count']:,}" for each in reasons)
        claim = f"{plural(sum(each['count'] for each in reasons), 'row')} dropped"
        cautions.append(Caution(claim, f"Of {plural(data['rows_read'], 'row')} read: {counts}."))
    return cautions


def _first_rows(data: Mapping[str, Any]) -> str:
    """The first evaluation rows whose texts are among the training texts, where they were kept."""
    rows = data.get("repeated_rows")
    if not rows:
        return ""
    more = ", …" if data["repeated"] > len(rows) else ""
    own = (data.get("files") or {}).get("eval")
    of = f" of {shorten(Path(own).name, 60)}" if own else ""
    return f" (row{'s' * (data['repeated'] > 1)} {', '.join(map(str, rows))}{more}{of})"


def _about_loading(model: Mapping[str, Any]) -> list[Caution]:
    odd = [row for row in model["load_report"] if row["status"] not in EXPECTED_STATUSES]
    if not odd:
        return []
    claim = f"{plural(sum(row['count'] for row in odd), 'tensor')} did not load as expected"
    names = [f"{row['name']} ({row['status']})" for row in odd]
    return [Caution(claim, f"{listed(names)}.")]
