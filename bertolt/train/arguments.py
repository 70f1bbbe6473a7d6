"""`TrainingArguments`: the settings of a `Trainer`, under the names that the peer uses.

Nothing heavy is imported here, so that reading settings costs nothing.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from bertolt.base.errors import UsageError, nearest
from bertolt.base.options import FREE, SEED, above, at_least, check_options, seen_in, share
from bertolt.models.config import Precision

# The schedules that need no settings of their own.
Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]


REPLACED_ARGUMENTS = {
    name: instead
    for names, instead in (
        ("evaluation_strategy do_eval", "use eval_strategy"),
        ("do_train do_predict", "call Trainer.train() and Trainer.predict(); see eval_strategy"),
        (
            "group_by_length length_column_name",
            'use train_sampling_strategy="group_by_length"; lengths are counted',
        ),
        (
            "fp16 fp16_full_eval fp16_opt_level half_precision_backend",
            "use bf16=True (bfloat16 needs no loss scaling)",
        ),
        ("bf16_full_eval tf32", "use bf16 or precision, which hold for the evaluation too"),
        ("no_cuda use_mps_device", "use use_cpu"),
        ("warmup_ratio", "use warmup_steps (a value below 1 is a share of all steps)"),
        ("data_seed full_determinism", "use seed, for the order of the rows and for dropout"),
        (
            "per_gpu_train_batch_size auto_find_batch_size",
            "use per_device_train_batch_size, with gradient_accumulation_steps if it is too large",
        ),
        (
            "per_gpu_eval_batch_size eval_accumulation_steps eval_do_concat_batches "
            "eval_use_gather_object batch_eval_metrics",
            "use per_device_eval_batch_size; results leave the device batch by batch",
        ),
        ("eval_on_start eval_delay", 'use eval_strategy="steps" with eval_steps'),
        (
            "prediction_loss_only include_for_metrics include_inputs_for_metrics",
            "use compute_metrics, an argument of Trainer; without it only the loss is kept",
        ),
        (
            "optim optim_args optim_target_modules adafactor",
            "use optimizers, an argument of Trainer; adam_beta1 and so on set its own AdamW",
        ),
        (
            "logging_strategy logging_first_step logging_nan_inf_filter log_level "
            "log_level_replica log_on_each_node include_num_input_tokens_seen "
            "include_tokens_per_second",
            "use logging_steps; Trainer.history has the loss and the tokens of every step",
        ),
        (
            "logging_dir run_name project trackio_space_id trackio_bucket_id "
            "trackio_static_space_id",
            'use report_to="none", and callbacks, an argument of Trainer, for a tracker',
        ),
        (
            "overwrite_output_dir save_only_model save_on_each_node save_safetensors "
            "enable_jit_checkpoint",
            'use save_strategy="no" with Trainer.save_model() for the model alone; a checkpoint is '
            "whole, SIGTERM writes one, and none is overwritten",
        ),
        (
            "ignore_data_skip restore_callback_states_from_checkpoint",
            "use resume_from_checkpoint: the place in the data is found at once, callbacks survive",
        ),
        (
            "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push "
            "hub_revision push_to_hub_token push_to_hub_model_id push_to_hub_organization",
            "use output_dir and Trainer.save_model(), and upload that folder",
        ),
        ("label_names remove_unused_columns", "leave it out: data_collator takes what is needed"),
        (
            "dataloader_drop_last dataloader_num_workers dataloader_pin_memory "
            "dataloader_persistent_workers dataloader_prefetch_factor "
            "dataloader_multiprocessing_context dataloader_in_order",
            "leave it out: every row is used, in batches of per_device_train_batch_size",
        ),
        (
            "local_rank ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
            "ddp_static_graph ddp_backend ddp_timeout fsdp_config deepspeed "
            "accelerator_config parallelism_config average_tokens_across_devices",
            "leave it out, and start the program with torchrun; fsdp splits the model",
        ),
        (
            "activation_checkpointing activation_checkpointing_kwargs "
            "gradient_checkpointing_kwargs",
            "use gradient_checkpointing",
        ),
        (
            "torch_compile torch_compile_backend torch_compile_mode use_liger_kernel "
            "liger_kernel_config",
            "leave it out: attention is fused already, and precision chooses the fastest numbers",
        ),
        (
            "label_smoothing_factor neftune_noise_alpha",
            "use weight_decay, or the model's dropout, against overfitting",
        ),
        (
            "use_cache debug skip_memory_metrics torch_empty_cache_steps past_index",
            "leave it out: nothing here needs it; logging_steps says how often to tell of a run",
        ),
        ("tokenizer", "use processing_class, an argument of Trainer"),
    )
    for name in names.split()
}
"""Training arguments of the peer that Bertolt does not have, and what to write instead."""


@dataclass(kw_only=True)
class TrainingArguments:
    """Settings of a training run, under the names that the peer's `TrainingArguments` has.

    A run that is resumed has to have the same as it began with, but for those that are free.

    Raises:
        UsageError: a value out of its range; the message names the argument.
    """

    output_dir: str = field(default="out", kw_only=False, metadata=FREE)
    """Folder for the model, its metrics and its report."""
    num_train_epochs: float = field(default=3.0, metadata=above(0))
    """Passes over the training rows."""
    max_steps: int = -1
    """Stop after this many steps, whatever the epochs say; -1: no such limit."""
    per_device_train_batch_size: int = field(default=8, metadata=at_least(1))
    """Texts in one training step, for each process."""
    per_device_eval_batch_size: int = field(default=8, metadata=at_least(1) | FREE)
    """Texts whose tokens, at full length, bound one evaluation batch."""
    gradient_accumulation_steps: int = field(default=1, metadata=at_least(1))
    """Batches that make one optimizer step; together they act as one large batch."""
    learning_rate: float = field(default=5e-5, metadata=at_least(0))
    """Peak learning rate of AdamW."""
    weight_decay: float = field(default=0.0, metadata=at_least(0))
    """Decay of all weights but biases and layer norms."""
    adam_beta1: float = field(default=0.9, metadata=share(0.9, zero=True))
    """First moment's decay."""
    adam_beta2: float = field(default=0.999, metadata=share(0.999, zero=True))
    """Second moment's decay."""
    adam_epsilon: float = field(default=1e-8, metadata=above(0))
    """Added to the second moment's root."""
    max_grad_norm: float = field(default=1.0, metadata=at_least(0))
    """Gradients are scaled down to this norm; 0: not clipped."""
    gradient_checkpointing: bool = field(default=False, metadata=FREE)
    """Keep less for the backward pass and compute it again there: less memory, more time."""
    fsdp: bool = field(default=False, metadata=FREE)
    """Split weights, gradients and optimizer over the processes that torchrun starts (FSDP2)."""
    lr_scheduler_type: str = "linear"
    """Shape of the learning rate's course after warmup."""
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    """Extra settings of that shape."""
    warmup_steps: float = field(default=0, metadata=at_least(0))
    """Steps of linear warmup; a value below 1 is a share of all steps."""
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = "random"
    """Order of the training rows."""
    eval_strategy: Literal["no", "epoch", "steps"] = field(default="no", metadata=FREE)
    """When to evaluate while training."""
    eval_steps: int = field(default=500, metadata=at_least(1) | FREE)
    """Steps between evaluations if eval_strategy is "steps"; logging_steps, where that is given."""
    logging_steps: int = field(default=10, metadata=at_least(1) | FREE)
    """Steps between entries of the log."""
    seed: int = field(default=42, metadata=SEED)
    """Seed of the order, of dropout, and of what rows and collators draw from numpy or Python."""
    bf16: bool | None = field(default=None, metadata=seen_in("precision"))
    """bfloat16 on or off; None: as `precision` says."""
    precision: Precision = field(default="auto", metadata=seen_in("precision"))
    """"auto" takes bfloat16 where a short measurement finds it faster."""
    use_cpu: bool = field(default=False, metadata=FREE)
    """Stay on the CPU although a GPU is there."""
    disable_tqdm: bool = field(default=False, metadata=FREE)
    """Show no progress."""
    report_to: str | list[str] | None = field(default="none", metadata=FREE)
    """Trackers; only "none" so far."""
    save_strategy: Literal["no", "steps", "epoch"] = field(default="no", metadata=FREE)
    """When to write a checkpoint, a folder `checkpoint-STEP` in `output_dir`."""
    save_steps: int = field(default=500, metadata=at_least(1) | FREE)
    """Steps between checkpoints when save_strategy is "steps"."""
    save_total_limit: int | None = field(default=None, metadata=at_least(1) | FREE)
    """Newest checkpoints to keep; None: all."""
    load_best_model_at_end: bool = False
    """End with the weights of the best evaluation, whose checkpoint is kept."""
    metric_for_best_model: str | None = None
    """What the best evaluation is chosen by; None: "loss"."""
    greater_is_better: bool | None = None
    """Whether more of that is better; None: unless its name ends in "loss"."""
    resume_from_checkpoint: bool | str | None = field(default=None, metadata=FREE)
    """Checkpoint to go on from; True: the last whole one in `output_dir`."""

    _given: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.output_dir, os.PathLike):
            self.output_dir = os.fspath(self.output_dir)
        if self.is_default("eval_steps") and not self.is_default("logging_steps"):
            self.eval_steps = self.logging_steps
        check_options(self, shown=str, place="TrainingArguments")
        measured = self.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
        _require(self, "lr_scheduler_type", not measured, "a schedule that goes by the step alone")
        _require(self, "report_to", self.report_to in ("none", None, [], ["none"]), "'none'")
        if self.load_best_model_at_end:
            for name in ("eval_strategy", "save_strategy"):
                why = 'other than "no" with load_best_model_at_end'
                _require(self, name, getattr(self, name) != "no", why)
        if self.bf16 is not None:
            self.precision = "bf16" if self.bf16 else "fp32"

    def __new__(cls, *output_dir: str, **values: Any) -> TrainingArguments:
        """Refuse a name that is not supported before `__init__` meets it.

        Raises:
            UsageError: an unknown name, with the nearest that is supported.
        """
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                close = nearest(name, known)
                hint = f"use {close}" if close else f"the arguments are {', '.join(known)}"
                raise UsageError(
                    f"TrainingArguments has no argument {name!r}",
                    fix=REPLACED_ARGUMENTS.get(name, hint),
                )
        arguments = super().__new__(cls)
        arguments._given = frozenset(values)  # type: ignore[misc]
        return arguments

    def is_default(self, name: str) -> bool:
        """Whether an argument was left out when the object was made."""
        return name not in self._given

    def count_warmup(self, total_steps: int) -> int:
        """Warmup in steps: `warmup_steps` itself, or that share of `total_steps`, rounded up."""
        if 0 < self.warmup_steps < 1:
            return math.ceil(total_steps * self.warmup_steps)
        return int(self.warmup_steps)


def _require(owner: object, name: str, fine: bool, allowed: str) -> None:
    if not fine:
        raise UsageError(
            f"{name} is {getattr(owner, name)!r}", place=type(owner).__name__, fix=f"give {allowed}"
        )
