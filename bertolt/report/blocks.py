"""The blocks of a page laid out: what the templates of `blocks.html` print.

A block is a dict with a `kind`. One with a `title` is a section of its own, with an `id`
to link to, a `nav` for the list of sections, and a `lead` above it. What else it has, by its kind:

- matrix: `names` of C labels, `counts` (C, C).
- table: `caption`; `columns` with `name` and `kind` (text, count, share, number, measure, bar; of a
  bar also `format` count or percent, and `colour` plain, accent or trouble); `rows` of cells, of
  which one of a measure has `value`, `low` and `high`. `most` rows are shown: the first, or those
  weakest in the column of the number `weakest`. `noun` is what a row is.
- scatter: `points`, pairs of numbers; `x_label`, `y_label`, `diagonal`, `note`.
- histogram: `edges`, one more than `counts`; `x_label`, `note`, and a `mark` with `value`, `label`.
- dots: `points` with `x`, `label`, `y`, the ends `low` and `high` of an interval or null, and a
  `mark` (best, collapsed, pruned, or nothing); `x_label`, `format`, `note`; `logarithmic` for the
  horizontal axis; a `line` with `name` and `value`, a `band` of two heights, a `path` of pairs.
- mistakes: `items` with `text`, `characters` of the whole text if that is its beginning, `row`,
  `said`, `truth`, `probability`, `second_text`, and `marks` over the text, with `start`, `end`,
  `label` and `kind` (right, missed, wrong, given).
- text: `text`, and `marks` over it, as of a mistake.
- facts: `items` with `name`, `value` (a text, or a number with its `format`), `note`.
- note: `text`.
- row, stack: `blocks` side by side, in shares of `widths`, or below each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bertolt.base.errors import BertoltError
from bertolt.base.format import percent
from bertolt.report import tables
from bertolt.report.shown import shown

if TYPE_CHECKING:
    from bertolt.report.figures import Chart

MOST_MISTAKES = 48
"""Beyond this number a page stops being read."""
# A mistake's text: what its card shows, and what can be unfolded below that.
FIRST_CHARACTERS = 240
MOST_CHARACTERS = 2000

Block = Mapping[str, Any]


@dataclass(frozen=True)
class Laid:
    """A block as its template prints it.

    Attributes:
        kind: names the template.
        anchor: address of a section, which has a title; empty for a part of another one.
        title, lead: above it.
        nav: what the list of sections calls it.
        value: what is shown; which type it has depends on the kind.
        parts: the blocks inside it.
        block: what the facts hold.
    """

    kind: str
    anchor: str
    title: str
    lead: str
    nav: str
    block: Block
    value: Any = None
    parts: list[Laid] = field(default_factory=list)

    def sections(self) -> Iterator[Laid]:
        """This block, if it is a section, and those inside it."""
        if self.anchor:
            yield self
        for part in self.parts:
            yield from part.sections()


@dataclass(frozen=True)
class Piece:
    """A stretch of a text with the kinds of the marks over it.

    The labels stand in the last piece of their mark.
    """

    text: str
    kinds: str = ""
    labels: str = ""


@dataclass(frozen=True)
class Text:
    """A text of a mistake, folded: what is shown at first, what can be unfolded, what is not."""

    first: list[Piece]
    rest: list[Piece]
    whole: int
    beyond: int
    unseen: int


def lay_out(blocks: Sequence[Block], taken: set[str]) -> list[Laid]:
    """Lay out blocks.

    Args:
        blocks: of the facts.
        taken: anchors that the page has already; the blocks add theirs.

    Raises:
        BertoltError: a block is of no known kind.
    """
    return [_lay_out(block, taken) for block in blocks]


def _lay_out(block: Block, taken: set[str]) -> Laid:
    kind, title = block.get("kind"), block.get("title", "")
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise BertoltError(f"a block is of the kind {kind!r}, and the page knows {known}")
    anchor = _anchor(block.get("id") or title, taken) if title else ""
    value = _KINDS[kind](block, anchor or _anchor(kind, taken))
    leads = (block.get("lead", ""), getattr(value, "chosen", ""))
    return Laid(
        kind=kind,
        anchor=anchor,
        title=title,
        lead=" ".join(filter(None, leads)),
        nav=block.get("nav", title),
        block=block,
        value=value,
        parts=lay_out(block.get("blocks", ()), taken),
    )


def _anchor(name: str, taken: set[str]) -> str:
    """The name as an anchor that no other section has."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "section"
    anchor, number = plain, 1
    while anchor in taken:
        number += 1
        anchor = f"{plain}-{number}"
    taken.add(anchor)
    return anchor


def _matrix(block: Block, _: str) -> tables.Matrix:
    return tables.matrix(block["names"], block["counts"])


def _table(block: Block, _: str) -> tables.Table:
    return tables.table(block)


def _facts(block: Block, _: str) -> list[tuple[str, str, str]]:
    """Name, value in words, and note of each entry."""
    return [
        (each["name"], shown(each["value"], each.get("format")), each.get("note", ""))
        for each in block["items"]
    ]


def _scatter(block: Block, name: str) -> Chart | None:
    from bertolt.report import figures

    return figures.scatter_chart(name, block.get("caption", ""), block)


def _histogram(block: Block, name: str) -> Chart | None:
    from bertolt.report import figures

    return figures.histogram_chart(name, block.get("caption", ""), block)


def _dots(block: Block, name: str) -> Chart | None:
    from bertolt.report.dots import dots_chart

    return dots_chart(name, block.get("caption", ""), block)


def _mistakes(block: Block, _: str) -> list[dict[str, Any]]:
    return [_mistake(item) for item in block["items"][:MOST_MISTAKES]]


def _mistake(item: Block) -> dict[str, Any]:
    second = item.get("second_text")
    return {
        "text": folded(item["text"], item.get("characters"), item.get("marks") or ()),
        "second": None if second is None else folded(second, None, ()),
        "said": None if item.get("said") is None else shown(item["said"]),
        "truth": None if item.get("truth") is None else shown(item["truth"]),
        "sure": "" if item.get("probability") is None else percent(item["probability"]),
        "row": item["row"],
        "kinds": sorted({mark["kind"] for mark in item.get("marks") or ()}),
    }


def _text(block: Block, _: str) -> Text:
    return folded(block["text"], None, block.get("marks") or ())


def _nothing(block: Block, _: str) -> None:
    return None


_KINDS: dict[str, Callable[[Block, str], Any]] = {
    "matrix": _matrix,
    "table": _table,
    "scatter": _scatter,
    "histogram": _histogram,
    "dots": _dots,
    "mistakes": _mistakes,
    "text": _text,
    "facts": _facts,
    "note": _nothing,
    "row": _nothing,
    "stack": _nothing,
}


def folded(text: str, characters: int | None, marks: Sequence[Block]) -> Text:
    """A text with its marks, folded.

    Args:
        text: perhaps only the beginning.
        characters: length of the whole text, if this is only its beginning.
        marks: `start`, `end`, `label` and `kind` of what is marked, in characters of the text.
    """
    whole = characters or len(text)
    # A few characters more are not worth a fold.
    fold = min(len(text), whole if whole <= 1.3 * FIRST_CHARACTERS else FIRST_CHARACTERS)
    stop = min(len(text), max(fold, MOST_CHARACTERS))
    return Text(
        first=pieces(text, marks, 0, fold),
        rest=pieces(text, marks, fold, stop),
        whole=whole,
        beyond=whole - fold,
        unseen=whole - stop,
    )


def pieces(text: str, marks: Sequence[Block], start: int, stop: int) -> list[Piece]:
    """The text from `start` to `stop` in pieces, each under the same marks all through."""
    bounds = {min(max(mark[end], start), stop) for mark in marks for end in ("start", "end")}
    stretches = []
    for left, right in pairwise(sorted(bounds | {start, stop})):
        over = [mark for mark in marks if mark["start"] <= left and right <= mark["end"]]
        kinds = " ".join(sorted({mark["kind"] for mark in over if mark["kind"] in MARKS}))
        ended = [mark for mark in over if mark["end"] == right or right == stop]
        labels = ", ".join(f"{mark['label']}{MARKS.get(mark['kind'], '')}" for mark in ended)
        stretches.append(Piece(text[left:right], kinds, labels))
    return stretches


MARKS = {"given": "", "right": "", "missed": " missed", "wrong": " wrong"}
"""Kinds of marks, and what stands behind the label of each, so that colour is not all that tells
them apart."""
