"""Processes that wait for others: for so long, and no longer than torchrun lives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.distributed import JOIN_VARIABLE, join, report_crash
from bertolt.base.errors import TrainingError, UsageError
from tests.distributed.starting import environment


@pytest.fixture
def lonely(monkeypatch: pytest.MonkeyPatch) -> int:
    """A process of two, which meet at a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    about = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", JOIN_VARIABLE: "1"}
    for name, value in (about | {"MASTER_PORT": str(port)}).items():
        monkeypatch.setenv(name, value)
    return port


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", ""),
        ("RANK", "first"),
        ("RANK", "-1"),
        ("LOCAL_RANK", "x"),
        ("MASTER_PORT", "http"),
    ],
)
def test_what_is_no_number_is_told_before_anybody_waits(
    lonely: int, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"{variable}: '{value}' is no number of") as caught:
        join()
    assert f"unset {variable}" in caught.value.fix


def test_a_process_beyond_the_last_is_told(lonely: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(UsageError, match="RANK is 2, and WORLD_SIZE is 2"):
        join()


@pytest.mark.parametrize("torchruns", ["True", "False"])
def test_a_meeting_place_where_nobody_answers(
    lonely: int, torchruns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", torchruns)
    start = time.monotonic()
    with pytest.raises(TrainingError, match=f"nobody answered in 1 seconds at 127.0.0.1:{lonely}"):
        join()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("value", ["soon", "0", "-5", "nan", "inf"])
def test_a_limit_that_is_none(lonely: int, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOIN_VARIABLE, value)
    with pytest.raises(UsageError, match="no number of seconds from 1 to 86400"):
        join()


@pytest.mark.slow
def test_others_that_do_not_come(lonely: int) -> None:
    program = "from bertolt.base.distributed import join; join()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment(), "RANK": "0"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "TrainingError: not all of 2 processes came in 1 seconds" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("moment", ["at once", "while it imports", "in training"])
def test_torchrun_is_killed(
    moment: str, tiny_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    """Its processes end within seconds, whatever they are doing."""
    words = ["finetune", reviews_csv, "--model", tiny_folder, "--out", tmp_path / "out"]
    words += ["--epochs", 4000, "--batch-size", 8, "--precision", "fp32"]
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    said = tmp_path / "said.txt"
    with said.open("w") as target:
        torchrun = subprocess.Popen(
            [*started, "-m", "bertolt", *map(str, words)],
            env={**environment(), JOIN_VARIABLE: "2"},
            stdout=target,
            stderr=target,
        )
    workers = waited_for(lambda: children(torchrun.pid))
    if moment == "while it imports":
        time.sleep(1)
    elif moment == "in training":
        waited_for(lambda: "step 1/" in said.read_text(encoding="utf-8"))
    os.kill(torchrun.pid, signal.SIGKILL)
    torchrun.wait()
    try:
        waited_for(lambda: not any(Path(f"/proc/{each}/fd").is_dir() for each in workers), 20)
    finally:
        for each in workers:
            if Path(f"/proc/{each}").is_dir():
                os.kill(each, signal.SIGKILL)
    assert "Traceback" not in said.read_text(encoding="utf-8")


def children(parent: int) -> list[int]:
    """The two processes of a torchrun; empty before there are two."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8")
    numbers = [int(number) for number in text.split()]
    return numbers if len(numbers) == 2 else []


def waited_for(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What a function gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return seen


@pytest.mark.parametrize("words", ["Connection closed by peer [127.0.0.1]", "Timed out waiting"])
def test_a_process_that_lost_another_says_so(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report_crash(RuntimeError(words))
    assert "another process of this run has ended" in capsys.readouterr().err


def test_another_fault_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    report_crash(RuntimeError("a fault of the program"))
    said = capsys.readouterr().err
    assert "RuntimeError: a fault of the program" in said
    assert "another process" not in said
