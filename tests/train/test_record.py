"""The facts of a run, whatever the clock of the machine does meanwhile."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from bertolt.train import record


def test_a_clock_that_is_set_back_makes_no_negative_time(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic() - 90
    monkeypatch.setattr(time, "time", lambda: 0.0)
    facts = record.run_head("finetune", "t", started=started, command="c", arguments={})
    assert 90 <= facts["duration_seconds"] < 120
    began = datetime.strptime(facts["started"], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert 29 < (datetime.now(UTC) - began).total_seconds() < 240
