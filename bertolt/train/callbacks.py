"""What watches a run: progress for people, on a terminal and in a log file."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal

from bertolt.base.console import say
from bertolt.base.format import duration
from bertolt.train.loop import History
from bertolt.train.step import StepLog

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_SMOOTHING = 20
_SECONDS_BETWEEN_LINES = 10.0


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
        self._last_line = 0.0
        self._bar: RichProgress | None = None

    def on_step(self, log: StepLog, total_steps: int) -> None:
        """Show the step."""
        self._recent = [*self._recent[-_SMOOTHING + 1 :], log]
        words = self._describe(log, total_steps)
        if sys.stderr.isatty():
            self._draw(log.step, total_steps, words)
            return
        due = log.step % self._logging_steps == 0
        if log.step in (1, total_steps) or (due and self._seconds_since() > _SECONDS_BETWEEN_LINES):
            self._last_line = time.monotonic()
            say(f"step {log.step}/{total_steps}  {words}")

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Show the numbers of an evaluation on a line of their own."""
        words = "  ".join(
            f"{name.removeprefix('eval_')} {value:.4f}" for name, value in metrics.items()
        )
        line = f"evaluated at step {step}:  {words}"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            say(line)

    def on_end(self, history: History) -> None:
        """Leave the bar where it stopped."""
        if self._bar is not None:
            self._bar.stop()

    def _seconds_since(self) -> float:
        return time.monotonic() - self._last_line

    def _describe(self, log: StepLog, total_steps: int) -> str:
        seconds = sum(entry.seconds for entry in self._recent)
        loss = sum(entry.loss for entry in self._recent) / len(self._recent)
        counted = "tokens" if self._unit == "tokens" else "sequences"
        rate = sum(getattr(entry, counted) for entry in self._recent) / seconds
        left = (total_steps - log.step) * seconds / len(self._recent)
        return (
            f"loss {loss:.4f}  lr {log.learning_rate:.2e}  {rate:.0f} {self._unit}/s  "
            f"{duration(left)} left"
        )

    def _draw(self, step: int, total_steps: int, words: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
                console=Console(stderr=True),
            )
            self._bar.add_task("training", total=total_steps, words="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=step, words=words)
