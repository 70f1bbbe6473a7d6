"""Every head on the real checkpoint: answers, losses and gradients equal to the peer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import bertolt
from bertolt import BertTokenizer
from tests.contract.heads import Bench, Head, assert_same, every_bert_head

TEXTS = [
    "A warm, funny and quietly moving film.",
    "Dull.",
    "It is neither as clever as it believes nor as silly as it fears, and that is a pity: " * 3,
    "An unaffable hero; an e-mail; 3.14 reasons to leave.",
]
SECOND = ["So says the second text.", "And?", "No.", "Perhaps it does not."]


class RealBench(Bench):
    """A head on the pretrained encoder, its own weights new, and real texts."""

    def __init__(self, head: Head, folder: Path, batch: dict[str, torch.Tensor]) -> None:
        self.head, self.real_batch = head, batch
        made = getattr(bertolt, head.ours).from_pretrained(
            folder, seed=1, verbose=False, **head.config
        )
        self.model, self.config = made, made.config

    def inputs(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        return dict(self.real_batch)


@pytest.fixture(scope="module")
def batch(real_checkpoint: Path) -> dict[str, torch.Tensor]:
    tokenizer = BertTokenizer.from_pretrained(real_checkpoint)
    return dict(tokenizer(TEXTS, SECOND, padding=True, return_tensors="pt"))


@every_bert_head
def test_answers_losses_and_gradients(
    head: Head, real_checkpoint: Path, batch: Any, same_gradients: Any
) -> None:
    bench = RealBench(head, real_checkpoint, batch)
    config = transformers.BertConfig.from_pretrained(
        real_checkpoint, attn_implementation="eager", **head.config
    )
    peer = getattr(transformers, head.ours)(config).eval()
    peer.load_state_dict(bench.model.state_dict())
    head.join_biases(peer)
    batch = bench.batch()
    answer = head.call(peer, batch)
    for run, alone in ((lambda: bench.call(batch), False), (lambda: bench.packed(batch), True)):
        found, wanted = run(), head.expected(answer, batch, labelled=alone)
        assert_same(bench, found, wanted, batch)
        bench.model.zero_grad()
        peer.zero_grad()
        bench.objective(found, batch).backward()
        bench.objective(wanted, batch).backward(retain_graph=True)
        same_gradients(bench.model, peer)
