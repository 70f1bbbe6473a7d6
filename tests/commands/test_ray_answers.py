"""`bertolt predict --engine ray`: the same bytes from the processes of a cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import write_rows

Run = Callable[..., Any]
Trained = Callable[[str], Path]
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'bertolt[ray]'")
def test_ray_writes_the_same_bytes(
    bertolt: Run, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertolt.tasks.predictor.WINDOW", 5)
    texts = ["good", "", "the film was very bad", "awful plot", "fine"]
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts * 5])
    for engine in ("torch", "ray"):
        out = tmp_path / f"{engine}.jsonl"
        said = bertolt("predict", trained("labels"), rows, "--out", out, "--engine", engine)
        assert said.code == 0, said.err
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "torch.jsonl").read_bytes()


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_says_what_to_install(bertolt: Run, trained: Trained) -> None:
    said = bertolt("predict", trained("labels"), "--text", "good", "--engine", "ray")
    assert said.code == 2
    assert "Ray is not installed" in said.err
    assert "pip install 'bertolt[ray]'" in said.err
