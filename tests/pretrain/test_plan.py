"""The plan of a run: arithmetic held against what is built, counted and measured here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import BertoltError, UsageError
from bertolt.cli import main
from bertolt.models.config import BertConfig
from bertolt.models.shapes import SHAPES, find_config
from bertolt.pretrain.flops import GPUS, count_parameters
from bertolt.pretrain.plan import (
    ASSUMED_EFFICIENCY,
    PlanOptions,
    activation_bytes,
    parse_gpus,
    parse_tokens,
    plan,
)


@given(
    count=st.integers(1, 1000),
    efficiency=st.floats(0.01, 1),
    tokens=st.integers(1, 10**13),
    name=st.sampled_from(sorted(SHAPES)),
)
def test_time_is_operations_over_rate(
    count: int, efficiency: float, tokens: int, name: str
) -> None:
    options = PlanOptions(
        config=name, tokens=str(tokens), gpus=f"{count}xH100", efficiency=efficiency, bandwidth=1e9
    )
    found = plan(options)
    assert found.flops == pytest.approx(tokens * found.flops_per_token)
    assert found.seconds == pytest.approx(found.flops / (count * 989e12 * efficiency))
    assert found.tokens_per_second == pytest.approx(found.tokens / found.seconds)
    assert found.batch_tokens == found.pass_tokens * found.passes * count
    assert 0 <= found.steps * found.batch_tokens - tokens < found.batch_tokens


def test_the_example_of_the_pages() -> None:
    found = plan(PlanOptions(config="base", tokens="100B", gpus="64xH100", efficiency=0.4))
    assert found.flops_per_token / 1e6 == pytest.approx(560.8, rel=1e-3)
    assert found.flops == pytest.approx(5.608e19, rel=1e-3)
    assert found.seconds == pytest.approx(2215, rel=1e-3)
    assert found.parameters == 109_514_298  # what transformers counts for bert-base-uncased
    assert found.checkpoint_bytes == 3 * found.model_bytes
    ddp, fsdp = found.memory
    assert (ddp.sharding, fsdp.sharding) == ("DDP", "FSDP2")
    assert ddp.gradients == 64 * fsdp.gradients == 4 * found.parameters
    assert ddp.optimizer == 64 * fsdp.optimizer == 8 * found.parameters
    assert fsdp.gathered > ddp.gathered == 0


def test_a_slow_exchange_decides_the_time_and_is_told() -> None:
    few = PlanOptions(gpus="64xH100", efficiency=0.5, batch_tokens=64 * 512)
    found = plan(few)
    assert found.exchange_seconds > found.compute_seconds
    assert found.seconds == pytest.approx(
        found.tokens / found.batch_tokens * found.exchange_seconds
    )
    assert "a larger --batch-tokens helps" in str(found)
    assert "exchange" not in str(plan(PlanOptions(gpus="H100")))


def test_efficiency_that_nobody_gave_is_said_to_be_assumed() -> None:
    found = plan(PlanOptions(gpus="8xA100"))
    assert found.efficiency == ASSUMED_EFFICIENCY
    assert "assumed, not measured" in str(found)
    assert "as stated" in str(plan(PlanOptions(gpus="8xA100", efficiency=0.3)))


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    giant = find_config("large").changed(hidden_size=8192, intermediate_size=32768)
    giant.save_pretrained(tmp_path)
    found = plan(PlanOptions(config=str(tmp_path), gpus="8xA10"))
    assert "DDP does not fit; FSDP2 does not fit" in str(found)
    assert found.fewest_shards is None
    smaller = plan(PlanOptions(config=str(tmp_path), gpus="64xH200", pass_tokens=512))
    assert smaller.fewest_shards is not None
    assert smaller.fewest_shards > 1
    assert f"FSDP2 fits from {smaller.fewest_shards} shards on" in str(smaller)


@pytest.mark.parametrize(
    ("words", "count"),
    [("33M", 33_000_000), ("100B", 10**11), ("1.5T", 15 * 10**11), ("12,000", 12000), ("7k", 7000)],
)
def test_tokens_are_read(words: str, count: int) -> None:
    assert parse_tokens(words) == count


@pytest.mark.parametrize("words", ["", "many", "-3", "0", "1X", "M"])
def test_other_tokens_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match="--tokens"):
        parse_tokens(words)


@pytest.mark.parametrize("words", ["64xH100", "64 x h100", "64×H100", "64*H100"])
def test_gpus_are_read(words: str) -> None:
    found = parse_gpus(words)
    assert (found.name, found.count) == ("H100", 64)
    assert found.peak == 1e12 * GPUS["H100"].teraflops


@pytest.mark.parametrize(("words", "hint"), [("0xH100", "H100"), ("8xA10", ""), ("8xH10", "H100")])
def test_other_gpus_are_refused(words: str, hint: str) -> None:
    if words == "8xA10":
        assert parse_gpus(words).name == "A10"
        return
    with pytest.raises(UsageError, match="--gpus") as caught:
        parse_gpus(words)
    assert hint in caught.value.fix


@pytest.mark.parametrize(
    "values",
    [
        {"efficiency": 0.0},
        {"efficiency": 1.1},
        {"length": 0},
        {"masked": 2.0},
        {"bandwidth": 0.0},
        {"measure": True, "efficiency": 0.4},
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--"):
        PlanOptions(**values)  # type: ignore[arg-type]


def test_a_sequence_beyond_the_positions_is_refused() -> None:
    with pytest.raises(UsageError, match="--length is 513"):
        plan(PlanOptions(gpus="H100", length=513))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine may have that GPU")
def test_a_measurement_of_a_gpu_that_is_not_here_is_refused() -> None:
    with pytest.raises(UsageError, match="which has no H100"):
        plan(PlanOptions(config="tiny", gpus="8xH100", measure=True))


@pytest.mark.parametrize("name", [*SHAPES, "nothing", "folder", "broken"])
def test_configs_are_found(name: str, tmp_path: Path) -> None:
    if name in SHAPES:
        layers, width = SHAPES[name]
        found = find_config(name)
        assert (found.num_hidden_layers, found.hidden_size) == (layers, width)
        assert found.head_size == 64
        return
    if name == "folder":
        BertConfig(num_hidden_layers=5).save_pretrained(tmp_path)
        assert find_config(str(tmp_path)).num_hidden_layers == 5
        assert find_config(str(tmp_path / "config.json")).num_hidden_layers == 5
        return
    (tmp_path / "broken.json").write_text("[", encoding="utf-8")
    with pytest.raises(BertoltError, match=r"nothing|broken\.json"):
        find_config("nothing" if name == "nothing" else str(tmp_path / "broken.json"))


@pytest.mark.parametrize("recomputed", [False, True])
def test_activations_are_those_that_torch_keeps(recomputed: bool) -> None:
    """Of one layer more, on this CPU: what lies outside of the layers is then left out."""

    def kept(layers: int) -> float:
        config = find_config("small").changed(num_hidden_layers=layers, vocab_size=100)
        saved = count_saved_bytes(config, recomputed)
        return saved - 2 * count_parameters(config).products

    config = find_config("small").changed(num_hidden_layers=3, vocab_size=100)
    fewer = config.changed(num_hidden_layers=1)
    wanted = [activation_bytes(c, 64, 0.15, on_cpu=True)[recomputed] for c in (config, fewer)]
    assert (kept(3) - kept(1)) / 1024 == pytest.approx(wanted[0] - wanted[1], rel=0.1, abs=200)


def count_saved_bytes(config: BertConfig, recomputed: bool) -> int:
    """Bytes that the backward pass of 1,024 tokens needs, weights left out but not their copies."""
    from bertolt import BertForMaskedLM
    from bertolt.models.precision import PrecisionChoice
    from bertolt.pretrain.rates import random_batch

    model = BertForMaskedLM(config).train()
    model.gradient_checkpointing_enable(recomputed)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    bf16 = PrecisionChoice("bf16", "as the formula has it").autocast(torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bf16:
        model(random_batch(config, 64, 0.15, 1024))
    # Copies of a layer's weights that are made again in the backward pass are not kept until then.
    missing = 2 * (count_parameters(config).products - 256 * (256 + 100)) if recomputed else 0
    return missing + sum(
        tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights
    )


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["plan", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_the_command_prints_a_table_or_json(printed: Callable[..., str]) -> None:
    words = ("--config", "base", "--tokens", "100B", "--gpus", "64xH100", "--efficiency", "0.4")
    table = printed(*words)
    assert "64 × H100, 989 TFLOP/s each" in table
    assert "36 min 55 s, 95,368 steps" in table
    values = json.loads(printed(*words, "--json"))
    assert values["seconds"] == pytest.approx(2215, rel=1e-3)
    assert [each["sharding"] for each in values["memory"]] == ["DDP", "FSDP2"]
