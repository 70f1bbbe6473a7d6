"""The log, TensorBoard, and who names a plateau."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from bertolt.base.errors import UsageError
from bertolt.pretrain.log import Plateau
from bertolt.pretrain.measure import token_entropy
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.run import pretrain
from bertolt.train.loop import History

Make = Callable[..., PretrainOptions]


def watched(losses: list[float], warmup: int = 0, patience: int = 0) -> tuple[Plateau, list[str]]:
    """A plateau at 6 that has seen these losses, every ten steps."""
    plateau = Plateau(6.0, warmup, patience)
    said = [plateau._see(10 * place, loss) for place, loss in enumerate(losses, 1)]
    return plateau, [words for words in said if words]


def test_a_loss_that_stands_still_near_the_entropy_is_named_once() -> None:
    plateau, said = watched([9.0, 6.3, 6.25, 6.24, 6.2, 6.2])
    assert len(said) == 1
    assert said[0].startswith("Caution: The held-out loss 6.24 stays near 6.00 since step 20")
    assert plateau.left is None


def test_a_loss_that_falls_through_it_is_not_named() -> None:
    plateau, said = watched([9.0, 6.4, 6.2, 5.9, 5.2, 4.0])
    assert said == []
    assert plateau.left == 50


def test_leaving_is_told_where_the_stay_was() -> None:
    plateau, said = watched([6.2, 6.2, 6.2, 6.1, 5.0])
    assert said[1:] == ["The loss has left the entropy of single tokens behind, by step 50"]
    assert plateau.left == 50


def test_nothing_is_expected_of_the_warmup() -> None:
    assert watched([6.2] * 5, warmup=30)[1] == []
    assert len(watched([6.2] * 6, warmup=30)[1]) == 1


def test_evaluations_in_a_row_are_no_long_stay() -> None:
    assert watched([6.2] * 5, patience=50)[1] == []
    assert len(watched([6.2] * 6, patience=50)[1]) == 1


def test_a_run_that_goes_on_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    plateau = Plateau(6.0, 0, 0)
    plateau.on_begin(History(evaluations=[(s, {"eval_loss": 6.2}) for s in (10, 20, 30)]))
    plateau.on_evaluate(40, {"eval_loss": 6.2})
    assert capsys.readouterr().err == ""
    plateau.on_evaluate(50, {"eval_loss": 7.0, "eval_masked_loss": 5.0})
    assert "left the entropy" in capsys.readouterr().err


def test_the_entropy_is_that_of_the_tokens_that_can_be_masked() -> None:
    counts = np.array([1000, 1, 1, 2, 0])
    assert token_entropy(counts, [False, True, True, True, True]) == pytest.approx(1.5 * np.log(2))
    assert token_entropy(np.zeros(3, dtype=np.int64), [True] * 3) == 0


class Writer:
    """Stands in for the writer of event files."""

    made: ClassVar[list[Writer]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.added: list[tuple[str, float, int]] = []
        self.closed = False
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.added.append((name, value, step))

    def add_text(self, name: str, text: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_the_same_numbers(
    letters: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "made", [])
    done = pretrain(letters, options(tensorboard=True, steps=10))
    (writer,) = Writer.made
    assert writer.folder == str(done.out / "tensorboard")
    assert writer.purge_step == 1
    assert writer.closed
    curve = [(value, step) for name, value, step in writer.added if name == "train/loss"]
    assert curve == [(log.loss, log.step) for log in done.history.steps]
    names = {name for name, _, _ in writer.added}
    assert names >= {"train/tokens_per_second", "train/peak_share", "eval/masked_accuracy"}


def test_real_event_files_are_written(letters: Path, options: Make) -> None:
    done = pretrain(letters, options(tensorboard=True, steps=3))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(done.out / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


def test_tensorboard_that_is_not_there_is_asked_for(
    letters: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = options(tensorboard=True)
    with pytest.raises(UsageError, match="needs the package tensorboard") as found:
        pretrain(letters, settings)
    assert "pip install 'bertolt[tensorboard]'" in found.value.fix
    assert not settings.out.exists()
