"""The same numbers on a GPU; these tests skip themselves where there is none."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bertolt import (
    AdamW,
    BertForMaskedLM,
    BertForSequenceClassification,
    PackedBatch,
    Trainer,
    TrainingArguments,
    train_step,
)
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.prefetch import feeding
from bertolt.model.attention import attention, prepare_layout
from bertolt.model.precision import PrecisionChoice, choose_precision
from bertolt.model.varlen import why_not

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
        found[backend] = [out, *gradients]
    for have, want in zip(found["varlen"], found["reference"], strict=True):
        assert have.dtype == torch.bfloat16
        assert have.isfinite().all()
        error = (have.float() - want).norm() / want.norm().clamp(min=1e-3)
        assert error < 0.02
    if not first_only:
        assert not any(each[real:].any() for each in found["varlen"])


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
    assert waits(step) == 1


def test_a_run_is_fed_from_pinned_memory(batch: PackedBatch) -> None:
    steps = iter([[batch], [batch, batch]])
    with feeding(steps, torch.device("cuda", torch.cuda.current_device())) as ahead:
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
