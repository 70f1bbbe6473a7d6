"""`run.json` of a pretraining run, and its page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bertolt.cli import main
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.run import pretrain
from bertolt.report import render_report


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp"])
def test_the_page_is_a_function_of_run_json(
    letters: Path, options: Callable[..., PretrainOptions], objective: str
) -> None:
    done = pretrain(letters, options(objective=objective))
    facts = json.loads((done.out / "run.json").read_text(encoding="utf-8"))
    page = (done.out / "report.html").read_text(encoding="utf-8")
    assert render_report(facts) == page
    assert facts["kind"] == "pretrain"
    assert facts["data"]["fingerprint"] == done.metrics["corpus"]
    last = facts["training"]["eval_points"][-1]["metrics"]
    assert {f"eval_{name}": value for name, value in last.items()} == done.metrics["eval"]
    assert facts["headline"]["value"] == last.get("masked_loss", last["loss"])
    assert ("Accuracy on pairs, held out" in page) == (objective == "mlm+nsp")
    (done.out / "report.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(done.out)])
    assert ended.value.code == 0
    assert (done.out / "report.html").read_text(encoding="utf-8") == page


def test_overwriting_replaces_the_facts(
    letters: Path, options: Callable[..., PretrainOptions]
) -> None:
    first = pretrain(letters, options(steps=10, eval_every=5)).out / "run.json"
    before = first.read_text(encoding="utf-8")
    pretrain(letters, options(steps=5, eval_every=5, overwrite=True))
    facts = json.loads(first.read_text(encoding="utf-8"))
    assert facts["training"]["steps"] == 5
    assert json.loads(before)["training"]["steps"] == 10
