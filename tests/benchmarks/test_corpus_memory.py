"""`benchmarks/corpus_memory.py`: what it counts, and that it leaves nothing on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import corpus_memory
from benchmarks.corpus_memory import Reading, peaks

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["corpus_memory", *map(str, words)])
        corpus_memory.main()

    return run


def test_peaks_of_a_run_and_of_its_quarters() -> None:
    readings = [Reading(number / 10, 100 + number, (50.0, 20.0)) for number in range(8)]
    found = peaks(readings)
    assert (found["parent_mb"], found["worker_mb"], found["all_mb"]) == (107, 50, 177)
    assert found["all_mb_by_quarter"] == [171, 173, 175, 177]


def test_a_disk_that_is_too_small_is_told_before(
    measure: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"3000000\.0 GB are needed, and .* GB are free"):
        measure("--gigabytes", 1e6, "--folder", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@linux
@pytest.mark.slow
def test_what_it_finds_fits_together_and_nothing_is_left(
    measure: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure("--gigabytes", 0.003, "--workers", 2, "--folder", tmp_path)
    found = json.loads(capsys.readouterr().out)
    assert 2.9e6 < found["text_bytes"] < 4e6
    assert found["file_bytes"] < found["text_bytes"]
    prepared = found["prepare"]
    assert prepared["tokens"] > 100_000
    assert prepared["all_mb"] >= max(prepared["parent_mb"], prepared["worker_mb"]) > 10
    used = found["file_bytes"] + prepared["shard_bytes"]
    assert used < corpus_memory.ROOM * found["text_bytes"]
    assert list(tmp_path.iterdir()) == []


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_one_leaves_nothing_and_nobody(tmp_path: Path, how: signal.Signals) -> None:
    words = ["-m", "benchmarks.corpus_memory", "--gigabytes", "0.02", "--folder", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=Path(corpus_memory.__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        started = wait_for(lambda: corpus_memory.children(process.pid))
        process.send_signal(how)
        assert process.wait(120) != 0
    assert list(tmp_path.iterdir()) == []
    wait_for(lambda: not any(map(is_running, started)))


def wait_for(found: Callable[[], Sequence[int] | bool]) -> list[int]:
    """What `found` gives, once that is something."""
    for _ in range(2400):
        if answer := found():
            return answer if isinstance(answer, list) else []
        time.sleep(0.05)
    raise AssertionError("it did not come")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
