"""A hook of mkdocs: lines of Chinese are joined without a space.

Markdown turns the end of a line into a space, which English needs between words and Chinese does
not have.
"""

from __future__ import annotations

import re
from typing import Any

WIDE = "\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef"
# The end of a line between two wide characters.
BREAK = re.compile(rf"(?<=[{WIDE}])\n[ ]*(?=[{WIDE}])")
CODE = re.compile(r"(?ms)^(```.*?^```)$")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Join the lines of a Chinese page, outside of its blocks of code."""
    if not page.file.src_uri.startswith("zh/"):
        return markdown
    parts = CODE.split(markdown)
    return "".join(part if number % 2 else BREAK.sub("", part) for number, part in enumerate(parts))
