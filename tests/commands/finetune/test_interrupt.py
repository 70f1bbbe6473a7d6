"""Ctrl-C: what is trained is saved, nothing half-done is left behind, the exit code is 130."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertolt.commands.finetune.run import finetune
from bertolt.tasks.predictor import Predictor
from tests.callbacks import At, press

Run = Callable[..., Any]


def test_between_steps_it_saves_what_there_is(
    reviews_csv: Path, quick: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = finetune(reviews_csv, quick(), callbacks=[At(3, press)])
    assert result.interrupted
    assert len(result.history.steps) == 3
    assert result.scores is None
    assert result.metrics["eval"] is None
    assert "Stopped by Ctrl-C" in capsys.readouterr().err
    assert [answer.tokens for answer in Predictor.from_pretrained(result.out).predict(["good"])]
    page = (result.out / "report.html").read_text(encoding="utf-8")
    assert "By Ctrl-C, after step 3" in page
    assert "0.375 epochs, 3 steps" in page
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_after_the_last_step_nothing_is_measured_but_all_is_saved(
    reviews_csv: Path, quick: Any
) -> None:
    result = finetune(reviews_csv, quick(), callbacks=[At(8, press)])
    assert len(result.history.steps) == 8
    assert result.interrupted
    assert result.scores is None
    assert (result.out / "model.safetensors").is_file()


def test_a_second_one_ends_the_run_at_once_and_leaves_nothing(
    reviews_csv: Path, quick: Any, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        finetune(reviews_csv, quick(), callbacks=[At(2, press), At(2, press)])
    assert list(tmp_path.iterdir()) == []


def test_while_saving_it_waits(
    reviews_csv: Path, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertolt.checkpoint.contract import Contract

    write = Contract.write

    def pressed(self: Contract, folder: Path) -> None:
        press()
        write(self, folder)

    monkeypatch.setattr(Contract, "write", pressed)
    result = finetune(reviews_csv, quick())
    assert result.interrupted
    assert result.scores is not None
    assert (result.out / "metrics.json").is_file()
    assert (result.out / "report.html").is_file()


@pytest.mark.parametrize(
    "where",
    [
        "bertolt.tasks.rows.read_table",
        "bertolt.tasks.rows.encode_once",
        "bertolt.models.heads.SequenceClassification.from_pretrained",
        "bertolt.train.job.require_space",
    ],
)
def test_before_training_it_exits_130_and_leaves_nothing(
    finetune_command: Run,
    reviews_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    monkeypatch.setattr(where, lambda *_, **__: press())
    said = finetune_command(reviews_csv, "--out", tmp_path / "new" / "out")
    assert said.code == 130
    assert said.err.endswith("bertolt: interrupted\n")
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_exits_130_and_its_folder_loads(process_ended_by: Run, tmp_path: Path) -> None:
    code, said = process_ended_by(signal.SIGINT)
    out = tmp_path / "out"
    assert code == 130, said
    assert "Traceback" not in said
    assert f"Saved to {out}" in said
    assert list(Predictor.from_pretrained(out).predict(["the film was good"]))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
