"""The record of a run rendered as one HTML page that needs nothing outside itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertolt.base import format as words
from bertolt.base.files import write_text
from bertolt.report import findings, tables
from bertolt.report.record import Measure, PretrainRecord, RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment

    from bertolt.report.figures import Chart

# Beyond these numbers of rows a page stops being read; the page says what it left out.
MOST_CLASSES = 150
MOST_MISTAKES = 48
MOST_SOURCES = 50
# A mistake's text: what its card shows, and what can be unfolded below that.
FIRST_CHARACTERS = 240
MOST_CHARACTERS = 2000


def write_report(record: RunRecord | PretrainRecord, path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        BertoltError: the file cannot be written there.
    """
    write_text(path, render_report(record))


def render_report(record: RunRecord | PretrainRecord) -> str:
    """The page as HTML. The same record always gives the same text."""
    if isinstance(record, RunRecord):
        name, found = "page.html", _finetuning(record)
    else:
        name, found = "pretrain.html", _pretraining(record)
    loaded = findings.loaded_counts(record.model)
    page = environment().get_template(name).render(run=record, loaded=loaded, **found)
    return page.strip() + "\n"


def _finetuning(record: RunRecord) -> dict[str, Any]:
    """What the page of a fine-tuning run shows beside its record."""
    # matplotlib and jinja2 take a while to import, and only a report needs them.
    from bertolt.report import figures

    scores, lengths = record.evaluation, record.data.lengths
    nothing = Measure(value=None)
    curves = figures.training_charts(
        record.training,
        scores.accuracy if scores else nothing,
        scores.baseline if scores else nothing,
    )
    histogram = figures.length_chart(lengths) if lengths else None
    return {
        "verdict": findings.verdict(record),
        "cautions": findings.cautions(record),
        "curves": [_drawn(chart) for chart in curves],
        "histogram": histogram and _drawn(histogram),
        "most_classes": MOST_CLASSES,
        "most_mistakes": MOST_MISTAKES,
        "first_characters": FIRST_CHARACTERS,
        "most_characters": MOST_CHARACTERS,
    }


def _pretraining(record: PretrainRecord) -> dict[str, Any]:
    """What the page of a pretraining run shows beside its record."""
    from bertolt.report import figures

    curves = figures.pretraining_charts(record.training, record.corpus)
    return {
        "verdict": findings.pretraining_verdict(record),
        "cautions": findings.pretraining_cautions(record),
        "curves": [_drawn(chart) for chart in curves],
        "most_sources": MOST_SOURCES,
    }


def _drawn(chart: Chart) -> tuple[str, str, str]:
    from markupsafe import Markup

    return chart.title, Markup(chart.svg), chart.note


def environment() -> Environment:
    """Where the templates of all pages come from; what they are given is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_presentable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ("clean", "shorten", "percent", "interval", "number", "plural")
    environment.filters.update({name: getattr(words, name) for name in filters})
    environment.filters.update(
        millions=words.millions, gibibytes=words.gibibytes, duration=words.duration
    )
    environment.globals.update(
        matrix=tables.matrix,
        weakest=tables.weakest,
        confusions=tables.confusions,
        is_number=words.is_number,
        expected_statuses=findings.EXPECTED_STATUSES,
    )
    return environment


def _presentable(value: object) -> object:
    """Every value on its way into the page: foreign text is bounded in length and made visible."""
    from markupsafe import Markup

    if isinstance(value, Markup) or not isinstance(value, str):
        return words.ABSENT if value is None else value
    return words.clean(words.shorten(value))
