"""The facts of a run rendered as one HTML page that needs nothing outside itself."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bertolt.base import format as formatting
from bertolt.base.files import write_text
from bertolt.report import findings
from bertolt.report.blocks import Laid, lay_out
from bertolt.report.facts import Facts
from bertolt.report.shown import shown

if TYPE_CHECKING:
    from jinja2 import Environment

_OWN = ("warnings", "curves", "lengths", "data", "checks", "loading", "arguments", "machine")
"""Anchors of the sections that no task adds."""


def write_report(facts: Facts, path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        BertoltError: the file cannot be written there.
    """
    write_text(path, render_report(facts))


def render_report(facts: Facts) -> str:
    """The page as HTML; the same facts, as `run.json` holds them, always give the same text.

    What is particular to a task is data: `headline`, `tiles`, `curves` (which metrics are drawn),
    `blocks` and `data_blocks`, `cautions`. Blocks of mistakes stand behind the lengths of the
    texts, all others before them, and `first_blocks`, on several runs, before the curves.

    Raises:
        BertoltError: a block is of no known kind.
    """
    # matplotlib and jinja2 take a while to import, and only a report needs them.
    from bertolt.report import figures

    taken = set(_OWN)
    data, blocks = facts.get("data") or {}, lay_out(facts.get("blocks", ()), taken)
    numbers = [block for block in blocks if block.kind != "mistakes"]
    mistakes = [block for block in blocks if block.kind == "mistakes"]
    first = lay_out(facts.get("first_blocks", ()), taken)
    metrics = facts.get("curves", ())
    page = environment().get_template("page.html")
    text = page.render(
        run={"tiles": (), "curves": (), **facts},
        verdict=findings.verdict(facts),
        cautions=findings.cautions(facts),
        calm=findings.calm(facts),
        loaded=findings.loaded_counts(facts["model"]),
        curves=figures.training_charts(facts["training"], metrics),
        histogram=figures.length_chart(data["lengths"]) if data.get("lengths") else None,
        first=first,
        blocks=numbers,
        mistakes=mistakes,
        data_blocks=lay_out(facts.get("data_blocks", ()), taken),
        checks=lay_out(facts.get("checks", ()), taken),
        sections=list(_sections(facts, first, numbers, mistakes)),
    )
    return text.strip() + "\n"


def render_check(facts: Facts) -> str:
    """The page of a check as HTML; the same facts always give the same text."""
    from bertolt.report import figures

    taken, data = set(_OWN), facts["data"]
    page = environment().get_template("check.html")
    suspects = lay_out([facts["suspects"]] if facts.get("suspects") else [], taken)
    sections = [(part.anchor, part.nav) for part in suspects]
    sections += [("checks", "Checks"), ("lengths", "Lengths"), ("data", "Data")]
    text = page.render(
        run=facts,
        cautions=findings.data_cautions(facts),
        calm=findings.calm(facts),
        histogram=figures.length_chart(data["lengths"]),
        suspects=suspects,
        checks=lay_out(facts["checks"], taken),
        data_blocks=lay_out(facts["data_blocks"], taken),
        sections=sections,
    )
    return text.strip() + "\n"


def _sections(
    facts: Facts, first: list[Laid], numbers: list[Laid], mistakes: list[Laid]
) -> Iterator[tuple[str, str]]:
    """Anchor and name of each section, in their order."""
    rows = "files" in (facts.get("data") or {})
    yield from ((part.anchor, part.nav) for block in first for part in block.sections())
    yield "curves", "Curves"
    yield from ((part.anchor, part.nav) for block in numbers for part in block.sections())
    if rows:
        yield "lengths", "Lengths"
    yield from ((part.anchor, part.nav) for block in mistakes for part in block.sections())
    if rows:
        yield "data", "Data"
    if facts.get("checks"):
        yield "checks", "Checks"
    yield from (("loading", "Weights"), ("arguments", "Arguments"), ("machine", "Machine"))


@functools.cache
def environment() -> Environment:
    """The templates of all pages, read once; they escape every value."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_presentable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ["clean", "shorten", "percent", "interval", "number", "plural"]
    filters += ["millions", "gibibytes", "duration"]
    environment.filters.update({name: getattr(formatting, name) for name in filters})
    # Drawings are the one thing that is put in as markup.
    environment.filters.update(shown=shown, drawn=Markup)
    environment.globals.update(
        is_number=formatting.is_number, expected_statuses=findings.EXPECTED_STATUSES
    )
    return environment


def _presentable(value: object) -> object:
    """Every value on its way into the page: foreign text is bounded in length and made visible."""
    from markupsafe import Markup

    if isinstance(value, Markup) or not isinstance(value, str):
        return formatting.ABSENT if value is None else value
    return formatting.clean(formatting.shorten(value))
