"""Each option of `pretrain` decides the result unless it says otherwise, and refuses a resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.errors import UsageError
from bertolt.base.options import decides, flag
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.run import pretrain
from tests.callbacks import At, press

FREE = {"out", "overwrite", "resume", "save_every", "shard", "tensorboard", "track"}
OTHER: dict[str, Any] = {
    "objective": "mlm+nsp",
    "tokens": "1k",
    "steps": 20,
    "epochs": 0.5,
    "batch_tokens": 2048,
    "pass_tokens": 256,
    "batch_warmup": 2,
    "max_length": 32,
    "position_init": "normal",
    "mask": 0.3,
    "mask_end": 0.1,
    "whole_words": True,
    "nsp_weight": 0.5,
    "lr": 1e-4,
    "schedule": "constant",
    "warmup": 0.5,
    "decay": 0.5,
    "weight_decay": 0.1,
    "beta2": 0.9,
    "clip": 0.5,
    "dropout": 0.1,
    "eval_every": 5,
    "eval_tokens": 900,
    "keep": 1,
    "seed": 7,
    "precision": "bf16",
    "positions": 80,
}
FOLDERS = {"model", "config"}  # what is other about them is made by the test


def test_what_may_change_is_written_down() -> None:
    options = {option.name: decides(option) for option in fields(PretrainOptions)}
    assert {name for name, how in options.items() if how is False} == FREE
    assert options.keys() == FREE | OTHER.keys() | FOLDERS


def test_what_decides_refuses_a_resume(
    letters: Path, options: Callable[..., PretrainOptions], tmp_path: Path
) -> None:
    how_much = {"batch_tokens": 1024, "pass_tokens": 512, "steps": 6}
    begun = options(objective="mlm", keep="best", **how_much)
    assert pretrain(letters, begun, callbacks=[At(3, press)]).interrupted
    values = json.loads(Path(str(begun.config)).read_text(encoding="utf-8"))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(values | {"num_attention_heads": 2}), encoding="utf-8")
    model = str(shutil.copytree(begun.out / "checkpoint-3", tmp_path / "model"))
    for option in fields(PretrainOptions):
        if option.name in FREE:
            continue
        changes: dict[str, Any] = {option.name: OTHER.get(option.name, str(other))}
        if option.name == "model":
            changes = {"model": model, "config": None}
        if option.name in ("tokens", "epochs"):
            changes |= {"steps": None}
        seen = decides(option)
        shown = flag(option.name) if seen is True else str(seen)
        with pytest.raises(UsageError, match=f"it was made with {shown}.*, and now it is"):
            pretrain(letters, replace(begun, resume=True, **changes))
    assert not pretrain(letters, replace(begun, resume=True, save_every=4)).interrupted
