"""What the page of `bertolt compare` shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bertolt.base.format import plural, shorten
from bertolt.base.version import __version__
from bertolt.commands.changed_rows import Change
from bertolt.commands.compare import HOW, Against, Comparison, gap_words, p_words
from bertolt.report import plain
from bertolt.report.blocks import MOST_CHARACTERS
from bertolt.tasks.table import ends_words, interval_words


def page_facts(comparison: Comparison) -> dict[str, Any]:
    """What the page shows, as plain values."""
    first, title = comparison.first, comparison.task.primary.title
    shares = comparison.task.primary.share
    kinds = {"Run": "text", title: "measure" if shares else "text"}
    rows = [
        [name, {"value": value, "low": (ends or (None,))[0], "high": (ends or (None,))[-1]}]
        if shares
        else [name, interval_words(value, ends)]
        for name, (value, ends) in comparison.scores.items()
    ]
    table = {
        "kind": "table",
        "caption": f"{title} with 95% intervals by resampling {comparison.resampled}",
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": rows,
        "id": "runs",
        "title": "Runs",
        "lead": f"On {comparison.where}. {'. '.join(comparison.notes)}".strip(". ") + ".",
    }
    blocks = [table]
    for each in comparison.others:
        blocks += _blocks(each, comparison)
    facts: dict[str, Any] = {
        "version": __version__,
        "title": f"{title}: {plural(len(comparison.scores), 'run')} of {comparison.task.name}",
        "verdicts": [
            f"{e.run} against {first}: {comparison.verdict(e)}." for e in comparison.others
        ],
        "blocks": blocks,
    }
    return {name: plain(value) for name, value in facts.items()}


def _blocks(each: Against, comparison: Comparison) -> Iterator[dict[str, Any]]:
    """A run against the first: numbers, settings, and the rows that changed."""
    test, title = each.test, comparison.task.primary.title
    p = {"name": "p-value", "value": p_words(test.p)}
    whole = "" if comparison.groups is None else f", {comparison.groups:,} groups of rows whole"
    p["note"] = f"how often chance alone makes such a difference; {HOW[test.by][1]}{whole}"
    paired = f"paired, by {comparison.resampled}"
    items = [
        {"name": f"Difference in {title}", "value": gap_words(test.difference)},
        {"name": "its 95% interval", "value": ends_words(test.interval), "note": paired},
        p,
    ]
    if len(comparison.others) > 1:
        note = f"for {len(comparison.others)} comparisons, by Holm"
        items.append({"name": "corrected", "value": p_words(each.corrected), "note": note})
    items += [
        {"name": "Rows answered better", "value": f"{each.better:,}"},
        {"name": "Rows answered worse", "value": f"{each.worse:,}"},
    ]
    heading = {"title": f"{each.run} against {comparison.first}", "id": f"against-{each.run}"}
    yield {"kind": "facts", "items": items, "nav": each.run, **heading}
    if each.settings:
        settings = [[name, *pair] for name, pair in each.settings.items()]
        names = ("Setting", f"{comparison.first}", each.run)
        columns = [{"name": name, "kind": "text"} for name in names]
        yield {"kind": "table", "caption": "Settings", "columns": columns, "rows": settings} | {
            "title": "Settings that differ",
            "nav": "Settings",
        }
    parts = (("better", each.fixed, each.better), ("worse", each.broken, each.worse))
    for words, changes, count in parts:
        first = f" Shown are the first {len(changes)}." if count > len(changes) else ""
        yield {
            "kind": "mistakes",
            "title": f"Answered {words} by {each.run}",
            "nav": words.capitalize(),
            "lead": f"{plural(count, 'row')}, the largest changes first.{first}",
            "items": [_card(change) for change in changes],
        }


def _card(change: Change) -> dict[str, Any]:
    text, pair = change.text or (
        "(no text: its file is gone, has changed, or cannot be read as it was)",
        None,
    )
    return {
        "text": text[:MOST_CHARACTERS],
        "characters": len(text) if len(text) > MOST_CHARACTERS else None,
        "second_text": None if pair is None else pair[:MOST_CHARACTERS],
        "row": change.row,
        "said": f"{shorten(change.before, 28)} → {shorten(change.after, 28)}",
        "truth": change.truth,
    }
