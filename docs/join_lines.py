"""A hook of mkdocs: lines of Chinese are joined without a space, files of the project are put in.

Markdown turns the end of a line into a space, which English needs between words and Chinese does
not have.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

WIDE = "\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef"
# The end of a line between two wide characters.
BREAK = re.compile(rf"(?<=[{WIDE}])\n[ ]*(?=[{WIDE}])")
FILE = re.compile(r'^--8<-- "(\w+\.md)"$', re.M)
CODE = re.compile(r"(?ms)^(```.*?^```)$")


def project_file(match: re.Match[str]) -> str:
    """A file of the project, whose links to pages lead to those beside it."""
    text = (Path(__file__).parents[1] / match[1]).read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/(?:en|zh)/", "](../", text)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Join the lines of a Chinese page, outside of its blocks of code."""
    markdown = FILE.sub(project_file, markdown)
    if not page.file.src_uri.startswith("zh/"):
        return markdown
    parts = CODE.split(markdown)
    return "".join(part if number % 2 else BREAK.sub("", part) for number, part in enumerate(parts))
