"""Frozen layers: the modules' own answers, by the weights that were there at that time."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bertolt
from bertolt import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification
from bertolt.base import torch_private
from bertolt.base.errors import UsageError
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.data.batch import PackedBatch
from bertolt.models import frozen
from bertolt.models import precision as precisions
from bertolt.models.frozen import FrozenModel, freeze
from bertolt.models.precision import PrecisionChoice, choose_precision
from bertolt.train.loop import predict_batches

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
    """Logits by layers that are frozen for this batch alone, or by the model's own."""
    return (
        asked(freeze(model, precision), batch, precision)
        if ready
        else plain(model, batch, precision)
    )


@torch.inference_mode()
def asked(model: FrozenModel, batch: PackedBatch, precision: str = "fp32") -> torch.Tensor:
    assert (model.encoder is None) == bool(model.why_not)
    with PrecisionChoice(precision, "").autocast(CPU):
        return model.model.logits_of(model(batch)).float()


@torch.inference_mode()
def plain(model: Any, batch: PackedBatch, precision: str = "fp32") -> torch.Tensor:
    with PrecisionChoice(precision, "").autocast(CPU):
        return model.logits_of(model(batch)).float()


def random_model(tiny_config: Any, **changes: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config(**changes)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


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
        frozen,
        "product_maker",
        lambda precision: lambda w, b, activation: frozen.Product(w, b, torch.float32),
    )
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    found, wanted = (answers(model, batch, "fp32", ready) for ready in (True, False))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def changes(model: Any) -> Iterator[Any]:
    """What a user may do to a model between two evaluations."""
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight.mul_(1.5)
    yield
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.output.LayerNorm.bias.add_(0.5)
    yield
    model.bert.encoder.layer[0].attention.self.value.bias.data.add_(0.5)
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
        torch.optim.AdamW(model.parameters(), lr=0.1, fused=True),
    ):
        batch = dataclasses.replace(batch_of([4], 20), labels=torch.tensor([1]))
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
    model.bert.encoder.layer[0].intermediate.activation = torch.tanh
    yield
    model.bert.encoder.layer[1].output.LayerNorm = nn.Identity()
    yield


def evaluated(model: Any, batch: PackedBatch, frozen: FrozenModel | None = None) -> torch.Tensor:
    (found,) = predict_batches(
        model, [batch], np.ones(1), lambda rows: rows[0], token_budget=9, engine=frozen
    )
    return found.logits


def test_an_evaluation_answers_with_the_present_weights(tiny_config: Any) -> None:
    model = random_model(tiny_config)
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    before = evaluated(model, batch)
    for _ in changes(model):
        found = evaluated(model, batch)
        torch.testing.assert_close(found, plain(model, batch), atol=1e-5, rtol=1e-4)
        assert (found - before).abs().max() > 1e-4
        before = found


@pytest.mark.parametrize("kind", [torch.optim.AdamW, bertolt.AdamW])
@pytest.mark.parametrize("between", ["forward and backward", "backward and update"])
def test_an_evaluation_in_the_middle_of_a_step_is_not_kept(
    between: str, kind: Any, tiny_config: Any
) -> None:
    model = random_model(tiny_config)
    batch = dataclasses.replace(batch_of([4], 20), labels=torch.tensor([1]))
    optimizer = kind(model.parameters(), lr=0.1, fused=True)
    loss = model(batch).loss
    if between == "forward and backward":
        evaluated(model, batch)
    loss.backward()
    if between == "backward and update":
        evaluated(model, batch)
    optimizer.step()
    optimizer.zero_grad()
    torch.testing.assert_close(evaluated(model, batch), plain(model, batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "fp32 without oneDNN"])
def test_frozen_layers_answer_as_they_were_whatever_is_written_into_the_model(
    precision: str, tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "without" in precision:
        monkeypatch.setattr(torch_private, "has_fused_products", lambda dtype: False)
    name = precision.split()[0]
    model = random_model(tiny_config)
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    once = freeze(model, name)
    before = asked(once, batch, name)
    for parameter in model.bert.encoder.parameters():
        was = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(1.0)
        assert torch.equal(asked(once, batch, name), before)
        parameter.data = was
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(3)
    assert torch.equal(asked(once, batch, name), before)
    assert (asked(freeze(model, name), batch, name) - before).abs().max() > 1e-3


def test_frozen_layers_answer_where_they_are_handed_over_and_nowhere_else(
    tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(tiny_config)
    batch = batch_of([9, 2], model.config.vocab_size)
    once, before = freeze(model, "fp32"), plain(model, batch)
    monkeypatch.setattr(frozen.FrozenEncoder, "__call__", lambda *given: 1 / 0)
    assert torch.equal(plain(model, batch), before)
    with pytest.raises(ZeroDivisionError):
        asked(once, batch)
    with pytest.raises(ZeroDivisionError):
        evaluated(model, batch, once)


def test_a_model_that_is_frozen_can_be_trained(tiny_config: Any) -> None:
    model = random_model(tiny_config)
    batch = dataclasses.replace(batch_of([4], 20), labels=torch.tensor([1]))
    once = freeze(model, "fp32")
    asked(once, batch)
    model(batch).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert copy.deepcopy(model.state_dict()).keys() == model.state_dict().keys()


class OtherForward(BertForSequenceClassification):
    def forward(self, *given: Any, **named: Any) -> Any:
        output = super().forward(*given, **named)
        output.logits = output.logits * 2
        return output


class TwoEncoders(BertForSequenceClassification):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.other = bertolt.BertModel(config)

    def run(self, batch: PackedBatch, forward_pass: Any) -> Any:
        output = super().run(batch, forward_pass)
        output.logits = output.logits + self.other.encode(batch, forward_pass).mean()
        return output


CUSTOMISED: dict[str, tuple[Any, str]] = {
    "a hook on a layer": (
        lambda m: m.bert.encoder.layer[1].register_forward_hook(lambda m, args, out: out * 2),
        r"encoder\.layer\.1 has hooks",
    ),
    "a hook before the encoder": (
        lambda m: m.bert.encoder.register_forward_pre_hook(lambda m, args: None),
        r"encoder\. has hooks",
    ),
    "a hook on the model": (
        lambda m: m.register_forward_hook(lambda m, args, out: out),
        "it has hooks",
    ),
    "another forward": (
        lambda m: setattr(m.bert.encoder.layer[0].output.dense, "forward", lambda x: x[:, :32]),
        r"encoder\.layer\.0\.output\.dense has hooks, is compiled or has another forward",
    ),
    "another class": (
        lambda m: setattr(m.bert.encoder.layer[0].output, "LayerNorm", nn.Identity()),
        r"encoder\.layer\.0\.output\.LayerNorm is a Identity",
    ),
    "another activation": (
        lambda m: setattr(m.bert.encoder.layer[0].intermediate, "activation", torch.tanh),
        r"encoder\.layer\.0\.intermediate has another activation",
    ),
    "no bias": (
        lambda m: setattr(m.bert.encoder.layer[0].output.dense, "bias", None),
        r"encoder\.layer\.0\.output\.dense has no bias",
    ),
    "another forward of the model": (
        lambda m: setattr(m, "__class__", OtherForward),
        "it has hooks, is compiled or has another forward",
    ),
    "a config that asks for more": (
        lambda m: m.change_config(output_hidden_states=True),
        "its config asks for hidden states",
    ),
    "another backend": (lambda m: m.set_attention_backend("reference"), "runs as reference, as re"),
    "the backend that would be taken": (lambda m: m.set_attention_backend("grouped"), "as request"),
    "another format": (lambda m: m.to(torch.float64), "its weights are not in fp32"),
    "a decoder": (lambda m: m.change_config(is_decoder=True), "it is a decoder"),
}


@pytest.mark.parametrize("name", CUSTOMISED)
def test_what_is_customised_is_not_frozen_over_and_the_reason_is_there(
    name: str, tiny_config: Any
) -> None:
    change, reason = CUSTOMISED[name]
    model = random_model(tiny_config)
    batch = batch_of([9, 2, 17], model.config.vocab_size)
    assert freeze(model, "fp32").why_not == ""
    change(model)
    once = freeze(model, "fp32")
    assert once.encoder is None
    assert re.search(reason, once.why_not), once.why_not
    assert torch.equal(asked(once, batch), plain(model, batch))
    with pytest.raises(UsageError, match=f"int8 is not for this model: .*{reason}") as refused:
        freeze(model, "int8")
    assert refused.value.fix


def test_a_model_of_two_encoders_keeps_to_its_modules(tiny_config: Any) -> None:
    model = TwoEncoders(tiny_config()).eval()
    batch = batch_of([9, 2], model.config.vocab_size)
    once = freeze(model, "fp32")
    assert once.why_not == "it has 2 encoders"
    assert torch.equal(asked(once, batch), plain(model, batch))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "silu"])
def test_copies_of_a_model_are_frozen_like_the_model(activation: str, tiny_config: Any) -> None:
    model = random_model(tiny_config, hidden_act=activation)
    assert freeze(copy.deepcopy(model), "int8").why_not == ""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_frozen_copies_are_freed_with_their_owner(precision: str, tiny_config: Any) -> None:
    model = random_model(tiny_config)
    once = freeze(model, precision)
    copies = [weakref.ref(once.encoder), *map(weakref.ref, once.encoder.layers)]
    asked(once, batch_of([9, 2], model.config.vocab_size), precision)
    del once
    assert [copy() for copy in copies] == [None] * len(copies)


def test_an_evaluation_keeps_no_copy(tiny_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []

    class RandomStateLog(frozen.FrozenEncoder):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            copies.append(weakref.ref(self))

    monkeypatch.setattr(frozen, "FrozenEncoder", RandomStateLog)
    model = random_model(tiny_config)
    evaluated(model, batch_of([9, 2], model.config.vocab_size))
    (copy_of_it,) = copies
    assert copy_of_it() is None


def test_int8_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(UsageError, match="answering alone"):
        choose_precision("int8", CPU)
    with pytest.raises(UsageError, match="run on a CPU"):
        choose_precision("int8", torch.device("meta"), answering=True)
    assert choose_precision("int8", CPU, answering=True).name == "int8"


def int8(rows: list[list[float]], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    width = len(rows[0])
    product = frozen.Int8Product(torch.eye(width), torch.zeros(width), "", dtype)
    found = product(torch.tensor(rows).bfloat16())
    assert found.dtype == dtype
    return found.float()


@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_no_product_in_8_bits_is_in_a_format_that_the_processor_has(
    wanted: torch.dtype, real: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN takes seconds for a text where it emulates bfloat16."""
    monkeypatch.setattr(precisions, "has_fused_products", lambda dtype: dtype == wanted)
    formats = []

    class Seen(frozen.Int8Product):
        def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
            found = super().__call__(x, residual)
            formats.append(found.dtype)
            return found

    monkeypatch.setattr(frozen, "Int8Product", Seen)
    batch = batch_of([3], real.config.vocab_size)
    found, exact = answers(real, batch, "int8"), answers(real, batch, "fp32")
    assert set(formats) == {wanted}
    assert choose_precision("int8", CPU, answering=True).dtype == wanted
    assert 0 < (found - exact).abs().max() < 0.2


def test_no_level_of_an_input_turns_into_another() -> None:
    found = int8([[-1.0, 0.5, 1.0]], torch.bfloat16)
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.5, 1.0]]), atol=0.02, rtol=0.02)
    torch.manual_seed(0)
    for _ in range(300):
        x = torch.randn(4, 8).bfloat16().float()
        torch.testing.assert_close(int8(x.tolist()), x, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_sum_is_more_than_a_processor_holds(sign: float) -> None:
    """Where two products are added in 16 bits, the largest levels of both would be too much."""
    product = frozen.Int8Product(sign * torch.ones(4, 64), torch.zeros(4), "", torch.float32)
    torch.testing.assert_close(product(torch.ones(2, 64)), torch.full((2, 4), sign * 64.0))


@pytest.mark.parametrize("middle", [-300.0, -1.0, 0.0, 1.0, 300.0])
@pytest.mark.parametrize("spread", [1e-4, 1.0, 1e4])
def test_levels_are_the_nearest_wherever_numbers_lie(middle: float, spread: float) -> None:
    torch.manual_seed(0)
    x = (middle + spread * torch.randn(2 * frozen._PART + 3, 8)).bfloat16()
    step, zero = frozen._step_and_zero(float(x.min()), float(x.max()))
    levels = frozen._levels(x, 1 / step, zero)
    assert 0 <= zero <= 255
    expected = (x.double() / step + zero).round()
    assert expected.min() >= 0
    assert expected.max() <= 255
    # A number half-way between two levels may go either way in fp32.
    assert ((levels - expected).abs() <= 1).all()
    assert ((levels.double() - zero) * step - x.double()).abs().max() <= step * 0.501


def test_what_is_no_number_stays_none() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        assert int8([[math.nan, 1.0, 2.0]], dtype).isnan().all()
    assert int8([[3.0, 3.0, 3.0]]).isfinite().all()


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


@pytest.mark.parametrize("first", [7, 8])
def test_what_overflows_in_one_text_stays_there(tiny_config: Any, first: int) -> None:
    """Filler once repeated a token of the longest text, and took its numbers into all others."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config()).eval()
    batch = PackedBatch.from_sequences([[first, 5, 6, 3], [2, 5, 6, 3], [2, 5, 6, 7, 3]])
    with torch.inference_mode():
        calm = freeze(model, "fp32")(batch).logits
        model.bert.embeddings.word_embeddings.weight[7] = 3e38
        wild = freeze(model, "fp32")(batch).logits
    others = [row for row in (0, 1) if row or first != 7]
    assert torch.equal(calm[others], wild[others])
    assert not wild[2].isfinite().any()
