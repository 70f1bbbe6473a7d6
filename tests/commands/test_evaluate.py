"""`bertolt evaluate`, and what finetune says of its own scores."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.report import read_facts
from tests.commands.conftest import ROWS, write_rows

Run = Callable[..., Any]
Trained = Callable[[str], Path]


def test_one_row_has_no_correlation_and_is_told_why(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["numbers"][:1])
    said = bertolt("evaluate", trained("numbers"), path)
    assert said.code == 0
    assert "Pearson n/a" in said.out
    assert "n/a: R² and correlations need two rows or more, and there is 1" in said.out


def test_a_separator_is_refused_for_columns_and_for_other_tasks(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "good", "a": 1, "b": 0}])
    several = ["evaluate", trained("several"), path, "--label", "a,b"]
    said = bertolt(*several, "--label-separator", ";")
    assert (said.code, "--label-separator" in said.err) == (2, True)
    assert bertolt(*several).code == 0
    said = bertolt("evaluate", trained("labels"), path, "--label", "a", "--label-separator", ";")
    assert (said.code, "leave --label-separator out" in said.err) == (2, True)


def test_several_columns_for_one_label_name_no_option_of_another_command(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "good", "a": "x", "b": "y"}])
    said = bertolt("evaluate", trained("labels"), path, "--label", "a,b")
    assert said.code == 2
    assert "bertolt finetune FILE --task multi-label-classification" in said.err
    said = bertolt("evaluate", trained("labels"), path, "--sample", "3")
    assert "text-classification has no such measure" in said.err


def test_thresholds_that_were_chosen_on_the_rows_are_told_where_the_score_is(
    bertolt: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["several"] * 8)
    words = ["--model", tiny_folder, "--out", tmp_path / "out", "--epochs", "1"]
    flatters = "The thresholds were chosen on these very rows, which flatters the scores."
    assert flatters in bertolt("finetune", path, *words).err
    assert html.unescape((tmp_path / "out" / "report.html").read_text("utf-8")).count(flatters) == 1
    assert flatters not in bertolt("evaluate", tmp_path / "out", path).out


def test_one_column_of_flags_goes_through_every_command(
    bertolt: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"film {word}", "toxic": int(word == "bad")} for word in ("bad", "good")]
    path, out = write_rows(tmp_path / "rows.jsonl", rows * 8), tmp_path / "out"
    words = ["--model", tiny_folder, "--out", out, "--epochs", "1", "--label", "toxic"]
    assert bertolt("finetune", path, *words, "--task", "multi-label-classification").code == 0
    said = bertolt("evaluate", out, path, "--json")
    assert list(json.loads(said.out)["per_class"]) == ["toxic"]
    said = bertolt("predict", out, "--text", "good film")
    assert list(json.loads(said.out)["probabilities"]) == ["toxic"]
    assert bertolt("inspect", out, "--selftest").code == 0


def test_spans_that_no_answer_has_are_told_in_terminal_and_report(
    bertolt: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    spans = [{"start": 0, "end": 4, "label": "X"}, {"start": 6, "end": 8, "label": "X"}]
    rows = [{"text": "good film", "spans": spans[:1]}] * 4 + [{"text": "good film", "spans": spans}]
    path, out = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    words = ["--model", tiny_folder, "--out", out, "--epochs", "1", "--eval", path]
    said = bertolt("finetune", path, *words)
    claim = "Training: 1 span cannot be answered exactly"
    assert f"Caution: {claim}." in said.err
    assert "row 5, 'il' from 6 to 8" in said.err
    assert claim in [each["claim"] for each in read_facts(out)["cautions"]]
    assert claim in (out / "report.html").read_text("utf-8")
    said = bertolt("evaluate", out, path)
    assert "Caution: Evaluation: 1 span cannot be answered exactly" in said.err


def test_evaluate_tells_of_a_file_what_finetune_told_of_it(
    bertolt: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"good {x}", "label": y} for x, y in zip("abcdefgh", "nmnmnmnm", strict=True)]
    odd = [{"text": "GOOD  a", "label": "m"}, {"text": "净", "label": "N"}]
    odd += [{"text": "bad b", "label": "n;\nm"}, {"text": "", "label": "n"}]
    path, out = write_rows(tmp_path / "rows.jsonl", [*rows, *odd]), tmp_path / "out"
    later = write_rows(tmp_path / "later.jsonl", [*rows, *odd, *odd])
    words = ["--model", tiny_folder, "--out", out, "--epochs", "1", "--eval", later]
    said = bertolt("finetune", path, *words)
    cautions = read_facts(out)["cautions"]
    told = {each["claim"]: each["detail"] for each in cautions if "later" in each["claim"]}
    assert len(told) == 5
    again = bertolt("evaluate", out, later)
    page = (out / "report.html").read_text("utf-8")
    for claim, detail in told.items():
        line = f"Caution: {claim}. {detail}\n"
        assert said.err.count(line) == 2, "before training, and where the result is"
        assert again.err.count(line) == 1
        assert html.escape(claim, quote=False).replace("'", "&#39;") in page
    assert again.err.count("Caution: ") == len(told)
    assert r"'n;\nm' (2 rows: 11, 15)" in again.err


def test_what_a_head_does_not_need_is_no_alarm(
    bertolt: Run, trained: Trained, tiny_folder: Path, tiny_config: Any, tmp_path: Path
) -> None:
    from bertolt import BertForPreTraining

    pretrained = tmp_path / "pretrained"
    BertForPreTraining(tiny_config()).save_pretrained(pretrained)
    (pretrained / "vocab.txt").write_text((tiny_folder / "vocab.txt").read_text())
    for name, model in (("tags", tiny_folder), ("tags", pretrained), ("labels", pretrained)):
        out = tmp_path / f"{name}-{model.name}"
        path = write_rows(tmp_path / "rows.jsonl", ROWS[name] * 8)
        assert bertolt("finetune", path, "--model", model, "--out", out, "--epochs", "1").code == 0
        page = (out / "report.html").read_text("utf-8")
        assert "did not load as expected" not in page
        assert "not needed" in page


@pytest.mark.parametrize(
    ("rate", "words"), [("0", "no weight changes"), ("5e5", "far above"), ("5e-5", "")]
)
def test_an_odd_learning_rate_deserves_a_word(
    rate: str, words: str, bertolt: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS["labels"] * 8)
    options = ["--model", tiny_folder, "--out", tmp_path / "out", "--epochs", "1"]
    said = bertolt("finetune", path, *options, "--lr", rate)
    assert words in said.err
    assert ("--lr" in said.err.partition("error:")[0]) == bool(words)


def test_scores_of_parts_of_the_rows_add_up(bertolt: Run, trained: Trained, tmp_path: Path) -> None:
    rows = [{**row, "source": ("web", "paper")[n % 2]} for n, row in enumerate(ROWS["labels"])]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    said = bertolt("evaluate", trained("labels"), path, "--by", "source,length", "--json")
    values = json.loads(said.out)
    for parts in values["slices"].values():
        assert sum(part["rows"] for part in parts.values()) == values["rows"] == len(rows)
    said = bertolt("evaluate", trained("labels"), path, "--by", "source")
    assert "paper" in said.out
    for name in ("sauce", "all"):
        said = bertolt("evaluate", trained("labels"), path, "--by", name)
        assert (said.code, f"no column {name!r}" in said.err) == (2, True)
        assert "--by" in said.err
        assert "--keep" not in said.err


def test_labels_without_a_row_are_said_with_what_they_do_to_the_macro_average(
    bertolt: Run, trained: Trained, tmp_path: Path
) -> None:
    rows = [{"text": "good film", "label": "pos"}, {"text": "fine film", "label": "pos"}]
    path = write_rows(tmp_path / "few.jsonl", rows)
    said = bertolt("evaluate", trained("labels"), path)
    absent = json.loads(bertolt("evaluate", trained("labels"), path, "--json").out)["without_rows"]
    assert sorted(absent["answered"] + absent["not_answered"]) == ["neg"]
    told = "counts 'neg' as 0, which no row" if absent["answered"] else "leaves out 'neg', which no"
    assert said.code == 0
    assert f"  macro F1 {told}" in said.out
