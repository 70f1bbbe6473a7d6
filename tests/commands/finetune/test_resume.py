"""`--save-every`, `--keep`, `--resume`: which checkpoints there are, and how a run goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt.base.errors import BertoltError, CheckpointError
from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.train.last_finite_weights import LastFiniteWeights
from bertolt.train.loop import History
from bertolt.train.saving import Saving
from tests.callbacks import At, Killed, kill, press, terminate
from tests.disks import file_system

Run = Callable[..., Any]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def stopped(reviews_csv: Path, quick: Callable[..., FinetuneOptions], tmp_path: Path) -> Run:
    """Kill a run of 2 epochs, 16 steps, after its 11th; it saves every 4 and evaluates at 8."""

    def stop(act: Callable[[], object] = kill, step: int = 11, **changes: Any) -> Store:
        options = quick(**{"epochs": 2, "save_every": 4, **changes})
        with pytest.raises((Killed, SystemExit)):
            finetune(reviews_csv, options, callbacks=[At(step, act)])
        return Store(tmp_path / "out")

    return stop


@pytest.fixture
def wanted(reviews_csv: Path, quick: Callable[..., FinetuneOptions], tmp_path: Path) -> Path:
    """The folder of the same run when nothing stops it."""
    finetune(reviews_csv, quick(epochs=2, out=tmp_path / "whole"))
    return tmp_path / "whole"


def same_weights(found: Path, wanted: Path) -> bool:
    first, second = ((out / "model.safetensors").read_bytes() for out in (found, wanted))
    return first == second


def test_a_killed_run_goes_on_and_leaves_nothing_but_its_result(
    stopped: Run, wanted: Path, reviews_csv: Path, quick: Any, tmp_path: Path
) -> None:
    store = stopped()
    assert store.steps() == [4, 8]
    assert names(tmp_path / "out") == {"checkpoint-4", "checkpoint-8"}
    result = finetune(reviews_csv, quick(epochs=2, save_every=4, resume=True))
    assert names(tmp_path) == {"whole", "out"}
    assert names(tmp_path / "out") == names(wanted)
    assert same_weights(result.out, wanted)
    assert [log.step for log in result.history.steps] == list(range(1, 17))
    assert [step for step, _ in result.history.evaluations] == [8, 16]
    counts = json.loads((result.out / "metrics.json").read_text())
    assert counts["train"]["steps"] == 16
    assert counts["eval"] == json.loads((wanted / "metrics.json").read_text())["eval"]
    page = (result.out / "report.html").read_text(encoding="utf-8")
    assert "2 epochs, 16 steps" in page
    assert "--resume" not in page, "the command that repeats the run does not go on from it"


def test_the_command_takes_them(
    stopped: Run, wanted: Path, finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    stopped()
    words = [
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--lr",
        "3e-3",
        "--save-every",
        "5",
        "--keep",
        "1",
        "--keep-checkpoints",
    ]
    said = finetune_command(reviews_csv, *words, "--resume")
    assert said.code == 0, said.err
    assert f"Resumed from {tmp_path / 'out' / 'checkpoint-8'}\n" in said.err
    assert f"Checkpoints: {tmp_path / 'out'}\n" in said.err
    assert same_weights(tmp_path / "out", wanted)
    assert Store(tmp_path / "out").steps() == [15]


def test_resume_begins_where_there_is_nothing_yet(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    said = finetune_command(reviews_csv, "--resume", "--save-every", "3")
    assert said.code == 0, said.err
    where = tmp_path / "out"
    assert f"No checkpoint in {where} yet: starting from the beginning\n" in said.err
    assert names(tmp_path) == {"out"}


def test_a_damaged_checkpoint_is_skipped_with_its_name(
    stopped: Run,
    wanted: Path,
    reviews_csv: Path,
    quick: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = stopped()
    weights = store.path(8) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = finetune(reviews_csv, quick(epochs=2, save_every=4, resume=True))
    said = capsys.readouterr().err
    assert f"Skipped {store.path(8)}: the checkpoint is damaged: model.safetensors has" in said
    assert f"Resumed from {store.path(4)}\n" in said
    assert same_weights(result.out, wanted)


def test_all_checkpoints_damaged(stopped: Run, finetune_command: Run, reviews_csv: Path) -> None:
    store = stopped()
    for step in store.steps():
        (store.path(step) / "manifest.json").unlink()
    words = ["--epochs", "2", "--batch-size", "8", "--lr", "3e-3", "--save-every", "4", "--resume"]
    said = finetune_command(reviews_csv, *words)
    assert said.code == 2
    assert f"{store.folder}: there is no whole checkpoint to resume from" in said.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": 1e-3}, "--lr 0.003, and now it is 0.001"),
        ({"epochs": 3}, "--epochs 2, and now it is 3"),
        ({"seed": 7}, "--seed 42, and now it is 7"),
        ({"split_seed": 7}, "--split-seed 42, and now it is 7"),
        ({"max_length": 20}, "--max-length 160, and now it is 20"),
        ({"keep": "best"}, "--keep a number, and now it is best"),
        ({"precision": "bf16"}, "precision fp32, and now it is bf16"),
    ],
    ids=str,
)
def test_a_setting_that_decides_the_result_is_refused_by_its_name(
    stopped: Run, reviews_csv: Path, quick: Any, changes: dict[str, Any], words: str
) -> None:
    stopped()
    options = quick(**{"epochs": 2, "save_every": 4, "resume": True, **changes})
    with pytest.raises(BertoltError, match=f"it was made with {words}"):
        finetune(reviews_csv, options)


def test_other_rows_and_another_model_are_refused(
    stopped: Run, reviews_csv: Path, quick: Any, tiny_config: Any, tmp_path: Path, write_csv: Any
) -> None:
    from bertolt import BertModel

    stopped()
    lines = reviews_csv.read_text(encoding="utf-8").splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([*lines[:-1], lines[-1].replace(",", " good,", 1)]) + "\n")
    options = quick(epochs=2, save_every=4, resume=True)
    with pytest.raises(BertoltError, match=r"it was made with (training|evaluation) rows"):
        finetune(other, options)
    torch.manual_seed(1)
    folder = tmp_path / "encoder"
    BertModel(tiny_config(initializer_range=0.1)).save_pretrained(folder)
    vocabulary = (Path(options.model) / "vocab.txt").read_bytes()
    (folder / "vocab.txt").write_bytes(vocabulary)
    with pytest.raises(BertoltError, match="it was made with weights of --model"):
        finetune(reviews_csv, quick(epochs=2, save_every=4, resume=True, model=str(folder)))


def test_a_moved_model_and_a_moved_file_are_the_same(
    stopped: Run, wanted: Path, reviews_csv: Path, quick: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    stopped()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (moved / name).write_bytes((tiny_folder / name).read_bytes())
    (moved / "rows.csv").write_bytes(reviews_csv.read_bytes())
    options = quick(epochs=2, save_every=2, keep=1, resume=True, model=str(moved))
    assert same_weights(finetune(moved / "rows.csv", options).out, wanted)


def test_checkpoints_in_the_way(
    stopped: Run, wanted: Path, finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    store = stopped()
    words = ["--epochs", "2", "--batch-size", "8", "--lr", "3e-3"]
    refused = finetune_command(reviews_csv, *words)
    assert refused.code == 2
    assert f"{store.folder}: there are checkpoints of a run that did not come" in refused.err
    assert "--resume goes on from them, --overwrite begins anew" in refused.err
    assert "rows read" not in refused.err, "it must be told before anything is done"
    assert store.steps() == [4, 8]
    assert finetune_command(reviews_csv, *words, "--overwrite").code == 0
    assert same_weights(tmp_path / "out", wanted)
    assert store.steps() == []


def test_an_overwrite_that_is_killed_keeps_the_old_model_and_is_not_complete(
    stopped: Run, wanted: Path, reviews_csv: Path, quick: Any, tmp_path: Path
) -> None:
    first = finetune(reviews_csv, quick(seed=7, save_every=3, keep_checkpoints=True)).out
    old = content(first)
    store = stopped(overwrite=True)
    assert store.steps() == [4, 8], "no checkpoint of the other run"
    left = {name: about for name, about in old.items() if name != "complete.json"}
    assert {name: about for name, about in content(first).items() if name in old} == left
    result = finetune(reviews_csv, quick(epochs=2, save_every=4, resume=True))
    assert len(result.history.steps) == 16
    assert same_weights(result.out, wanted)
    assert names(first) == names(wanted)


# ---- a run that is complete already ----


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and what is in it."""
    files = (path for path in folder.iterdir() if path.is_file())
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


WORDS = ["--epochs", "2", "--batch-size", "8", "--lr", "3e-3", "--save-every", "4", "--resume"]


def test_a_complete_run_has_nothing_left_to_do(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    assert finetune_command(reviews_csv, *WORDS).code == 0
    before = content(tmp_path / "out")
    # Killed before it had removed its checkpoints, it does so now.
    (tmp_path / "out" / "checkpoint-16").mkdir()
    again = finetune_command(reviews_csv, *WORDS)
    assert again.code == 0, again.err
    assert f"nothing is left to do: its result is in {tmp_path / 'out'}\n" in again.err
    assert "step 1/" not in again.err
    assert content(tmp_path / "out") == before
    assert names(tmp_path) == {"out"}
    assert not any(path.is_dir() for path in (tmp_path / "out").iterdir())


def test_the_library_gives_the_metrics_of_a_complete_run(reviews_csv: Path, quick: Any) -> None:
    first = finetune(reviews_csv, quick(keep_checkpoints=True, save_every=3))
    again = finetune(reviews_csv, quick(resume=True, precision="auto"))
    assert again.metrics == json.loads(json.dumps(first.metrics))
    assert again.scores is None
    assert not again.interrupted
    assert not again.history.steps
    assert any(first.out.glob("checkpoint-*")), "they were to be kept"


def test_a_complete_run_of_other_settings_or_rows_is_refused(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    assert finetune_command(reviews_csv, *WORDS).code == 0
    before = content(tmp_path / "out")
    refused = finetune_command(reviews_csv, *WORDS, "--seed", "7")
    assert refused.code == 2
    assert f"{tmp_path / 'out'}: it was made with --seed 42, and now it is 7" in refused.err
    other = tmp_path / "other.csv"
    lines = reviews_csv.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(lines[:-4]) + "\n", encoding="utf-8")
    refused = finetune_command(other, *WORDS)
    assert refused.code == 2
    assert "it was made with training rows" in refused.err
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("gone", ["metrics.json", "model.safetensors"])
def test_a_result_of_which_a_file_is_gone_is_not_complete(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path, gone: str
) -> None:
    assert finetune_command(reviews_csv, *WORDS).code == 0
    (tmp_path / "out" / gone).unlink()
    refused = finetune_command(reviews_csv, *WORDS)
    assert refused.code == 2
    assert "the folder is not empty" in refused.err


def test_a_run_that_is_not_complete_is_not_taken_for_one(
    finetune_command: Run, reviews_csv: Path, quick: Any, tmp_path: Path
) -> None:
    options = quick(epochs=2, save_every=4)
    assert finetune(reviews_csv, options, callbacks=[At(5, press)]).interrupted
    words = [word for word in WORDS if word != "--resume"]
    refused = finetune_command(reviews_csv, *words)
    assert refused.code == 2
    assert "there are checkpoints of a run that did not come to its end" in refused.err
    done = finetune_command(reviews_csv, *WORDS)
    assert done.code == 0, done.err
    assert f"Resumed from {tmp_path / 'out' / 'checkpoint-5'}" in done.err
    assert (tmp_path / "out" / "complete.json").is_file()
    done = finetune_command(reviews_csv, *WORDS, "--overwrite")
    assert "step 1/16" in done.err, "to overwrite is to begin anew"


# ---- signals ----


@pytest.mark.parametrize("save_every", [None, 4])
def test_sigterm_saves_and_exits_with_143(
    stopped: Run,
    wanted: Path,
    reviews_csv: Path,
    quick: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    save_every: int | None,
) -> None:
    store = stopped(terminate, 8, save_every=save_every)
    assert store.steps() == ([8] if save_every is None else [4, 8])
    said = capsys.readouterr().err
    assert f"Stopped by SIGTERM after step 8: {store.path(8)} is there to resume from" in said
    assert names(tmp_path / "out") == {f"checkpoint-{step}" for step in store.steps()}
    result = finetune(reviews_csv, quick(epochs=2, resume=True))
    assert same_weights(result.out, wanted)
    assert [step for step, _ in result.history.evaluations] == [8, 16]


@pytest.mark.parametrize("keep", [2, "best"])
def test_sigterm_does_not_wait_for_the_end_of_an_evaluation(
    reviews_csv: Path,
    quick: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    keep: Any,
) -> None:
    from bertolt.tasks import evaluation

    monkeypatch.setitem(evaluation.TOKEN_BUDGET, "cpu", 64)
    predict_batches, evaluated = evaluation.predict_batches, []

    def watched(*given: Any, **named: Any) -> Iterator[Any]:
        for batch in predict_batches(*given, **named):
            evaluated.append(batch)
            if len(evaluated) == 2:
                terminate()
            yield batch

    whole = finetune(reviews_csv, quick(epochs=2, keep=keep, out=tmp_path / "whole"))
    with monkeypatch.context() as watching:
        watching.setattr(evaluation, "predict_batches", watched)
        with pytest.raises(SystemExit) as ended:
            finetune(reviews_csv, quick(epochs=2, keep=keep))
    assert ended.value.code == 143
    assert len(evaluated) == 2
    said = capsys.readouterr().err
    store = Store(tmp_path / "out")
    assert f"Stopped by SIGTERM after step 8: {store.path(8)} is there to resume from" in said
    assert store.steps() == [8]
    done = finetune(reviews_csv, quick(epochs=2, keep=keep, resume=True))
    said = capsys.readouterr().err
    assert [said.count(f"evaluated at step {step}:") for step in (8, 16)] == [1, 1]
    assert done.history.evaluations == whole.history.evaluations
    assert done.metrics["eval"] == whole.metrics["eval"]
    assert same_weights(done.out, whole.out)


def test_the_command_exits_with_143_wherever_it_is(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        terminate()

    monkeypatch.setattr("bertolt.tasks.rows.encode_once", asked)
    said = finetune_command(reviews_csv)
    assert said.code == 143
    assert names(tmp_path) == set()


def test_sigterm_while_the_result_is_saved_waits(
    reviews_csv: Path, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertolt.checkpoint.contract import Contract

    write = Contract.write

    def pressed(self: Contract, folder: Path) -> None:
        terminate()
        write(self, folder)

    monkeypatch.setattr(Contract, "write", pressed)
    result = finetune(reviews_csv, quick())
    assert result.scores is not None
    assert not result.interrupted, "nothing is missing: no scheduler has to start it again"


@pytest.mark.slow
def test_a_process_that_gets_sigterm(process_ended_by: Run, tmp_path: Path) -> None:
    code, said = process_ended_by(signal.SIGTERM)
    assert code == 143, said
    assert "Traceback" not in said
    assert "is there to resume from" in said
    assert all(name.startswith("checkpoint-") for name in names(tmp_path / "out"))
    assert names(tmp_path) == {"out"}


def test_ctrl_c_gives_what_there_is_and_can_be_gone_on_from(
    reviews_csv: Path, quick: Any, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finetune(reviews_csv, quick(epochs=2, save_every=4), callbacks=[At(5, press)])
    assert first.interrupted
    assert len(first.history.steps) == 5
    assert "; --resume goes on from the last" in capsys.readouterr().err
    again = finetune(reviews_csv, quick(epochs=2, save_every=4, resume=True))
    assert same_weights(again.out, wanted)
    assert len(again.history.steps) == 16


# ---- a full disk ----


def test_a_full_disk_stops_the_run_with_the_last_checkpoint_whole(
    finetune_command: Run,
    reviews_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: Path,
) -> None:
    from bertolt.checkpoint import state

    writes: list[Path] = []
    write_tensors = state.write_tensors

    def filling(path: Path, tensors: Any) -> None:
        writes.append(path)
        if len(writes) > 7:  # in the third checkpoint, of three files each
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write_tensors(path, tensors)

    words = ["--epochs", "2", "--batch-size", "8", "--lr", "3e-3", "--save-every", "4"]
    with monkeypatch.context() as full:
        full.setattr(state, "write_tensors", filling)
        said = finetune_command(reviews_csv, *words)
    assert said.code == 2
    where = tmp_path / "out"
    assert f"{where / 'checkpoint-12'}: cannot be written (No space left on device)" in said.err
    assert "fix: free some space; checkpoint-8 is there to resume from" in said.err
    assert names(where) == {"checkpoint-4", "checkpoint-8"}
    assert finetune_command(reviews_csv, *words, "--resume").code == 0
    assert same_weights(tmp_path / "out", wanted)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where this may be made: room for three checkpoints."""
    with file_system(tmp_path / "disk", kilobytes=2000) as folder:
        yield folder


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_real_disk_that_fills_up(
    reviews_csv: Path, quick: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch, wanted: Path
) -> None:
    """Somebody else's file takes what is free after the first two checkpoints."""
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    monkeypatch.setattr("bertolt.train.job.require_space", lambda *_, **__: None)
    options = {"epochs": 2, "save_every": 4, "out": small_disk / "out"}
    with pytest.raises(BertoltError, match="No space left on device") as caught:
        finetune(reviews_csv, quick(**options), callbacks=[At(10, fill)])
    assert "checkpoint-8 is there to resume from" in caught.value.fix
    assert names(small_disk) == {"ballast", "out"}
    assert names(small_disk / "out") == {"checkpoint-4", "checkpoint-8"}
    ballast.unlink()
    assert same_weights(finetune(reviews_csv, quick(**options, resume=True)).out, wanted)


def test_the_space_for_checkpoints_is_asked_for_before(
    reviews_csv: Path, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "bertolt.train.job.require_space",
        lambda *_, checkpoints, beside: asked.append(checkpoints) or kill(),
    )
    for changes in ({}, {"save_every": 1}, {"save_every": 1, "keep": 5}, {"keep": "best"}):
        with pytest.raises(Killed):
            finetune(reviews_csv, quick(**changes))
    assert asked == [0, 3, 6, 3]


# ---- the best evaluation, and good weights ----


def test_keep_best_gives_the_weights_of_the_lowest_loss(
    reviews_csv: Path, quick: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates this high make it worse after the first epoch or two."""
    options = quick(epochs=4, keep="best", lr=3e-2, schedule="constant")
    result = finetune(reviews_csv, options)
    losses = {step: found["eval_loss"] for step, found in result.history.evaluations}
    best = min(losses, key=lambda step: losses[step])
    assert best != 32, "nothing would be shown"
    assert f"The best evaluation was at step {best}: its weights are taken" in (
        capsys.readouterr().err
    )
    assert result.scores is not None
    assert result.scores.loss == losses[best]
    assert names(tmp_path) == {"out"}


def test_keep_best_saves_the_last_weights_where_the_best_are_lost(
    reviews_csv: Path, quick: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """With the checkpoint back in its place, --resume takes it after all."""
    options = quick(epochs=4, keep="best", lr=3e-2, schedule="constant")
    restore, away = Saving.restore_best, options.out.parent / "away"
    away.mkdir()

    def lose(self: Saving, history: History) -> int | None:
        step = self._best_step(history)
        assert step is not None
        self.store.path(step).rename(away / f"checkpoint-{step}")
        return restore(self, history)

    with monkeypatch.context() as losing:
        losing.setattr(Saving, "restore_best", lose)
        with pytest.raises(CheckpointError, match="the weights of the last step, 32, are saved"):
            finetune(reviews_csv, options)
    (checkpoint,) = away.iterdir()
    assert "Caution: The weights are those of the last step, 32" in capsys.readouterr().err
    told = "The weights are those of the last step, 32, not the best ones"
    assert told in (options.out / "report.html").read_text(encoding="utf-8")
    assert told in (options.out / "run.json").read_text(encoding="utf-8")
    metrics = json.loads((options.out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["weights"] == {"step": 32, "best": False}
    assert metrics["eval"]["loss"] is not None
    assert same_weights(options.out, options.out / "checkpoint-32")
    checkpoint.rename(options.out / checkpoint.name)
    again = finetune(reviews_csv, replace(options, resume=True))
    best = int(checkpoint.name.rpartition("-")[2])
    assert again.metrics["weights"] == {"step": best, "best": True}
    assert (options.out / "complete.json").is_file()


@pytest.mark.parametrize("step", [9, 13])
def test_weights_to_fall_back_on_survive(
    stopped: Run, reviews_csv: Path, quick: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed between the evaluation at 8 and a loss of NaN, with weights that are no use either."""
    from bertolt.commands.finetune import run
    from bertolt.train import loop

    at_eight: dict[str, torch.Tensor] = {}
    evaluated = LastFiniteWeights.on_evaluate

    def keep(self: LastFiniteWeights, number: int, metrics: dict[str, float]) -> None:
        evaluated(self, number, metrics)
        at_eight.update({name: value.clone() for name, value in self._copy.items()})

    with monkeypatch.context() as watched:
        watched.setattr(LastFiniteWeights, "on_evaluate", keep)
        stopped(kill, step)
    train_step = loop.train_step

    def diverging(model: Any, *given: Any, **named: Any) -> Any:
        if named["step"] == 15:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
        return train_step(model, *given, **named)

    monkeypatch.setattr(loop, "train_step", diverging)
    restored: list[LastFiniteWeights] = []
    restore = LastFiniteWeights.restore
    monkeypatch.setattr(
        LastFiniteWeights, "restore", lambda self: (restored.append(self), restore(self))
    )
    with pytest.raises(BertoltError, match="so the model of step 8 is saved"):
        run.finetune(reviews_csv, quick(epochs=2, save_every=4, resume=True))
    (good,) = restored
    assert good.step == 8
    assert all(torch.equal(good._copy[name], at_eight[name]) for name in at_eight)
