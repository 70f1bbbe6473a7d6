"""For the tests of `finetune`: the command in this process, small tables, quick options."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bertolt.commands.finetune.options import FinetuneOptions
from tests.running import Said


@pytest.fixture
def finetune_command(
    bertolt: Callable[..., Said], tiny_folder: Path, tmp_path: Path
) -> Callable[..., Said]:
    """Run `bertolt finetune` on the tiny model, into `tmp_path/out` unless told otherwise."""

    def run(train: object, *words: object) -> Said:
        given = [str(word) for word in words]
        if "--model" not in given:
            given += ["--model", str(tiny_folder)]
        if "--out" not in given:
            given += ["--out", str(tmp_path / "out")]
        if "--epochs" not in given:
            given += ["--epochs", "1"]
        return bertolt("finetune", train, *given, "--precision", "fp32")

    return run


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Write rows, a header before them, as a CSV file."""

    def write(
        rows: Iterable[Sequence[object]],
        header: Sequence[str] = ("text", "label"),
        name: str = "data.csv",
    ) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return write


@pytest.fixture
def good_rows() -> list[tuple[str, str]]:
    """Forty rows that can be used."""
    return [
        (f"the film was {'good' if number % 2 else 'bad'} {number}", "np"[number % 2])
        for number in range(40)
    ]


@pytest.fixture
def quick(tiny_folder: Path, tmp_path: Path) -> Callable[..., FinetuneOptions]:
    """Options for the tiny model that take a second."""

    def make(**changes: Any) -> FinetuneOptions:
        values: dict[str, Any] = {
            "model": str(tiny_folder),
            "out": tmp_path / "out",
            "precision": "fp32",
            "epochs": 1,
            "batch_size": 8,
            "lr": 3e-3,
        }
        return FinetuneOptions(**(values | changes))

    return make


@pytest.fixture
def process_ended_by(
    reviews_csv: Path, tiny_folder: Path, tmp_path: Path
) -> Callable[[signal.Signals], tuple[int, str]]:
    """Let a run in a process of its own get a signal after its first step.

    Gives its exit code, and what it said after that step.
    """

    def run(number: signal.Signals) -> tuple[int, str]:
        words = ["finetune", reviews_csv, "--model", tiny_folder, "--out", tmp_path / "out"]
        words += ["--epochs", "100000", "--precision", "fp32"]
        process = subprocess.Popen(
            [sys.executable, "-m", "bertolt", *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("step 1/"):
                break
        time.sleep(0.2)
        process.send_signal(number)
        rest = process.communicate(timeout=120)[1]
        assert rest, said
        return process.returncode, rest

    return run
