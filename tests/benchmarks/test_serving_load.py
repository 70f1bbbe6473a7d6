"""The load on servers: what is kept of it, and when."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.results import markdown
from benchmarks.serving import __main__ as command
from benchmarks.serving import load
from benchmarks.serving.prepare import Material
from bertolt.base.format import number


@contextlib.contextmanager
def started(*given: Any, **named: Any) -> Iterator[Any]:
    yield SimpleNamespace()


def test_what_was_measured_is_kept_after_each_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = {"requests_per_second": 10.0, "p50_ms": 5.0, "p99_ms": 9.0, "cpu_ms_per_request": 11.0}
    monkeypatch.setattr(load, "running", started)
    monkeypatch.setattr(load, "_send", lambda *given, **named: dict(run))
    monkeypatch.setattr(load, "products", lambda *given: {"fp32": 100.0})
    engine = {"p50_ms": 4.0, "cpu_ms_one": 5.0, "texts_per_second": 20.0, "cpu_ms_many": 10.0}
    monkeypatch.setattr(load, "alone", lambda *given: dict(engine))
    kept: list[Any] = []
    record = load.describe(["bertolt", "pipeline"], repeats=2, threads=1, words=["x"])
    load.measure(
        record,
        Material(tmp_path),
        seconds=0.1,
        say=lambda line: None,
        keep=lambda found: kept.append(copy.deepcopy(found)),
    )
    works = len(record["works"])
    assert len(kept) == 2 * (works + 1)
    first = kept[0]["works"]
    counts = [len(each["contestants"]["bertolt"]["runs"]) for each in first.values()]
    assert counts == [1, *[0] * (works - 1)]
    assert f"| {number(10.0)} | 1 × | {number(5.0)} |" in markdown(kept[0])
    assert "p50" in command.engines(kept[0])
    assert "the server takes 10% more." in command.engines(record)
    for each in record["works"].values():
        assert len(each["products"]) == len(each["contestants"]["pipeline"]["runs"]) == 2
