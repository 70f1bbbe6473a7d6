"""What a model has to compute: held against figures that were published, and against torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertolt.models.config import BertConfig
from bertolt.models.families.bert import BertForMaskedLM
from bertolt.pretrain.flops import count_parameters, find_gpu, forward_flops, training_flops

LARGE = BertConfig(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
)


@pytest.mark.parametrize(
    ("config", "length", "mflop"),
    [(BertConfig(), 128, 545), (BertConfig(), 512, 588), (LARGE, 128, 1879), (LARGE, 512, 1992)],
)
def test_training_flops_are_the_published_ones(config: BertConfig, length: int, mflop: int) -> None:
    lengths = np.full(10, length)
    found = 3e-6 * forward_flops(config, lengths, labelled=0.15)
    assert found == pytest.approx(mflop, rel=2e-3)


def test_flops_are_those_that_torch_counts(tiny_config: Callable[..., BertConfig]) -> None:
    """Of an encoder as the peer computes it, without padding."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig as PeerConfig
    from transformers import BertModel as PeerModel

    config = tiny_config()
    peer = PeerModel(
        PeerConfig(**config.to_dict(), attn_implementation="eager"), add_pooling_layer=False
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        peer(torch.ones(3, 10, dtype=torch.long))
    assert counter.get_total_flops() == pytest.approx(
        30 * forward_flops(config, np.array([10, 10, 10]))
    )


def test_a_classifier_needs_less_of_the_last_layer() -> None:
    config, lengths = BertConfig(num_hidden_layers=1), np.array([10, 30])
    d, f = 768, 3072
    # Keys and values of 40 tokens; queries, scores, mixing, output and feed-forward of 2.
    needed = 40 * 4 * d * d + 2 * (4 * d * d + 4 * d * f) + (10 + 30) * 4 * d
    assert forward_flops(config, lengths, first_token_only=True) == pytest.approx(needed / 40)
    two = forward_flops(config.changed(num_hidden_layers=2), lengths, first_token_only=True)
    one = forward_flops(config, lengths, first_token_only=True)
    assert two - one == pytest.approx(forward_flops(config, lengths))


@pytest.mark.parametrize("length", [7, 512])
def test_training_is_three_times_the_forward_pass_that_is_needed(length: int) -> None:
    forward = forward_flops(BertConfig(), np.full(3, length), labelled=0.15)
    unread = 2 * 0.85 * (768 * 768 + 2 * 768 * 3072)
    assert training_flops(BertConfig(), length, 0.15) == pytest.approx(3 * (forward - unread))


def test_training_flops_are_those_that_torch_counts(
    tiny_config: Callable[..., BertConfig],
) -> None:
    """Of a masked-LM step with sequences of one length, which leave attention no filler."""
    from torch.utils.flop_counter import FlopCounterMode

    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, config.vocab_size, (17, 15), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) > 0.2, -100)
    model = BertForMaskedLM(config).train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=labels, logits="labelled").loss.backward()
    share = float((labels != -100).float().mean())
    expected = ids.numel() * training_flops(config, 15, share)
    # Filler rows, and lengths rounded up for attention.
    assert expected <= counter.get_total_flops() <= 1.1 * expected


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_model(tied: bool) -> None:
    from bertolt import BertForMaskedLM

    config = BertConfig(
        vocab_size=701, hidden_size=24, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=56, max_position_embeddings=33, tie_word_embeddings=tied,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    found = count_parameters(config)
    assert found.total == model.num_parameters()
    assert found.layer == sum(p.numel() for p in model.bert.encoder.layer[0].parameters())
    dense = {id(m.weight): m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)}
    assert found.products == sum(weight.numel() for weight in dense.values())


@pytest.mark.parametrize(
    ("driver", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", None),
    ],
)
def test_a_gpu_is_known_by_its_drivers_name(driver: str, key: str | None) -> None:
    assert find_gpu(driver) == key
