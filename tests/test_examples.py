"""The example programs run on a slice of real sentences and print the accuracy they reach."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
ROWS = 40


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV with every 265th movie sentence, so that both labels are in it."""
    from bertolt.base.errors import DataError
    from bertolt.data import sample_data

    try:
        source = sample_data.fetch("movie-sentences")
    except DataError as error:
        pytest.skip(error.problem)
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path_factory.mktemp("data") / "sentences.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows[:: len(rows) // ROWS][:ROWS])
    return path


def test_the_examples_are_short() -> None:
    assert [path.name for path in EXAMPLES] == ["finetune_loop.py", "finetune_trainer.py"]
    for path in EXAMPLES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_its_accuracy(path: Path, sentences: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path), str(sentences)],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(r"accuracy (\d\.\d{4})", last)
    assert found, last
    right = float(found[1]) * ROWS / 5  # a fifth is held out
    assert 0 <= right <= 8
    assert right == pytest.approx(round(right))
