"""The notes' two fine-tuning programs run as they stand, with a tiny model and made-up reviews.

At their learning rate a tiny model learns next to nothing, so it knows the reviews beforehand: a
program that mixed up rows, labels or weights would not print what it then has to.
"""

from __future__ import annotations

import ast
import csv
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / "examples" / "notes"
ROWS = 1000  # of each part: the programs select as many


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, reviews: list[tuple[str, str]]) -> Path:
    """A folder with train.csv and test.csv, labels 0 and 1, as the programs read it."""
    folder = tmp_path_factory.mktemp("parts")
    rows = [(text, int(label == "pos")) for text, label in reviews]
    for name in ("train", "test"):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(itertools.islice(itertools.cycle(rows), ROWS))
    return folder


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, reviews: list[tuple[str, str]]
) -> Path:
    """A folder with a classifier that knows the reviews by heart, and its tokenizer."""
    import torch

    from bertolt import (
        AdamW,
        BertForSequenceClassification,
        BertTokenizer,
        PackingCollator,
        train_step,
    )

    tokenizer = BertTokenizer.from_pretrained(tiny_folder)
    rows = [{**tokenizer(text), "label": int(label == "pos")} for text, label in reviews]
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(
        tiny_folder, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).train()
    optimizer = AdamW(model.parameters(), lr=3e-3)
    for start in [*range(0, len(rows), 8)] * 15:
        log = train_step(model, PackingCollator()(rows[start : start + 8]), optimizer)
    assert log.loss < 0.05
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(name: str, tmp_path: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAMS / name), *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "key"), [("finetune_trainer.py", "eval_accuracy"), ("finetune_by_hand.py", "accuracy")]
)
def test_a_program_prints_its_accuracy(
    name: str, key: str, trained: Path, parts: Path, tmp_path: Path
) -> None:
    done = run(name, tmp_path, trained, parts)
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    right = found[key] * ROWS
    assert right == pytest.approx(round(right))
    assert 0.95 < found[key] <= 1


def test_the_movie_sentences_become_two_files(tmp_path: Path) -> None:
    done = run("movie_sentences.py", tmp_path, Path("movies"))
    if "bertolt.base.errors.DataError" in done.stderr:
        pytest.skip("the movie sentences cannot be had here")
    assert done.returncode == 0, done.stderr
    texts = []
    for name, count in (("train", 8484), ("test", 2121)):
        with (tmp_path / "movies" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count
        assert {row["label"] for row in rows} == {"0", "1"}
        texts += [row["text"] for row in rows]
    assert all(texts)


@pytest.mark.parametrize("name", ["finetune_trainer.py", "finetune_by_hand.py"])
def test_a_program_knows_bertolt_by_its_imports_alone(name: str) -> None:
    tree = ast.parse((PROGRAMS / name).read_text(encoding="utf-8"))
    modules = {each.module for each in tree.body if isinstance(each, ast.ImportFrom)}
    assert {"bertolt", "datasets"} <= modules
    assert "transformers" not in modules
    rest = [each for each in tree.body[1:] if not isinstance(each, ast.Import | ast.ImportFrom)]
    assert "bertolt" not in "\n".join(map(ast.unparse, rest))
