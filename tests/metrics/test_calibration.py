"""Reliability curves, their errors, and temperatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve

from bertolt.base.errors import UsageError
from bertolt.metrics import CalibrationCounts, fit_temperature
from bertolt.metrics.calibration import heated, heated_each, temperature_or_why


def counted(shares: Any, right: Any) -> CalibrationCounts:
    counts = CalibrationCounts()
    counts.update(shares, right)
    return counts


def test_the_curve_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    shares = generator.random(3000)
    right = generator.random(3000) < shares**2
    curve = counted(shares, right).curve()
    true, mean = calibration_curve(right, shares, n_bins=15)
    np.testing.assert_allclose([each.right for each in curve], true)
    np.testing.assert_allclose([each.probability for each in curve], mean, atol=1e-9)
    assert sum(each.count for each in curve) == 3000


def test_bins_of_equal_mass_are_those_of_scikit_learn_but_for_cells() -> None:
    generator = np.random.default_rng(1)
    shares = generator.beta(8, 1, 30_000)
    right = generator.random(30_000) < shares
    counts = counted(shares, right)
    curve = counts.curve(equal_mass=True)
    true, mean = calibration_curve(right, shares, n_bins=15, strategy="quantile")
    np.testing.assert_allclose([each.right for each in curve], true, atol=0.02)
    np.testing.assert_allclose([each.probability for each in curve], mean, atol=0.001)
    assert all(abs(each.count - 2000) < 120 for each in curve)
    assert (counts.error() or 1) < 0.02 > (counts.error(equal_mass=True) or 1)


def test_the_errors_by_hand() -> None:
    counts = CalibrationCounts()
    for share, right in [(0.9, True), (0.9, False), (0.5, True), (0.5, True)]:
        counts.add(share, right)
    assert counts.error() == pytest.approx((2 * 0.4 + 2 * 0.5) / 4, abs=1e-9)
    assert counts.error(equal_mass=True) == pytest.approx(counts.error())
    assert counts.values() == {"ece": counts.error(), "ece_equal_mass": counts.error()}
    other = counted([0.9, 0.9, 0.5, 0.5], [1, 0, 1, 1])
    assert (other.state()["cells"] == counts.state()["cells"]).all()
    assert CalibrationCounts().values() == {"ece": None, "ece_equal_mass": None}
    assert CalibrationCounts().curve() == []


def test_ends_have_a_bin() -> None:
    counts = counted([0.0, 1.0, 1.0], [0, 1, 0])
    assert [(each.probability, each.right) for each in counts.curve()] == [(0, 0), (1, 0.5)]


@pytest.mark.parametrize(("shares", "right"), [([1.5], [1]), ([0.5], [2]), ([0.5, 0.1], [1])])
def test_what_is_no_probability_is_refused(shares: Any, right: Any) -> None:
    with pytest.raises(UsageError):
        counted(shares, right)


def drawn(temperature: float, rows: int = 20_000) -> tuple[Any, Any]:
    """Probabilities at temperature 1 of rows whose labels come at another."""
    generator = np.random.default_rng(2)
    logits = generator.normal(0, 3, (rows, 4))
    shares = heated(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 1.0)
    chance = heated(shares, temperature).cumsum(axis=1)
    return shares, (generator.random((rows, 1)) > chance[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_the_temperature_is_the_one_of_least_loss(temperature: float) -> None:
    shares, classes = drawn(temperature)

    def loss(logarithm: float) -> float:
        chosen = heated(shares, np.exp(logarithm))[np.arange(len(classes)), classes]
        return float(-np.log(chosen).mean())

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    fitted = fit_temperature(shares, classes)
    assert fitted == pytest.approx(np.exp(best.x), rel=1e-4)
    assert fitted == pytest.approx(temperature, rel=0.05)
    order = np.random.default_rng(3).permutation(len(classes))
    assert fit_temperature(shares[order], classes[order]) == fitted
    assert (heated(shares, fitted).argmax(axis=1) == shares.argmax(axis=1)).all()


def test_where_every_row_is_right_no_temperature_is_fitted() -> None:
    assert fit_temperature([[0.9, 0.1], [0.2, 0.8]], [0, 1]) is None
    assert fit_temperature(np.empty((0, 2)), []) is None


def test_a_model_after_a_few_steps_has_a_temperature() -> None:
    shares = np.tile([0.505, 0.495], (24, 1))
    fitted = fit_temperature(shares, [0] * 18 + [1] * 6)
    assert fitted is not None
    assert fitted < 0.05
    np.testing.assert_allclose(heated(shares, fitted)[0], [0.75, 0.25], atol=1e-3)


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], "all is right already"),
        ([[0.1, 0.9], [0.8, 0.2]], "above 20"),
        ([[0.5 + 1e-9, 0.5 - 1e-9]] * 3, "below 0.001"),
        ([[np.nan, np.nan], [0.2, 0.8]], "not finite"),
    ],
)
def test_why_no_temperature_is_fitted(shares: Any, why: str) -> None:
    classes = [0, 1] if len(shares) == 2 else [0, 0, 1]
    temperature, words = temperature_or_why(shares, classes)
    assert temperature is None
    assert why in words


def test_one_label_by_itself_is_heated_as_two_are() -> None:
    shares = np.array([0.0, 0.2, 0.5, 0.999, 1.0], dtype=np.float32)
    warm = heated_each(shares, 2.0)
    logits = np.log(shares[1:-1] / (1 - shares[1:-1]))
    np.testing.assert_allclose(warm[1:-1], 1 / (1 + np.exp(-logits / 2)), rtol=1e-6)
    np.testing.assert_allclose(heated_each(warm, 0.5)[1:-1], shares[1:-1], rtol=1e-6)
    assert (np.diff(warm) > 0).all()
    assert heated_each(shares, 1.0) is shares
