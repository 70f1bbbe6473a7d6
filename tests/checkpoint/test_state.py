"""The state of a run, written and read: every bit of it, in nothing that could run code."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau

from bertolt import (
    AdamW,
    AutoTokenizer,
    BertForMaskedLM,
    BertForSequenceClassification,
    get_scheduler,
    parameter_groups,
)
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.randomness import host_random_state, random_state, set_random_state
from bertolt.checkpoint.state import (
    RunFacts,
    TrainingState,
    read_run_facts,
    restore_state,
    write_state,
)

CPU = torch.device("cpu")


def parts(tiny_config: Any, seed: int, kind: Any = BertForSequenceClassification) -> TrainingState:
    torch.manual_seed(seed)
    model = kind(tiny_config())
    optimizer = AdamW(parameter_groups(model, 0.01), lr=1e-3)
    return TrainingState(model, optimizer, get_scheduler("cosine", optimizer, 2, 9))


def step(parts: TrainingState) -> None:
    for parameter in parts.model.parameters():
        parameter.grad = torch.randn_like(parameter)
    parts.optimizer.step()
    if parts.scheduler is not None:
        parts.scheduler.step()


def written(folder: Path, parts: TrainingState, extra: RunFacts | None = None) -> Path:
    folder.mkdir()
    write_state(folder, parts, extra or RunFacts(), random_state(CPU))
    return folder


@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForMaskedLM])
def test_what_goes_on_from_it_goes_on_as_it_would_have(
    tiny_config: Any, tmp_path: Path, kind: Any
) -> None:
    first = parts(tiny_config, 0, kind)
    for _ in range(3):
        step(first)
    folder = written(tmp_path / "state", first)
    second = parts(tiny_config, 1, kind)
    restore_state(folder, second)
    assert second.model.has_learned
    draws = []
    for each in (first, second):
        set_random_state(random_state(CPU), CPU)
        torch.manual_seed(7)
        step(each)
        draws.append({name: v.clone() for name, v in each.model.state_dict().items()})
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in draws[0])
    assert first.scheduler.get_last_lr() == second.scheduler.get_last_lr()
    assert first.optimizer.param_groups[0]["betas"] == second.optimizer.param_groups[0]["betas"]


def test_the_folder_opens_as_a_model(tiny_config: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    first = parts(tiny_config, 0)
    folder = written(tmp_path / "state", first)
    tiny_tokenizer.save_pretrained(folder)
    again = BertForSequenceClassification.from_pretrained(folder, verbose=False)
    assert torch.equal(again.classifier.weight, first.model.classifier.weight)
    assert len(AutoTokenizer.from_pretrained(folder)) == len(tiny_tokenizer)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt"}


def test_what_the_run_adds_comes_back(tiny_config: Any, tmp_path: Path) -> None:
    values = {"step": 3, "loss": float("nan"), "text": "中", "list": [1, [0.1 + 0.2]]}
    tensors = {"a": torch.tensor([0.1], dtype=torch.float64), "none": torch.zeros(0)}
    folder = written(
        tmp_path / "s", parts(tiny_config, 0), RunFacts(values=values, tensors=tensors)
    )
    extra = read_run_facts(folder)
    assert repr(extra.values) == repr(values)
    assert torch.equal(extra.tensors["a"], tensors["a"])
    assert extra.tensors["none"].shape == (0,)


@pytest.mark.parametrize("name", ["plain SGD", "milestones", "plateau", "a tensor as rate", "none"])
def test_other_optimizers_and_schedules(tiny_config: Any, tmp_path: Path, name: str) -> None:
    def make(seed: int) -> TrainingState:
        torch.manual_seed(seed)
        model = BertForSequenceClassification(tiny_config())
        optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler: Any = None
        if name == "milestones":
            scheduler = MultiStepLR(optimizer, [2, 3, 3])
        elif name == "plateau":
            scheduler = ReduceLROnPlateau(optimizer, patience=0)
            scheduler.step(1.0)
        elif name == "a tensor as rate":
            optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
        return TrainingState(model, optimizer, scheduler)

    first = make(0)
    if name != "plateau":
        step(first)
    folder = written(tmp_path / "state", first)
    second = make(1)
    restore_state(folder, second)
    rates = []
    for each in (first, second):
        for value in (2.0, 3.0):
            torch.manual_seed(7)
            step(each) if name != "plateau" else each.scheduler.step(value)
        rates.append(float(each.optimizer.param_groups[0]["lr"]))
    assert rates[0] == rates[1]
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_state_that_is_neither_tensors_nor_json(tiny_config: Any, tmp_path: Path) -> None:
    first = parts(tiny_config, 0)
    first.optimizer.param_groups[0]["odd"] = object()
    with pytest.raises(UsageError, match="a state that no checkpoint can keep") as caught:
        written(tmp_path / "state", first)
    assert caught.value.place == "AdamW, LambdaLR"


def test_another_optimizer_is_refused(tiny_config: Any, tmp_path: Path) -> None:
    folder = written(tmp_path / "state", parts(tiny_config, 0))
    other = parts(tiny_config, 0)
    one_group = torch.optim.AdamW(other.model.parameters())
    with pytest.raises(CheckpointError, match="its optimizer or schedule is not the one"):
        restore_state(folder, other._replace(optimizer=one_group))


def test_a_folder_of_a_model_alone_is_no_checkpoint(tiny_folder: Path, tiny_config: Any) -> None:
    for read in (read_run_facts, lambda folder: restore_state(folder, parts(tiny_config, 0))):
        with pytest.raises(CheckpointError, match="this is no checkpoint of a run"):
            read(tiny_folder)


def test_state_json_is_what_a_person_can_read(tiny_config: Any, tmp_path: Path) -> None:
    folder = written(tmp_path / "state", parts(tiny_config, 0), RunFacts(values={"step": 4}))
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state["extra"]["step"] == 4
    assert state["optimizer"]["groups"][0]["lr"] == 0.0, "warmup begins at 0"


@given(seed=st.integers(0, 2**32 - 1), draws=st.integers(0, 700), spare=st.booleans())
def test_all_generators_go_on_where_they_were(seed: int, draws: int, spare: bool) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    for draw in (torch.rand, np.random.rand, lambda count: [random.random() for _ in range(count)]):
        draw(draws)
    if spare:  # the second of a pair of normal numbers waits in these
        random.gauss(0, 1)
        np.random.randn()
    state = host_random_state()

    def drawn() -> tuple[Any, ...]:
        ours = torch.rand(3).tolist(), torch.randn(3).tolist(), random.random(), random.gauss(0, 1)
        return (*ours, np.random.rand(3).tolist(), np.random.randn(3).tolist())

    first = drawn()
    set_random_state(state, CPU)
    assert drawn() == first
