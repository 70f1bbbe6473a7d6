"""The blocks that a task adds to the page: each kind, at its edges, with foreign words in it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bertolt.base.errors import BertoltError
from bertolt.report import render_report, tables
from bertolt.report.blocks import folded, pieces
from tests.report.facts import HOSTILE, Facts, Page, bare

Block = dict[str, Any]


def mark(start: int, end: int, label: str, kind: str = "right") -> Block:
    return {"start": start, "end": end, "label": label, "kind": kind}


def table(rows: list[list[Any]], *kinds: str, **more: Any) -> Block:
    columns = [{"name": f"Column {i}", "kind": kind} for i, kind in enumerate(kinds)]
    return {"kind": "table", "caption": "A table", "columns": columns, "rows": rows} | more


def blocks(text: str = "a word") -> dict[str, Block]:
    """A block of each kind, in which every foreign word is this text."""
    return {
        "matrix": {"kind": "matrix", "names": [text, "b"], "counts": [[3, 1], [0, 4]]},
        "table": table(
            [[text, 7, 0.25, 1.5, {"value": 0.5, "low": 0.4, "high": 0.6}, 3]],
            *("text", "count", "share", "number", "measure", "bar"),
            caption=text,
        ),
        "scatter": {
            "kind": "scatter",
            "x_label": text,
            "y_label": text,
            "points": [[1, 2], [3, 3.5]],
            "diagonal": True,
            "note": text,
        },
        "histogram": {
            "kind": "histogram",
            "x_label": text,
            "edges": [-1, 0, 1],
            "counts": [2, 5],
            "note": text,
            "mark": {"value": 0.5, "label": text},
        },
        "mistakes": {
            "kind": "mistakes",
            "items": [
                {
                    "text": text,
                    "second_text": text,
                    "row": 12,
                    "said": text,
                    "truth": text,
                    "probability": 0.9,
                    "marks": [mark(0, len(text), text), mark(0, 1, text, "wrong")],
                }
            ],
        },
        "text": {"kind": "text", "text": text, "marks": [mark(0, len(text), text, "given")]},
        "facts": {"kind": "facts", "items": [{"name": text, "value": text, "note": text}]},
        "note": {"kind": "note", "text": text},
        "row": {"kind": "row", "widths": [1, 2], "blocks": [{"kind": "note", "text": text}] * 2},
        "stack": {"kind": "stack", "blocks": [{"kind": "note", "text": text}]},
    }


EMPTY: dict[str, Block] = {
    "matrix": {"kind": "matrix", "names": [], "counts": []},
    "table": table([], "text"),
    "scatter": {"kind": "scatter", "x_label": "", "y_label": "", "points": []},
    "histogram": {"kind": "histogram", "x_label": "", "edges": [0, 1], "counts": [0]},
    "mistakes": {"kind": "mistakes", "items": []},
    "text": {"kind": "text", "text": ""},
    "facts": {"kind": "facts", "items": []},
    "note": {"kind": "note", "text": ""},
    "row": {"kind": "row", "blocks": []},
    "stack": {"kind": "stack", "blocks": []},
}
SAID = {
    "matrix": "There is no label.",
    "table": "A table: there is no row.",
    "scatter": "There is nothing to draw.",
    "histogram": "There is nothing to draw.",
    "mistakes": "No mistake was recorded.",
}


def page_of(*blocks: Block, **changes: Any) -> str:
    facts: Facts = bare(**changes)
    return render_report(facts | {"blocks": list(blocks)})


@pytest.mark.parametrize("kind", blocks())
def test_every_kind_is_a_section_by_its_title_and_escapes_what_it_shows(kind: str) -> None:
    titled = {"id": "mine", "title": HOSTILE, "nav": HOSTILE, "lead": HOSTILE}
    page = page_of(blocks(HOSTILE)[kind] | titled)
    parsed = Page(page)
    assert "mine" in parsed.sections
    assert "mine" in parsed.links
    assert "<script" not in page
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page)
    page.encode()
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.attribute("aria-labelledby")[0].split()) <= set(parsed.ids)


@pytest.mark.parametrize("kind", EMPTY)
def test_every_kind_may_be_empty(kind: str) -> None:
    text = Page(page_of(EMPTY[kind] | {"title": "Empty"})).text
    assert SAID.get(kind, "Empty") in text


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(BertoltError, match="of the kind 'graph', and the page knows matrix, table"):
        page_of({"kind": "graph"})


def test_sections_stand_in_their_order_and_mistakes_behind_the_lengths() -> None:
    first = blocks()["mistakes"] | {"title": "Worst"}
    second = {"kind": "row", "blocks": [blocks()["note"] | {"title": "A note"}]}
    parsed = Page(page_of(first, second))
    assert parsed.sections[1:6] == ["curves", "A-note", "lengths", "Worst", "data"]


def test_two_sections_of_one_name_and_of_the_pages_own_have_anchors_of_their_own() -> None:
    note = blocks()["note"]
    parsed = Page(page_of(note | {"title": "Data", "id": "data"}, *[note | {"title": "词"}] * 2))
    assert [name for name in parsed.sections if name not in ("warnings", "curves", "lengths")] == [
        "data-2", "section", "section-2", "data", "loading", "arguments", "machine"
    ]  # fmt: skip
    assert set(parsed.sections) <= parsed.links | {"warnings"}


# Tables


def test_cells_are_shown_by_the_kind_of_their_column() -> None:
    cells = tables.table(blocks()["table"]).rows[0]
    assert [cell.text for cell in cells] == ["a word", "7", "25.0%", "1.50", "50.0%", "3"]
    measure, bar = cells[4], cells[5]
    assert (measure.ends, measure.at, measure.span) == ("40.0–60.0", "0.5000", ("0.4000", "0.6000"))
    assert bar.at == "1.0000", "the largest count has the longest bar"


def test_bars_of_counts_share_a_scale_and_shares_have_their_own() -> None:
    block = table([["a", 10, 5, 0.5], ["b", 0, 20, 2.0]], "text", "bar", "bar", "bar")
    block["columns"][3] |= {"format": "percent", "colour": "trouble"}
    shown = tables.table(block).rows
    assert [cell.at for cell in shown[0]] == ["", "0.5000", "0.2500", "0.5000"]
    assert shown[1][3].at == "1.0000", "a bar ends with its scale"
    assert [cell.colour for cell in shown[0][1:]] == ["plain", "plain", "trouble"]


def test_absent_numbers_are_said() -> None:
    page = page_of(table([["a", None, None, None, None, None]], *blocks_of_numbers()))
    assert Page(page).text.count("n/a") >= 5


def blocks_of_numbers() -> list[str]:
    return ["text", "count", "share", "number", "measure", "bar"]


def test_the_weakest_rows_are_shown_in_their_own_order() -> None:
    values = [0.9, 0.2, None, 0.5]
    rows = [[str(i), {"value": value}] for i, value in enumerate(values)]
    grid = tables.table(table(rows, "text", "measure", most=2, weakest=1, noun="label"))
    assert [row[0].text for row in grid.rows] == ["1", "2"]
    assert grid.chosen == "Shown are the 2 labels with the lowest Column 1, of 4."
    assert len(tables.table(table(rows, "text", "measure", most=10, weakest=1)).rows) == 4


def test_rows_beyond_the_most_are_counted() -> None:
    text = Page(page_of(table([["a"], ["b"], ["c"]], "text", most=2, noun="source"))).text
    assert "1 more source not shown." in text


def test_a_long_name_is_there_in_full() -> None:
    name = "Donaudampfschifffahrtsgesellschaftskapitän" * 3
    matrix = {"kind": "matrix", "names": [name, "b"], "counts": [[3, 1], [0, 4]]}
    parsed = Page(page_of(matrix, table([[name]], "text")))
    assert parsed.attribute("title").count(name) == 3
    assert name in parsed.text


# Drawings


def test_no_more_points_are_drawn_than_a_page_carries() -> None:
    block = blocks()["scatter"] | {"points": [[i, i % 7] for i in range(5000)], "note": "A note."}
    page = page_of(block)
    assert "A note. Drawn are 2,000 of the 5,000 points." in Page(page).text
    assert len(page) < 130_000
    whole = page_of(block | {"points": [[1, None], [2, 3]]})
    assert "Drawn are" not in whole


def test_a_histogram_has_its_mark_and_its_negative_bins() -> None:
    page = page_of(blocks("the mean")["histogram"] | {"title": "Errors"})
    assert page.count("the mean</text>") == 2  # the axis and the mark
    assert re.search(r">[-−]1</text>", page)


# Mistakes


def test_a_text_without_marks_is_one_piece() -> None:
    assert [piece.text for piece in pieces("plain", [], 0, 5)] == ["plain"]
    assert pieces("", [], 0, 0) == []


def test_marks_part_a_text_and_may_lie_on_each_other() -> None:
    text = "Ada met Bob in Rome"
    marks = [mark(0, 3, "PER"), mark(8, 11, "LOC", "wrong"), mark(8, 19, "PER", "missed")]
    parts = [(piece.text, piece.kinds, piece.labels) for piece in pieces(text, marks, 0, len(text))]
    assert parts == [
        ("Ada", "right", "PER"),
        (" met ", "", ""),
        ("Bob", "missed wrong", "LOC wrong"),
        (" in Rome", "missed", "PER missed"),
    ]
    assert "".join(text for text, *_ in parts) == text


def test_marks_beyond_the_fold_are_in_what_is_unfolded() -> None:
    text = "x" * 230 + "Ada Lovelace" + "y" * 400
    shown = folded(text, None, [mark(230, 242, "PER")])
    assert shown.first[-1].text == "Ada Lovela"
    assert (shown.rest[0].text, shown.rest[0].labels) == ("ce", "PER")
    page = page_of({"kind": "mistakes", "items": [{"text": text, "row": 1, "marks": [
        mark(230, 242, "PER", "missed")]}]})  # fmt: skip
    parsed = Page(page)
    assert parsed.tags.count("mark") == 3, "two pieces, and the key"
    assert "true but not found" in parsed.text
    assert "found but not true" not in parsed.text


def test_a_beginning_states_the_length_of_the_whole() -> None:
    item = {"text": "So far", "characters": 5000, "row": 1, "said": "a", "truth": "b"}
    text = Page(page_of({"kind": "mistakes", "items": [item]})).text
    assert "So far…" in text
    assert "4,994 characters of 5,000 not shown" in text


def test_numbers_said_and_true_are_written_as_numbers() -> None:
    item = {"text": "Fine.", "row": 1, "said": 4.25, "truth": 1.0}
    assert "said 4.25 true 1 row 1" in Page(page_of({"kind": "mistakes", "items": [item]})).text


# The headline


def headline(**changes: Any) -> Block:
    headline = {"name": "Mean error", "value": 0.5, "low": 0.4, "high": 0.6, "format": "number"}
    headline |= {"scale": [0, 2], "greater_is_better": False, "rows": 9}
    baseline = {"name": "always the mean", "value": 1.5}
    return headline | {"baseline": baseline} | changes


def test_a_headline_of_any_task_is_drawn_on_its_scale() -> None:
    page = page_of(headline=headline())
    text = Page(page).text
    sentence = "Mean error 0.500 (0.400–0.600) on 9 held‑out rows; always the mean would give 1.50."
    assert sentence in text
    assert "On a scale from 0 to 2: mean error 0.500, always the mean 1.50" in page
    assert 'class="guessed above" style="--at:0.7500"' in page
    assert 'class="dot" style="--at:0.2500"' in page
    parted = (
        '<span>0</span> <span class="mark" style="--before:0.75fr;--after:0.25fr">always the mean'
    )
    assert parted in page, "the mark stands between the ends, and never on them"


def test_a_headline_may_have_no_scale_and_nothing_to_be_held_to() -> None:
    page = page_of(headline=headline(scale=None, baseline=None, low=None))
    assert "Mean error 0.500 on 9 held‑out rows." in Page(page).text
    assert 'class="track"' not in page


def test_without_a_headline_nothing_was_measured() -> None:
    facts = bare() | {"headline": None}
    assert "Trained for 0 steps; nothing was measured." in Page(render_report(facts)).text


def test_tiles_and_curves_of_a_task_are_drawn_with_its_words() -> None:
    points = [{"step": step, "metrics": {"loss": 0.5, "r2": step / 4}} for step in (1, 2)]
    curve = {"metric": "r2", "label": "R²", "title": "R², held out", "format": "number"}
    page = page_of(
        training={"eval_points": points},
        curves=[curve | {"baseline": {"name": "the mean", "value": 0.0}}],
        tiles=[{"label": "Pearson", "value": 0.875, "format": "percent"}],
    )
    text = Page(page).text
    for expected in ("R², held out", "the mean", "Pearson 87.5%", "StepLossR²", "0.5000.250"):
        assert expected in text, expected
