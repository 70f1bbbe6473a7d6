"""What people see of a run."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

import pytest

from bertolt.train.callbacks import Progress
from bertolt.train.loop import History
from bertolt.train.step import StepLog


def log(step: int, loss: float = 0.5) -> StepLog:
    return StepLog(
        step=step,
        loss=loss,
        grad_norm=1.0,
        learning_rate=2e-5,
        sequences=8,
        tokens=80,
        rows=128,
        seconds=0.5,
    )


def test_without_a_terminal_the_first_and_the_last_step_have_a_line(capsys: Any) -> None:
    progress = Progress(logging_steps=2)
    for step in range(1, 9):
        progress.on_step(log(step, loss=1.0 if step < 8 else 2.0), 8)
    progress.on_end(History())
    first, last = capsys.readouterr().err.splitlines()
    assert first == "step 1/8  loss 1.0000  lr 2.00e-05  16 texts/s  3.5 s left"
    assert last.startswith("step 8/8  loss 1.1250")
    assert last.endswith("0.0 s left")


def test_lines_between_come_at_their_step_and_never_close_together(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    progress = Progress(logging_steps=2)
    for step in range(1, 10):
        clock += 6.0
        progress.on_step(log(step), 20)
    lines = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["1/20", "4/20", "6/20", "8/20"]


def test_on_a_terminal_there_is_a_bar_that_evaluations_do_not_tear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    progress = Progress(logging_steps=10)
    progress.on_step(log(1), 2)
    progress.on_evaluate(1, {"eval_accuracy": 0.875})
    progress.on_step(log(2), 2)
    progress.on_end(History())
    shown = screen.getvalue()
    assert "evaluated at step 1:  accuracy 0.8750" in shown
    assert "2/2" in shown
    assert "16 texts/s" in shown
    rows = [row.rpartition("\r\x1b[K")[2] for row in shown.split("\n")]
    assert rows[0].startswith("evaluated at step 1")
    assert rows[1].startswith("training 2/2  loss 0.5000")
    assert rows[1].endswith("[" + "#" * 20 + "]")
    assert rows[2:] == [""]
