"""Multiple choice on a real checkpoint: a training step, and an evaluation, as the peer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bertolt import (
    BertForMultipleChoice,
    BertTokenizer,
    DataCollatorForMultipleChoice,
    PackingCollator,
)
from bertolt.models.precision import FP32
from bertolt.tasks.base import Reading
from bertolt.tasks.evaluation import evaluate
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.rows import Columns, encode_rows, read_for_task

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CSV = """sent1,sent2,ending0,ending1,ending2,label
A woman opens a book.,She,reads the first page aloud.,melts into a river.,"is blue, mostly.",0
The band starts to play.,The crowd,boils.,dances until late in the night.,has four legs.,1
He drops the glass.,It,sings.,votes for the mayor.,breaks on the floor.,2
Snow falls on the hills.,Children,take their sledges out.,are made of copper.,rust.,0
"""


@pytest.fixture(scope="module")
def both(real_checkpoint: Path) -> tuple[Any, Any]:
    """Ours and the peer's, with one new head."""
    ours = BertForMultipleChoice.from_pretrained(real_checkpoint, verbose=False, seed=0, **STILL)
    peer = transformers.BertForMultipleChoice.from_pretrained(
        real_checkpoint, attn_implementation="eager", **STILL
    )
    with torch.no_grad():
        ours.classifier.weight.mul_(10)  # so that choices differ
        peer.classifier.weight.copy_(ours.classifier.weight)
        peer.classifier.bias.copy_(ours.classifier.bias)
    return ours, peer


def test_an_evaluation_and_a_step_are_the_peers(
    both: tuple[Any, Any], real_checkpoint: Path, tmp_path: Path, same_gradients: Any
) -> None:
    ours, peer = both
    path = tmp_path / "swag.csv"
    path.write_text(CSV, encoding="utf-8")
    table, kind = read_for_task(path, Columns())
    assert kind is MultipleChoice
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    tokenizer = BertTokenizer.from_pretrained(real_checkpoint)
    rows, _ = encode_rows(task, table, everything, tokenizer, 64)
    theirs = transformers.BertTokenizer.from_pretrained(real_checkpoint)
    features = []
    for example in table.examples():
        start, ends = example["text_pair"]["start"], example["text_pair"]["text"]
        encoded = theirs([example["text"]] * 3, [f"{start} {end}" for end in ends])
        features.append({**encoded, "label": int(example["label"])})
    batch = DataCollatorForMultipleChoice(tokenizer)(features)

    peer.eval()
    with torch.no_grad():
        wanted = peer(**batch)
    scores = evaluate(ours, task, rows, precision=FP32)
    assert scores.loss == pytest.approx(float(wanted.loss), rel=1e-5)
    right = (wanted.logits.argmax(-1) == batch["labels"]).float().mean()
    assert scores.scorer.values()["accuracy"] == pytest.approx(float(right))
    packed = PackingCollator()(list(rows.encoded))
    with torch.no_grad():
        torch.testing.assert_close(ours(packed).logits, wanted.logits, rtol=1e-4, atol=1e-5)

    ours.train()(packed).loss.backward()
    peer.train()(**batch).loss.backward()
    same_gradients(ours, peer)
    for model in (ours, peer):
        torch.optim.AdamW(model.parameters(), lr=1e-4).step()
    torch.testing.assert_close(ours.classifier.weight, peer.classifier.weight, atol=1e-6, rtol=1e-4)
