"""`examples/pretrain_zh` on small sets of made-up text: who sees what, and the results."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "pretrain_zh"
Run = Callable[..., subprocess.CompletedProcess[str]]

GOOD, POOR = "好美快新香甜棒亮", "差慢旧坏臭苦贵暗"
PLAIN = "这本书那家店我们他的是在有不了人大来上个到说"
ROWS = 240
SMALL = ["--steps", "4", "--config", "tiny", "--epochs", "1", "--seeds", "2"]


def sentences(choose: random.Random, letters: str) -> str:
    """Three sentences of some of these letters, and of ordinary ones."""
    found = []
    for _ in range(3):
        words = [choose.choice(PLAIN) for _ in range(choose.randrange(6, 14))]
        words.insert(2, choose.choice(letters))
        found.append("".join(words))
    return "。".join(found) + "。"


def write_dataset(name: str, contents: dict[str, str]) -> None:
    """Put files where `fetch` finds them whole, so that it needs no network."""
    from bertolt.data import sample_data

    entry = sample_data.find(name)
    entry.folder.mkdir(parents=True)
    for file, text in contents.items():
        (entry.folder / file).write_text(text, encoding="utf-8")
    files = [entry.folder / file for file in entry.files]
    manifest = json.dumps(sample_data._manifest(entry, files))
    (entry.folder / sample_data.MANIFEST).write_text(manifest, encoding="utf-8")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with both sets: texts that repeat, contradict each other, and quote another."""
    folder = tmp_path_factory.mktemp("cache")
    choose = random.Random(0)
    news = [sentences(choose, PLAIN) for _ in range(ROWS)]
    reviews = [(sentences(choose, GOOD), "positive") for _ in range(ROWS // 2)]
    reviews += [(sentences(choose, POOR), "negative") for _ in range(ROWS // 2)]
    quoting = [(f"上次说：{text} 现在也是！", label) for text, label in reviews[:20]]
    punctuated = [(text.replace("。", "！"), label) for text, label in reviews[20:40]]
    contradicted = [(reviews[50][0], "negative")]
    rows = [*reviews, *quoting, *punctuated, *contradicted, *reviews[:30]]
    table = "".join(f"{text},{label}\n" for text, label in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTOLT_CACHE", str(folder))
        write_dataset("zh-reviews", {"zh-reviews.csv": f"text,label\n{table}"})
        lines = "".join(f"{line}\n" for line in [*news, news[0], reviews[60][0]])
        write_dataset("people-daily", {"people-daily.jsonl": "", "people-daily.txt": lines})
    return folder


@pytest.fixture(scope="module")
def run(cache: Path) -> Run:
    """Runs the example in a folder."""

    def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLE), *words],
            cwd=folder,
            env={**os.environ, "BERTOLT_CACHE": str(cache), "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of a whole run, what it printed, and what it said."""
    folder = tmp_path_factory.mktemp("example")
    done = run(folder, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder / "pretrain-zh", done.stdout, done.stderr


def rows_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def letters(text: str) -> str:
    return re.sub(r"\W", "", text)


@pytest.mark.slow
def test_nobody_sees_a_test_text(finished: tuple[Path, str, str]) -> None:
    texts = finished[0] / "texts"
    test = [letters(text) for text in rows_of(texts / "test.csv")]
    assert len(test) == len(set(test)) >= 70
    lines = [
        letters(line)
        for name in ("news.txt", "reviews.txt")
        for line in (texts / name).read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) == len(set(lines))
    seen = [*lines, *map(letters, rows_of(texts / "train.csv") + rows_of(texts / "watched.csv"))]
    assert not [text for text in test if any(text in other for other in seen)]
    assert set(map(letters, rows_of(texts / "train.csv"))) <= set(lines)
    assert "no test text is in the corpus" in finished[2]
    # The encoders were trained on shards of these very lines.
    for objective in ("mlm", "mlm+nsp"):
        manifest = finished[0] / "shards" / objective / "manifest.json"
        counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
        assert counts["train"]["documents"] + counts["held_out"]["documents"] == len(lines)


@pytest.mark.slow
def test_the_results(finished: tuple[Path, str, str]) -> None:
    out, printed, _ = finished
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    starts = results["finetuning"]["starts"]
    assert list(starts) == ["scratch", "mlm", "mlm+nsp"]
    for start, found in starts.items():
        for seed, accuracy in found["accuracy"].items():
            scores = json.loads((out / "scores" / f"{start}-{seed}.json").read_text("utf-8"))
            assert (accuracy, scores["rows"]) == (scores["accuracy"], results["texts"]["test"])
        assert found["mean"] == pytest.approx(sum(found["accuracy"].values()) / 2)
        over = 100 * (found["mean"] - starts["scratch"]["mean"])
        assert found["points_over_scratch"] == pytest.approx(over)
    assert printed == (out / "results.md").read_text(encoding="utf-8")
    for start, found in starts.items():
        assert re.search(rf"^\| {re.escape(start)} +\|.*{100 * found['mean']:.2f}%", printed, re.M)
    for objective, found in results["pretraining"].items():
        assert found["steps"] == found["curve"][-1]["step"] == 4
        assert (found["pairs_accuracy"] is None) == (objective == "mlm")
        assert f"{found['tokens_per_second']:,.0f}" in printed
        assert f"{found['masked_loss']:#.4g}" in printed
    page = (out / "results.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)


@pytest.mark.slow
def test_starts_differ_in_their_weights_alone(finished: tuple[Path, str, str]) -> None:
    from bertolt import BertConfig

    out = finished[0]
    encoders = [out / "encoders" / name for name in ("scratch-1", "scratch-2", "mlm", "mlm+nsp")]
    configs = [BertConfig.from_pretrained(folder).changed(architectures=[]) for folder in encoders]
    assert all(config == configs[0] for config in configs)
    assert len({(folder / "vocab.txt").read_bytes() for folder in encoders}) == 1
    assert len({(folder / "model.safetensors").read_bytes() for folder in encoders}) == 4
    settings = [
        json.loads((folder / "arguments.json").read_text(encoding="utf-8"))
        for folder in sorted((out / "classifiers").iterdir())
    ]
    own = ("model", "seed", "out", "precision")  # which is measured anew by each run
    assert len(settings) == 6
    assert len({json.dumps({k: v for k, v in s.items() if k not in own}) for s in settings}) == 1


@pytest.mark.slow
def test_a_second_run_does_nothing_again(finished: tuple[Path, str, str], run: Run) -> None:
    out, printed, said = finished
    assert said.count("\n$ bertolt ") == 1 + 2 + 2 + 2 * 6
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = run(out.parent, *SMALL)
    assert (again.returncode, again.stdout) == (0, printed), again.stderr
    assert "$ bertolt" not in again.stderr
    new = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert new == {"results.json", "results.md", "results.html"}
    other = run(out.parent, *SMALL, "--steps", "5")
    assert (other.returncode, other.stdout) == (2, "")
    assert "a run with another --steps is in this folder (4)" in other.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--seeds", "0"], "--seeds is 0"),
        (["--seeds", "two"], "argument --seeds: invalid int value: 'two'"),
        (["--objectives", "clm"], "argument --objectives: invalid choice: 'clm'"),
        (["--objectives", "mlm", "mlm"], "--objectives names one twice"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--batch", "3"], "unrecognized arguments: --batch 3"),
        (["--out", "."], ".: this is not empty, and no run of this example is in it"),
    ],
)
def test_bad_options(words: list[str], problem: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    done = run(tmp_path, *words)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"pretrain_zh: error: {problem}")
    assert lines[1].startswith("  fix: ")
    assert len(lines) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
