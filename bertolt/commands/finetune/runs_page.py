"""What the page of several runs shows before the page of the run whose model is the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertolt.base.format import plural
from bertolt.commands.finetune.planned import Outcome
from bertolt.commands.finetune.spread import Summary, spread_of, value_words
from bertolt.report.shown import listed
from bertolt.tasks.page import caution, table


def summary_facts(
    facts: Mapping[str, Any], summary: Summary, whole: Mapping[str, Any]
) -> dict[str, Any]:
    """What the page of all runs has in place of that of the best one.

    Args:
        facts: of the run whose model is the result.
        summary: of all runs.
        whole: of all rows, where each was held out once; else empty.
    """
    base = {**facts, **whole}
    own = {
        "headline": _headline(base.get("headline") or {}, summary),
        "first_blocks": [_block(summary)],
        "cautions": [*_cautions(summary), *base.get("cautions", ())],
        "several": summary.to_dict(),
    }
    return {**whole, **own}


def _headline(headline: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
    """The mean of seeds and folds, or the score of the result, with what it is to be held to."""
    spread, goal = summary.spread.get(summary.goal.metric), summary.goal
    best = next((each for each in summary.runs if each.name == summary.best), None)
    rows = f"on {plural(headline.get('rows', 0), 'held-out row')}"
    if spread is None or summary.kind in ("samples", "search"):
        kind = {"samples": "the most rows", "search": "the best trial"}.get(summary.kind, "")
        known = f"of the {summary.words} this is the model of {kind}"
        words = f"{known}: {best.title}" if best and kind else known
        return {**headline, "sentence": f"{rows}; {words}."}
    deviation = summary.difference(spread.get("standard_deviation"))
    if summary.kind == "folds":
        mean = f"mean of {summary.words} {summary.shown(spread['mean'])} ± {deviation}"
        words = (
            f"on {plural(headline.get('rows', 0), 'row')}, each answered by a model that had not "
            f"seen it; {mean} (standard deviation). The model here is trained on all rows, and not "
            "measured."
        )
        return {**headline, "sentence": words}
    words = f"mean of {summary.words}, standard deviation {deviation}, {rows}"
    chosen = ""
    if best is not None:
        chosen = f" The model here is that of {best.title}, with {summary.shown(best.score)}."
    baseline = headline.get("baseline") if summary.primary else None
    return {
        **headline,
        "name": goal.title,
        "value": spread["mean"],
        "low": spread["min"],
        "high": spread["max"],
        "baseline": baseline,
        "format": summary.format,
        "greater_is_better": goal.greater,
        "scale": headline.get("scale") if summary.format == headline.get("format") else None,
        "sentence": f"{words}.{chosen}",
    }


def _cautions(summary: Summary) -> list[dict[str, str]]:
    """Runs that collapsed, and a choice that flatters."""
    cautions = []
    collapsed = summary.collapsed
    if collapsed:
        reasons: dict[str, list[str]] = {}
        for each in collapsed:
            reasons.setdefault(each.problem or each.collapsed, []).append(each.title)
        why = [f"{listed(titles)}: {reason}" for reason, titles in reasons.items()]
        sound = [each for each in summary.scored if not each.collapsed]
        rest = spread_of(sound, summary.goal).get(summary.goal.metric)
        mean = ""
        if rest and summary.kind in ("seeds", "folds"):
            them = "it" if len(collapsed) == 1 else "them"
            mean = f" Without {them} the mean is {summary.shown(rest['mean'])}."
        claim = f"{len(collapsed)} of {plural(len(summary.runs), 'run')} collapsed"
        cautions.append(caution(claim, f"{'; '.join(why)}.{mean}"))
    if summary.kind in ("seeds", "search"):
        count = len(summary.scored)
        cautions.append(
            caution(
                f"The model is the best of {count} on these held-out rows",
                "A choice by the same rows flatters its score: measure it with bertolt evaluate on "
                "rows that took no part.",
            )
        )
    return cautions


_TITLES = {
    "seeds": "Seeds",
    "folds": "Folds",
    "samples": "Learning curve",
    "search": "Trials",
}
_AXES = {"seeds": "seed", "folds": "fold", "samples": "training rows", "search": "trial"}


def _block(summary: Summary) -> dict[str, Any]:
    """The section of all runs: a drawing, a table of the runs, and one of the metrics."""
    curve = summary.curve()
    parts = [{"kind": "row", "widths": [1, 1], "blocks": [_drawing(summary), _runs(summary)]}]
    if summary.kind in ("seeds", "folds"):
        parts.append(_metrics(summary))
    if summary.importance:
        parts.append(_importance(summary))
    return {
        "kind": "stack",
        "id": "runs",
        "title": _TITLES[summary.kind],
        "nav": _TITLES[summary.kind],
        "lead": curve.words(summary) if curve else _lead(summary),
        "blocks": parts,
    }


def _lead(summary: Summary) -> str:
    leads = {
        "seeds": "The same rows are held out in each run; the head, the order of the rows and "
        "dropout differ. A difference of two settings that is less than this spread says little.",
        "folds": "Each row is held out in one fold. What all rows were answered stands in "
        "out_of_fold.jsonl.",
        "search": "Each trial trains on the same rows and is measured on the same held-out ones.",
    }
    return leads.get(summary.kind, "")


def _drawing(summary: Summary) -> dict[str, Any]:
    points = []
    for order, each in enumerate(summary.runs):
        if each.score is None:
            continue
        place = each.rows if summary.kind == "samples" else order + 1
        mark = "pruned" if each.pruned else "collapsed" if each.collapsed else ""
        mark = "best" if each.name == summary.best and not mark else mark
        ends = each.interval or (None, None)
        label = str(next(iter(each.values.values()), order + 1))
        points.append(
            {
                "x": place,
                "label": label,
                "y": each.score,
                "low": ends[0],
                "high": ends[1],
                "mark": mark,
            }
        )
    block: dict[str, Any] = {
        "kind": "dots",
        "caption": f"{summary.goal.title} of each run",
        "x_label": _AXES[summary.kind],
        "points": points,
        "format": summary.format,
        "logarithmic": summary.kind == "samples",
        "note": _note(summary),
    }
    spread, curve = summary.spread.get(summary.goal.metric), summary.curve()
    if spread is not None and summary.kind in ("seeds", "folds"):
        block["line"] = {"name": "mean", "value": spread["mean"]}
        if (half := spread.get("standard_deviation")) is not None:
            block["band"] = [spread["mean"] - half, spread["mean"] + half]
    if curve is not None:
        sign = 1 if summary.goal.greater else -1
        start = curve.next_score - sign * (curve.rise + curve.gain)
        block["path"] = [[curve.first, start], [2 * curve.last, curve.next_score]]
    if summary.kind == "search":
        block["path"] = _best_so_far(summary)
    return block


def _note(summary: Summary) -> str:
    with_ends = any(each.interval for each in summary.runs)
    interval = "Whiskers: 95% intervals of each score." if with_ends else ""
    more = {
        "seeds": "Band: a standard deviation around the mean.",
        "folds": "Band: a standard deviation around the mean.",
        "samples": "Dashes: a line through the last scores over the logarithm of the rows, up to "
        "twice as many.",
        "search": "Dashes: the best score so far.",
    }
    known = summary.spread.get(summary.goal.metric, {})
    without = summary.kind in ("seeds", "folds") and "standard_deviation" not in known
    return " ".join(filter(None, [interval, "" if without else more[summary.kind]]))


def _best_so_far(summary: Summary) -> list[list[float]]:
    best, path = None, []
    for order, each in enumerate(summary.runs):
        if each.score is not None and not each.pruned:
            better = best is None or (each.score > best) == summary.goal.greater
            best = each.score if better else best
        if best is not None:
            path.append([float(order + 1), best])
    return path


def _runs(summary: Summary) -> dict[str, Any]:
    """A row for each run: what it differs by, its score, other metrics, and what became of it."""
    keys = list(dict.fromkeys(key for each in summary.runs for key in each.values))
    shares = summary.format == "percent"
    others = [name for name in summary.spread if name != summary.goal.metric]
    kinds = {_title(key): "text" for key in keys}
    kinds |= {summary.goal.title: "measure" if shares else "number"}
    kinds |= {_title(name): "number" for name in others} | {"": "text"}
    rows = []
    for each in summary.runs:
        ends = each.interval or (None, None)
        score: Any = (
            {"value": each.score, "low": ends[0], "high": ends[1]} if shares else each.score
        )
        cells = [value_words(each.values.get(key)) for key in keys]
        numbers = [each.metrics.get(name) for name in others]
        rows.append([*cells, score, *numbers, _became(each, summary)])
    block = table(f"{summary.words[0].upper()}{summary.words[1:]}", kinds, rows)
    return block | {"noun": "run", "most": 100}


def _title(key: str) -> str:
    """The name of a metric or an option as the head of a column."""
    words = key.replace("_", " ")
    return words[0].upper() + words[1:]


def _became(outcome: Outcome, summary: Summary) -> str:
    if outcome.problem:
        return "no score"
    if outcome.pruned:
        return "ended early"
    if outcome.collapsed:
        return "collapsed"
    return "the result" if outcome.name == summary.best else ""


def _metrics(summary: Summary) -> dict[str, Any]:
    """Mean and spread of every metric."""
    kinds = {"Metric": "text"} | dict.fromkeys(
        ("Mean", "Standard deviation", "Least", "Greatest"), "number"
    )
    rows = [
        [_title(name), each["mean"], each.get("standard_deviation"), each["min"], each["max"]]
        for name, each in summary.spread.items()
    ]
    return table(f"Mean and spread over {summary.words}", kinds, rows)


def _importance(summary: Summary) -> dict[str, Any]:
    columns: list[dict[str, Any]] = [
        {"name": "Setting", "kind": "text"},
        {"name": "Share", "kind": "bar", "format": "percent", "colour": "accent"},
    ]
    ordered = sorted(summary.importance.items(), key=lambda each: -each[1])
    rows = [[name, share] for name, share in ordered]
    caption = "What decides whether a trial is among the best (PED-ANOVA)"
    return {"kind": "table", "caption": caption, "columns": columns, "rows": rows}
