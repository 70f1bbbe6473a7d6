"""Callbacks of the peer's kind: told the same, in the same order, by both Trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import bertolt
from bertolt import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerState
from bertolt.base.errors import UsageError
from bertolt.train.events import EVENTS
from bertolt.train.loop import Callback
from tests.train.small import Rows, arguments

WATCHED = [name for name in EVENTS if name != "on_init_end"]


def recorder(base: type) -> Any:
    """A callback over one of the two bases, that notes every event and where the run stood."""
    noted: list[tuple[str, int, float, tuple[str, ...]]] = []

    def noting(name: str) -> Any:
        def method(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
            named = {"model", "optimizer", "lr_scheduler"} <= given.keys()
            extra = tuple(sorted(given.get("metrics", given.get("logs", {}))))
            extra = tuple(key for key in extra if not key.endswith(("runtime", "per_second")))
            assert named
            noted.append((name, state.global_step, round(state.epoch, 6), extra))

        return method

    made = type("Recorder", (base,), {name: noting(name) for name in WATCHED})()
    made.noted = noted
    return made


def peers_trainer(model: Any, rows: Rows, folder: Path, callbacks: Any, **options: Any) -> Any:
    """The peer's Trainer over the same weights, rows and settings, in the order of the rows."""
    peer = transformers.BertForSequenceClassification(
        transformers.BertConfig(**model.config.to_dict())
    )
    peer.load_state_dict(model.state_dict())
    args = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=8, per_device_eval_batch_size=64,
        learning_rate=1e-3, num_train_epochs=2, report_to="none", disable_tqdm=True, use_cpu=True,
        train_sampling_strategy="sequential", **options,
    )  # fmt: skip

    def collate(some: Rows) -> Any:
        return bertolt.PackingCollator()(some).padded(pad_token_id=0)

    return transformers.Trainer(
        peer, args, collate, train_dataset=rows, eval_dataset=rows[:8], callbacks=callbacks
    )


def our_trainer(model: Any, rows: Rows, folder: Path, callbacks: Any, **options: Any) -> Trainer:
    args = arguments(
        output_dir=str(folder), weight_decay=0.0, train_sampling_strategy="sequential", **options
    )
    return Trainer(model, args, train_dataset=rows, eval_dataset=rows[:8], callbacks=callbacks)


@pytest.mark.parametrize(
    "options",
    [
        {"logging_steps": 3},
        {"logging_steps": 3, "eval_strategy": "steps", "eval_steps": 2},
        {"logging_steps": 4, "eval_strategy": "epoch", "save_strategy": "epoch"},
    ],
    ids=str,
)
def test_the_same_is_told_as_by_the_peer(
    make_model: Any, rows: Rows, tmp_path: Path, options: dict[str, Any]
) -> None:
    ours, theirs = recorder(TrainerCallback), recorder(transformers.TrainerCallback)
    mine = our_trainer(make_model(), rows, tmp_path / "a", [ours], **options)
    mine.train()
    options = {"save_strategy": "no", **options}
    peer = peers_trainer(make_model(), rows, tmp_path / "b", [theirs], **options)
    peer.train()

    def told(noted: list[Any], event: str) -> list[Any]:
        # The peer logs a summary of the run at its end.
        return [each for each in noted if each[0] == event and "train_loss" not in each[3]]

    for event in WATCHED:
        assert told(ours.noted, event) == told(theirs.noted, event), event
    for entry, other in zip(mine.state.log_history, peer.state.log_history, strict=False):
        assert entry["step"] == other["step"]
        for name in ("loss", "eval_loss", "learning_rate"):
            assert entry.get(name) == pytest.approx(other.get(name), abs=2e-4)
    assert (mine.state.max_steps, mine.state.num_train_epochs) == (8, 2)


class Falls(TrainerCallback):
    """Makes of every evaluation after the second a worse one, and notes the steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append(state.global_step)


STOPPING: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "odd",
    "greater_is_better": True,
}
# The metric by evaluation: the best is the second.
COURSE = [0.5, 0.9, 0.8, 0.85, 0.9, 0.7, 0.6, 0.5]


def by_course() -> Any:
    calls = iter(COURSE)
    return lambda prediction: {"odd": next(calls)}


@pytest.mark.parametrize(
    ("given", "last"),
    [((1,), 3), ((2,), 4), ((3, 0.0), 5), ((1, 0.5), 2), ((9,), 8)],
    ids=str,
)
def test_early_stopping_stops_where_the_peer_does(
    make_model: Any, rows: Rows, tmp_path: Path, given: tuple[Any, ...], last: int
) -> None:
    ours = our_trainer(
        make_model(), rows, tmp_path / "a", [EarlyStoppingCallback(*given)], **STOPPING
    )
    peer = peers_trainer(
        make_model(), rows, tmp_path / "b", [transformers.EarlyStoppingCallback(*given)], **STOPPING
    )
    for trainer in (ours, peer):
        trainer.compute_metrics = by_course()
        trainer.train()
    assert ours.state.global_step == peer.state.global_step == last
    assert ours.state.best_metric == peer.state.best_metric
    assert ours.state.best_global_step == peer.state.best_global_step
    assert ours.best_step == ours.state.best_global_step
    assert ours.state.best_model_checkpoint == str(tmp_path / "a" / f"checkpoint-{ours.best_step}")


def test_early_stopping_goes_on_counting_after_a_resumption(
    make_model: Any, rows: Rows, tmp_path: Path
) -> None:
    def trainer(callbacks: Any = ()) -> Trainer:
        made = our_trainer(
            make_model(), rows, tmp_path, [EarlyStoppingCallback(3), *callbacks], **STOPPING
        )
        made.compute_metrics = by_course()
        return made

    class EndsAtFour(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 4

    first = trainer([EndsAtFour()])
    first.train()
    assert first.state.global_step == 4
    second = trainer()
    calls = iter(COURSE[4:])
    second.compute_metrics = lambda prediction: {"odd": next(calls)}
    second.train(resume_from_checkpoint=True)
    # 0.9 at step 2; the evaluations of steps 3, 4 and 5 are no better.
    assert second.state.global_step == 5
    assert second.state.best_global_step == 2
    steps = [entry["step"] for entry in second.state.log_history if "eval_odd" in entry]
    assert steps == [1, 2, 3, 4, 5]


def test_a_callback_asks_for_an_evaluation_a_checkpoint_and_a_log(
    make_model: Any, rows: Rows, tmp_path: Path
) -> None:
    class Asks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            wanted = state.global_step == 3
            control.should_evaluate = control.should_save = control.should_log = wanted
            return control

    trainer = our_trainer(
        make_model(), rows, tmp_path, [Asks], save_strategy="steps", save_steps=100,
        eval_strategy="epoch", logging_steps=4,
    )  # fmt: skip
    trainer.train()
    assert [step for step, _ in trainer.history.evaluations] == [3]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [3]


@pytest.mark.parametrize(
    ("flag", "words"),
    [("should_save", "writes no checkpoints"), ("should_epoch_stop", "cannot be cut short")],
)
def test_what_a_run_cannot_do_is_refused(
    make_model: Any, rows: Rows, tmp_path: Path, flag: str, words: str
) -> None:
    class Asks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            setattr(control, flag, True)

    with pytest.raises(UsageError, match=words):
        our_trainer(make_model(), rows, tmp_path, [Asks()]).train()


def test_an_event_that_no_run_tells_is_refused_when_it_is_given(
    make_model: Any, rows: Rows
) -> None:
    class Pushes(TrainerCallback):
        def on_push_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None: ...

    with pytest.raises(UsageError, match="Pushes: on_push_begin is defined"):
        Trainer(make_model(), callbacks=[Pushes])


def test_a_callback_looks_into_a_step(make_model: Any, rows: Rows, tmp_path: Path) -> None:
    """Whole, clipped gradients before the update and after it; weights are new after it alone."""
    noted: list[tuple[str, float, float]] = []

    class Looks(TrainerCallback):
        def _note(self, event: str, model: Any) -> None:
            parameters = list(model.parameters())
            gradients = [each.grad for each in parameters if each.grad is not None]
            assert not any(each.is_sparse for each in gradients)
            norm = float(torch.nn.utils.get_total_norm(gradients))
            noted.append((event, norm, float(parameters[0].detach().abs().sum())))

        def on_substep_end(self, *given: Any, model: Any, **others: Any) -> None:
            self._note("part", model)

        def on_pre_optimizer_step(self, *given: Any, model: Any, **others: Any) -> None:
            self._note("before", model)

        def on_optimizer_step(self, *given: Any, model: Any, **others: Any) -> None:
            self._note("after", model)

    how: dict[str, Any] = {"gradient_accumulation_steps": 2, "max_steps": 2, "max_grad_norm": 0.1}
    watched = our_trainer(make_model(), rows, tmp_path / "a", [Looks], **how)
    watched.train()
    assert [event for event, _, _ in noted] == ["part", "before", "after"] * 2
    for (_, _, start), (_, norm, before), (_, still, after) in (noted[:3], noted[3:]):
        assert norm == still == pytest.approx(0.1, abs=1e-5)
        assert start == before != after
    usual = our_trainer(make_model(), rows, tmp_path / "b", [], **how)
    usual.train()
    for mine, other in zip(watched.model.parameters(), usual.model.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


class Misspelt(Callback):
    """Of the loop's own kind, with an event that nobody tells."""

    def on_steps(self) -> None: ...


class Partly:
    """Without the other two methods of the loop's own kind."""

    def on_step(self, log: Any, total_steps: int) -> None: ...


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (transformers.TrainerCallback, "a subclass of bertolt.TrainerCallback"),
        (transformers.PrinterCallback(), "a subclass of bertolt.TrainerCallback"),
        (Misspelt, "on_steps is defined"),
        (Partly(), "a Partly without on_evaluate and on_end"),
        (print, "without on_step and on_evaluate and on_end"),
    ],
)
def test_what_is_no_callback_is_refused_when_it_is_given(
    make_model: Any, callback: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Trainer(make_model(), callbacks=[callback])


def test_callbacks_are_added_and_taken_out(make_model: Any) -> None:
    class Own(Callback):
        """Of the loop's own kind."""

    trainer = Trainer(make_model(), arguments())
    watcher, own = Falls(), Own()
    trainer.add_callback(watcher)
    trainer.add_callback(own)
    trainer.add_callback(TrainerCallback)
    assert trainer.pop_callback(Falls) is watcher
    assert trainer.pop_callback(Falls) is None
    trainer.remove_callback(own)
    with pytest.raises(UsageError, match="no callback Own"):
        trainer.remove_callback(own)
    trainer.remove_callback(TrainerCallback)


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "eval_strategy is 'no'"), ({"eval_strategy": "steps"}, "metric_for_best_model is None")],
)
def test_early_stopping_needs_evaluations_and_a_metric(
    make_model: Any, rows: Rows, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    trainer = our_trainer(make_model(), rows, tmp_path, [EarlyStoppingCallback], **options)
    with pytest.raises(UsageError, match=words):
        trainer.train()
    with pytest.raises(UsageError, match="patience is 0"):
        EarlyStoppingCallback(0)


def test_a_state_is_written_and_read(tmp_path: Path) -> None:
    state = TrainerState(global_step=3, log_history=[{"loss": 0.5, "step": 3}])
    state.save_to_json(tmp_path / "trainer_state.json")
    assert TrainerState.load_from_json(tmp_path / "trainer_state.json") == state
    theirs = transformers.TrainerState.load_from_json(str(tmp_path / "trainer_state.json"))
    assert theirs.log_history == state.log_history
