from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from bertolt.base import format as words
from bertolt.report import figures, findings, tables
from tests.overlapping import overlapping

REPORT = Path(findings.__file__).parent
NAN = float("nan")


def test_matrix_shares_and_left_out_labels_add_up() -> None:
    counts = [[8, 1, 1], [0, 10, 0], [5, 0, 5]]
    grid = tables.matrix(["a", "b", "c"], counts, limit=2)
    assert grid.columns == ["a", "c"]
    assert grid.left_out == 1
    assert [cell.count for cell in grid.rows[0].cells] == [8, 1]
    assert grid.rows[0].others.count == 1
    assert [cell.right for cell in grid.rows[1].cells] == [False, True]
    assert grid.rows[1].cells[0].share == 0.5


def test_rows_of_many_labels_add_up_beside_those_that_are_shown() -> None:
    choose = np.random.default_rng(0)
    counts = choose.poisson(0.2, (200, 200)) + np.diag(choose.integers(5, 30, 200))
    grid = tables.matrix([f"label {number}" for number in range(200)], counts.tolist())
    assert (len(grid.columns), len(grid.rows), grid.left_out) == (40, 40, 160)
    for row in grid.rows:
        true = int(counts[int(row.name.removeprefix("label "))].sum())
        assert sum(cell.count for cell in row.cells) + row.others.count == true
        assert sum(cell.share for cell in row.cells) + row.others.share == pytest.approx(1)


def test_drawings_of_two_threads_leave_the_settings_of_others() -> None:
    def draw() -> AbstractContextManager[object]:
        return figures.drawing("loss", "Loss", "It falls")

    before = dict(mpl.rcParams)
    seen: list[str] = []
    with overlapping(draw, draw, stay=0.2) as inside_second:
        inside_second(lambda: seen.append(mpl.rcParams["svg.hashsalt"]))
    assert seen == ["loss"]
    assert dict(mpl.rcParams) == before


def test_a_label_that_others_are_taken_for_has_a_column() -> None:
    counts = [[9, 0, 0, 0], [0, 8, 0, 2], [0, 0, 7, 3], [0, 0, 0, 9]]
    grid = tables.matrix(list("abcd"), counts, limit=2)
    assert grid.columns == ["c", "d"]
    for row, true in zip(grid.rows, (counts[2], counts[3]), strict=True):
        assert sum(cell.count for cell in row.cells) + row.others.count == sum(true)


def test_a_label_without_rows_has_empty_shares() -> None:
    grid = tables.matrix(["a", "b"], [[3, 1], [0, 0]])
    assert [cell.share for cell in grid.rows[1].cells] == [0, 0]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.percent(0.8512), "85.1%"),
        (words.percent(NAN), "n/a"),
        (words.interval(0.835, 0.865), "83.5–86.5"),
        (words.interval(0.835, None), ""),
        (words.number(10605), "10,605"),
        (words.number(3.0), "3"),
        (words.number(0.39812), "0.398"),
        (words.number(3051.4), "3,051"),
        (words.number(None), "n/a"),
        (words.duration(4.26), "4.3 s"),
        (words.duration(214.7), "3 min 35 s"),
        (words.duration(3599.9), "1 h 00 min"),
        (words.duration(7500), "2 h 05 min"),
        (words.millions(22_713_986), "22.7 M"),
        (words.gibibytes(None), "n/a"),
        (words.plural(1, "row"), "1 row"),
        (words.plural(2121, "row"), "2,121 rows"),
        (words.clean("a\r\nb\tc\x7f"), "a ↵ b c\\x7f"),
        (words.shorten("abcdef", 4), "abc…"),
    ],
)
def test_numbers_and_texts_are_shown(shown: str, expected: str) -> None:
    assert shown == expected


def test_smoothing_keeps_a_constant_and_stays_within_the_values() -> None:
    import numpy as np

    from bertolt.report import figures

    assert np.allclose(figures._smooth(np.full(50, 0.7), 9), 0.7)
    noisy = np.random.default_rng(0).random(200)
    smooth = figures._smooth(noisy, 21)
    assert smooth[100] == pytest.approx(noisy[90:111].mean())
    assert smooth[0] == pytest.approx(noisy[:11].mean())
    assert smooth[-1] == pytest.approx(noisy[-11:].mean())


def test_thinning_keeps_peaks_and_ends() -> None:
    import numpy as np

    from bertolt.report import figures

    steps, values = np.arange(100_000.0), np.zeros(100_000)
    values[54_321] = 9.0
    thin_steps, thin_values = figures._thin(steps, values)
    assert len(thin_steps) <= figures.RAW_POINTS + 2
    assert thin_values.max() == 9.0
    assert thin_steps[thin_values.argmax()] == 54_321
    assert (thin_steps[0], thin_steps[-1]) == (0, 99_999)


@pytest.mark.parametrize(("limit", "longest"), [(512, 80), (128, 2_000_000), (512, 640), (16, 17)])
def test_the_histogram_shows_the_bulk_and_the_limit_when_it_is_near(
    limit: int, longest: int
) -> None:
    from bertolt.report import figures

    edges = [0, 16, 32, 64, longest + 64] if longest > 64 else [0, longest]
    counts = [500, 400, 100, 1] if longest > 64 else [5]
    stop = figures._histogram_stop(edges, counts, limit)
    assert min(edges[-1], 64) <= stop <= max(1.5 * 64, 1.6 * limit)
    lengths = {"edges": edges, "counts": counts, "max_length": limit, "texts": 9, "texts_cut": 1}
    chart = figures.length_chart(lengths)
    assert chart is not None
    assert f"limit {limit}" in chart.svg


def test_what_runs_in_several_windows_is_not_drawn_as_cut() -> None:
    from bertolt.report import figures

    lengths = {"edges": [0, 16, 32, 65], "counts": [5, 4, 3], "max_length": 32, "texts": 12}
    cut, whole = (figures.length_chart(lengths | {"texts_cut": count}) for count in (3, 0))
    assert cut is not None
    assert whole is not None
    assert "limit 32" in cut.svg
    assert "<pattern" in cut.svg
    assert "window 32" in whole.svg
    assert "<pattern" not in whole.svg


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (REPORT / "style.css").read_text(), flags=re.S)
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    deepest = {hue: blend(colours[hue], colours["card"], 0.44) for hue in ("accent", "trouble")}
    for ink in ("ink", "muted", "accent", "trouble"):
        for behind in ("page", "card", "tint"):
            assert contrast(colours[ink], colours[behind]) >= 4.5, (ink, behind)
    for hue, cell in deepest.items():
        assert contrast(colours["ink"], cell) >= 4.5, hue
    assert contrast(colours["plain"], colours["card"]) >= 3


def channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def blend(front: str, back: str, share: float) -> str:
    mixed = zip(channels(front), channels(back), strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in mixed)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [c / 255 for c in channels(colour)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)
