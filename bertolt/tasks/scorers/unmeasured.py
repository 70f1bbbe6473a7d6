"""Labels that no row to measure on has, and what they do to a macro average."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bertolt.base.format import plural
from bertolt.metrics import ClassScore
from bertolt.metrics.counts import mean_of
from bertolt.tasks import page
from bertolt.tasks.table import shown

_NAMED = 3  # labels that a line names


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """Labels without a row among those that were measured.

    Attributes:
        answered: those that were answered none the less: their F1 is 0, which counts.
        silent: those that were not answered either.
        measured: how many labels have rows.
        macro: mean F1 over these.
        counts_silent: whether an F1 of 0 counts for `silent` too, or they are left out.
        noun: what a label is.
        unit: what would have it.
    """

    answered: list[str]
    silent: list[str]
    measured: int
    macro: float | None
    counts_silent: bool = False
    noun: str = "label"
    unit: str = "row"

    @classmethod
    def of(cls, labels: Sequence[str], scores: Sequence[ClassScore], **how: Any) -> Unmeasured:
        """Those among `labels` with these scores; `how` has the last fields."""
        pairs = list(zip(labels, scores, strict=True))
        absent = [(name, score.predicted) for name, score in pairs if not score.support]
        present = [score.f1 for _, score in pairs if score.support and score.f1 is not None]
        return cls(
            answered=[name for name, predicted in absent if predicted],
            silent=[name for name, predicted in absent if not predicted],
            measured=len(present),
            macro=mean_of(present),
            **how,
        )

    def values(self) -> dict[str, Any]:
        """The labels, and the macro F1 without them."""
        absent = {"answered": self.answered, "not_answered": self.silent}
        return {"without_rows": absent, "f1_macro_with_rows": self.macro}

    def words(self) -> str:
        """What they do to the macro F1; empty if there are none."""
        counted = [*self.answered, *(self.silent if self.counts_silent else ())]
        left_out = [] if self.counts_silent else self.silent
        parts = []
        if counted:
            parts.append(f"counts {_named(counted)} as 0, which no {self.unit} here has")
        if left_out:
            neither = f"which no {self.unit} here has and no answer gave"
            parts.append(f"leaves out {_named(left_out)}, {neither}")
        if not parts:
            return ""
        others = f"over the {plural(self.measured, self.noun)} with {self.unit}s it is"
        value = f"; {others} {self.macro:.4f}" if counted and self.macro is not None else ""
        return f"macro F1 {', and '.join(parts)}{value}"

    def lines(self) -> Iterator[str]:
        """The same for a terminal."""
        if words := self.words():
            yield f"  {words}"

    def cautions(self) -> list[dict[str, str]]:
        """The same for the page."""
        number = len(self.answered) + len(self.silent)
        if not number:
            return []
        words = self.words()
        claim = f"{plural(number, self.noun)} not measured"
        return [page.caution(claim, f"{words[0].upper()}{words[1:]}.")]


def _named(names: Sequence[str]) -> str:
    words = ", ".join(f"'{shown(name)}'" for name in names[:_NAMED])
    return words if len(names) <= _NAMED else f"{words} and {len(names) - _NAMED:,} more"
