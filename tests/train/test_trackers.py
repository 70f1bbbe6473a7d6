"""Trackers, with their own packages, on this machine alone."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertolt import Trainer, TrainingArguments
from bertolt.base.errors import UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.pretrain.options import PretrainOptions
from bertolt.train.loop import History
from bertolt.train.step import StepLog
from bertolt.train.trackers import Tracking, tracker_names

Model = Any


def step(number: int) -> StepLog:
    return StepLog(
        step=number, loss=1 / number, grad_norm=0.5, learning_rate=1e-3,
        sequences=4, tokens=40, rows=48, seconds=0.1,
    )  # fmt: skip


def track(names: list[str], out: Path, first: int, last: int, total: int) -> None:
    """A run, or the rest of one, as a callback is told of it."""
    history = History(steps=[step(number) for number in range(1, first)])
    tracking = Tracking(names, out, lambda: {"lr": 1e-3, "text": None, "out": out})
    tracking.on_begin(history)
    for number in range(first, last + 1):
        history.steps.append(step(number))
        tracking.on_step(history.steps[-1], total)
    tracking.on_evaluate(last, {"eval_accuracy": 0.5 + last / 100, "eval_matrix": [[1]]})
    history.interrupted = last < total
    tracking.on_end(history)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Let nothing leave this machine; what tried to is in the list."""
    tried: list[object] = []
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):
            tried.append(address)
            raise OSError("there is no network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **named: tried.append(given))
    yield tried
    assert not tried


@pytest.mark.slow
def test_a_run_that_goes_on_is_one_run_in_each(tmp_path: Path, alone: list[object]) -> None:
    out = tmp_path / "my run"
    track(["tensorboard", "mlflow", "wandb"], out, 1, 3, total=5)
    track(["tensorboard", "mlflow", "wandb"], out, 3, 5, total=5)  # the third step is made again

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    assert events.Scalars("eval/accuracy")[-1].value == pytest.approx(0.55)

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bertolt").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my run")
    assert run.data.params == {"lr": "0.001", "text": "None", "out": str(out)}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    losses = {each.step: each.value for each in history}
    assert losses == {number: pytest.approx(1 / number) for number in range(1, 6)}

    folders = sorted((out / "wandb").glob("offline-run-*"))
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    words = (b"train/loss", b"eval/accuracy", b"finished", b"stopped")
    end = time.monotonic() + 20  # its own process writes the last records a moment later
    while missing := [word for word in words if word not in records_of(out / "wandb")]:
        assert time.monotonic() < end, missing
        time.sleep(0.05)


def records_of(folder: Path) -> bytes:
    """What wandb has written, of all runs."""
    return b"".join(path.read_bytes() for path in folder.rglob("run-*.wandb"))


def test_a_tracker_that_fails_ends_nothing_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    make_model: Any, rows: Any,
) -> None:  # fmt: skip
    class Broken:
        def __init__(self, out: Path) -> None:
            self.calls = 0

        def begin(self, settings: Any, step: int) -> None:
            assert settings["learning_rate"] == 1e-3

        def log(self, step: int, values: Any) -> None:
            if step == 2:
                raise RuntimeError("the disk is gone\nand more")

        def end(self, state: str) -> None:
            raise AssertionError("it is told no more")

    monkeypatch.setitem(sys.modules["bertolt.train.trackers"]._KINDS, "wandb", Broken)
    args = TrainingArguments(
        str(tmp_path), max_steps=4, learning_rate=1e-3, report_to=["wandb"], disable_tqdm=True,
        precision="fp32", use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(make_model(), args, train_dataset=rows)
    assert trainer.train().global_step == 4
    said = "Caution: wandb failed at step 2 and is told no more: the disk is gone\n"
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_a_package_that_is_missing_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tiny_folder: Path,
    reviews_csv: Path, make_model: Any,
) -> None:  # fmt: skip
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    options = FinetuneOptions(model=str(tiny_folder), track=name, out=tmp_path / "out")
    with pytest.raises(UsageError, match=f"--track needs the package {name}") as caught:
        finetune(reviews_csv, options)
    assert f"pip install 'bertolt[{name}]'" in caught.value.fix
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=f"report_to needs the package {name}"):
        Trainer(make_model(), TrainingArguments(report_to=name, precision="fp32"))


def test_names() -> None:
    for none in (None, "none", [], ["none"], ""):
        assert tracker_names(none, "--track") == ()
    assert tracker_names("MLflow, wandb,mlflow", "--track") == ("mlflow", "wandb")
    assert PretrainOptions(tensorboard=True, track="wandb").trackers == ("wandb", "tensorboard")
    with pytest.raises(UsageError, match="no tracker 'comet'"):
        TrainingArguments(report_to=["comet"])
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        FinetuneOptions(track="wand")
