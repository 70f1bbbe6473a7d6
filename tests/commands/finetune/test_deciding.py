"""Each option of `finetune` decides the result unless it says otherwise, and refuses a resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt import BertModel
from bertolt.base.errors import UsageError
from bertolt.base.options import decides, flag
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from tests.callbacks import At, Killed, kill

FREE = {"find_batch_size", "keep_checkpoints", "out", "overwrite", "resume", "save_every", "shard"}
# What several runs are is held to what `runs.json` has, by those runs.
FREE |= {"seeds", "folds", "search", "trials", "prune", "keep_models", "track", "find_batch_size"}
OTHER: dict[str, Any] = {
    "model": "encoder",
    "task": "multi-label-classification",
    "text": "second",
    "text_pair": "second",
    "label_separator": ";",
    "label": "turned",
    "eval": "others.csv",
    "encoding": "latin-1",
    "test_size": 0.3,
    "epochs": 3,
    "batch_size": 4,
    "lr": 1e-4,
    "weight_decay": 0.1,
    "warmup": 0.5,
    "schedule": "cosine",
    "order": "group_by_length",
    "max_length": 20,
    "seed": 7,
    "split_seed": 7,
    "precision": "bf16",
    "keep": "best",
    "accumulate": 2,
    "layer_decay": 0.5,
    "freeze": 1,
    "class_weights": "auto",
    "focal": 2.0,
    "label_smoothing": 0.1,
    "patience": 5,
    "calibrate": True,
}
# A metric alone is refused, as a group beside a file to evaluate on, and what is for another task.
# The effect of the others is which rows there are: "error" trains on no others, and where another
# layout parts the same rows otherwise, the columns named are not there.
NEVER = {"metric", "group", "on_bad_row", "sep", "no_header", "skip_rows", "sheet"}
NEVER |= {"pooling", "unnormalized", "score_scale", "micro_batch"}
# A sample makes several runs, and a folder with a single one refuses any of these.
NEVER |= {"sample"}
# No text of these is longer than the limit.
NEVER |= {"long", "stride", "windows"}
# What is said of a teacher without one is refused, and a teacher is a whole run.
NEVER |= {"distil", "temperature", "distil_weight", "student_layers"}


def test_what_may_change_is_written_down() -> None:
    options = {option.name: decides(option) for option in fields(FinetuneOptions)}
    assert {name for name, how in options.items() if how is False} == FREE
    assert options.keys() == FREE | OTHER.keys() | NEVER


@pytest.fixture
def rows(tmp_path: Path, good_rows: list[tuple[str, str]], write_csv: Callable[..., Path]) -> Path:
    """Texts with an accent, other texts, labels, and the same labels the other way round."""
    table = [
        (f"{text} café", f"{text} bad", label, "np"[label == "n"]) for text, label in good_rows
    ]
    header = ("first", "second", "sign", "turned")
    write_csv(table[:8], header=header, name="held_out.csv")
    write_csv(table[1:9], header=header, name="others.csv")
    return write_csv(table, header=header)


def test_what_decides_refuses_a_resume(
    rows: Path, quick: Any, tmp_path: Path, tiny_config: Any
) -> None:
    base: dict[str, Any] = {"text": "first", "label": "sign", "epochs": 2, "save_every": 2}
    base |= {"eval": tmp_path / "held_out.csv"}
    with pytest.raises(Killed):
        finetune(rows, quick(**base), callbacks=[At(3, kill)])
    torch.manual_seed(1)
    other = tmp_path / "encoder"
    BertModel(tiny_config(initializer_range=0.1)).save_pretrained(other)
    (other / "vocab.txt").write_bytes((Path(quick().model) / "vocab.txt").read_bytes())
    changes = OTHER | {"model": str(other), "eval": tmp_path / OTHER["eval"]}
    for option in fields(FinetuneOptions):
        if option.name in FREE | NEVER:
            continue
        how = decides(option)
        shown = flag(option.name) if how is True else str(how)
        options = quick(**base | {option.name: changes[option.name]}, resume=True)
        with pytest.raises(UsageError, match=f"it was made with {shown}.*, and now it is"):
            finetune(rows, options)
    with pytest.raises(UsageError, match="holds a single run, and --sample makes several"):
        finetune(rows, quick(**base, sample=20, resume=True))
    finetune(rows, quick(**base | {"save_every": 5, "keep": 1}, resume=True))
