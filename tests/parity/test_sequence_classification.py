"""The real checkpoint against the peer: the same answers and the same gradients by both doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertolt import BertForSequenceClassification, BertModel, BertTokenizer, PackedBatch

TEXTS = [
    "A warm, funny and quietly moving film.",
    "Dull.",
    "It is neither as clever as it believes nor as silly as it fears, and that is a pity: " * 4,
    "An unaffable hero; an e-mail; 3.14 reasons to leave.",
    "",
]
PAIRS = ["So says the second text.", "And?", "No.", "Perhaps it does not.", "Only this one."]
LABELS = torch.tensor([2, 0, 1, 1, 0])


@pytest.fixture(scope="module", params=["single texts", "pairs"])
def batch(request: pytest.FixtureRequest, real_checkpoint: Path) -> dict[str, torch.Tensor]:
    tokenizer = BertTokenizer.from_pretrained(real_checkpoint)
    second = PAIRS if request.param == "pairs" else None
    made = tokenizer(TEXTS, second, padding=True, truncation=True, return_tensors="pt")
    assert (made["token_type_ids"].sum() > 0) == (request.param == "pairs")
    return dict(made)


@pytest.fixture(scope="module")
def models(real_checkpoint: Path) -> tuple[Any, Any]:
    """Ours and the peer's, with the same new head."""
    ours = BertForSequenceClassification.from_pretrained(
        real_checkpoint, num_labels=3, seed=1, verbose=False
    )
    peer = transformers.BertForSequenceClassification.from_pretrained(
        real_checkpoint, num_labels=3, attn_implementation="eager", dtype=torch.float32
    ).eval()
    peer.classifier.load_state_dict(ours.classifier.state_dict())
    return ours, peer


def by_both_doors(model: Any, batch: dict[str, torch.Tensor]) -> list[Any]:
    return [model(**batch), model(PackedBatch.from_padded(**batch)[0])]


def test_logits_and_loss(models: tuple[Any, Any], batch: dict[str, torch.Tensor]) -> None:
    ours, peer = models
    with torch.no_grad():
        wanted = peer(**batch, labels=LABELS)
        for found in by_both_doors(ours, {**batch, "labels": LABELS}):
            torch.testing.assert_close(found.logits, wanted.logits, atol=1e-5, rtol=0)
            torch.testing.assert_close(found.loss, wanted.loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["grouped", "reference"])
@pytest.mark.parametrize("door", [0, 1], ids=["padded door", "packed door"])
def test_the_gradient_of_every_parameter(
    models: tuple[Any, Any],
    batch: dict[str, torch.Tensor],
    same_gradients: Any,
    door: int,
    backend: str,
) -> None:
    ours, peer = models
    for model in models:
        model.zero_grad()
    ours.set_attention_backend(backend)
    by_both_doors(ours, {**batch, "labels": LABELS})[door].loss.backward()
    peer(**batch, labels=LABELS).loss.backward()
    same_gradients(ours, peer)


def test_hidden_states(real_checkpoint: Path, batch: dict[str, torch.Tensor]) -> None:
    ours, report = BertModel.from_pretrained(
        real_checkpoint, output_loading_info=True, verbose=False
    )
    assert report.exact
    peer = transformers.BertModel.from_pretrained(real_checkpoint, dtype=torch.float32).eval()
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        found, wanted = ours(**batch), peer(**batch)
    for name in ("last_hidden_state", "pooler_output"):
        have, want = found[name], wanted[name]
        if name == "last_hidden_state":
            have, want = have[real], want[real]
        torch.testing.assert_close(have, want, atol=1e-5, rtol=0)


def test_what_is_saved_opens_in_the_peer_with_its_labels(
    models: tuple[Any, Any], batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    ours, _ = models
    names = {0: "poor", 1: "so so", 2: "好"}
    ours.config = ours.config.changed(id2label=names)
    ours.save_pretrained(tmp_path)
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert type(peer) is transformers.BertForSequenceClassification
    assert peer.config.id2label == names
    assert peer.config.label2id == {name: index for index, name in names.items()}
    with torch.no_grad():
        torch.testing.assert_close(peer(**batch).logits, ours(**batch).logits, atol=1e-5, rtol=0)


def test_holes_in_the_mask_are_left_out_as_the_peer_leaves_them_out(
    models: tuple[Any, Any], batch: dict[str, torch.Tensor]
) -> None:
    ours, peer = models
    mask = batch["attention_mask"].clone()
    mask[:, 3] = 0
    mask[2, 10:20] = 0
    with torch.no_grad():
        wanted = peer(**{**batch, "attention_mask": mask}).logits
        found = ours(**{**batch, "attention_mask": mask}).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
