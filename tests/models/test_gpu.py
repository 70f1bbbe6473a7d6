"""The same numbers on a GPU; these tests skip themselves where there is none."""

from __future__ import annotations

import contextlib
import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertolt import (
    AdamW,
    BertForMaskedLM,
    BertForSequenceClassification,
    PackedBatch,
    Trainer,
    TrainingArguments,
    get_scheduler,
    train_step,
)
from bertolt.base.distributed import ALONE
from bertolt.base.errors import TrainingError
from bertolt.base.randomness import random_state, set_random_state
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.prefetch import prefetch_batches
from bertolt.models import fused, varlen
from bertolt.models.attention import attention, prepare_layout
from bertolt.models.precision import PrecisionChoice, choose_precision
from bertolt.models.varlen import why_not
from bertolt.train import captured as captured_module
from bertolt.train.captured import captured_steps, pad_to_bucket
from bertolt.train.optim import parameter_groups
from bertolt.train.step import StepLog

CUDA = torch.device("cuda")
BF16 = PrecisionChoice("bf16", "for the test")
MIXES = [[1], [6, 6, 6], [1, 9, 2, 30], [64, 64], [200, 3, 1, 512], list(range(1, 40, 3))]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture
def flash() -> None:
    """Skip where the GPU or torch has no flash attention, with the reason."""
    if against := why_not(CUDA, head_size=64):
        pytest.skip(against)


@pytest.fixture
def pair(tiny_config: Callable[..., Any]) -> tuple[Any, Any]:
    torch.manual_seed(0)
    here = BertForSequenceClassification(tiny_config()).eval()
    return here, copy.deepcopy(here).move(CUDA)


@pytest.fixture
def batch() -> PackedBatch:
    ids = [[2, *range(5, 5 + count), 3] for count in (1, 7, 30)]
    return PackedBatch.from_sequences(ids, labels=torch.tensor([0, 1, 0]))


@pytest.fixture
def masked_batch() -> PackedBatch:
    ids = [[2, *range(5, 5 + count), 3] for count in (1, 7, 30)]
    labels = [[IGNORE_INDEX, *([7] * (len(row) - 1))] for row in ids]
    return PackedBatch.from_sequences(ids, token_labels=labels)


def test_forward_and_backward_agree(pair: tuple[Any, Any], batch: PackedBatch) -> None:
    here, there = pair
    near, far = here(batch), there(batch.to("cuda"))
    torch.testing.assert_close(far.logits.cpu(), near.logits, atol=1e-4, rtol=1e-4)
    near.loss.backward()
    far.loss.backward()
    for ours, theirs in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad.cpu(), ours.grad, atol=1e-4, rtol=1e-3)


def test_a_step_in_the_chosen_precision(pair: tuple[Any, Any], batch: PackedBatch) -> None:
    _, there = pair
    precision = choose_precision("auto", CUDA)
    optimizer = AdamW(there.parameters(), lr=1e-3)
    losses = [train_step(there, batch, optimizer, precision=precision).loss for _ in range(5)]
    assert losses[-1] < losses[0]


# ---- flash attention ----


def poison() -> None:
    """Leave numbers that are none in the memory that the next tensors will get."""
    torch.full((64, 1024, 1024), torch.nan, device=CUDA)


def random_qkv(rows: int, heads: int, size: int) -> list[Tensor]:
    generator = torch.Generator(CUDA).manual_seed(0)
    return [
        torch.randn(rows, heads, size, generator=generator, device=CUDA).bfloat16()
        for _ in range(3)
    ]


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("size", [8, 64, 128])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("lengths", MIXES, ids=str)
def test_flash_attention_equals_the_reference(
    lengths: list[int], first_only: bool, causal: bool, size: int
) -> None:
    """Both from the same bfloat16 numbers, the reference computed in fp32."""
    batch = PackedBatch.from_sequences([[5] * length for length in lengths]).to(CUDA)
    layout = prepare_layout(batch, heads=1, causal=causal, backend="varlen")
    q, k, v = random_qkv(batch.input_ids.shape[0], 3, size)
    q = q.index_select(0, batch.first_rows) if first_only else q
    real = len(lengths) if first_only else sum(lengths)
    weights = torch.randn(real, 3, size, device=CUDA)
    found: dict[str, list[Tensor]] = {}
    for backend, dtype in (("reference", torch.float32), ("varlen", torch.bfloat16)):
        inputs = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        poison()
        out = attention(*inputs, layout, backend=backend, first_only=first_only)
        gradients = torch.autograd.grad((out[:real].float() * weights).sum(), inputs)
        found[backend] = [out[:real], *gradients]
        assert out.isfinite().all()
    for have, want in zip(found["varlen"], found["reference"], strict=True):
        assert have.dtype == torch.bfloat16
        assert have.isfinite().all()
        error = (have.float() - want).norm() / want.norm().clamp(min=1e-3)
        assert error < 0.02
    if not first_only:
        assert not any(each[real:].any() for each in found["varlen"][1:])


@pytest.mark.usefixtures("flash")
def test_flash_attention_drops_its_share_of_the_weights_and_scales_the_rest() -> None:
    """With the unit matrix as values, what comes out are the weights themselves."""
    share, length, count = 0.3, 8, 400
    batch = PackedBatch.from_sequences([[5] * length] * count).to(CUDA)
    layout = prepare_layout(batch, heads=1, backend="varlen")
    rows = batch.input_ids.shape[0]
    zeros = torch.zeros(rows, 1, length, device=CUDA, dtype=torch.bfloat16)
    unit = torch.eye(length, device=CUDA, dtype=torch.bfloat16)
    values = unit.repeat(rows // length + 1, 1)[:rows, None].contiguous().requires_grad_()

    def weights() -> Tensor:
        torch.manual_seed(0)
        out = attention(zeros, zeros, values, layout, backend="varlen", dropout_p=share)
        return out[: length * count]

    found = weights()
    kept = found != 0
    assert abs(float(kept.float().mean()) - (1 - share)) < 0.02
    assert abs(float(found.detach()[kept].float().mean()) * length * (1 - share) - 1) < 0.02
    assert torch.equal(found, weights())
    # The output is linear in the values, so the gradient gives it back if it sees the same mask.
    total = found.float().sum()
    (gradient,) = torch.autograd.grad(total, [values])
    torch.testing.assert_close((values * gradient).float().sum(), total, rtol=0.01, atol=0.1)


@pytest.mark.usefixtures("flash")
def test_a_model_learns_the_same_through_flash_attention(
    tiny_config: Any, randomised: Any, masked_batch: PackedBatch
) -> None:
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    fast = randomised(BertForMaskedLM(config)).move(CUDA).train()
    plain = copy.deepcopy(fast)
    assert fast.attention_backend.name == "varlen"
    assert plain.set_attention_backend("reference").name == "reference"
    losses = []
    for model in (fast, plain):
        poison()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            losses.append(model(masked_batch.to(CUDA)).loss)
        losses[-1].backward()
    torch.testing.assert_close(*losses, rtol=0.02, atol=0.02)
    norms = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (fast, plain)]
    assert norms[0].isfinite().all()
    assert float((norms[0] - norms[1]).norm() / norms[1].norm()) < 0.05


# ---- nothing waits ----


@pytest.fixture
def waits() -> Iterator[Callable[[Callable[[], object]], int]]:
    """How often the host waits for the GPU while something runs."""

    def count(run: Callable[[], object]) -> int:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
        torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in caught)

    yield count
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("backend", ["auto", "grouped"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_waits_for_the_gpu_once(
    masked: bool,
    backend: str,
    tiny_config: Any,
    batch: PackedBatch,
    masked_batch: PackedBatch,
    waits: Callable[[Callable[[], object]], int],
) -> None:
    model: Any = (BertForMaskedLM if masked else BertForSequenceClassification)(tiny_config())
    model.move(CUDA).train().set_attention_backend(backend)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    used = (masked_batch if masked else batch).pin_memory()

    def step() -> object:
        return train_step(model, used, optimizer, precision=BF16)

    step()
    assert waits(step) <= 1


def test_a_run_is_fed_from_pinned_memory(batch: PackedBatch) -> None:
    steps = iter([[batch], [batch, batch]])
    with prefetch_batches(steps, torch.device("cuda", torch.cuda.current_device())) as ahead:
        made = list(ahead)
    assert [len(step) for step in made] == [1, 2]
    for each in itertools.chain(*made):
        assert each.input_ids.is_pinned()
        assert torch.equal(each.input_ids, batch.input_ids)


def test_the_trainer_learns_on_a_gpu(tiny_config: Any) -> None:
    rows = [{"input_ids": [2, 5 + row % 2, 3], "label": row % 2} for row in range(64)]
    args = TrainingArguments(
        per_device_train_batch_size=8, max_steps=60, learning_rate=3e-3, disable_tqdm=True
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config(initializer_range=0.1))
    trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert trainer.device.type == "cuda"
    assert trainer.evaluate()["eval_loss"] < 0.3


# ---- steps that are replayed ----


def classes(lengths: list[int], seed: int) -> PackedBatch:
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, 60, (length,), generator=draw).tolist() for length in lengths]
    return PackedBatch.from_sequences(ids, labels=torch.tensor(lengths) % 2)


def words(lengths: list[int], seed: int) -> PackedBatch:
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, 60, (length,), generator=draw).tolist() for length in lengths]
    labels = [[7 if place % 3 == 1 else IGNORE_INDEX for place in range(len(row))] for row in ids]
    return PackedBatch.from_sequences(ids, token_labels=labels)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scheduled", [False, True])
def test_replayed_steps_learn_what_usual_ones_do(
    scheduled: bool, masked: bool, tiny_config: Any
) -> None:
    """Batches of all mixes of lengths, of one shape and of others."""
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    head: Any = BertForMaskedLM if masked else BertForSequenceClassification
    usual = head(config).move(CUDA, torch.bfloat16).train()
    fast = copy.deepcopy(usual)
    mixes = [[3, 9, 30], [30, 2, 8], [5, 5, 5], [150, 3, 60], [4], [31, 8, 3], [140, 70, 3]] * 4
    batches = [
        pad_to_bucket((words if masked else classes)(m, n), counts_sequences=not masked)
        for n, m in enumerate(mixes)
    ]
    logs: list[list[StepLog]] = []
    captured = None
    for model in (usual, fast):
        optimizer = AdamW(parameter_groups(model, 0.01), lr=1e-3)
        scheduler = get_scheduler("linear", optimizer, 4, 30) if scheduled else None
        captured = captured_steps(model, optimizer, BF16, 1.0, ALONE) if model is fast else None
        logs.append(
            [
                train_step(
                    model,
                    batch.pin_memory(),
                    optimizer,
                    scheduler,
                    precision=BF16,
                    captured=captured,
                )
                for batch in batches
            ]
        )
    assert captured is not None
    assert captured.failure is None
    assert captured.replayed >= len(batches) - 2 * len(set(map(len, mixes))) - 4
    for ours, theirs in zip(logs[1], logs[0], strict=True):
        assert ours.learning_rate == theirs.learning_rate
        assert ours.loss == pytest.approx(theirs.loss, rel=0.02, abs=0.01)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=0.05, abs=0.02)
    fast_weights, usual_weights = (
        torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (fast, usual)
    )
    assert float((fast_weights - usual_weights).norm() / usual_weights.norm()) < 0.005


@pytest.mark.usefixtures("flash")
def test_a_replayed_step_draws_new_masks_and_a_saved_state_brings_them_back(
    tiny_config: Any,
) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        tiny_config(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    )
    model.move(CUDA, torch.bfloat16).train()
    optimizer = AdamW(model.parameters(), lr=0.0)
    captured = captured_steps(model, optimizer, BF16, 1.0, ALONE)
    batch = pad_to_bucket(classes([3, 9, 30], 0)).pin_memory()

    def loss() -> float:
        return train_step(model, batch, optimizer, precision=BF16, captured=captured).loss

    loss(), loss()
    state = random_state(CUDA)
    found = [loss() for _ in range(4)]
    assert len(set(found)) == 4
    assert captured is not None
    assert captured.replayed == 4
    set_random_state(state, CUDA)
    assert [loss() for _ in range(4)] == pytest.approx(found, rel=1e-5)
    # A run that goes on makes its first steps as usual, and draws the same.
    captured = captured_steps(model, optimizer, BF16, 1.0, ALONE)
    set_random_state(state, CUDA)
    assert [loss() for _ in range(4)] == pytest.approx(found, rel=1e-3)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("replayed", [False, True])
def test_a_step_that_is_not_finite_changes_nothing(replayed: bool, tiny_config: Any) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config()).move(CUDA, torch.bfloat16).train()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    captured = captured_steps(model, optimizer, BF16, 1.0, ALONE) if replayed else None
    batch = pad_to_bucket(classes([3, 9, 30], 0)).pin_memory()

    def step() -> StepLog:
        return train_step(model, batch, optimizer, precision=BF16, captured=captured)

    for _ in range(3):
        step()
    with torch.no_grad():
        model.classifier.bias[0] = torch.inf
    before = copy.deepcopy(model.state_dict())
    steps = [float(state["step"]) for state in optimizer.state.values()]
    with pytest.raises(TrainingError, match="loss is nan"):
        step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert [float(state["step"]) for state in optimizer.state.values()] == steps
    assert all(state["exp_avg"].isfinite().all() for state in optimizer.state.values())


@pytest.mark.usefixtures("flash")
def test_what_a_graph_has_taken_in_is_seen_to_change(tiny_config: Any) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config()).move(CUDA, torch.bfloat16).train()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    captured = captured_steps(model, optimizer, BF16, 1.0, ALONE)
    assert captured is not None
    batch = pad_to_bucket(classes([3, 9, 30], 0)).pin_memory()

    def step() -> int:
        train_step(model, batch, optimizer, precision=BF16, captured=captured)
        return captured.replayed

    assert [step() for _ in range(4)] == [0, 0, 1, 2]  # the first makes the optimizer's state
    model.bert.embeddings.requires_grad_(False)
    frozen = model.bert.embeddings.word_embeddings.weight.clone()
    assert [step() for _ in range(3)] == [2, 3, 4]
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, frozen)
    seen: list[int] = []
    hook = model.bert.encoder.layer[0].register_forward_hook(lambda *_: seen.append(1))
    assert [step() for _ in range(2)] == [4, 4]
    assert len(seen) == 2
    hook.remove()
    assert step() == 5
    model.gradient_checkpointing_enable()
    assert [step() for _ in range(2)] == [5, 5]


@pytest.mark.usefixtures("flash")
def test_a_step_that_cannot_be_captured_is_made_as_usual_and_says_why(
    tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(parameters: object) -> Tensor:
        raise RuntimeError("no norm in a capture")

    model = BertForSequenceClassification(tiny_config()).move(CUDA, torch.bfloat16).train()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    steps = captured_steps(model, optimizer, BF16, 1.0, ALONE)
    assert steps is not None
    batch = pad_to_bucket(classes([3, 9, 30], 0)).pin_memory()
    monkeypatch.setattr(captured_module, "gradient_norm", fail)
    logs = []
    for number in range(5):
        told = number == 2  # after the step that makes the optimizer's state, and one of this shape
        with pytest.warns(UserWarning, match="no norm") if told else contextlib.nullcontext():
            logs.append(train_step(model, batch, optimizer, precision=BF16, captured=steps))
    assert steps.replayed == 0
    assert steps.failure == "no norm in a capture"
    assert logs[-1].loss < logs[0].loss


# ---- fused kernels ----


@pytest.fixture
def kernels() -> None:
    """Skip where there is no Triton, with the reason."""
    if against := fused.why_not(CUDA):
        pytest.skip(against)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [48, 312, 768, 1024])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_the_fused_norm_equals_three_operations(p: float, width: int, dtype: torch.dtype) -> None:
    """The mask is read off the two gradients; then plain operations use it in fp32."""
    torch.manual_seed(0)
    norm = nn.LayerNorm(width, eps=1e-12).to(CUDA)
    nn.init.normal_(norm.weight, 1.0, 0.2)
    nn.init.normal_(norm.bias)
    found, residual, gradient = (
        torch.randn(1000, width, device=CUDA).to(dtype).requires_grad_() for _ in range(3)
    )
    before = torch.randn(width, device=CUDA, requires_grad=True)
    inputs = [found, residual, before, norm.weight, norm.bias]
    poison()
    out = fused.dropout_add_norm(found, residual, norm, p, True, before)
    ours = [out, *torch.autograd.grad(out, inputs, gradient.detach())]
    kept = ours[1] != 0
    assert abs(float(kept.float().mean()) - (1 - p)) < 0.01
    summed = ((found.float() + before) * kept / (1 - p) + residual.float()).to(dtype).float()
    plain = F.layer_norm(summed, (width,), norm.weight, norm.bias, 1e-12)
    theirs = [plain, *torch.autograd.grad(plain, inputs, gradient.detach().float())]
    for have, want in zip(ours, theirs, strict=True):
        error = (have.float() - want.float()).norm() / want.float().norm()
        assert float(error) < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.usefixtures("kernels")
def test_the_fused_norm_drops_evenly_and_never_the_same_twice() -> None:
    norm = nn.LayerNorm(768).to(CUDA)
    found = torch.ones(4000, 768, device=CUDA, requires_grad=True)
    residual = torch.randn(4000, 768, device=CUDA)

    def kept() -> Tensor:
        out = fused.dropout_add_norm(found, residual, norm, 0.1, True)
        return torch.autograd.grad(out.square().sum(), [found])[0] != 0

    torch.manual_seed(0)
    first, second = kept(), kept()
    torch.manual_seed(0)
    assert torch.equal(kept(), first)
    # Each column and each row 0.1 within five deviations, and two masks no more alike than chance.
    for share in ((~first).float().mean(0), (~first).float().mean(1)):
        deviation = (0.1 * 0.9 / (first.numel() / share.numel())) ** 0.5
        assert float((share - 0.1).abs().max()) < 5 * deviation
    both = float((~first & ~second).float().mean())
    assert abs(both - 0.01) < 0.001


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [100, 1536, 3072])
def test_the_fused_gelu_equals_two_operations(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(1001, width, device=CUDA)).to(dtype).requires_grad_()
    bias = torch.randn(width, device=CUDA, requires_grad=True)
    gradient = torch.randn(1001, width, device=CUDA).to(dtype)
    poison()
    ours = fused.biased_gelu(x, bias)
    plain = F.gelu(x.float() + bias)
    found = [ours, *torch.autograd.grad(ours, [x, bias], gradient)]
    wanted = [plain, *torch.autograd.grad(plain, [x, bias], gradient.float())]
    assert_near(found, wanted, dtype)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_products_together_equal_products_alone(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    modules = [nn.Linear(192, 192).to(CUDA, dtype) for _ in range(3)]
    x = torch.randn(777, 192, device=CUDA).to(dtype).requires_grad_()
    gradients = [torch.randn(777, 192, device=CUDA).to(dtype) for _ in range(3)]
    inputs = [x, *(each for m in modules for each in (m.weight, m.bias))]
    poison()
    onward, *ours = fused.products(x, *modules)
    more = torch.randn(777, 192, device=CUDA).to(dtype)
    plain = [F.linear(x.double(), m.weight.double(), m.bias.double()) for m in modules]
    found = [*ours, *torch.autograd.grad([onward, *ours], inputs, [more.clone(), *gradients])]
    wanted = [
        *plain,
        *torch.autograd.grad([x * 1.0, *plain], inputs, [more, *(g.double() for g in gradients)]),
    ]
    assert_near(found, wanted, dtype)
    # Weights in fp32 have gradients in it.
    weights = [nn.Linear(192, 192, device=CUDA) for _ in range(2)]
    _, *ours = fused.products(x, *weights, biased=False)
    assert [each.dtype for each in ours] == [dtype, dtype]
    for g in torch.autograd.grad(ours, [m.weight for m in weights], gradients[:2]):
        assert g.dtype == torch.float32
        assert g.isfinite().all()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [1024, 5003, 30522])
def test_the_fused_cross_entropy_equals_torchs(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(301, width, device=CUDA)).to(dtype).requires_grad_()
    labels = torch.randint(0, width, (301,), device=CUDA)
    labels[7::20] = IGNORE_INDEX
    labels[0] = width - 1
    poison()
    ours = fused.summed_cross_entropy(logits, labels, IGNORE_INDEX)
    plain = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    found = [ours, *torch.autograd.grad(ours / 3, [logits])]
    wanted = [plain, *torch.autograd.grad(plain / 3, [logits])]
    assert_near(found, wanted, dtype)
    assert not found[1][7::20].any()
    labels[3] = width
    assert fused.summed_cross_entropy(logits, labels, IGNORE_INDEX).isnan()


def assert_near(found: list[Tensor], wanted: list[Tensor], dtype: torch.dtype) -> None:
    for have, want in zip(found, wanted, strict=True):
        assert have.isfinite().all()
        error = (have.double() - want.double()).norm() / want.double().norm()
        assert float(error) < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_kernels_change_no_model(
    masked: bool, frozen: bool, tiny_config: Any, randomised: Any
) -> None:
    """With them and without, in fp32, every gradient."""
    config = tiny_config(vocab_size=2000, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    head: Any = BertForMaskedLM if masked else BertForSequenceClassification
    fast = randomised(head(config)).move(CUDA).train()
    slow = copy.deepcopy(fast)
    used = (words if masked else classes)([3, 9, 30], 0).to(CUDA)
    if frozen:
        for model in (fast, slow):
            model.bert.embeddings.requires_grad_(False)
    with fused.preferred(True):
        fast_loss = fast(used).loss
        with torch.no_grad():  # where less is kept
            torch.testing.assert_close(fast(used).loss, fast_loss.detach(), rtol=1e-5, atol=1e-6)
    fast_loss.backward()
    slow_loss = slow(used).loss
    slow_loss.backward()
    torch.testing.assert_close(fast_loss, slow_loss, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(fast.parameters(), slow.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None) == (not ours.requires_grad)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("flash")
def test_blocks_of_equal_sequences_equal_packed_ones() -> None:
    batch = PackedBatch.from_sequences([[5] * 256] * 40, row_multiple=8).to(CUDA)
    batch = replace(batch, input_ids=batch.input_ids[: 40 * 256])
    q, k, v = (x.requires_grad_() for x in random_qkv(40 * 256, 3, 64))
    if not varlen.takes_blocks(q, batch, False):
        pytest.skip("this GPU takes no blocks")
    weights = torch.randn(40 * 256, 3, 64, device=CUDA).bfloat16()
    found = []
    for many in (True, False):
        layout = prepare_layout(batch, heads=3, backend="varlen")
        if many:
            out = attention(q, k, v, layout, backend="varlen")
        else:
            starts = layout.starts
            out = varlen.flash(q, k, v, starts, starts, 256, 256, 0.0, False)
        found.append([out, *torch.autograd.grad((out * weights).sum(), [q, k, v])])
    for have, want in zip(*found, strict=True):
        assert float((have - want).float().norm() / want.float().norm()) < 0.02
    out = varlen.flash_of_blocks(q, k, torch.ones_like(v), 256, 0.5)
    assert abs(float(out.detach().float().mean()) - 1) < 0.02
    assert float(out.detach().float().std()) > 0.02
