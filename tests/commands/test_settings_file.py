"""`--config`: settings in a file, in place of flags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.cli import app
from tests.running import Said

Run = Callable[..., Said]


@pytest.fixture
def finetuned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Path], Any]]:
    """What `finetune` is called with, in place of a run."""
    calls: list[tuple[list[Path], Any]] = []

    def run(train: list[Path], options: Any) -> Any:
        calls.append((train, options))
        return type("Result", (), {"interrupted": False})

    monkeypatch.setattr("bertolt.commands.finetune.run.finetune", run)
    return calls


YAML = """\
# how we train
train: [a.csv, "b c.csv"]
lr: 5e-5
label: no
text: 2024-01-01
batch_size: 010
test-size: 0.1
keep: best
no-header: true
overwrite: false
sheet: ~
sep: "null"
"""
TOML = """\
train = ["a.csv", "b c.csv"]
lr = 5e-5
label = "no"
text = "2024-01-01"
batch_size = 10
test-size = 0.1
keep = "best"
no-header = true
overwrite = false
sep = "null"
"""
JSON = json.dumps(
    {
        **{"train": ["a.csv", "b c.csv"], "lr": 5e-5, "label": "no", "text": "2024-01-01"},
        **{"batch_size": 10, "test-size": 0.1, "keep": "best", "no-header": True},
        **{"overwrite": False, "sheet": None, "sep": "null"},
    }
)


@pytest.mark.parametrize(
    ("name", "text"), [("s.yaml", YAML), ("s.YML", YAML), ("s.toml", TOML), ("s.json", JSON)]
)
def test_every_format_gives_the_same_settings(
    bertolt: Run, tmp_path: Path, finetuned: list[Any], name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    said = bertolt("finetune", "--config", tmp_path / name)
    assert said.code == 0, said.err
    ((train, options),) = finetuned
    assert train == [Path("a.csv"), Path("b c.csv")]
    assert (options.lr, options.label, options.text) == (5e-5, "no", "2024-01-01")
    assert (options.batch_size, options.test_size, options.keep) == (10, 0.1, "best")
    assert (options.no_header, options.overwrite, options.sheet) == (True, False, None)
    assert options.sep == "null"


def test_what_is_typed_wins_and_is_said(bertolt: Run, tmp_path: Path, finetuned: list[Any]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("train: [a.csv, b.csv]\nlr: 1e-3\nepochs: 2\nlabel: [x, y]\n", "utf-8")
    said = bertolt("finetune", "c.csv", "--lr", "1e-4", "--config", path)
    ((train, options),) = finetuned
    assert (train, options.lr, options.epochs) == ([Path("c.csv")], 1e-4, 2.0)
    assert options.label == "x,y"
    assert "--lr 1e-4 (the file has 1e-3)" in said.err
    assert "TRAIN c.csv (the file has a.csv, b.csv)" in said.err
    assert "--epochs" not in said.err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train: a\nlearning-rate: 1e-4", ["line 2", "'learning-rate'", "did you mean lr?"]),
        ("train: a\nepoch: 1", ["'epoch'", "did you mean epochs?"]),
        ("settings: 1", ["'settings'", "--help"]),
        ("lr: fast", ["line 1", "lr is 'fast'", "give a number"]),
        ("batch-size: 8.5", ["batch-size is '8.5'", "a whole number"]),
        ("shard: yes", ["shard is 'yes'", "give true or false"]),
        ("order: randon", ["order is 'randon'", "did you mean 'random'?"]),
        ("keep: [1, 2]", ["keep is '1,2'", "or best"]),
        ("lr: [1e-3, 1e-4]", ["lr is a list of 2", "give one value"]),
        ("lr:\n  peak: 1e-3", ["lr is neither", "without sections"]),
        ('lr: ""', ["lr is empty", "leave the key out"]),
        ("lr: !!python/object:os.system 1", ["lr is neither"]),
        ("lr: 1\nepochs: 2\nlr: 3", ["line 3", "lr stands twice", "give lr once"]),
        ("batch-size: 1\nbatch_size: 3", ["batch-size and batch_size stands twice"]),
        ("a: b: c", ["line 1", "no YAML"]),
        ("- a", ["no keys"]),
        ("just words", ["no keys"]),
        ("a: 1\n---\nb: 2", ["no YAML"]),
    ],
)
def test_a_file_that_cannot_be_is_told_with_its_line(
    bertolt: Run, tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    said = bertolt("finetune", "--config", path)
    assert said.code == 2
    assert said.err.count("\n") == 2
    for part in (str(path), "\n  fix: ", *parts):
        assert part in said.err


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("s.toml", "lr = 1\nlr = 2", ["no TOML", "overwrite"]),
        ("s.toml", "lr = " + "[" * 9999 + "]" * 9999, ["nested too deeply"]),
        ("s.toml", "lr = 1" + "0" * 5000, ["no TOML"]),
        ("s.yaml", "lr: " + "[" * 9999 + "]" * 9999, ["nested too deeply"]),
        ("s.toml", "text = 2024-01-01", ["text is neither", "in quotes"]),
        ("s.json", '{"lr": 1, "lr": 2}', ["lr stands twice"]),
        ("s.json", "[1]", ["no keys"]),
        ("s.json", "{", ["no JSON"]),
        ("s.txt", "lr: 1", ["ends in .yaml"]),
        ("s.yaml", None, ["no such file"]),
    ],
)
def test_the_same_of_other_files(
    bertolt: Run, tmp_path: Path, name: str, text: str | None, parts: list[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    said = bertolt("finetune", "--config", tmp_path / name)
    assert said.code == 2
    for part in (name, "\n  fix: ", *parts):
        assert part in said.err


@pytest.mark.parametrize("typed", [["--html", "here"], ["--csv=here"], []])
def test_a_file_of_settings_is_nothing_else_too(
    bertolt: Run, tmp_path: Path, typed: list[str]
) -> None:
    """It would be replaced by a page, or read as a table."""
    rows, file = tmp_path / "rows.csv", tmp_path / "own.yaml"
    rows.write_text("text,label\na b,x\nb c,y\n")
    file.write_text(settings := "overwrite: true\n" if typed else f"file: {file}\n")
    words = [word.replace("here", str(file)) for word in typed]
    said = bertolt("check", *[rows] * bool(typed), "--config", file, *words)
    assert said.code == 2
    assert "it is the file of settings too\n  fix: name another file" in said.err
    assert file.read_text() == settings


def test_a_run_is_repeated_by_the_settings_that_it_left(
    bertolt: Run, tmp_path: Path, tiny_folder: Path, reviews_csv: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        f'train: "{reviews_csv}"\nmodel: "{tiny_folder}"\nepochs: 1\nlr: 5e-3\nbatch_size: 16\n'
        f"out: '{tmp_path / 'one'}'\n",
        encoding="utf-8",
    )
    assert bertolt("finetune", "--config", path).code == 0
    saved = tmp_path / "one" / "settings.yaml"
    said = bertolt("finetune", "--config", saved, "--out", tmp_path / "two")
    assert said.code == 0
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("one", "two")]
    assert weights[0] == weights[1]
    one, two = ((tmp_path / run / "settings.yaml").read_text() for run in ("one", "two"))
    assert one.replace("/one", "/two") == two
    assert 'task: "text-classification"' in one
    assert bertolt("finetune", "--config", saved, "--resume").code == 0, "it is complete"


def test_every_command_with_options_names_it_in_its_help(bertolt: Run) -> None:
    own = {"--help", "--version", "--config", "--settings"}
    for name in app:
        if name.startswith("-") or app[name].default_command is None:
            continue
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", bertolt(name, "--help").out))
        if options - own:
            assert options & {"--config", "--settings"}, name


def test_every_command_with_options_takes_a_file(
    bertolt: Run, tmp_path: Path, tuned: Path, reviews_csv: Path
) -> None:
    def file(text: str) -> Path:
        path = tmp_path / "s.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    said = bertolt("plan", "--config", file("config: tiny\ntokens: 1M\ngpus: H100\njson: true"))
    assert said.code == 0
    assert json.loads(said.out)
    typed = bertolt("plan", "--config", "tiny", "--tokens", "1M", "--gpus", "H100", "--json")
    assert typed.out == said.out, "a name is a shape"
    said = bertolt("predict", "--config", file(f"model: '{tuned}'\ntext: [good film, no]"))
    assert [answer["text"] for answer in said.answers()] == ["good film", "no"]
    said = bertolt("evaluate", tuned, "--config", file(f"file: '{reviews_csv}'\njson: true"))
    assert json.loads(said.out)["accuracy"] > 0.9
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a good film\n\na bad film\n" * 20, encoding="utf-8")
    words = file(f"corpus: ['{corpus}']\nvocab-size: 40\nout: '{tmp_path / 'words'}'")
    assert bertolt("tokenizer", "--config", words).code == 0
    shards = file(f"corpus: '{corpus}'\ntokenizer: '{tmp_path / 'words'}'\nout: '{tmp_path / 's'}'")
    assert bertolt("prepare", "--config", shards, "--workers", "1", "--max-length", "32").code == 0
    run = file(
        f"shards: '{tmp_path / 's'}'\nconfig: tiny\nsteps: 2\nbatch-tokens: 64\nprecision: fp32\n"
        f"out: '{tmp_path / 'p'}'"
    )
    assert bertolt("pretrain", f"--config={run}").code == 0
    saved = (tmp_path / "p" / "settings.yaml").read_text()
    assert 'config: "tiny"' in saved
    assert "steps: 2" in saved
    said = bertolt("pretrain", "--config", tmp_path / "p/settings.yaml", "--out", tmp_path / "q")
    assert said.code == 0, said.err
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("p", "q")]
    assert weights[0] == weights[1]
