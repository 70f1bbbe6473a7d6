"""The settings that a search tries: files and words, and what is refused before the first trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertolt.base.errors import UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.space import Dimension, read_space

SPACE = {
    "lr": Dimension(low=1e-5, high=1e-4, log=True),
    "batch_size": Dimension(choices=(16, 32)),
    "epochs": Dimension(low=1, high=3, step=1),
    "schedule": Dimension(choices=("linear", "cosine")),
}
YAML = """lr: {low: 1e-5, high: 1e-4, log: true}
batch-size: [16, 32]
epochs: {low: 1, high: 3, step: 1}
schedule: [linear, cosine]
"""
TOML = """batch_size = [16, 32]
schedule = ["linear", "cosine"]
[lr]
low = 1e-5
high = 1e-4
log = true
[epochs]
low = 1
high = 3
step = 1
"""
JSON = """{"lr": {"low": 1e-5, "high": 1e-4, "log": true}, "batch_size": [16, 32],
"epochs": {"low": 1, "high": 3, "step": 1}, "schedule": ["linear", "cosine"]}"""


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.toml", TOML), ("a.json", JSON)])
def test_files_of_three_kinds_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_space(str(tmp_path / name), FinetuneOptions()) == SPACE


def test_a_few_words_do_too() -> None:
    words = "lr=1e-5..1e-4:log batch_size=16,32 freeze=1,all warmup=0..0.3"
    space = read_space(words, FinetuneOptions())
    assert {name: space[name] for name in ("lr", "batch_size")} == {
        name: SPACE[name] for name in ("lr", "batch_size")
    }
    assert read_space("calibrate=true,False", FinetuneOptions()) == {
        "calibrate": Dimension(choices=(True, False))
    }
    assert space["freeze"] == Dimension(choices=(1, "all"))
    assert space["warmup"] == Dimension(low=0, high=0.3)


@pytest.mark.parametrize(
    ("words", "problem", "fix"),
    [
        ("lrs=1e-5..1e-4", "no setting 'lrs'", "did you mean lr?"),
        ("split_seed=1,2", "no setting 'split_seed'", "what can be searched"),
        ("batch_size=0,16", "--batch-size is 0", "1 or more"),
        ("batch_size=1.5..4", "batch_size is a whole number", "whole numbers"),
        ("lr=1e-4..1e-5", "lr goes from 1e-4 to 1e-5", "write lr=1e-5..1e-4"),
        ("lr=1e-4..1e-5:log", "lr goes from 1e-4 to 1e-5", "write lr=1e-5..1e-4:log"),
        ("lr=1e-4..1e-4", "lr goes from 1e-4 to 1e-4", "lr=1..10:log"),
        ("batch_size=1..1" + "0" * 29, "--batch-size is 99999", "below 2**63"),
        ("lr=0..1:log", "by its logarithm", "begin above 0"),
        ("lr=1..2:lin", "'lin' is no scale", "lr=1..2:log"),
        ("schedule=liner", "--schedule is 'liner'", "linear or"),
        ("schedule=a..b", "schedule is no number", "schedule=first,second"),
        ("lr", "'lr' is neither a file", "lr=1e-5..1e-4:log"),
        ("lr=1,2 lr=3", "lr stands twice", "give lr once"),
        ("space.yaml", "no such file", "name one"),
    ],
)
def test_what_cannot_be_searched_is_told_at_once(words: str, problem: str, fix: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_space(words, FinetuneOptions())
    assert problem in refused.value.problem
    assert fix in refused.value.fix


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "lr: {low: 1, hihg: 2}", "has no 'hihg'"),
        ("a.yaml", "lr: [1e-4]\nlr: [2e-4]", "lr stands twice"),
        ("a.yaml", "lr: [", "this is no YAML"),
        ("a.yaml", "lr: {low: 1, low: 2, high: 3}", "low stands twice"),
        ("a.yaml", "lr: [[1, 2]]", "lr is neither a text, a number"),
        ("a.yaml", "lr: &a [*a]", "lr is neither a text, a number"),
        ("a.yaml", "lr: 2024-13-45", "--lr is '2024-13-45'"),
        ("a.yaml", "lr: !!int abc", "--lr is 'abc'"),
        ("a.yaml", "batch_size: {low: 1, high: .inf}", "goes from 1 to .inf"),
        ("a.yaml", "batch_size: [1" + "0" * 400 + "]", "--batch-size is '1000"),
        ("a.yaml", "batch_size: [16, 16.0]", "to be 16 twice"),
        ("a.yaml", "lr: {low: 1, high: 2, log: yess}", "log of lr is 'yess'"),
        ("a.yaml", "lr: {low: 1, high: 2, step: fast}", "step of lr is 'fast'"),
        ("a.yaml", "lr: {low: 1, high: 2, step: 5}", "a step of 5 is beyond that"),
        ("a.yaml", "lr: " + "[" * 9999 + "]" * 9999, "nested too deeply"),
        ("a.toml", "lr = " + "[" * 9999 + "]" * 9999, "nested too deeply"),
        ("a.toml", "lr = 1" + "0" * 5000, "no TOML"),
        ("a.toml", "lr = ", "no TOML"),
        ("a.json", '{"lr": [{"low": 1}]}', "lr is neither a text, a number"),
        ("a.json", "[1]", "there are no keys"),
        ("a.yaml", "", "names nothing to try"),
    ],
)
def test_a_broken_file_is_told_with_its_place(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=problem) as refused:
        read_space(str(tmp_path / name), FinetuneOptions())
    assert name in refused.value.place
