"""Several runs held against each other, as one HTML page that needs nothing outside itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertolt.base.files import write_text
from bertolt.report.blocks import lay_out
from bertolt.report.build import environment


def write_comparison(facts: dict[str, Any], path: Path, *, replace: bool = True) -> None:
    """Write the page to `path`, whole or not at all.

    Args:
        facts: `title`, `version`, `verdicts` in words, and `blocks` as `blocks.py` has them.
        path: of the page.
        replace: a file that another process has made there meanwhile.

    Raises:
        BertoltError: the file cannot be written there.
    """
    blocks = lay_out(facts["blocks"], set())
    sections = [(part.anchor, part.nav) for block in blocks for part in block.sections()]
    page = environment().get_template("comparison.html")
    text = page.render(facts=facts, blocks=blocks, sections=sections)
    write_text(path, text.strip() + "\n", replace=replace)
