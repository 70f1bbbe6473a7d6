"""Numbers: in the user's units, scaled by the training rows, scores as scikit-learn has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from bertolt.base.errors import DataError
from bertolt.data.encode import encode_texts
from bertolt.metrics import RegressionCounts
from bertolt.models.config import BertConfig
from bertolt.tasks.base import Output, Reading
from bertolt.tasks.regression import Regression
from bertolt.tasks.rows import Columns, read_for_task


def put(folder: Path, rows: list[tuple[Any, ...]], header: str = "text,rating") -> Path:
    path = folder / "a.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


ROWS = [(f"text {number}", 10 + number * 0.5) for number in range(30)]


def test_fractions_are_numbers_and_whole_ones_are_not_surely(tmp_path: Path) -> None:
    assert read_for_task(put(tmp_path, ROWS), Columns())[1] is Regression
    stars = [(f"text {number}", number % 5) for number in range(30)]
    assert read_for_task(put(tmp_path, stars), Columns())[1].name == "text-classification"
    assert read_for_task(put(tmp_path, stars), Columns(), task="regression")[1] is Regression
    halves = [(f"text {number}", 1.5 + number % 4) for number in range(30)]
    assert read_for_task(put(tmp_path, halves), Columns())[1] is Regression


def test_scaled_by_the_training_rows_alone(tmp_path: Path, tiny_tokenizer: Any) -> None:
    table, kind = read_for_task(put(tmp_path, ROWS), Columns())
    train = np.arange(10)
    task = kind.infer(table, train, Reading())
    values = np.array([row[1] for row in ROWS])
    assert task.means == pytest.approx((values[:10].mean(),))
    assert task.scales == pytest.approx((values[:10].std(),))
    index = np.array([29, 3])
    targets = task.targets(table, index, encode_texts(tiny_tokenizer, ["a", "b"], 9))
    assert targets.dtype == np.float32
    back = [task.decode(Output([row], []), {})["value"] for row in targets]
    assert back == pytest.approx(values[index])


def test_several_columns_are_answered_by_name(tmp_path: Path) -> None:
    rows = [(f"t {n}", n * 0.5, -n * 1000.25) for n in range(20)]
    path = put(tmp_path, rows, "text,warmth,price")
    table, kind = read_for_task(path, Columns(label="warmth,price"))
    task = kind.infer(table, np.arange(20), Reading())
    config = BertConfig(**task.config_changes())
    assert Regression.restore(config, task.settings()) == task
    answer = task.decode(Output([np.zeros(2)], []), {})
    assert answer == {"values": pytest.approx({"warmth": 4.75, "price": -9502.375})}
    assert task.flat_names() == ["warmth", "price"]


def test_rows_without_a_number_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS, ("a", ""), ("b", "high"), ("c", "inf")]
    table, _ = read_for_task(put(tmp_path, rows), Columns(), task="regression")
    assert table.dropped == {"empty label": [31], "label that is no number": [32, 33]}
    assert len(table) == 30


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e308, 1e200, 1e71, 1e40])
def test_a_number_far_from_those_of_training_is_refused_with_its_row(
    tmp_path: Path, size: float, tiny_tokenizer: Any
) -> None:
    task = Regression(("rating",), (1.0,), (1e-3,))
    encoded = encode_texts(tiny_tokenizer, ["a", "b"], 9)
    usual, _ = read_for_task(put(tmp_path, [("a", 1.5), ("b", -1e12)]), Columns(), task=Regression)
    task.check(usual)
    assert np.isfinite(task.targets(usual, np.arange(2), encoded)).all()
    path = put(tmp_path, [("a", 1.5), ("b", -size)])
    table, _ = read_for_task(path, Columns(), task=Regression)
    with pytest.raises(DataError, match="too far from the mean of training, 1") as refused:
        task.check(table)
    assert refused.value.place == f"{path}, row 2 (line 3), column 'rating'"


@pytest.mark.filterwarnings("error")
def test_the_largest_numbers_that_are_learned_are_scored_without_a_warning(tmp_path: Path) -> None:
    values = [1e70, -1e70, 3e69]
    table, kind = read_for_task(
        put(tmp_path, [("a", value) for value in values]), Columns(), task=Regression
    )
    task = kind.infer(table, np.arange(3), Reading())
    task.check(table)
    assert task.counts(table, np.arange(3))
    counts = RegressionCounts(1)
    counts.update(np.zeros((3, 1)), np.array(values)[:, None])
    assert None not in (counts.values()["rmse"], counts.intervals()["rmse"])


def test_one_number_for_all_is_nothing_to_learn(tmp_path: Path) -> None:
    table, kind = read_for_task(put(tmp_path, [("a", 2.5)] * 9), Columns(), task="regression")
    with pytest.raises(DataError, match=r"all 9 training rows have 2\.5"):
        kind.infer(table, np.arange(9), Reading())


def test_scores_are_those_of_the_peers_in_the_users_units() -> None:
    choose = np.random.default_rng(0)
    task = Regression(("x", "y"), (5.0, -100.0), (2.0, 30.0))
    true = choose.normal([5, -100], [2, 30], (80, 2))
    outputs = (true - [5, -100]) / [2, 30] + choose.normal(0, 0.5, (80, 2))
    scorer = task.scorer()
    for row, truth in zip(outputs, true, strict=True):
        scorer.add(task.decode(Output([row], []), {}), {"label": truth.tolist()})
    said = outputs * [2, 30] + [5, -100]
    values = scorer.values()
    for column, name in enumerate("xy"):
        found = values["per_column"][name]
        pair = true[:, column], said[:, column]
        assert found["rmse"] == pytest.approx(root_mean_squared_error(*pair))
        assert found["mae"] == pytest.approx(mean_absolute_error(*pair))
        assert found["r2"] == pytest.approx(r2_score(*pair))
        assert found["spearman"] == pytest.approx(spearmanr(*pair).statistic)
    assert values["rmse"] == pytest.approx(root_mean_squared_error(true, said))
    low, high = values["rmse_interval"]
    assert low < values["rmse"] < high < values["baseline_rmse"]


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(1.0, 2.0)], "R² and correlations need two rows or more, and there is 1"),
        ([(1.0, 2.0), (3.0, 2.0)], "all true values are equal"),
        ([(2.0, 1.0), (2.0, 3.0)], "all predicted values are equal"),
        ([(1.0, 2.0), (2.0, 3.0)], ""),
    ],
)
def test_a_score_without_a_value_says_why(pairs: list[Any], reason: str) -> None:
    scorer = Regression(("x",), (0.0,), (1.0,)).scorer()
    for predicted, true in pairs:
        scorer.add({"value": predicted}, {"label": [true]})
    lines = "\n".join(scorer.lines(0.5))
    assert ("n/a: " in lines) == bool(reason)
    assert reason in lines
    told = [each["detail"].lower() for each in scorer.explain()["cautions"]]
    assert any(reason.lower() in detail for detail in told) or not reason
    assert scorer.undefined() or None not in (scorer.values()[n] for n in ("r2", "pearson"))


@pytest.mark.parametrize(
    "settings",
    [{"means": [0.0]}, {"scales": [1.0, 0.0]}, {"means": ["x", 1]}, {"scales": [1, float("nan")]}],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|not one number"):
        Regression.restore(BertConfig(id2label={0: "a", 1: "b"}), settings)


def test_the_selftest_goes_by_the_spread() -> None:
    task = Regression(("x",), (0.0,), (1000.0,))
    assert task.differs({"value": 5.0}, {"value": 5.5}) == ""
    assert "of their spread" in task.differs({"value": 5.0}, {"value": 15.0})


@pytest.mark.parametrize("gap", ["", "NaN", "n/a", "null"])
def test_a_gap_in_a_column_of_numbers_makes_no_labels_of_them(tmp_path: Path, gap: str) -> None:
    rows = "".join(f"a text,{number}.5\n" for number in range(30))
    (tmp_path / "a.csv").write_text(f"text,score\n{rows}a text,{gap}\n")
    table, kind = read_for_task(tmp_path / "a.csv", Columns(label="score"))
    assert (kind.name, len(table), sum(map(len, table.dropped.values()))) == ("regression", 30, 1)


def test_numbers_with_odd_cells_are_told_the_task_that_reads_them(tmp_path: Path) -> None:
    rows = "".join(f"a text,{number}.5\n" for number in range(60))
    (tmp_path / "a.csv").write_text(f"text,score\n{rows}a text,4/5\n")
    table, kind = read_for_task(tmp_path / "a.csv", Columns(label="score"))
    with pytest.raises(DataError, match="does not look like a label") as caught:
        kind.strata(table)
    assert "--task regression" in caught.value.fix


def test_numbers_with_a_decimal_comma_are_told_the_task_and_the_point(tmp_path: Path) -> None:
    rows = "".join(f"a text;{number},5\n" for number in range(60))
    (tmp_path / "a.csv").write_text(f"text;score\n{rows}a text;n/a\n")
    table, kind = read_for_task(tmp_path / "a.csv", Columns(label="score"))
    with pytest.raises(DataError, match="does not look like a label") as caught:
        kind.strata(table)
    assert "--task regression, once they are written with a point" in caught.value.fix
    with pytest.raises(DataError, match="none of its 61 rows") as caught:
        read_for_task(tmp_path / "a.csv", Columns(label="score"), task="regression")
    assert "write its numbers with a point, as 0.5" in caught.value.fix
