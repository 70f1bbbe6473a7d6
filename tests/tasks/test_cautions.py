"""What is told of rows before they are learned or measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import DataError
from bertolt.tasks.base import Reading, Task
from bertolt.tasks.cautions import CHECKS, Preflight, cautions_of, tell_cautions
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.rows import Columns, encode_rows, read_for_task

Rows = list[dict[str, Any]]
LONG = "the film was a very good story with a cast that was fine and an end that was not"


def encoded(
    folder: Path, rows: Rows, tokenizer: Any, task: str | None = None, limit: int = 24
) -> tuple[Task, TaskRows]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table, kind = read_for_task(path, Columns(), task=task)
    everything = np.arange(len(table))
    known = kind.infer(table, everything, Reading())
    return known, encode_rows(known, table, everything, tokenizer, limit)[0]


def told(
    folder: Path, rows: Rows, tokenizer: Any, task: str | None = None
) -> dict[str, dict[str, str]]:
    """The cautions by their checks."""
    known, part = encoded(folder, rows, tokenizer, task)
    return {each["check"]: each for each in cautions_of(known, {"Training": part}, tokenizer)}


def single(*labels: str) -> Rows:
    """Twenty rows of two usual labels, and one row of each of these."""
    usual = [{"text": f"film {chr(97 + n)}", "label": "ab"[n % 2]} for n in range(20)]
    return usual + [{"text": f"book {chr(97 + n)}", "label": x} for n, x in enumerate(labels)]


def several(*sets: list[str]) -> Rows:
    usual = [{"text": f"film {chr(97 + n)}", "labels": ["a", "b"][: n % 3]} for n in range(20)]
    return usual + [{"text": f"book {chr(97 + n)}", "labels": x} for n, x in enumerate(sets)]


def numbers(*values: Any, step: float = 0.25) -> Rows:
    usual = [{"text": f"film {chr(97 + n)}", "score": 1 + n * step} for n in range(20)]
    return usual + [{"text": f"book {chr(97 + n)}", "score": x} for n, x in enumerate(values)]


def tagged(*tags: list[str]) -> Rows:
    return [
        {"tokens": ["film", chr(97 + n % 26), chr(97 + n // 26)], "tags": each}
        for n, each in enumerate(tags)
    ]


def pairs(*texts: tuple[str, str]) -> Rows:
    usual = [(f"film {chr(97 + n)}", f"book {chr(97 + n)}") for n in range(20)]
    return [
        {"sentence1": first, "sentence2": second, "label": "ab"[n % 2]}
        for n, (first, second) in enumerate([*usual, *texts])
    ]


@pytest.mark.parametrize(
    ("rows", "check", "words"),
    [
        (single("A"), "labels_spelt_alike", ["'a' (10 rows: 1, 3, 5, …)", "'A' (row 21)", "case"]),
        (single("a\u200b"), "labels_spelt_alike", [r"'a\u200b' (row 21)", "invisible"]),
        (several(["A", "b"]), "labels_spelt_alike", ["'A' (row 21)", "case"]),
        (
            tagged(["B-PER", "O", "O"], ["O", "B-Per", "I-Per"]),
            "labels_spelt_alike",
            ["'PER' (row 1), 'Per' (row 2) differ in case"],
        ),
        (single("NA", "NA", "NA", "NA"), "labels_that_look_empty", ["(4 rows: 21, 22, 23, …)"]),
        (several(["null"]), "labels_that_look_empty", ["'null' (row 21)"]),
        (single("a;c"), "several_labels_in_one", ["'a;c' (row 21)", '--label-separator ";"']),
        (single("a,\nc"), "several_labels_in_one", [r"'a,\nc' (row 21)"]),
        (several(["a|c"]), "several_labels_in_one", ["'a|c' (row 21)", "element of its own"]),
        (
            [{"text": row["text"], "label": f"{n % 2},5"} for n, row in enumerate(single())],
            "labels_that_are_numbers",
            ["'0,5' (10 rows", "--task regression"],
        ),
        (
            tagged(["b-per", "o", "i-per"], ["o", "o", "b-loc"]),
            "tags_in_another_spelling",
            ["row", "'o'"],
        ),
        (
            [*single(), {"text": " FILM  a", "label": "b"}],
            "texts_with_several_labels",
            ["'film a' is 'a' in row 1 and 'b' in row 21."],
        ),
        (
            [*several(), {"text": "film c", "labels": ["b"]}],
            "texts_with_several_labels",
            ["is 'a, b' in row 3 and 'b' in row 21."],
        ),
        (
            [*numbers(), {"text": "film a", "score": 4.5}],
            "texts_with_several_labels",
            ["is '1' in row 1 and '4.5' in row 21."],
        ),
        (
            [*tagged(["O", "O", "B-X"]), *tagged(["B-X", "O", "O"])],
            "texts_with_several_labels",
            ["'film a a' is 'a (X)' in row 1 and 'film (X)' in row 2."],
        ),
        (
            [*pairs(), {"sentence1": "film a", "sentence2": "book a", "label": "b"}],
            "texts_with_several_labels",
            ["is 'a' in row 1 and 'b' in row 21."],
        ),
        (numbers(99.5), "numbers_far_from_the_rest", ["99.5 in row 21"]),
        (numbers(1.5, step=0), "numbers_that_are_equal", ["The others: row 21."]),
        (pairs(("Good one", "good  ONE")), "pairs_of_equal_texts", ["row 21, 'Good one'"]),
        (
            pairs(("book c", "film c")),
            "pairs_in_both_orders",
            ["row 3, 'film c' and 'book c'; row 21, 'book c' and 'film c'."],
        ),
        ([*single(), {"text": "房间 film", "label": "a"}], "words_unknown", ["row 21, '房', '间'"]),
        (
            pairs(("film", "房间很干净")),
            "words_unknown",
            ["1 text, 1 of them without any other", "row 21, '房', '间', '很', '干'"],
        ),
        (
            [{"tokens": ["film", "净"], "tags": ["B-X", "O"]}],
            "words_unknown",
            ["1 of 2, in 1 text: row 1, '净'."],
        ),
        ([*single(), *[{"text": "", "label": "a"}] * 4], "rows_left_out", ["empty text 4"]),
        (
            [*single(), *[{"text": "film a", "label": "a"}] * 4, {"text": "FILM  a", "label": "a"}],
            "texts_repeated",
            ["5 of 25 rows repeat", "5 are alike but for case and spaces, and 0 nearly", "rows 21"],
        ),
        (
            [*single(), {"text": LONG, "label": "a"}, {"text": LONG + "s", "label": "b"}],
            "texts_nearly_alike_with_several_labels",
            ["1 pair", "is 'a' in row 21 and nearly so 'b' in row 22", "80%"],
        ),
        (single("c", "c"), "labels_too_rare", ["'c' has 2 training rows", "1 label is rare"]),
        (
            [{**row, "text": row["text"] + " z" * (row["label"] == "b")} for row in single() * 2],
            "words_that_give_labels_away",
            ["'z' is in 20 of 20 texts of 'b' and in 0 others"],
        ),
        (
            [*single(), {"text": "привет мир " * 12, "label": "a"}],
            "words_unknown",
            ["By script: 100% of 22 Cyrillic words"],
        ),
    ],
)
def test_what_is_odd_is_counted_and_named(
    rows: Rows, check: str, words: list[str], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    task = "regression" if "score" in rows[0] else None
    cautions = told(tmp_path, rows, tiny_tokenizer, task)
    assert check in cautions
    for each in words:
        assert each in cautions[check]["detail"] + cautions[check]["claim"]
    assert cautions[check]["claim"].startswith("rows.jsonl: ")
    assert "\n" not in "".join(cautions[check].values())


@pytest.mark.parametrize(
    "rows",
    [single(), several(), pairs(), numbers(9.5), tagged(["B-X", "I-X", "O"], ["O", "O", "B-Y"])],
)
def test_usual_rows_are_no_reason_for_caution(
    rows: Rows, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    rows = [*rows, *rows[:2]]  # said twice with the same label is no contradiction
    assert told(tmp_path, rows, tiny_tokenizer) == {}


@pytest.mark.parametrize(
    ("rows", "checks"),
    [
        (tagged(["B-X", "O", "O"], ["O", "O", "O"]), {"texts_with_several_labels"}),
        (tagged(["B-X", "O", "B-X"], ["I-X", "O", "I-X"]), {"tags_that_break_their_scheme"}),
        (
            [{"question": "q", "choices": ["film", "book"], "answer": x} for x in "AaBb"],
            {"labels_spelt_alike", "texts_with_several_labels"},
        ),
        (
            [{"question": f"q {x}", "choices": ["film", "book"], "answer": x} for x in "AaB"],
            {"labels_spelt_alike"},
        ),
        ([{"text": "film", "labels": x} for x in (["a", "b"], ["b", "a"], ["b", "a"])], set()),
    ],
)
def test_labels_contradict_each_other_in_what_they_mean(
    rows: Rows, checks: set[str], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    texts = {"tokens": ["film", "a", "a"]} if "tokens" in rows[0] else {}
    cautions = told(tmp_path, [{**row, **texts} for row in rows], tiny_tokenizer)
    assert set(cautions) - {"labels_too_rare"} == checks
    if "question" in rows[0]:
        assert "read as one choice: 'A' (row 1), 'a' (row 2)" in str(cautions)
    if rows[0].get("answer") == "A" and "texts_with_several_labels" in cautions:
        detail = cautions["texts_with_several_labels"]["detail"]
        assert "'q' is 'film' in row 1 and 'book' in row 3." in detail


def test_an_empty_label_set_and_no_spans_are_looked_at_too(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{"text": "good", "labels": []}, {"text": "Good", "labels": ["a"]}]
    assert "'no label' in row 1" in str(told(tmp_path, rows, tiny_tokenizer))
    spans = [{"text": "good", "spans": []}]
    spans += [{"text": "good", "spans": [{"start": 0, "end": 4, "label": x}]} for x in "aA"]
    cautions = told(tmp_path, spans, tiny_tokenizer)
    assert set(cautions) == {"labels_spelt_alike", "texts_with_several_labels"}
    assert "'good (A)' in row 3" in cautions["texts_with_several_labels"]["detail"]


def test_a_tag_in_another_spelling_among_usual_ones_is_named_with_its_word(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    rows = tagged(["B-PER", "O", "O"], ["o", "b-per", "O"])
    problem = r"2 of 3 lack one; the first with one at row 1, word 1; the first without at row 2, "
    with pytest.raises(DataError, match=problem + "word 1") as refused:
        encoded(tmp_path, rows, tiny_tokenizer)
    assert refused.value.fix == "write 'O' for 'o', 'B-PER' for 'b-per'"


def test_two_parts_of_one_file_are_looked_at_together(tiny_tokenizer: Any, tmp_path: Path) -> None:
    task, rows = encoded(tmp_path, [*single(), {"text": "film a", "label": "b"}], tiny_tokenizer)
    half = rows.table, rows.encoded
    parts = {
        what: TaskRows(table=half[0], index=index, encoded=half[1])
        for what, index in (("Training", rows.index), ("Evaluation", rows.index))
    }
    assert len(cautions_of(task, parts)) == 1


def test_rows_to_measure_on_that_nearly_stand_among_the_others_are_told(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    odd = [{"text": LONG, "label": "a"}, {"text": LONG + "s", "label": "a"}]
    task, rows = encoded(tmp_path, [*single(), *odd], tiny_tokenizer)
    train, held_out = rows.index[:21], rows.index[21:]
    parts = {
        "Training": TaskRows(table=rows.table, index=train, encoded=rows.encoded),
        "Evaluation": TaskRows(table=rows.table, index=held_out, encoded=rows.encoded),
    }
    (caution,) = (c for c in cautions_of(task, parts) if c["check"] == "texts_in_both_parts")
    assert "row 22 as row 21" in caution["detail"]
    assert "keep them together with --group" in caution["detail"]
    grouped = Preflight(task, parts, group="guest").cautions
    (caution,) = (c for c in grouped if c["check"] == "texts_in_both_parts")
    assert "or give them one value of 'guest', the column of --group" in caution["detail"]
    (tmp_path / "other").mkdir()
    _, other = encoded(tmp_path / "other", [*single(), odd[1]], tiny_tokenizer)
    _, first = encoded(tmp_path, [*single(), odd[0]], tiny_tokenizer)
    told_of = cautions_of(task, {"Training": first, "Evaluation": other})
    (caution,) = (each for each in told_of if each["check"] == "texts_in_both_parts")
    assert "row 21 as row 21 of the training file" in caution["detail"]
    assert "take them out of one of the two files" in caution["detail"]
    assert "--group" not in caution["detail"], "finetune refuses --group beside --eval"


def test_every_check_is_in_the_table_once() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)


def test_cautions_are_one_line_each_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell_cautions([{"claim": "a\nb", "detail": "c\r\nd\x1b[0m"}])
    assert capsys.readouterr().err == "Caution: a ↵ b. c ↵ d\\x1b[0m\n"


@pytest.mark.parametrize(
    "rows",
    [
        single("A", "NA", "1,5", "a"),
        several(["A", "b"], ["c"], []),
        tagged(["B-PER", "I-PER", "O"], ["I-LOC", "O", "B-Per"], ["O", "O", "O"]) * 3,
    ],
)
def test_names_and_their_rows_are_the_same_however_few_rows_are_read_at_a_time(
    rows: Rows, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(tmp_path, rows, tiny_tokenizer)
    monkeypatch.setattr("bertolt.tasks.row_view.EXAMPLES", 3)

    assert told(tmp_path, rows, tiny_tokenizer) == whole
    assert "labels_spelt_alike" in whole


def choosing(**choices: Any) -> dict[str, Any]:
    return {"question": "房 film", **choices, "answer": "B"}


@pytest.mark.parametrize(
    ("rows", "task", "words"),
    [
        # The question stands in each window, and the windows overlap.
        (
            [
                {
                    "question": "房 film",
                    "context": " ".join(chr(97 + n % 26) for n in range(52)) + " 净 bad",
                    "answers": ["bad"],
                }
            ],
            None,
            {"question": "1 of 2,", "context": "1 of 54,"},
        ),
        # It stands beside each choice, and two choices that are alike are two texts.
        (
            [choosing(choices=["净 a", "b", "净 a"])],
            None,
            {"question": "1 of 2,", "choices": "2 of 5,"},
        ),
        (
            [choosing(A="净 a", B="b", C="c")],
            None,
            {"question": "1 of 2,", "A', 'B', 'C": "1 of 4,"},
        ),
        (
            [{"anchor": x, "positive": x} for x in ("房 film", "a")],
            "sentence-similarity",
            {"anchor": "1 of 3,", "positive": "1 of 3,"},
        ),
    ],
)
def test_a_word_that_several_windows_or_choices_show_is_counted_once(
    rows: Rows, task: str | None, words: dict[str, str], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    known, part = encoded(tmp_path, rows, tiny_tokenizer, task)
    if "context" in rows[0]:
        assert len(part.encoded.offsets) - 1 > 3
    cautions = cautions_of(known, {"Training": part}, tiny_tokenizer)
    unknown = [each for each in cautions if each["check"] == "words_unknown"]
    assert len(unknown) == len(words)
    for caution, (column, counts) in zip(unknown, words.items(), strict=True):
        assert caution["claim"].endswith(f"of the words in '{column}'")
        assert caution["detail"].startswith(counts)
