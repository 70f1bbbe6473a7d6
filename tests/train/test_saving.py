"""Saving a run and going on: the same bits as without the stop, and refusals by name."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bertolt import (
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.data.prefetch import read_ahead
from bertolt.train.loop import Callback, History
from bertolt.train.saving import Best
from bertolt.train.step import StepLog
from tests.callbacks import At, Killed, kill, press, terminate
from tests.train.small import Rows, arguments


@pytest.fixture
def trainer(tiny_config: Any, rows: Rows, tmp_path: Path) -> Callable[..., Trainer]:
    """A Trainer that saves every 2 steps of 8, with dropout on."""

    def make(callbacks: Any = (), train: Any = None, **changes: Any) -> Trainer:
        torch.manual_seed(0)
        model = BertForSequenceClassification(tiny_config(num_labels=3, initializer_range=0.1))
        settings = {"output_dir": str(tmp_path / "run"), "warmup_steps": 2}
        settings |= {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "epoch"}
        return Trainer(
            model,
            arguments(**{**settings, **changes}),
            train_dataset=rows if train is None else train,
            eval_dataset=rows[:8],
            callbacks=list(callbacks),
        )

    return make


def kill_after(step: int, trainer: Callable[..., Trainer], **changes: Any) -> None:
    with pytest.raises(Killed):
        trainer([At(step, kill)], **changes).train()


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same_bits(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name].view(torch.uint8), wanted[name].view(torch.uint8))
        for name in wanted
    )


@pytest.fixture
def never_killed(trainer: Callable[..., Trainer], tmp_path: Path) -> Trainer:
    whole = trainer(output_dir=str(tmp_path / "whole"))
    whole.train()
    return whole


@pytest.mark.parametrize("step", [3, 4, 5, 8])
def test_a_resumed_run_ends_with_the_same_bits(
    trainer: Callable[..., Trainer], never_killed: Trainer, step: int
) -> None:
    kill_after(step, trainer)
    torch.rand(5)  # whatever another program draws before
    resumed = trainer()
    output = resumed.train(resume_from_checkpoint=True)
    assert same_bits(weights(resumed), weights(never_killed))
    assert output.global_step == 8
    for found, wanted in zip(resumed.history.steps, never_killed.history.steps, strict=True):
        assert (found.step, found.loss, found.grad_norm, found.learning_rate, found.tokens) == (
            wanted.step,
            wanted.loss,
            wanted.grad_norm,
            wanted.learning_rate,
            wanted.tokens,
        )
    assert resumed.history.evaluations == never_killed.history.evaluations
    assert resumed.lr_scheduler.state_dict() == never_killed.lr_scheduler.state_dict()


def test_an_earlier_checkpoint_may_be_named(
    trainer: Callable[..., Trainer], never_killed: Trainer, tmp_path: Path
) -> None:
    kill_after(7, trainer)
    named = str(tmp_path / "run" / "checkpoint-2")
    for resumed in (trainer(), trainer(resume_from_checkpoint=named)):
        resumed.train(None if resumed.args.resume_from_checkpoint else named)
        assert same_bits(weights(resumed), weights(never_killed))


def test_accumulated_steps_and_grouped_rows_find_their_place(
    trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 4,
        "train_sampling_strategy": "group_by_length",
        "save_steps": 1,
    }
    whole = trainer(output_dir=str(tmp_path / "whole"), **changes)
    whole.train()
    kill_after(6, trainer, **changes)
    resumed = trainer(**changes)
    made: list[int] = []
    collate = resumed._collate
    monkeypatch.setattr(resumed, "_collate", lambda rows: made.append(len(rows)) or collate(rows))
    resumed.train(True)
    assert same_bits(weights(resumed), weights(whole))
    assert sum(made) == 26 - 12 - 12, "the last step of the second epoch, and nothing else"


class Stream(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Rows that can only be read in their order, another one each epoch, drawn while read."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.epoch = rows, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Any:
        for number in range(len(self.rows)):
            row = self.rows[(number * 7 + self.epoch) % len(self.rows)]
            yield {**row, "input_ids": [*row["input_ids"], 5 + int(torch.randint(90, ()))]}


def test_a_stream_is_read_again_up_to_its_place(
    trainer: Callable[..., Trainer], rows: Rows, tmp_path: Path
) -> None:
    changes = {"max_steps": 7, "eval_strategy": "no"}
    whole = trainer(train=Stream(rows), output_dir=str(tmp_path / "whole"), **changes)
    whole.train()
    kill_after(7, trainer, train=Stream(rows), **changes)
    resumed = trainer(train=Stream(rows), **changes)
    resumed.train(True)
    assert same_bits(weights(resumed), weights(whole))


@pytest.mark.parametrize("ahead", [False, True])
def test_masks_that_a_collator_draws_go_on_as_they_were(
    tiny_config: Any,
    tiny_tokenizer: Any,
    rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ahead: bool,
) -> None:
    """Also where batches are made ahead in the background, as they are for a GPU."""
    if ahead:
        # No dropout, which would draw from the same generator here and not on a GPU.
        monkeypatch.setattr("bertolt.train.loop.uses_background", lambda device: True)
        monkeypatch.setattr(
            "bertolt.train.loop.prefetch_batches", lambda steps, device: read_ahead(iter(steps))
        )

    def make(folder: str, callbacks: Any = ()) -> Trainer:
        torch.manual_seed(0)
        config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        args = TrainingArguments(
            str(tmp_path / folder),
            max_steps=7,
            precision="fp32",
            disable_tqdm=True,
            save_strategy="steps",
            save_steps=2,
        )

        class Collator(DataCollatorForLanguageModeling):
            def __call__(self, rows: Any) -> Any:
                random.shuffle(rows)
                np.random.shuffle(rows)
                return super().__call__(rows)

        return Trainer(
            BertForMaskedLM(config),
            args,
            data_collator=Collator(tiny_tokenizer),
            train_dataset=[{"input_ids": row["input_ids"]} for row in rows],
            callbacks=list(callbacks),
        )

    def seeded(run: Trainer, **given: Any) -> None:
        random.seed(1)
        np.random.seed(1)
        run.train(**given)

    whole = make("whole")
    seeded(whole)
    with pytest.raises(Killed):
        seeded(make("run", [At(5, kill)]))
    random.seed(7)
    resumed = make("run")
    resumed.train(True)
    assert same_bits(weights(resumed), weights(whole))


# ---- the best evaluation ----


@pytest.mark.parametrize(
    ("metric", "greater", "wanted"),
    [("loss", None, 2), ("eval_accuracy", None, 4), ("accuracy", False, 6), ("nothing", None, 0)],
)
def test_the_best_evaluation_is_the_first_of_the_best_finite_ones(
    metric: str, greater: bool | None, wanted: int
) -> None:
    nan = float("nan")
    found = [(0.9, 0.2), (0.3, 0.3), (0.3, 0.4), (nan, nan), (0.8, 0.1)]
    history = History(
        evaluations=[
            (step, {"eval_loss": loss, "eval_accuracy": accuracy})
            for step, (loss, accuracy) in zip((1, 2, 4, 5, 6), found, strict=True)
        ]
    )
    args = TrainingArguments(metric_for_best_model=metric, greater_is_better=greater)
    if not wanted:
        with pytest.raises(UsageError, match="the evaluation gives no eval_nothing"):
            Best.of(args).step(history)
    else:
        assert Best.of(args).step(history) == wanted
    assert Best("eval_loss").step(History()) is None


@pytest.mark.parametrize("killed_at", [None, 5])
def test_the_best_weights_are_loaded_at_the_end(
    trainer: Callable[..., Trainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: int | None,
) -> None:
    """Of three evaluations, at the steps 3, 6 and 8, the second is the best."""
    losses = {3: 0.7, 6: 0.5, 8: 0.6}
    seen: dict[int, dict[str, torch.Tensor]] = {}
    made: list[int] = []

    class Counting(Callback):
        def on_step(self, log: StepLog, total_steps: int) -> None:
            made.append(log.step)

    def evaluated(run: Trainer) -> dict[str, float]:
        seen[made[-1]] = weights(run)
        return {"eval_loss": losses[made[-1]]}

    monkeypatch.setattr(Trainer, "evaluate", evaluated)
    changes = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "load_best_model_at_end": True,
        "save_total_limit": 1,
        "save_steps": 2,
    }
    if killed_at:
        with pytest.raises(Killed):
            trainer([Counting(), At(killed_at, kill)], **changes).train()
    run = trainer([Counting()], **changes)
    run.train(resume_from_checkpoint=killed_at is not None)
    assert run.best_step == 6
    assert same_bits(weights(run), seen[6])
    assert not same_bits(seen[8], seen[6])
    assert run.store.steps() == [6, 8], "the newest, and the best"


def test_the_best_evaluations_alone_are_saved(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose weights are not taken at the end unless that is asked for too."""
    losses = iter([0.7, 0.5, 0.6])
    monkeypatch.setattr(Trainer, "evaluate", lambda run: {"eval_loss": next(losses)})
    run = trainer([], save_strategy="best", eval_strategy="steps", eval_steps=3)
    run.train()
    assert (run.store.steps(), run.best_step) == ([3, 6], None)
    with pytest.raises(UsageError, match="eval_strategy is 'no'"):
        TrainingArguments(save_strategy="best")


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_the_last_weights_stay_where_the_best_are_lost(
    trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    """Of three evaluations the first is the best, and its checkpoint is lost before the end."""
    losses = iter([0.5, 0.7, 0.6])
    monkeypatch.setattr(Trainer, "evaluate", lambda run: {"eval_loss": next(losses)})
    lost: list[Path] = []

    class Losing(Callback):
        def on_step(self, log: StepLog, total_steps: int) -> None:
            if log.step == 8:
                (path,) = (path for path in run.store.folder.iterdir() if path.name[-2:] == "-3")
                lost.append(path)
                shutil.rmtree(path) if how == "gone" else (path / "model.safetensors").unlink()

    changes = {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True}
    run = trainer([Losing()], save_total_limit=1, save_steps=2, **changes)
    run.train()
    assert run.best_step is None
    assert run.lost_best is not None
    assert same_bits(weights(run), load_file(run.store.path(8) / "model.safetensors"))
    problem = "the checkpoint is gone" if how == "gone" else "the checkpoint is damaged"
    assert f"Caution: {lost[0]}: {problem}" in capsys.readouterr().err


# ---- signals ----


@pytest.mark.parametrize("step", [1, 4, 8])
def test_sigterm_saves_and_ends_the_program_with_143(
    trainer: Callable[..., Trainer],
    never_killed: Trainer,
    capsys: pytest.CaptureFixture[str],
    step: int,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopped = trainer([At(step, terminate)])
    with pytest.raises(SystemExit) as ended:
        stopped.train()
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert stopped.history.terminated
    assert stopped.history.step == step
    assert f"Stopped by SIGTERM after step {step}: " in capsys.readouterr().err
    assert stopped.store.steps()[-1] == step
    resumed = trainer()
    resumed.train(True)
    assert same_bits(weights(resumed), weights(never_killed))
    assert resumed.history.evaluations == never_killed.history.evaluations


@pytest.mark.parametrize(("step", "batches"), [(4, 1), (4, 3), (8, 2)])
def test_sigterm_does_not_wait_for_the_end_of_an_evaluation(
    trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: int,
    batches: int,
) -> None:
    """And what the evaluation has drawn until then does not count, since it is made again."""
    monkeypatch.setattr("bertolt.train.trainer.FULL_LENGTH", 16)
    evaluated: list[int] = []

    def made(end: int = 0, **changes: Any) -> Trainer:
        run = trainer(per_device_eval_batch_size=2, **changes)

        def watch(model: torch.nn.Module, given: object) -> None:
            if not model.training:
                torch.rand(1)
                evaluated.append(1)
                if len(evaluated) == end:
                    signal.raise_signal(signal.SIGTERM)

        run.model.register_forward_pre_hook(watch)
        return run

    never_stopped = made(output_dir=str(tmp_path / "whole"))
    never_stopped.train()
    each = len(evaluated) // 2
    assert each > 3
    evaluated.clear()
    end = batches + (each if step == 8 else 0)
    stopped = made(end)
    with pytest.raises(SystemExit) as ended:
        stopped.train()
    assert ended.value.code == 143
    assert len(evaluated) == end
    assert stopped.history.step == step
    assert not stopped.history.evaluated(step)
    assert stopped.model.training
    assert stopped.store.steps()[-1] == step
    resumed = made()
    resumed.train(True)
    assert same_bits(weights(resumed), weights(never_stopped))
    assert resumed.history.evaluations == never_stopped.history.evaluations
    assert [step for step, _ in resumed.history.evaluations] == [4, 8]


def test_ctrl_c_waits_for_the_evaluation(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertolt.train.trainer.FULL_LENGTH", 16)
    run, evaluated = trainer(per_device_eval_batch_size=2), []

    def press(model: torch.nn.Module, given: object) -> None:
        if not model.training:
            evaluated.append(1)
            if len(evaluated) == 1:
                signal.raise_signal(signal.SIGINT)

    run.model.register_forward_pre_hook(press)
    run.train()
    assert run.history.interrupted
    assert len(evaluated) > 3
    assert [step for step, _ in run.history.evaluations] == [4]


def test_ctrl_c_saves_as_well(trainer: Callable[..., Trainer], never_killed: Trainer) -> None:
    stopped = trainer([At(3, press)])
    stopped.train()
    assert stopped.history.interrupted
    assert stopped.store.steps() == [2, 3]
    resumed = trainer()
    resumed.train(True)
    assert same_bits(weights(resumed), weights(never_killed))


def test_without_checkpoints_sigterm_is_left_alone(trainer: Callable[..., Trainer]) -> None:
    handlers: list[Any] = []
    before = signal.getsignal(signal.SIGTERM)
    look = At(1, lambda: handlers.append(signal.getsignal(signal.SIGTERM)))
    run = trainer([look], save_strategy="no", max_steps=1)
    run.train()
    assert handlers == [before]
    assert not Path(run.args.output_dir).exists()


# ---- what is refused ----


@pytest.mark.skipif(os.name == "nt", reason="locks")
@pytest.mark.parametrize(("step", "resume"), [(1, False), (3, False), (3, True)])
def test_two_runs_do_not_mix_their_checkpoints(
    trainer: Callable[..., Trainer], never_killed: Trainer, step: int, resume: bool
) -> None:
    second = trainer(seed=7)
    refused: list[UsageError] = []

    def train_also() -> None:
        with pytest.raises(UsageError) as caught:
            second.train(resume_from_checkpoint=resume)
        refused.append(caught.value)

    first = trainer([At(step, train_also)])
    first.train()
    assert [error.problem for error in refused] == ["another run is writing to this folder"]
    assert refused[0].place == first.args.output_dir
    assert "another output_dir" in refused[0].fix
    assert not second.history.steps
    assert first.store.steps() == [2, 4, 6, 8]
    assert same_bits(weights(first), weights(never_killed))
    with pytest.raises(UsageError, match="checkpoints of an earlier run"):
        second.train()


def test_a_folder_that_was_there_stays_and_one_for_nothing_goes(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    for there in (False, True):
        folder = tmp_path / str(there)
        if there:
            folder.mkdir()
        kill_after(1, trainer, output_dir=str(folder))
        assert folder.exists() == there


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"learning_rate": 2e-3}, "learning_rate 0.001, and now it is 0.002"),
        ({"seed": 1}, "seed 42, and now it is 1"),
        ({"num_train_epochs": 3}, "num_train_epochs 2, and now it is 3"),
        ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type linear"),
        ({"per_device_train_batch_size": 4}, "per_device_train_batch_size 8"),
        ({"precision": "bf16"}, "precision fp32, and now it is bf16"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end False"),
    ],
    ids=str,
)
def test_another_setting_is_refused_by_its_name(
    trainer: Callable[..., Trainer], changes: dict[str, Any], name: str
) -> None:
    kill_after(3, trainer)
    with pytest.raises(UsageError, match=f"it was made with {name}") as caught:
        trainer(**changes).train(True)
    assert "checkpoint-2" in caught.value.place


def test_other_rows_are_refused_as_far_as_their_number_tells(
    trainer: Callable[..., Trainer], rows: Rows
) -> None:
    kill_after(3, trainer)
    with pytest.raises(UsageError, match="rows of the train_dataset 26, and now it is 25"):
        trainer(train=rows[:-1]).train(True)


def test_what_decides_nothing_may_change(
    trainer: Callable[..., Trainer], never_killed: Trainer
) -> None:
    kill_after(3, trainer)
    resumed = trainer(save_steps=3, save_total_limit=1, logging_steps=1, disable_tqdm=False)
    resumed.train(True)
    assert same_bits(weights(resumed), weights(never_killed))
    assert resumed.store.steps() == [6]


def test_the_precision_of_the_checkpoint_counts_where_none_is_asked_for(
    trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    kill_after(3, trainer, precision="bf16")
    resumed = trainer(precision="auto")
    resumed.precision = type(resumed.precision)("fp32", "measured so this time")
    resumed.train(True)
    assert resumed.precision.name == "bf16"
    assert "Precision bf16: as in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("torch.get_num_threads", lambda: 7, "threads 1, and now it is 7: the result may differ in "
         "its last bits"),
        ("numpy.__version__", "9.9.9", f"numpy {np.__version__}, and now it is 9.9.9: the result "
         "may differ in the order of its rows"),
    ],
)  # fmt: skip
def test_what_else_the_result_depends_on_is_told(
    trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: Any,
    words: str,
) -> None:
    kill_after(3, trainer)
    with monkeypatch.context() as patched:
        patched.setattr(name, value)
        trainer().train(True)
    assert f"Caution: it was saved with {words}" in capsys.readouterr().err


def test_an_older_checkpoint_may_say_less_of_its_machine(
    trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("bertolt.train.saving._machine", lambda device: {"device": device.type})
        kill_after(3, trainer)
    trainer().train(True)
    said = capsys.readouterr().err
    assert "Resumed from" in said
    assert "Caution" not in said


def test_a_new_run_does_not_mix_its_checkpoints_with_others(
    trainer: Callable[..., Trainer],
) -> None:
    trainer(max_steps=2).train()
    with pytest.raises(UsageError, match="there are checkpoints of an earlier run"):
        trainer().train()


def test_nothing_to_resume_from(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no whole checkpoint to resume from"):
        trainer().train(True)
    with pytest.raises(CheckpointError, match="not the name of a checkpoint"):
        trainer().train(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoint-5: the checkpoint is gone"):
        trainer().train(tmp_path / "checkpoint-5")


def test_a_model_of_another_shape_is_refused(
    trainer: Callable[..., Trainer], tiny_config: Any
) -> None:
    kill_after(3, trainer)
    other = trainer()
    other.model = BertForSequenceClassification(tiny_config(num_labels=3, intermediate_size=32))
    with pytest.raises(CheckpointError, match=r"is \[64\] of torch.float32, and \[32\]"):
        other.train(True)
    other.model = BertForSequenceClassification(tiny_config(num_labels=3, num_hidden_layers=1))
    with pytest.raises(CheckpointError, match=r"layer\.1.* has no place in the model"):
        other.train(True)
