"""`bertolt report`: the page of a run, drawn again from its facts."""

from __future__ import annotations

from pathlib import Path

from bertolt.base.errors import BertoltError
from bertolt.report import RUN, read_facts, write_report

_FIX = "draw it with the version that wrote it, or run it again"


def draw_again(folder: Path) -> Path:
    """Write `report.html` anew from the `run.json` beside it; where it is.

    Raises:
        BertoltError: there is no `run.json`, or no page can be drawn from it.
    """
    from jinja2 import TemplateError

    facts, page = read_facts(folder), folder / "report.html"
    try:
        write_report(facts, page)
    except BertoltError as error:
        if error.place:
            raise
        raise BertoltError(error.problem, place=str(folder / RUN), fix=_FIX) from error
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise BertoltError(
            f"a page cannot be drawn from it: {type(error).__name__}: {error}",
            place=str(folder / RUN),
            fix=_FIX,
        ) from error
    return page
