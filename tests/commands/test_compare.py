"""Runs held against each other on the same rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.commands import changed_rows, compare
from bertolt.commands.compare import compare_runs, p_words
from bertolt.commands.compare_page import _card, page_facts
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.metrics.bootstrap import mcnemar
from bertolt.report.blocks import MOST_CHARACTERS
from bertolt.report.comparison import write_comparison
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.row_answers import (
    ANSWERS,
    KeptRows,
    RowAnswer,
    RowAnswers,
    digest,
    read_answers,
    shared_places,
)
from bertolt.tasks.rows import Columns, read_for_task
from bertolt.tasks.text_classification import TextClassification

Copy = Callable[..., str]
TASK = TextClassification(("neg", "pos"))


@pytest.fixture
def copy(tuned: Path, tmp_path: Path) -> Copy:
    """Copies of a run in which the answers to some of its rows are turned."""

    def make(name: str, turned: set[int] = frozenset(), drop: int = 0, **arguments: Any) -> str:  # type: ignore[assignment]
        folder = tmp_path / name
        shutil.copytree(tuned, folder)
        rows = RowAnswers(TASK)
        for place, row in enumerate(read_answers(folder / ANSWERS)[drop:]):
            if place in turned:
                said = "neg" if row.said == "pos" else "pos"
                row = row._replace(said=said, sums=[1 - row.sums[0], 1.0])
            rows.put(row)
        rows.write(folder / ANSWERS)
        path = folder / "arguments.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | arguments))
        return str(folder)

    return make


def test_rows_that_changed_and_how_sure_the_difference_is(copy: Copy) -> None:
    first, other = copy("first"), copy("other", {0, 1, 2, 3, 4, 5, 6}, lr=0.1)
    kept = read_answers(Path(first) / ANSWERS)
    comparison = compare_runs([first, other])
    (against,) = comparison.others
    assert comparison.rows == len(kept) == 16
    before = [row.sums[0] for row in kept]
    after = [1 - right if place < 7 else right for place, right in enumerate(before)]
    assert comparison.scores[first][0] == np.mean(before)
    assert comparison.scores[other][0] == np.mean(after)
    assert against.test.difference == pytest.approx(np.mean(after) - np.mean(before))
    assert against.test.by == "mcnemar"
    assert against.test.p == mcnemar(len(against.fixed), len(against.broken))
    assert len(against.fixed) + len(against.broken) == 7
    assert {change.row for change in against.changes} == {row.row for row in kept[:7]}
    assert all(change.text and change.text[0] for change in against.changes)
    assert against.settings == {"lr": ("0.005", "0.1")}
    low, high = against.test.interval or (0, 0)
    assert low <= against.test.difference <= high


def test_what_is_told_of_it(copy: Copy, bertolt: Callable[..., Any], tmp_path: Path) -> None:
    first, other = copy("first"), copy("other", set(range(9)), drop=2)
    page = tmp_path / "page.html"
    said = bertolt("compare", first, other, "--html", page)
    assert said.code == 0, said.err
    assert said.out.startswith("Accuracy on the 14 rows that all runs held out\n")
    assert f"2 rows of {first} left out: not all runs answered them" in said.out
    assert "McNemar's exact test" in said.out
    assert "they differ" in said.out
    assert "row " in page.read_text(encoding="utf-8")
    again = bertolt("compare", first, other, "--html", page)
    assert again.code == 2
    assert "--overwrite" in again.err
    values = json.loads(bertolt("compare", first, other, "--json").out)
    assert values["rows"] == 14
    assert values["comparisons"][0]["fixed"] + values["comparisons"][0]["broken"] == 9
    assert values["comparisons"][0]["changes"][0]["text"]


def test_several_runs_are_corrected_for(copy: Copy, tmp_path: Path) -> None:
    names = [copy("first"), copy("second", set(range(6))), copy("third", set(range(12)))]
    comparison = compare_runs(names)
    second, third = comparison.others
    assert third.corrected == pytest.approx(min(1, 2 * third.test.p))
    assert second.corrected == pytest.approx(max(second.test.p, third.corrected))
    assert "corrected by Holm for 2 comparisons" in str(comparison)
    facts = page_facts(comparison)
    write_comparison(facts, tmp_path / "page.html")
    assert json.loads(json.dumps(facts)) == facts
    titles = [block["title"] for block in facts["blocks"]]
    assert titles[0] == "Runs"
    assert f"{names[2]} against {names[0]}" in titles


def test_few_rows_are_listed_and_all_of_them_go_to_a_file(
    copy: Copy, bertolt: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page and JSON have the largest changes alone, and say how many there are."""
    monkeypatch.setattr(changed_rows, "MOST_LISTED", 2)
    monkeypatch.setattr(changed_rows, "_BATCH", 4)  # a file of several batches
    first, other, third = copy("first"), copy("other", set(range(11))), copy("third", {3})
    out, page = tmp_path / "changes.jsonl", tmp_path / "page.html"
    said = bertolt("compare", first, other, third, "--out", out, "--html", page, "--json")
    assert said.code == 0, said.err
    assert f"Rows that changed: {out} (12)" in said.err
    one, two = json.loads(said.out)["comparisons"]
    assert one["fixed"] + one["broken"] == 11
    assert len(one["changes"]) == min(one["fixed"], 2) + min(one["broken"], 2)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line.pop("run") for line in lines] == [other] * 11 + [third]
    kept = read_answers(Path(first) / ANSWERS)
    assert [line["row"] for line in lines[:11]] == [row.row for row in kept[:11]]
    assert all(line["text"] for line in lines)
    assert [each for each in lines if each in one["changes"]] == one["changes"]
    assert lines[11:] == two["changes"]
    assert "Shown are the first 2." in page.read_text(encoding="utf-8")
    again = bertolt("compare", first, other, "--out", out)
    assert again.code == 2
    assert "--overwrite" in again.err
    both = bertolt("compare", first, other, "--out", tmp_path / "x", "--html", tmp_path / "x")
    assert both.code == 2
    assert "--html names it too" in both.err


def test_a_changed_row_is_written_whole_and_the_page_says_how_much_it_shows(tmp_path: Path) -> None:
    long = "good film " * 300
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": long, "label": "pos"}) + "\n")
    table, _ = read_for_task(file, Columns(), task=TASK.name)
    (example,) = table.examples([0])
    kept = RowAnswers(TASK)
    for right in (1.0, 0.0):
        kept.put(RowAnswer(example["row"], digest(example), [right, 1.0], "pos", "pos"))
    both = KeptRows(kept.table)
    first, other = (KeptRows(both.table.slice(place, 1)) for place in (0, 1))
    at = np.zeros(1, np.int64)
    texts = changed_rows.Texts(TASK, table)
    changed = changed_rows.ChangedRows.of((first, other), (at, at), TASK.scorer(), True, texts)
    out = tmp_path / "changes.jsonl"
    assert changed_rows.write_changes([("other", changed)], out, replace=False) == 1
    text = example["text"]
    assert len(text) > MOST_CHARACTERS
    assert json.loads(out.read_text())["text"] == text
    card = _card(changed.largest()[0])
    assert (card["text"], card["characters"]) == (text[:MOST_CHARACTERS], len(text))


def test_what_was_answered_is_whole_in_a_file_and_cut_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choices are texts, and so are the answers to questions."""
    task = MultipleChoice("letters")
    choices = ["it was dull, " * 40 + "cold", "it was good, " * 40 + "warm"]
    example = {"row": 1, "text": "the film", "text_pair": choices, "label": "B"}
    runs = []
    for place in range(2):
        kept = RowAnswers(task)
        kept.add(0, {"choice": choices[place], "index": place}, example)
        kept.write(tmp_path / f"{place}.parquet")
        runs.append(read_answers(tmp_path / f"{place}.parquet"))
    at = np.zeros(1, np.int64)
    texts = changed_rows.Texts(task, None)
    both = (runs[0], runs[1])
    changed = changed_rows.ChangedRows.of(both, (at, at), task.scorer(), True, texts)
    out = tmp_path / "changes.jsonl"
    changed_rows.write_changes([("other", changed)], out, replace=False)
    line = json.loads(out.read_text())
    assert [line[name] for name in ("before", "after", "truth")] == [*choices, choices[1]]
    (shown,) = compare._examples("better", changed.largest(), 1)
    assert len(shown) < 160
    dull, good = shown.partition(" → ")[::2]
    assert "it was dull" in dull
    assert "it was good" in good.partition(", true ")[0]
    said = _card(changed.largest()[0])["said"]
    assert len(said) <= 60, "the page shows no more"
    assert "dull" in said
    assert "good" in said


def test_answers_of_an_earlier_version_are_read(tmp_path: Path, tuned: Path) -> None:
    """Their texts are in columns of 2 GiB at most."""
    table = pq.read_table(tuned / ANSWERS)
    schema = pa.schema(
        [
            (name, pa.string() if name in ("said", "truth") else table[name].type)
            for name in table.column_names
        ]
    )
    pq.write_table(table.cast(schema), tmp_path / "older.parquet")
    older = read_answers(tmp_path / "older.parquet")
    assert list(older) == list(read_answers(tuned / ANSWERS))


def test_options_without_effect_are_no_differences(
    copy: Copy, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    """Windows are chosen among where texts are read in several; a file to evaluate on holds rows
    out in the place of a share of the others."""

    def settings(one: dict[str, Any], other: dict[str, Any], parted: int = 0) -> Any:
        names = [copy(f"{len(list(tmp_path.iterdir()))}", **each) for each in (one, other)]
        for name in names:
            path = Path(name) / "metrics.json"
            values = json.loads(path.read_text())
            values["train"]["lengths"]["texts_parted"] = parted
            path.write_text(json.dumps(values))
        return compare_runs(names).others[0].settings

    assert settings({"windows": 2}, {"windows": 8}) == {}
    window = {"long": "window"}
    assert settings(window | {"windows": 2}, window | {"windows": 8}) == {}
    assert settings(window | {"windows": 2}, window | {"windows": 8}, 3) == {"windows": ("2", "8")}
    told = settings(window | {"windows": 2}, {"long": "truncate", "windows": 8}, 3)
    assert told == {"long": ("window", "truncate")}
    seeds = {"split_seed": 1, "test_size": 0.5}, {"split_seed": 2, "test_size": 0.2}
    assert settings(*seeds) == {"split_seed": ("1", "2"), "test_size": ("0.5", "0.2")}
    assert settings(*(each | {"eval": "held.csv"} for each in seeds)) == {}
    sampled = settings(*(each | {"eval": "held.csv", "sample": 500} for each in seeds))
    folds = settings(*(each | {"test_size": 0, "folds": 5} for each in seeds))
    assert sampled == folds == {"split_seed": ("1", "2")}  # it draws the sample, and deals folds
    assert settings({"track": "wandb", "keep_models": True}, {"track": None}) == {}
    shutil.copytree(trained("tags"), tmp_path / "tags")
    shutil.copytree(trained("tags"), tmp_path / "more")
    path = tmp_path / "more" / "arguments.json"
    values = json.loads(path.read_text())
    assert values["long"] == "window"
    path.write_text(json.dumps(values | {"windows": 3}))
    (against,) = compare_runs([str(tmp_path / "tags"), str(tmp_path / "more")]).others
    assert against.settings == {}


def test_rows_that_are_alike_are_told_apart_by_their_order() -> None:
    def kept(*digests: str) -> KeptRows:
        rows = RowAnswers(TASK)
        for number, each in enumerate(digests):
            rows.put(RowAnswer(number, each, [1.0, 1.0], "pos", "pos"))
        return KeptRows(rows.table)

    first, other = shared_places([kept("a", "b", "a", "c", "a"), kept("a", "d", "c", "a", "b")])
    assert first.tolist() == [0, 1, 2, 3]
    assert other.tolist() == [0, 4, 3, 2]


def test_equal_runs_are_not_told_apart(copy: Copy) -> None:
    (against,) = compare_runs([copy("first"), copy("other")]).others
    assert (against.test.difference, against.test.p, against.changes) == (0.0, 1.0, [])


def test_without_the_file_there_are_no_texts(copy: Copy, reviews_csv: Path, tmp_path: Path) -> None:
    gone, turned = str(tmp_path / "gone.csv"), {0, 1}
    names = [copy("first", train=gone), copy("other", turned)]
    assert [each.text for each in compare_runs(names).others[0].changes] == [None, None]
    other = tmp_path / "changed.csv"
    lines = reviews_csv.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join([lines[0], *lines[2:], lines[1]]), encoding="utf-8")
    names = [copy("third", train=str(other)), names[1]]
    assert [each.text for each in compare_runs(names).others[0].changes] == [None, None]


def test_on_a_file_the_models_answer(tuned: Path, copy: Copy, reviews_csv: Path) -> None:
    comparison = compare_runs(
        [str(tuned), copy("same")], reviews_csv, EvaluateOptions(precision="fp32")
    )
    assert comparison.rows == 80
    assert comparison.others[0].test.difference == 0.0
    assert "nobody knows" in comparison.notes[0]


def test_a_file_is_read_as_it_is_said_with_its_texts(
    tuned: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    """Whatever the training file was like; what it is like is in no argument of the run."""
    path, text = tmp_path / "on.csv", reviews_csv.read_text(encoding="utf-8").splitlines()
    users = ["user", *(f"u{n % 20}" if n % 20 else "" for n in range(1, len(text)))]
    text = [f"{line},{user}" for line, user in zip(text, users, strict=True)]
    path.write_bytes(b"\xc6\xc0\xc2\xdb\n" + "\n".join(text).encode("gb18030"))
    asked = EvaluateOptions(precision="fp32", encoding="gb18030", skip_rows=1, group="user")
    run = compare._read(str(tuned), path, asked)
    assert len({row.group for row in run.rows}) == 20
    assert sum(row.group is None for row in run.rows) == 4  # an empty cell is no value
    texts = compare._texts(run, path, asked).of(run.rows)
    assert len(run.rows) == 80
    assert None not in texts
    path.unlink()
    with pytest.raises(DataError):
        compare._texts(run, path, asked)


@pytest.mark.parametrize("name", ["several", "numbers", "tags", "pairs", "together", "scored"])
def test_runs_of_every_task(trained: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    folder = trained(name)
    shutil.copytree(folder, tmp_path / "copy")
    comparison = compare_runs([str(folder), str(tmp_path / "copy")])
    assert comparison.rows > 0
    assert comparison.others[0].test.difference == 0.0
    assert str(comparison)
    write_comparison(page_facts(comparison), tmp_path / "page.html")


def other_run(folder: Path, to: Path, change: Callable[[int, RowAnswer], RowAnswer]) -> str:
    """A copy of a run that answers otherwise."""
    shutil.copytree(folder, to)
    rows = RowAnswers(TASK)
    for place, row in enumerate(read_answers(folder / ANSWERS)):
        rows.put(change(place, row))
    rows.write(to / ANSWERS)
    return str(to)


def test_rows_of_one_group_are_shuffled_together(tuned: Path, tmp_path: Path) -> None:
    def turn(place: int, row: RowAnswer) -> RowAnswer:
        row = row._replace(group=f"u{place // 4}")
        return row._replace(sums=[1 - row.sums[0], 1.0]) if place < 4 else row

    names = [
        other_run(tuned, tmp_path / "first", lambda place, row: turn(place + 4, row)),
        other_run(tuned, tmp_path / "other", turn),
    ]
    comparison = compare_runs(names)
    (against,) = comparison.others
    assert comparison.groups == 1 + (comparison.rows - 1) // 4
    assert against.test.by == "shuffling"
    assert f"by resampling {comparison.groups} groups of rows)" in str(comparison)
    assert "(by shuffling answers in groups)" in str(comparison)
    assert comparison.to_dict()["groups"] == comparison.groups


def test_ranks_among_all_texts(trained: Callable[[str], Path], tmp_path: Path) -> None:
    """Each first text is one row, wherever it stands; ranks among other texts are refused."""
    folder = trained("together")
    kept = read_answers(folder / ANSWERS)
    assert len({row.digest[:16] for row in kept}) == len(kept) > 4
    assert len({row.digest[16:] for row in kept}) == 1
    worse = other_run(
        folder,
        tmp_path / "worse",
        lambda place, row: row._replace(sums=[row.sums[0] / 2, 1.0]) if place < 4 else row,
    )
    comparison = compare_runs([str(folder), worse])
    (against,) = comparison.others
    ranks = np.array([row.sums[0] for row in kept])
    assert comparison.scores[str(folder)][0] == pytest.approx(ranks.mean())
    assert json.loads((folder / "metrics.json").read_text())["eval"]["mrr"] == ranks.mean()
    assert against.test.difference == pytest.approx(-ranks[:4].sum() / 2 / len(kept))
    # All four go one way, or all the other, in 2 of the 16 ways to exchange them.
    assert against.test.p == pytest.approx(2 / 16, abs=0.02)
    assert (len(against.fixed), len(against.broken)) == (0, 4)
    assert all(change.text is not None for change in against.changes)
    assert f"(rank {round(1 / ranks[0])} → " in str(comparison)
    others = other_run(
        folder, tmp_path / "others", lambda _, row: row._replace(digest=row.digest[:16] + "0" * 16)
    )
    with pytest.raises(UsageError, match="of ranks among all rows, and the runs had others"):
        compare_runs([str(folder), others])
    nothing = RowAnswers(TASK)
    nothing.write(Path(others) / ANSWERS)
    with pytest.raises(UsageError, match="has kept nothing of its rows") as refused:
        compare_runs([str(folder), others])
    assert "--on FILE" in refused.value.fix


def test_ranks_are_exchanged_for_a_correlation(
    trained: Callable[[str], Path], tmp_path: Path, bertolt: Callable[..., Any]
) -> None:
    folder = trained("scored")
    kept = read_answers(folder / ANSWERS)
    cosines, scores = np.array([row.sums for row in kept]).T
    turned = other_run(
        folder, tmp_path / "turned", lambda _, row: row._replace(sums=[-row.sums[0], row.sums[1]])
    )
    said = bertolt("compare", folder, turned, "--json", "--html", tmp_path / "page.html")
    assert said.code == 0, said.err
    values = json.loads(said.out)
    first, other = (run["value"] for run in values["runs"].values())
    assert first == pytest.approx(stats.spearmanr(cosines, scores).statistic)
    assert other == pytest.approx(-first)
    (against,) = values["comparisons"]
    assert against["difference"] == pytest.approx(-2 * first)
    assert against["test"] == "ranks"
    change = against["changes"][0]
    place = [row.row for row in kept].index(change["row"])
    low, high = (stats.rankdata(-values)[place] for values in (cosines, scores))
    words = (
        f"{kept[place].said}, rank {low:g}",
        f"{kept[place].truth}, rank {high:g} of {len(kept)}",
    )
    assert (change["before"], change["truth"]) == words
    assert f"{change['text']} / {change['text_pair']} (" in bertolt("compare", folder, turned).out
    words = "the two ranks of each row exchanged or not, 9,999 times"
    assert words in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_correlation_without_a_value_is_told_as_such(
    trained: Callable[[str], Path], tmp_path: Path, bertolt: Callable[..., Any]
) -> None:
    folder = trained("scored")
    same = other_run(
        folder, tmp_path / "same", lambda _, row: row._replace(sums=[0.5, row.sums[1]])
    )
    said = bertolt("compare", folder, same, "--html", tmp_path / "page.html")
    assert said.code == 0, said.err
    assert "Spearman n/a, p = 1.0000 (by exchanging ranks): the rows do not" in said.out
    values = json.loads(bertolt("compare", folder, same, "--json").out)
    assert values["comparisons"][0]["difference"] is None


def test_what_cannot_be_compared(copy: Copy, trained: Callable[[str], Path]) -> None:
    first, other = copy("first"), copy("other")
    for names, error, words in [
        ([first], UsageError, "there is one run"),
        ([first, first], UsageError, "named twice"),
        ([first, str(trained("numbers"))], UsageError, "was trained for regression"),
        ([first, "nowhere"], CheckpointError, "no such folder"),
        ([first, str(trained("labels"))], UsageError, "no row in common"),
        (list(map(str, map(trained, ("scored", "together")))), UsageError, "measured by Mean rec"),
    ]:
        with pytest.raises(error, match=words) as refused:
            compare_runs(names)
        assert refused.value.fix
    with pytest.raises(UsageError, match="was trained for regression"):  # before any file is read
        compare_runs([first, str(trained("numbers"))], Path("nowhere.csv"))
    with pytest.raises(UsageError, match="groups of their own"):
        compare_runs([first, other], asked=EvaluateOptions(group="user"))
    (Path(other) / ANSWERS).write_bytes(b"nonsense")
    with pytest.raises(BertoltError, match="cannot be read"):
        compare_runs([first, other])
    rows = {"row": [1, 2], "digest": ["a", "b"], "said": ["x", "y"], "truth": ["x", "x"]}
    for sums, words in [
        (None, "something of its rows is missing"),
        ([[1.0, 1.0], None], "something of its rows is missing"),
        ([[1.0, None], [1.0, 1.0]], "something of its rows is missing"),
        ([[1.0], [1.0, 1.0]], "something of its rows is missing"),
        ([[float("nan"), 1.0], [1.0, 1.0]], "something of its rows is missing"),
        ([[1.0], [0.0]], "not those of text-classification"),
        (["a", "b"], "cannot be read"),
    ]:
        pq.write_table(pa.table(rows | ({"sums": sums} if sums else {})), Path(other) / ANSWERS)
        with pytest.raises(CheckpointError, match=words) as refused:
            compare_runs([first, other])
        assert "--on FILE" in refused.value.fix
    (Path(other) / ANSWERS).unlink()
    with pytest.raises(CheckpointError, match=f"it has no {ANSWERS}") as missing:
        compare_runs([first, other])
    assert "--on FILE" in missing.value.fix


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.5, "0.5000"), (0.00012, "0.0001"), (1e-200, "1e-200"), (0.0, "1e-300 or less")],
)
def test_no_p_value_is_zero(p: float, words: str) -> None:
    assert p_words(p) == words
