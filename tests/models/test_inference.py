"""Layers made ready for answering: the modules' own answers, and never those of old weights."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import bertolt
from bertolt import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification
from bertolt.base.errors import UsageError
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.data.batch import PackedBatch
from bertolt.models import inference
from bertolt.models.inference import prepared
from bertolt.models.precision import PrecisionChoice, choose_precision

CPU = torch.device("cpu")
LENGTHS = ([7], [1], [40, 3, 22], [5, 5, 5, 5], [130, 64, 9])


@pytest.fixture(scope="module")
def real() -> BertForSequenceClassification:
    start = demo_checkpoint()
    model = BertForSequenceClassification.from_pretrained(start, num_labels=3, verbose=False)
    return model.eval()


def batch_of(lengths: list[int], vocab: int) -> PackedBatch:
    generator = torch.Generator().manual_seed(sum(lengths))
    return PackedBatch.from_sequences(
        [torch.randint(1, vocab, (n,), generator=generator).tolist() for n in lengths]
    )


@torch.inference_mode()
def answers(model: Any, batch: PackedBatch, precision: str, ready: bool = True) -> torch.Tensor:
    choice = PrecisionChoice(precision, "")
    with choice.autocast(CPU):
        if not ready:
            return model.logits_of(model(batch)).float()
        with prepared(model, precision, keep=True):
            base = getattr(model, model.base_model_prefix)
            assert (base.prepared is not None) == (not inference._why_not(base))
            return model.logits_of(model(batch)).float()


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_fp32_answers_are_those_of_the_modules(real: Any, lengths: list[int]) -> None:
    batch = batch_of(lengths, real.config.vocab_size)
    found, wanted = (answers(real, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def test_less_exact_answers_are_about_as_near_to_fp32_as_those_of_the_modules_in_bf16(
    real: Any,
) -> None:
    gaps = {"bf16": 0.0, "int8": 0.0, "modules": 0.0}
    for lengths in ([7], [1], [6, 2, 3]):  # few: bfloat16 may be emulated
        batch = batch_of(lengths, real.config.vocab_size)
        exact = answers(real, batch, "fp32", ready=False)
        for name, found in (
            ("bf16", answers(real, batch, "bf16")),
            ("int8", answers(real, batch, "int8")),
            ("modules", answers(real, batch, "bf16", ready=False)),
        ):
            gaps[name] = max(gaps[name], float((found - exact).abs().max()))
    assert 0 < gaps["bf16"] < 2 * gaps["modules"]
    assert 0 < gaps["int8"] < 30 * gaps["modules"]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "tanh"])
@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForSequenceClassification])
def test_every_activation_and_heads_of_both_kinds(
    kind: Any, activation: str, tiny_config: Any
) -> None:
    torch.manual_seed(0)
    model = kind(tiny_config(hidden_act=activation)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    coarse = answers(model, batch, "int8")
    assert (coarse - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_without_onednn_plain_operations_answer(
    tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        inference,
        "product_maker",
        lambda precision: lambda w, b, activation: inference.Product(w, b, torch.float32),
    )
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def changes(model: Any) -> Iterator[Any]:
    """What a user may do to a model between two answers."""
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight.mul_(1.5)
    yield
    model.load_state_dict({k: v * 0.9 for k, v in model.state_dict().items()})
    yield
    model.bert.encoder.layer[1].output.dense = nn.Linear(
        model.config.intermediate_size, model.config.hidden_size
    )
    yield
    model.bert.encoder.layer[0].attention.self.key.weight = nn.Parameter(
        torch.randn(model.config.hidden_size, model.config.hidden_size)
    )
    yield
    for optimizer in (
        bertolt.AdamW(model.parameters(), lr=0.1),
        torch.optim.AdamW(model.parameters(), lr=0.1, fused=True),  # which counts no writes
    ):
        batch = dataclasses.replace(batch_of([4], 20), labels=torch.tensor([1]))
        with torch.inference_mode(False), torch.enable_grad():
            model(batch).loss.backward()
        optimizer.step()
        yield
    hook = model.bert.encoder.layer[0].output.register_forward_hook(lambda m, args, out: out * 2)
    yield
    hook.remove()
    model.bert.encoder = copy.deepcopy(model.bert.encoder)
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight.mul_(0.5)
    yield
    hook = model.bert.encoder.register_forward_hook(lambda m, args, out: out * 2)
    yield
    hook.remove()
    model.bert.encoder.layer[1].output.LayerNorm = nn.Identity()
    yield


def test_answers_follow_every_change_of_the_model(tiny_config: Any) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config()).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    before = answers(model, batch, "fp32")
    for _ in changes(model):
        found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        assert (found - before).abs().max() > 1e-4
        before = found


@torch.no_grad()
def test_what_is_ready_is_used_again_and_lent_only_inside(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    with prepared(model, "fp32", keep=True):
        first = model.bert.prepared
        assert copy.deepcopy(model.state_dict()).keys() == model.state_dict().keys()
    assert model.bert.prepared is None
    with prepared(model, "fp32", keep=True):
        assert model.bert.prepared is first
    with prepared(model, "fp32"):
        assert model.bert.prepared is not first
    with prepared(model, "bf16", keep=True):
        assert model.bert.prepared is not first


@pytest.mark.parametrize("backend", ["reference", "grouped"])
@torch.no_grad()
def test_an_attention_backend_that_was_asked_for_keeps_to_the_modules(
    backend: str, tiny_config: Any
) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    model.set_attention_backend(backend)
    with prepared(model, "fp32"):
        assert model.bert.prepared is None
    with pytest.raises(UsageError, match="int8 is not for this model"), prepared(model, "int8"):
        pass


def test_int8_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(UsageError, match="answering alone"):
        choose_precision("int8", CPU)
    with pytest.raises(UsageError, match="run on a CPU"):
        choose_precision("int8", torch.device("meta"), answering=True)
    assert choose_precision("int8", CPU, answering=True).name == "int8"


def int8(rows: list[list[float]]) -> torch.Tensor:
    width = len(rows[0])
    product = inference.Int8Product(torch.eye(width), torch.zeros(width), "")
    return product(torch.tensor(rows).bfloat16()).float()


def test_no_level_of_an_input_turns_into_another() -> None:
    found = int8([[-1.0, 0.5, 1.0]])
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.5, 1.0]]), atol=0.02, rtol=0.02)
    torch.manual_seed(0)
    for _ in range(300):
        x = torch.randn(4, 8).bfloat16().float()
        torch.testing.assert_close(int8(x.tolist()), x, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("middle", [-300.0, -1.0, 0.0, 1.0, 300.0])
@pytest.mark.parametrize("spread", [1e-4, 1.0, 1e4])
def test_levels_are_the_nearest_wherever_numbers_lie(middle: float, spread: float) -> None:
    torch.manual_seed(0)
    x = (middle + spread * torch.randn(2 * inference._PART + 3, 8)).bfloat16()
    step, zero = inference._step_and_zero(float(x.min()), float(x.max()))
    levels = inference._levels(x, 1 / step, zero)
    assert 0 <= zero <= 255
    expected = (x.double() / step + zero).round()
    assert expected.min() >= 0
    assert expected.max() <= 255
    # A number half-way between two levels may go either way in fp32.
    assert ((levels - expected).abs() <= 1).all()
    assert ((levels.double() - zero) * step - x.double()).abs().max() <= step * 0.501


def test_what_is_no_number_stays_none() -> None:
    assert int8([[math.nan, 1.0, 2.0]]).isnan().all()
    assert int8([[3.0, 3.0, 3.0]]).isfinite().all()


def test_loans_that_overlap_end_with_none(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    one, other = prepared(model, "fp32"), prepared(model, "bf16")
    with torch.no_grad():
        one.__enter__()
        other.__enter__()
        other.__exit__(None, None, None)
        assert model.bert.prepared is not None
        one.__exit__(None, None, None)
        assert model.bert.prepared is None


def test_threads_that_share_a_model_do_not_disturb_each_other(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    wanted = answers(model, batch, "fp32", ready=False)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: answers(model, batch, "fp32"), range(40)))
    for each in found:
        torch.testing.assert_close(each, wanted, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert model.bert.prepared is None


def test_gradients_go_through_the_modules_even_inside(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = dataclasses.replace(batch_of([4], 20), labels=torch.tensor([1]))
    with prepared(model, "fp32"):
        model(batch).loss.backward()
    assert model.bert.encoder.layer[0].output.dense.weight.grad is not None


@pytest.mark.parametrize("fused", [torch.optim.AdamW, bertolt.AdamW])
@pytest.mark.parametrize("between", ["forward and backward", "backward and update"])
def test_an_answer_in_the_middle_of_a_step_is_not_kept(
    between: str, fused: Any, tiny_config: Any
) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = dataclasses.replace(batch_of([4], 20), labels=torch.tensor([1]))
    optimizer = fused(model.parameters(), lr=0.1, fused=True)
    loss = model(batch).loss
    if between == "forward and backward":
        answers(model, batch, "fp32")
    loss.backward()
    if between == "backward and update":
        answers(model, batch, "fp32")
    optimizer.step()
    optimizer.zero_grad()
    found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_in_other_formats_keep_to_the_modules(dtype: torch.dtype, tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = batch_of([9, 2], model.config.vocab_size)
    answers(model, batch, "fp32")
    model.to(dtype)
    found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted)


def test_a_backend_that_is_asked_for_later_is_followed(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    with torch.no_grad():
        with prepared(model, "fp32", keep=True):
            assert model.bert.prepared is not None
        model.bert.set_attention_backend("reference")
        with prepared(model, "fp32", keep=True):
            assert model.bert.prepared is None


def test_a_model_that_was_made_without_gradients_answers(tiny_config: Any) -> None:
    with torch.inference_mode():
        model = BertForSequenceClassification(tiny_config()).eval()
        batch = batch_of([9, 2], model.config.vocab_size)
        found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining])
@pytest.mark.parametrize("places", [[0, 7, 31, 54], []], ids=["some", "none"])
def test_labelled_tokens_alone_are_answered_as_by_the_modules(
    kind: Any, places: list[int], tiny_config: Any
) -> None:
    model = kind(tiny_config(initializer_range=0.2)).eval()
    batch = batch_of([30, 3, 22], model.config.vocab_size)
    labels = torch.full_like(batch.input_ids, -100)
    labels[places] = 9
    batch = dataclasses.replace(batch, labels=labels)
    found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    assert found.shape == (len(places), model.config.vocab_size)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
