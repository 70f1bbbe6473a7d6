"""A walk as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bertolt.base.format import clean, columns, padded, plural, shorten
from bertolt.report.tables import table
from bertolt.report.walk.record import Answer, Step, Walk

# Rows of the token table; of a longer text the first and the last are shown.
_MOST_ROWS = 48


def walk_table(walk: Walk) -> str:
    """The walk as text, no attention maps: those need a page."""
    return "\n".join(_lines(walk))


def shape_words(shape: Sequence[int]) -> str:
    """A shape as Python writes it: "(1, 15, 384)"."""
    return str(tuple(shape))


def output_words(step: Step) -> str:
    """Shape of the output, and how many there are of it."""
    words = shape_words(step.output)
    return words if step.outputs == 1 else f"{step.outputs} × {words}"


def cut_words(walk: Walk) -> str:
    """What the limit cut, or nothing."""
    if not walk.tokens_cut:
        return ""
    cut = plural(walk.tokens_cut, "token")
    seen = f"The input was longer than {plural(walk.limit, 'token')}: {cut} cut off"
    if walk.answer is not None and not walk.answer.tokens_cut:
        return f"{seen} here; the answer is to the whole input, read in parts."
    return f"{seen}, and not seen by the model."


def difference_words(walk: Walk) -> str:
    """How far the model's own numbers are from the walked ones."""
    return f"{walk.difference:.1e}" if walk.difference else "0"


def _lines(walk: Walk) -> Iterator[str]:
    yield f"{clean(walk.model)}: {walk.architecture}, {walk.shape}"
    yield from (f"  {remark}" for remark in (cut_words(walk), *walk.remarks) if remark)
    yield ""
    yield from _token_lines(walk)
    part = ""
    for step in walk.steps:
        if step.part != part:
            part = step.part
            yield f"\n{part}"
        yield f"  {step.number:>2}  {step.operation:<12} {_memory(step):<22} {step.code}"
        inputs = ", ".join(map(shape_words, step.inputs)) or "nothing"
        yield f"      {inputs} → {output_words(step)} {step.dtype}"
    yield ""
    yield (
        "The model, which computes without padding, differs from this by "
        f"{difference_words(walk)} at most."
    )
    if walk.answer is not None:
        yield from _answer_lines(walk.answer)


def _token_lines(walk: Walk) -> Iterator[str]:
    yield f"{'position':>8} {'id':>7} {'segment':>7}  token"
    rows = [
        f"{token.position:>8} {token.id:>7} {token.segment:>7}  {clean(shorten(token.text, 40))}"
        + ("  (hidden by the mask)" if token.padding else "")
        for token in walk.tokens
    ]
    if len(rows) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        rows[half:-half] = [f"{'…':>8} {plural(len(rows) - 2 * half, 'token')} not shown"]
    yield from rows


def _memory(step: Step) -> str:
    return f"view of {step.view_of.removeprefix('the ')}" if step.shares_memory else "new memory"


def _answer_lines(answer: Answer) -> Iterator[str]:
    """The answer in words, and its tables."""
    yield f"Answer: {clean(shorten(answer.words, 200))}"
    for block in answer.blocks:
        if block["kind"] == "table":
            grid = table(block)
            cells = [[column["name"] for column in grid.columns]]
            cells += [[clean(shorten(cell.text, 40)) for cell in row] for row in grid.rows]
            widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
            for row in cells:
                yield "  " + "  ".join(map(padded, row, widths)).rstrip()
            yield from (f"  {more}" for more in (grid.more,) if more)
