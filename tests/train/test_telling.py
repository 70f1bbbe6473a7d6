"""What a Trainer tells: metrics in the terminal and in files, as the peer's helpers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from bertolt import BertForSequenceClassification, Trainer
from bertolt.base.errors import BertoltError, UsageError
from tests.train.small import STILL, Rows, arguments

METRICS = {"eval_loss": 0.123456, "eval_samples": 26, "eval_runtime": 3725.5}


@pytest.fixture
def trainer(tiny_config: Any, rows: Rows, tmp_path: Path) -> Trainer:
    args = arguments(output_dir=str(tmp_path / "out"), max_steps=3, logging_steps=1)
    model = BertForSequenceClassification(tiny_config(num_labels=3, **STILL))
    return Trainer(model, args, train_dataset=rows, eval_dataset=rows)


def test_the_files_of_metrics_are_the_peers(trainer: Trainer, tmp_path: Path) -> None:
    class Peer:
        args = arguments(output_dir=str(tmp_path / "peer"))
        is_world_process_zero = trainer.is_world_process_zero

    (tmp_path / "peer").mkdir()
    assert trainer.is_world_process_zero()
    assert trainer.is_local_process_zero()
    for split, metrics, more in (
        ("eval", METRICS, {}),
        ("test", {"test_loss": 1.0}, {}),
        ("train", {"eval_loss": 2.0}, {}),
        ("predict", {"left": "out"}, {"combined": False}),
    ):
        trainer.save_metrics(split, metrics, **more)
        transformers.Trainer.save_metrics(Peer(), split, metrics, **more)  # type: ignore[arg-type]
    files = sorted(path.name for path in (tmp_path / "peer").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in files:
        ours = (tmp_path / "out" / name).read_text()
        assert ours.rstrip() == (tmp_path / "peer" / name).read_text()


def test_numbers_of_numpy_are_saved_and_other_things_refused(trainer: Trainer) -> None:
    trainer.save_metrics("eval", {"eval_f1": np.float32(0.5)})
    path = Path(trainer.args.output_dir) / "eval_results.json"
    assert json.loads(path.read_text()) == {"eval_f1": 0.5}
    with pytest.raises(UsageError, match="save_metrics got a object"):
        trainer.save_metrics("eval", {"eval_f1": object()})
    everything = path.with_name("all_results.json")
    for text in ("[1]", "{"):
        everything.write_text(text)
        with pytest.raises(UsageError, match="cannot be added to") as caught:
            trainer.save_metrics("eval", {"eval_f1": 1.0})
        assert caught.value.place == str(everything)
    assert json.loads(path.read_text()) == {"eval_f1": 0.5}
    trainer.save_metrics("eval", {"eval_f1": 1.0}, combined=False)
    assert everything.read_text() == "{"


def test_metrics_are_shown_as_by_the_peer(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    trainer.log_metrics("eval", METRICS)
    ours = capsys.readouterr()
    transformers.Trainer.log_metrics(trainer, "eval", METRICS)  # type: ignore[arg-type]
    assert ours.err + ours.out == capsys.readouterr().out
    trainer.log_metrics("eval", {})  # shows its title alone


def test_the_state_is_saved(trainer: Trainer) -> None:
    trainer.train()
    trainer.save_state()
    path = Path(trainer.args.output_dir) / "trainer_state.json"
    peer = transformers.TrainerState.load_from_json(str(path))
    assert peer.global_step == 3
    assert [entry["step"] for entry in peer.log_history if "loss" in entry] == [1, 2, 3]
    assert "train_loss" in peer.log_history[-1]
    assert peer.total_flos == trainer.state.total_flos > 0


def test_a_card_says_what_was_learned(trainer: Trainer) -> None:
    trainer.train()
    trainer.evaluate()
    trainer.create_model_card(
        finetuned_from="bert-base-uncased",
        tasks="text-classification",
        tags=["x"],
        dataset="reviews",
    )
    text = (Path(trainer.args.output_dir) / "README.md").read_text(encoding="utf-8")
    assert text.startswith('---\nbase_model: "bert-base-uncased"\ntags: ["x"]\n')
    assert "Fine-tuned on reviews." in text
    assert "- eval_loss: " in text
    assert "- learning_rate: " in text


def test_what_a_trainer_has_not_is_told_with_what_there_is(trainer: Trainer) -> None:
    with pytest.raises(AttributeError, match="Trainer has no hyperparameter_search") as caught:
        trainer.hyperparameter_search()
    assert isinstance(caught.value, BertoltError)
    assert not hasattr(trainer, "sharded")
    with pytest.raises(UsageError, match="train got a trial"):
        trainer.train(trial=1)  # type: ignore[arg-type]
    step, loss, metrics = trainer.train(ignore_keys_for_eval=["hidden_states"])
    assert (step, loss) == (3, metrics["train_loss"])


def test_names_of_metrics_begin_as_asked(trainer: Trainer, rows: Rows) -> None:
    test = trainer.predict(rows, ["hidden_states"], "held_out")
    times = ["runtime", "samples_per_second", "steps_per_second"]
    for metrics, start in (
        (test.metrics, "held_out"),
        (trainer.evaluate(None, None, "dev"), "dev"),
        (trainer.predict(rows).metrics, "test"),
    ):
        assert list(metrics) == [f"{start}_{name}" for name in ("loss", *times)]
