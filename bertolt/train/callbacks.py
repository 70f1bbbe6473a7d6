"""What watches a run: progress for people, on a terminal and in a log file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from bertolt.base.console import StatusLine, info
from bertolt.base.format import duration
from bertolt.train.loop import History
from bertolt.train.step import StepLog

_SMOOTHING = 20
_BAR = 20


class Progress:
    """Loss, rate and time left: a bar on a terminal, a plain line now and then elsewhere.

    Args:
        logging_steps: steps between plain lines, which are never closer than ten seconds.
        unit: what the rate counts.
    """

    def __init__(self, logging_steps: int, unit: Literal["texts", "tokens"] = "texts") -> None:
        self._logging_steps = logging_steps
        self._unit = unit
        self._recent: list[StepLog] = []
        self._line = StatusLine()

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """Show the step."""
        self._recent = [*self._recent[-_SMOOTHING + 1 :], log]
        end = log.step in (1, total_steps)
        may = end or self._line.drawn or log.step % self._logging_steps == 0
        if may and self._line.due(force=end):
            start = "training" if self._line.drawn else "step"
            text = f"{start} {log.step}/{total_steps}  {self._describe(log, total_steps)}"
            done = "#" * round(_BAR * log.step / total_steps)
            self._line.show(text, f"  [{done:.<{_BAR}}]")

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Show the numbers of an evaluation on a line of their own."""
        numbers, others = [], []
        for name, value in _flat(metrics):
            if isinstance(value, int | float):
                numbers.append(f"{name.removeprefix('eval_')} {value:.4f}")
            else:
                others.append(name.removeprefix("eval_"))
        also = f"  (no number: {', '.join(others)})" if others else ""
        info(f"evaluated at step {step}:  {'  '.join(numbers)}{also}")

    def on_end(self, history: History) -> None:
        """Leave the bar where it stopped."""
        self._line.end(keep=True)

    def _describe(self, log: StepLog, total_steps: int) -> str:
        seconds = sum(entry.seconds for entry in self._recent)
        loss = sum(entry.loss for entry in self._recent) / len(self._recent)
        counted = "tokens" if self._unit == "tokens" else "sequences"
        rate = sum(getattr(entry, counted) for entry in self._recent) / (seconds or 1e-9)
        left = (total_steps - log.step) * seconds / len(self._recent)
        return (
            f"loss {loss:.4f}  lr {log.learning_rate:.2e}  {rate:.0f} {self._unit}/s  "
            f"{duration(left)} left"
        )


def _flat(metrics: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every metric, those of inner mappings as OUTER.INNER."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
