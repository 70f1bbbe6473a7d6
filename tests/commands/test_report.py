"""`bertolt report`, and the `run.json` that it draws from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.cli import main
from bertolt.report import plain, read_facts, render_report, write_facts
from tests.report.facts import HOSTILE, changed, finetuned

Report = Callable[[Path], tuple[int, str]]


@pytest.fixture
def folder(tuned: Path, tmp_path: Path) -> Path:
    """The folder of a run that may be damaged."""
    return Path(shutil.copytree(tuned, tmp_path / "copy"))


@pytest.fixture
def report(bertolt: Callable[..., Any]) -> Report:
    """Run `bertolt report` on a folder; its exit code, and what it said."""

    def run(folder: Path) -> tuple[int, str]:
        said = bertolt("report", folder)
        assert said.out == ""
        return said.code, said.err

    return run


# ---- the file ----


def test_the_page_of_a_run_is_a_function_of_its_run_json(tuned: Path) -> None:
    facts = json.loads((tuned / "run.json").read_text(encoding="utf-8"))
    assert render_report(facts) == (tuned / "report.html").read_text(encoding="utf-8")


def test_run_json_holds_the_facts_as_plain_values(tuned: Path) -> None:
    facts = read_facts(tuned)
    metrics = json.loads((tuned / "metrics.json").read_text(encoding="utf-8"))
    assert (facts["format"], facts["kind"], facts["task"]) == (1, "finetune", "text-classification")
    assert facts["headline"]["value"] == metrics["eval"]["accuracy"]
    assert facts["headline"]["baseline"]["value"] == metrics["eval"]["baseline_accuracy"]
    assert facts["training"]["curve"]["step"] == list(range(1, metrics["train"]["steps"] + 1))
    assert facts["training"]["eval_points"][-1]["metrics"]["accuracy"] == facts["headline"]["value"]
    assert facts["data"]["train_rows"] + facts["data"]["eval_rows"] == facts["data"]["rows_read"]
    assert facts["arguments"]["epochs"] == "8"
    assert plain(facts) == facts


def test_each_part_of_the_facts_has_a_line(tuned: Path) -> None:
    lines = (tuned / "run.json").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(read_facts(tuned)) + 2


def test_any_text_and_number_survives_the_file(tmp_path: Path) -> None:
    facts = changed(finetuned(steps=1), title=HOSTILE, command="早餐 \udcff")
    write_facts(facts | {"duration_seconds": float("nan")}, tmp_path / "run.json")
    assert "早餐" in (tmp_path / "run.json").read_text(encoding="utf-8")
    assert read_facts(tmp_path) == facts | {"duration_seconds": None}


def test_what_is_no_number_for_json_is_nothing() -> None:
    import numpy as np

    values = {1: float("inf"), "a": (np.float32(0.5), np.arange(2)), "path": Path("a/b")}
    assert plain(values) == {"1": None, "a": [0.5, [0, 1]], "path": "a/b"}


# ---- the command ----


def test_it_draws_the_same_page_again(folder: Path, report: Report) -> None:
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").write_text("gone")
    assert report(folder) == (0, f"Report: {folder / 'report.html'}\n")
    assert (folder / "report.html").read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, report: Report) -> None:
    code, said = report(tmp_path / "nowhere")
    assert code == 2
    assert f"{tmp_path / 'nowhere'}: there is no such folder" in said


def test_a_run_of_before_says_how_to_get_one(folder: Path, report: Report) -> None:
    (folder / "run.json").unlink()
    code, said = report(folder)
    assert code == 2
    assert "a version that wrote no run.json" in said
    assert "fix: run it again, with --overwrite and the command that `report.html` shows" in said


def test_a_run_that_has_not_ended_says_to_let_it_end(tmp_path: Path, report: Report) -> None:
    (tmp_path / "log.jsonl").touch()
    code, said = report(tmp_path)
    assert code == 2
    assert "the run has not come to its end" in said
    assert "--resume" in said


def test_a_folder_of_no_run_says_which_would_do(tmp_path: Path, report: Report) -> None:
    code, said = report(tmp_path)
    assert code == 2
    assert "there is no run.json in it" in said
    assert "bertolt finetune" in said


def broken(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        facts = json.loads(text)
        change(facts)
        return json.dumps(facts)

    return edit


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "half": (lambda text: text[: len(text) // 2], "it is no JSON"),
    "empty": (lambda _: "", "it is no JSON"),
    "deep": (lambda _: "[" * 100_000, "it is no JSON"),
    "a list": (lambda _: "[1]", "no number under `format`"),
    "no model": (broken(lambda facts: facts.pop("model")), "`model` is missing"),
    "no curve": (broken(lambda facts: facts["training"].pop("curve")), "`training.curve` is miss"),
    "newer": (broken(lambda facts: facts.update(format=2)), "its format is 2, and this version"),
    "words for numbers": (
        broken(lambda facts: facts["training"].update(steps="many")),
        "a page cannot be drawn from it",
    ),
    "a name left out": (
        broken(lambda facts: facts["machine"].pop("cpu")),
        "a page cannot be drawn from it",
    ),
    "a block of another kind": (
        broken(lambda facts: facts["blocks"].append({"kind": "graph"})),
        "of the kind 'graph'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_leaves_the_page(
    name: str, folder: Path, report: Report
) -> None:
    edit, expected = BROKEN[name]
    path = folder / "run.json"
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    before = (folder / "report.html").read_bytes()
    code, said = report(folder)
    assert code == 2
    assert f"{path}: " in said
    assert expected in said
    assert "fix: " in said
    assert (folder / "report.html").read_bytes() == before


def test_a_file_that_is_not_utf8_is_named(folder: Path, report: Report) -> None:
    (folder / "run.json").write_bytes(b'{"format": "\xff"}')
    code, said = report(folder)
    assert code == 2
    assert "it is no JSON" in said


def test_help_names_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("Usage: bertolt report DIR")
    assert "--folder" not in said
