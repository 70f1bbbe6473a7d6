"""A walk as one HTML page that needs nothing outside itself, and no script to show its maps."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertolt.base.files import write_text
from bertolt.base.version import __version__
from bertolt.report.blocks import lay_out
from bertolt.report.build import environment
from bertolt.report.walk.record import AttentionMaps, Grey, Walk
from bertolt.report.walk.table import cut_words, difference_words, output_words, shape_words

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class _Map:
    """An attention map on the page.

    Attributes:
        name: layer and head.
        image: address that holds the whole picture.
        scale: the largest weight.
        query, key: numbers of the tokens that it is between.
    """

    name: str
    image: Markup
    scale: float
    query: int
    key: int


def write_walk(walk: Walk, path: Path, *, replace: bool = True) -> None:
    """Write the page to `path`, whole or not at all.

    Args:
        walk: what is on it.
        path: of the page.
        replace: a file that another process has made there meanwhile.

    Raises:
        BertoltError: the file cannot be written there.
    """
    write_text(path, render_walk(walk), replace=replace)


def render_walk(walk: Walk) -> str:
    """The page as HTML. The same walk always gives the same text."""
    templates = environment()
    templates.filters.update(sha256=_sha256, shape=shape_words, output=output_words)
    page = templates.get_template("walk.html").render(
        walk=walk,
        version=__version__,
        cut=cut_words(walk),
        difference=difference_words(walk),
        parts=[(part, list(steps)) for part, steps in groupby(walk.steps, attrgetter("part"))],
        maps=_maps(walk.attention),
        tokens=[token for token in walk.tokens if not token.padding][: walk.attention.shown],
        picture=_png,
        answer=lay_out(walk.answer.blocks, set()) if walk.answer else [],
    )
    return page.strip() + "\n"


def _maps(attention: AttentionMaps) -> list[list[_Map]]:
    """All maps: a list of heads, the mean first, for each layer."""
    heads = range(attention.heads + 1)
    return [[_map(attention, layer, head) for head in heads] for layer in range(attention.layers)]


def _map(attention: AttentionMaps, layer: int, head: int) -> _Map:
    cells = attention.cells[layer, head]
    query, key = divmod(int(cells.argmax()), attention.shown)
    name = f"layer {layer + 1}, {f'head {head}' if head else 'mean of the heads'}"
    return _Map(name, _png(cells), float(attention.scales[layer, head]), query, key)


def _png(grey: Grey) -> Markup:
    """A picture as the address of an image, in which each row stands unfiltered.

    The page's script counts on the order of the chunks. Source: PNG, W3C, ISO/IEC 15948.
    """
    from markupsafe import Markup

    height, width = grey.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = np.hstack([np.zeros((height, 1), np.uint8), grey]).tobytes()
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    )
    return Markup("data:image/png;base64," + base64.b64encode(data).decode())


def _sha256(text: str) -> Markup:
    """What a content security policy calls a script by."""
    from markupsafe import Markup

    return Markup(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())
