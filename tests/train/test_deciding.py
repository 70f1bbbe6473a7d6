"""Each argument decides the result unless it says otherwise, and then refuses a resume by name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bertolt import BertForSequenceClassification, Trainer, TrainingArguments
from bertolt.base.errors import UsageError
from bertolt.base.options import decides
from bertolt.train.peer_arguments import PeerArguments
from bertolt.train.saving import plain, require_same_settings

FREE = {
    "auto_find_batch_size",
    "activation_checkpointing",
    "do_eval",
    "do_predict",
    "do_train",
    "eval_delay",
    "full_determinism",
    "label_names",
    "logging_first_step",
    "logging_strategy",
    "eval_steps",
    "eval_strategy",
    "disable_tqdm",
    "fsdp",
    "gradient_checkpointing",
    "logging_steps",
    "output_dir",
    "per_device_eval_batch_size",
    "remove_unused_columns",
    "report_to",
    "resume_from_checkpoint",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "use_cpu",
}
OTHER: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "max_steps": 7,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "layer_decay": 0.5,
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
    "adam_epsilon": 1e-3,
    "max_grad_norm": 0.5,
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "warmup_steps": 3,
    "train_sampling_strategy": "sequential",
    "seed": 7,
    "data_seed": 7,
    "label_smoothing_factor": 0.1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "accuracy",
    "greater_is_better": True,
    "precision": "bf16",
    "bf16": True,
}
SEEN = {"precision": "precision", "bf16": "precision"}


def test_what_may_change_is_written_down() -> None:
    everything = {option.name: decides(option) for option in fields(TrainingArguments)}
    peers = {option.name for option in fields(PeerArguments)}
    assert not any(everything[name] for name in peers)
    options = {name: how for name, how in everything.items() if name not in peers}
    assert {name for name, how in options.items() if how is False} == FREE
    assert {name: how for name, how in options.items() if isinstance(how, str)} == SEEN
    assert options.keys() == FREE | OTHER.keys()


@pytest.mark.parametrize("name", OTHER)
def test_what_decides_refuses_a_resume(tiny_config: Any, tmp_path: Path, name: str) -> None:
    base: dict[str, Any] = {"precision": "fp32"} if name != "bf16" else {"bf16": False}
    base |= {"output_dir": str(tmp_path), "eval_strategy": "steps", "save_strategy": "steps"}
    rows = [{"input_ids": [5, 6], "label": 0}] * 4

    def settings(**changes: Any) -> dict[str, Any]:
        model = BertForSequenceClassification(tiny_config())
        args = TrainingArguments(**(base | changes))
        return plain(Trainer(model, args, train_dataset=rows).deciding_settings())

    shown = SEEN.get(name, name)
    with pytest.raises(UsageError, match=f"it was made with {shown} .*, and now it is"):
        require_same_settings(tmp_path, settings(), settings(**{name: OTHER[name]}))
    require_same_settings(tmp_path, settings(), settings(save_steps=3, eval_steps=2))
