"""Ten steps of a fixed tiny model against stored losses, which the peer has computed.

`python tests/train/test_golden.py` computes them again, with `transformers` and plain PyTorch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "ten_steps.json"
STEPS, ROWS = 10, 8
SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TRAINING = {"lr": 3e-3, "eps": 1e-8, "weight_decay": 0.05, "warmup": 2, "max_grad_norm": 0.5}


def set_weights(model: torch.nn.Module) -> None:
    """Weights by a formula, so that they are the same whatever draws random numbers."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            place = torch.arange(1, parameter.numel() + 1, dtype=torch.float64)
            noise = torch.sin(place * place * 0.37 + number) * 0.2
            base = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_((base + noise).view(parameter.shape))


def rows_of_step(step: int) -> list[dict[str, Any]]:
    step %= 3  # the same three batches over and over, so that there is something to learn
    rows = []
    for row in range(ROWS):
        length = 1 + (row * 5 + step * 3) % 20
        ids = [1 + (row * row * 31 + step * 17 + place * place * 7) % 96 for place in range(length)]
        types = [int(2 * place > length) for place in range(length)]
        rows.append({"input_ids": ids, "token_type_ids": types, "label": sum(ids) % 3})
    return rows


def peer_losses() -> list[dict[str, float]]:
    """The peer's model, padded batches, PyTorch's AdamW and clipping, the peer's schedule."""
    import transformers

    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**SHAPE, num_labels=3, attn_implementation="eager")
    ).train()
    set_weights(model)
    spared = [p for n, p in model.named_parameters() if "LayerNorm" in n or n.endswith(".bias")]
    decayed = [p for p in model.parameters() if all(p is not other for other in spared)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": spared, "weight_decay": 0.0}],
        lr=TRAINING["lr"],
        eps=TRAINING["eps"],
        weight_decay=TRAINING["weight_decay"],
    )
    schedule = transformers.get_scheduler("linear", optimizer, TRAINING["warmup"], STEPS)
    logs = []
    for step in range(STEPS):
        rows = rows_of_step(step)
        width = max(len(row["input_ids"]) for row in rows)
        batch = {
            name: torch.tensor([row[name] + [0] * (width - len(row[name])) for row in rows])
            for name in ("input_ids", "token_type_ids")
        }
        batch["attention_mask"] = (batch["input_ids"] > 0).long()
        loss = model(**batch, labels=torch.tensor([row["label"] for row in rows])).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING["max_grad_norm"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        logs.append({"loss": loss.item(), "grad_norm": norm.item()})
    return logs


def write_golden() -> None:
    import transformers

    content = {
        "made_with": "python tests/train/test_golden.py",
        "made_by": "transformers.BertForSequenceClassification in fp32, eager attention, padded "
        "batches; torch.optim.AdamW; linear schedule; torch.nn.utils.clip_grad_norm_",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "shape": SHAPE,
        "training": TRAINING,
        "steps": peer_losses(),
    }
    GOLDEN.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@pytest.mark.parametrize("backend", ["grouped", "reference"])
def test_ten_steps_have_the_stored_losses(backend: str) -> None:
    from bertolt import (
        AdamW,
        BertConfig,
        BertForSequenceClassification,
        PackingCollator,
        get_scheduler,
        parameter_groups,
        train_step,
    )

    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["shape"] == SHAPE
    assert golden["training"] == TRAINING
    model = BertForSequenceClassification(BertConfig(**SHAPE).changed(num_labels=3)).train()
    model.set_attention_backend(backend)
    set_weights(model)
    groups = parameter_groups(model, TRAINING["weight_decay"])
    optimizer = AdamW(groups, lr=TRAINING["lr"], eps=TRAINING["eps"])
    schedule = get_scheduler("linear", optimizer, TRAINING["warmup"], STEPS)
    collate = PackingCollator()
    logs = [
        train_step(
            model,
            collate(rows_of_step(step)),
            optimizer,
            schedule,
            max_grad_norm=TRAINING["max_grad_norm"],
        )
        for step in range(STEPS)
    ]
    wanted = golden["steps"]
    assert [log.loss for log in logs] == pytest.approx([w["loss"] for w in wanted], abs=1e-4)
    assert [log.grad_norm for log in logs] == pytest.approx(
        [w["grad_norm"] for w in wanted], rel=1e-3
    )
    # The course means something: it moves, and it goes down.
    assert logs[-1].loss < logs[0].loss - 0.1


if __name__ == "__main__":
    write_golden()
