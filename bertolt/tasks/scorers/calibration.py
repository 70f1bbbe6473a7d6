"""What probabilities are worth, in files, in a terminal and on a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.metrics import CalibrationCounts
from bertolt.metrics.calibration import temperature_or_why
from bertolt.tasks import page

_LEAD = (
    "Answers of similar probability, and the share of them that came true. On the diagonal "
    "probabilities are what they say; below it they are too sure. The calibration error is the "
    "mean distance from it, over 15 bins of equal width (of as many answers each: {mass})."
)


@dataclass(frozen=True)
class Heat:
    """The temperature of probabilities.

    Attributes:
        temperature: what logits are divided by.
        rows: on how many it was fitted.
        why: in words, why it could not be fitted; empty where nobody tried, or where it was.
    """

    temperature: float = 1.0
    rows: int = 0
    why: str = field(default="", compare=False)

    @property
    def fitted(self) -> bool:
        """Whether there is any."""
        return self.temperature != 1.0

    def settings(self) -> dict[str, Any]:
        """What a contract keeps of it."""
        return (
            {"temperature": self.temperature, "temperature_rows": self.rows} if self.fitted else {}
        )

    @classmethod
    def fit(cls, shares: Any, classes: Any, rows: int) -> Self:
        """The temperature that fits best, or why there is none.

        Args:
            shares: (N, C) probabilities at temperature 1.
            classes: (N,) the true ones.
            rows: how many rows they are of.
        """
        temperature, why = temperature_or_why(shares, classes)
        if temperature is None:
            return cls(why=why)
        return cls(temperature, rows, "" if temperature != 1.0 else "the best one is 1")

    @classmethod
    def restore(cls, settings: Mapping[str, Any]) -> Heat:
        """As a contract keeps it; 1 without one.

        Raises:
            ValueError: it is no number above 0.
        """
        temperature, rows = settings.get("temperature", 1.0), settings.get("temperature_rows", 0)
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature!r}, and must be a number above 0")
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
            raise ValueError(f"temperature_rows is {rows!r}, and must be a number of rows")
        return cls(float(temperature), rows)


PLAIN = Heat()


class Calibration:
    """Probabilities against what came true, and the same at temperature 1 where theirs is another.

    Attributes:
        heat: the temperature.
        after, before: counts of the probabilities that are told, and of those at temperature 1.
    """

    def __init__(self, heat: Heat = PLAIN) -> None:
        self.heat = heat
        self.after, self.before = CalibrationCounts(), CalibrationCounts()

    def state(self) -> dict[str, NDArray[Any]]:
        """Both counts."""
        before = {"calibration_before": self.before.state()["cells"]} if self.heat.fitted else {}
        return {"calibration": self.after.state()["cells"], **before}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add both counts."""
        self.after.merge({"cells": state["calibration"]})
        if self.heat.fitted:
            self.before.merge({"cells": state["calibration_before"]})

    def values(self) -> dict[str, Any]:
        """Both errors and both curves; before there is a probability, nothing."""
        if not self.after.total():
            return {}
        values: dict[str, Any] = {
            **self.after.values(),
            "calibration": {
                "equal_width": [vars(each) for each in self.after.curve()],
                "equal_mass": [vars(each) for each in self.after.curve(equal_mass=True)],
            },
        }
        if self.heat.fitted:
            before = {f"{name}_before": value for name, value in self.before.values().items()}
            values |= {"temperature": self.heat.temperature, **before}
        return values

    def lines(self) -> Iterator[str]:
        """The errors for a terminal."""
        if self.after.total():
            error, mass = self.after.error(), self.after.error(equal_mass=True)
            errors = f"{error:.4f} (in bins of equal mass {mass:.4f})"
            yield f"  calibration error {errors}{self._words()}"

    def _words(self) -> str:
        if not self.heat.fitted:
            return f"; no temperature was fitted: {self.heat.why}" if self.heat.why else ""
        rows = f", fitted on {plural(self.heat.rows, 'held-out row')}" if self.heat.rows else ""
        return (
            f"; {self.before.error():.4f} before the temperature {self.heat.temperature:.4g}{rows}"
        )

    def tiles(self) -> list[dict[str, Any]]:
        """The error for the page."""
        if not self.after.total():
            return []
        note = "0 is best"
        if self.heat.fitted:
            note = f"{self.before.error():.1%} before the temperature {self.heat.temperature:.3g}"
        return [page.share("Calibration error", self.after.error(), note)]

    def blocks(self, share: str, unit: str) -> list[dict[str, Any]]:
        """The reliability curve with its counts, for the page.

        Args:
            share: what is drawn upwards.
            unit: what is counted, as "answers".
        """
        if not self.after.total():
            return []
        lead = _LEAD.format(mass=f"{self.after.error(equal_mass=True):.1%}")
        return [page.reliability(self.after.curve(), lead + self._lead_of_heat(), share, unit)]

    def _lead_of_heat(self) -> str:
        if not self.heat.fitted:
            return f" No temperature was fitted: {self.heat.why}." if self.heat.why else ""
        rows = f"{plural(self.heat.rows, 'held-out row')}" if self.heat.rows else "held-out rows"
        return (
            f" The temperature {self.heat.temperature:.4g} was fitted on {rows}, so that scores of "
            "these very rows flatter it a little."
        )
