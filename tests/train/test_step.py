"""`train_step`: one update."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from bertolt import AdamW, train_step
from bertolt.base.errors import DataError, TrainingError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.models.precision import choose_precision
from tests.train.small import assert_same_weights, descent, pack, weights


def test_a_step_is_forward_backward_clip_and_update(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    batch = pack(rows[:8])
    for clip in (0.0, 0.05, 1e6):
        model = make_model()
        twin = copy.deepcopy(model)
        log = train_step(model, batch, descent(model), max_grad_norm=clip)

        optimizer = descent(twin)
        loss = twin(batch).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip or float("inf"))
        optimizer.step()

        assert log.loss == pytest.approx(float(loss.detach()), abs=1e-7)
        assert log.grad_norm == pytest.approx(float(norm), rel=1e-5)
        assert_same_weights(model, weights(twin), atol=1e-7)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_log_tells_what_the_step_was_made_of(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model()
    batches = [pack(rows[:5]), pack(rows[5:8])]
    log = train_step(model, batches, descent(model, lr=0.25), step=7)
    assert log.step == 7
    assert log.learning_rate == 0.25
    assert log.sequences == 8
    assert log.tokens == sum(len(row["input_ids"]) for row in rows[:8])
    assert log.rows == sum(batch.input_ids.shape[0] for batch in batches)
    assert log.seconds > 0


def test_the_scheduler_is_stepped_after_the_update(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model()
    optimizer = descent(model, lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    rates = [train_step(model, pack(rows[:4]), optimizer, schedule).learning_rate for _ in range(3)]
    assert rates == pytest.approx([1, 1 / 2, 1 / 3])


@pytest.mark.parametrize("sizes", [[8, 8, 8, 2], [13, 13], [1, 3, 22], [25, 1]], ids=str)
def test_accumulated_batches_act_as_one(
    make_model: Any, rows: list[dict[str, Any]], sizes: list[int]
) -> None:
    whole = make_model()
    parts = copy.deepcopy(whole)
    ends = list(itertools.accumulate(sizes, initial=0))
    micro = [pack(rows[start:stop]) for start, stop in itertools.pairwise(ends)]
    wanted = train_step(whole, pack(rows), descent(whole))
    found = train_step(parts, micro, descent(parts))
    assert found.loss == pytest.approx(wanted.loss, abs=1e-6)
    assert found.grad_norm == pytest.approx(wanted.grad_norm, abs=1e-6)
    assert_same_weights(parts, weights(whole), atol=1e-6)


def test_accumulation_counts_targets_and_not_rows(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    ignored = [{**row, "label": IGNORE_INDEX} for row in rows[:6]] + rows[6:]
    whole = make_model()
    parts = copy.deepcopy(whole)
    train_step(whole, pack(ignored), descent(whole))
    train_step(parts, [pack(ignored[:8]), pack(ignored[8:])], descent(parts))
    assert_same_weights(parts, weights(whole), atol=1e-6)


def test_a_part_without_a_target_adds_nothing(make_model: Any, rows: list[dict[str, Any]]) -> None:
    ignored = [{**row, "label": IGNORE_INDEX} for row in rows[:4]]
    alone = make_model()
    both = copy.deepcopy(alone)
    wanted = train_step(alone, pack(rows[4:8]), descent(alone))
    found = train_step(both, [pack(ignored), pack(rows[4:8])], descent(both))
    assert found.loss == pytest.approx(wanted.loss, abs=1e-6)
    assert_same_weights(both, weights(alone), atol=1e-6)


def test_frozen_parameters_stay(make_model: Any, rows: list[dict[str, Any]]) -> None:
    model = make_model()
    model.bert.embeddings.requires_grad_(False)
    before = weights(model)
    train_step(model, pack(rows[:8]), AdamW(model.parameters(), lr=0.01))
    changed = {
        name for name, value in weights(model).items() if not torch.equal(value, before[name])
    }
    assert "classifier.weight" in changed
    assert not any("embeddings" in name for name in changed)


def test_bfloat16_keeps_weights_and_log_in_fp32_and_stays_close(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    fine = make_model()
    coarse = copy.deepcopy(fine)
    bf16 = choose_precision("bf16", torch.device("cpu"))
    wanted = train_step(fine, pack(rows), descent(fine))
    found = train_step(coarse, pack(rows), descent(coarse), precision=bf16)
    assert found.loss == pytest.approx(wanted.loss, rel=0.02)
    assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=0.1)
    assert all(value.dtype == torch.float32 for value in coarse.state_dict().values())


@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_not_finite_stops_before_the_update(
    make_model: Any, rows: list[dict[str, Any]], spoilt: str, parts: int
) -> None:
    model = make_model()
    if spoilt == "loss":
        with torch.no_grad():
            model.classifier.bias[1] = float("inf")
    else:
        model.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(model)
    optimizer = AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    batches = [pack(rows[:8]), pack(rows[8:16])][:parts]
    with pytest.raises(TrainingError, match=spoilt) as caught:
        train_step(model, batches, optimizer, schedule, step=5)
    assert "step 5" in caught.value.place
    assert "0.01" in caught.value.place
    assert "smaller learning rate" in caught.value.fix
    assert_same_weights(model, before)
    assert optimizer.state_dict()["state"] == {}
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert all(parameter.grad is None for parameter in model.parameters())


def test_rows_without_an_answer_name_what_the_model_learns(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model()
    misspelt = [{"input_ids": row["input_ids"], "lable": row["label"]} for row in rows[:4]]
    with pytest.raises(DataError, match="the rows have none of what the model learns: labels"):
        train_step(model, pack(misspelt), descent(model))
    ignored = [{**row, "label": IGNORE_INDEX} for row in rows[:4]]
    with pytest.raises(DataError, match="no label of this step takes part in the loss"):
        train_step(model, pack(ignored), descent(model))
