"""The script for a GPU does all its measurements, in tiny sizes on a CPU, and writes its table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_measures import SMOKE

pytest.importorskip("transformers")

RUN = [name for name in gpu.JOBS if name not in ("mlm-base-compiled", "peer-finetune-32-flash")]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_a_measurement_finds_rates(name: str) -> None:
    job = gpu.JOBS[name]
    found = job.run(SMOKE, **job.options)
    json.dumps(found)
    if name == "products":
        assert found["tflops"] > 0
    else:
        assert found[f"{job.unit}_per_second"] > 0


@pytest.mark.skipif(
    importlib.util.find_spec("flash_attn") is not None, reason="the package is installed"
)
def test_a_measurement_that_cannot_be_made_says_why() -> None:
    found = gpu.measure("peer-finetune-32-flash", smoke=True, limit=120)
    assert found == {"failure": "the package flash_attn is not installed"}


def test_what_has_no_time_left_is_listed(tmp_path: Path) -> None:
    kept: list[gpu.Found] = []
    gpu.run_all(["products", "mlm-base"], True, 0.0, kept.append)
    table = gpu.markdown(kept[-1])
    assert "| masked LM, base, 512 | no time was left |" in table
    assert "| masked LM, base: tokens a second | 670,000 | – | not measured |" in table


def test_targets_are_judged_by_the_faster_peer() -> None:
    found = {
        "finetune-32": {"sequences_per_second": 90.0},
        "peer-finetune-32": {"sequences_per_second": 20.0},
        "peer-finetune-32-flash": {"sequences_per_second": 31.0},
        "predict-short": {"failure": "not done after 9 seconds"},
    }
    record = {"made": "2026-01-01T00:00:00", "commit": "x", "smoke": False, "results": found}
    table = gpu.markdown(record)
    assert "| fine-tuning at 32: times the faster of the peer's | 3 | 2.90 | missed |" in table
    assert "| prediction, short: times the peer's | 3 | – | not measured |" in table
