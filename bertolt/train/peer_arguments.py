"""Arguments of the peer's `TrainingArguments` that do nothing here: taken, or refused with advice.

Each is a field, so that programs can give, read and parse it. The value that a field has by
default, and those beside it, mean what happens here anyway.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from bertolt.base.console import info
from bertolt.base.errors import KeywordError, UsageError, nearest
from bertolt.base.options import FREE, Metadata
from bertolt.base.process import number_of

_OURS = Metadata(checked=False) | FREE


def _taken(default: Any = None) -> Any:
    """A field whose value changes no result; one that is not the default is told."""
    return _left_alone(default, Metadata(alike=(default,)))


def _refused(instead: str, default: Any = None, *alike: Any) -> Any:
    """A field that would change the result, or do something that is not done here.

    Args:
        instead: what to write instead.
        default: the peer's value where it is left out.
        alike: more values that ask for nothing else than what happens.
    """
    return _left_alone(default, Metadata(instead=instead, alike=(default, *alike, None)))


def _left_alone(default: Any, said: Metadata) -> Any:
    return field(default=default, repr=False, metadata=_OURS | said)


_SMALL_FLOATS = "use bf16=True (bfloat16 needs no loss scaling)"
_EVALUATION_TOO = "use bf16 or precision, which hold for the evaluation too"
_OPTIMIZER = "use optimizers, an argument of Trainer; adam_beta1 and so on set its own AdamW"
_TORCHRUN = "leave it out, and start the program with torchrun; fsdp splits the model"
_METRICS = "use compute_metrics, an argument of Trainer, which gets all logits and labels"
_UPLOAD = "use output_dir and Trainer.save_model(), and upload that folder"


class ParallelMode(enum.Enum):
    """How many processes there are, by the peer's names."""

    NOT_PARALLEL = "not_parallel"
    DISTRIBUTED = "distributed"


@dataclass(kw_only=True)
class PeerArguments:
    """The base of `TrainingArguments`: fields of the peer's that Bertolt does not act on."""

    # ---- refused where they would change the result, or leave something undone ----
    optim: str = _refused(_OPTIMIZER, "adamw_torch_fused", "adamw_torch", "adamw_hf")
    optim_args: str | None = _refused(_OPTIMIZER, None, "", {})
    optim_target_modules: str | None = _refused(_OPTIMIZER, None, [])
    average_tokens_across_devices: bool = _refused(
        "leave it out: gradient_accumulation_steps and torchrun weigh every label alike", True
    )
    fp16: bool = _refused(_SMALL_FLOATS, False)
    fp16_full_eval: bool = _refused(_SMALL_FLOATS, False)
    bf16_full_eval: bool = _refused(_EVALUATION_TOO, False)
    tf32: bool | None = _refused(_EVALUATION_TOO, None, False)
    neftune_noise_alpha: float | None = _refused(
        "use weight_decay, label_smoothing_factor or the model's dropout against overfitting",
        None,
        0,
    )
    prediction_loss_only: bool = _refused(
        "leave compute_metrics of Trainer out: then evaluate keeps the loss alone", False
    )
    eval_on_start: bool = _refused("call Trainer.evaluate() before Trainer.train()", False)
    eval_do_concat_batches: bool = _refused(_METRICS, True)
    include_for_metrics: list[str] = field(
        default_factory=list,
        repr=False,
        metadata=_OURS | Metadata(instead=_METRICS, alike=([], None)),
    )
    include_inputs_for_metrics: bool = _refused(_METRICS, False)
    batch_eval_metrics: bool = _refused(_METRICS, False)
    push_to_hub: bool = _refused(_UPLOAD, False)
    ignore_data_skip: bool = _refused(
        "use resume_from_checkpoint: a run goes on with the rows that it had not come to", False
    )
    accelerator_config: dict[str, Any] | str | None = _refused(_TORCHRUN, None, {})  # noqa: RUF009
    parallelism_config: str | None = _refused(_TORCHRUN)
    deepspeed: dict[str, Any] | str | None = _refused(_TORCHRUN, None, "")  # noqa: RUF009
    dataloader_drop_last: bool = _refused(
        "leave it out: every row is used, in batches of per_device_train_batch_size; or define "
        "Trainer.get_train_dataloader",
        False,
    )
    save_safetensors: bool = _refused(
        "leave it out: Trainer.save_model() writes safetensors alone", True
    )
    past_index: int = _refused("leave it out: label_names says what a model compares with", -1)

    # ---- taken: they change no result ----
    overwrite_output_dir: bool = _taken(False)
    gradient_checkpointing_kwargs: dict[str, Any] | str | None = _taken()  # noqa: RUF009
    activation_checkpointing_kwargs: dict[str, Any] | str | None = _taken()  # noqa: RUF009
    torch_compile: bool = _taken(False)
    torch_compile_backend: str | None = _taken()
    torch_compile_mode: str | None = _taken()
    torchdynamo: str | None = _taken()
    use_liger_kernel: bool = _taken(False)
    liger_kernel_config: dict[str, Any] | str | None = _taken()  # noqa: RUF009
    use_cache: bool = _taken(False)
    use_ipex: bool = _taken(False)
    jit_mode_eval: bool = _taken(False)
    torch_empty_cache_steps: int | None = _taken()
    log_level: str = _taken("passive")
    log_level_replica: str = _taken("warning")
    log_on_each_node: bool = _taken(True)
    logging_dir: str | None = _taken()
    logging_nan_inf_filter: bool = _taken(True)
    include_num_input_tokens_seen: str = _taken("no")
    include_tokens_per_second: bool = _taken(False)
    run_name: str | None = _taken()
    project: str = _taken("huggingface")
    trackio_space_id: str | None = _taken()
    trackio_bucket_id: str | None = _taken()
    trackio_static_space_id: str | None = _taken()
    eval_use_gather_object: bool = _taken(False)
    eval_accumulation_steps: int | None = _taken()
    save_only_model: bool = _taken(False)
    save_on_each_node: bool = _taken(False)
    enable_jit_checkpoint: bool = _taken(False)
    hub_token: str | None = _taken()
    hub_private_repo: bool | None = _taken()
    hub_model_id: str | None = _taken()
    hub_strategy: str = _taken("every_save")
    hub_always_push: bool = _taken(False)
    hub_revision: str | None = _taken()
    push_to_hub_model_id: str | None = _taken()
    push_to_hub_organization: str | None = _taken()
    push_to_hub_token: str | None = _taken()
    restore_callback_states_from_checkpoint: bool = _taken(False)
    dataloader_num_workers: int = _taken(0)
    dataloader_pin_memory: bool = _taken(True)
    dataloader_persistent_workers: bool = _taken(False)
    dataloader_prefetch_factor: int | None = _taken()
    dataloader_multiprocessing_context: str | None = _taken()
    dataloader_in_order: bool = _taken(True)
    length_column_name: str = _taken("length")
    ddp_find_unused_parameters: bool | None = _taken()
    ddp_bucket_cap_mb: int | None = _taken()
    ddp_broadcast_buffers: bool | None = _taken()
    ddp_static_graph: bool | None = _taken()
    ddp_backend: str | None = _taken()
    ddp_timeout: int = _taken(1800)
    fsdp_config: dict[str, Any] | str | None = _taken()  # noqa: RUF009
    debug: str = _taken("")
    skip_memory_metrics: bool = _taken(True)
    local_rank: int = _taken(-1)
    fp16_opt_level: str = _taken("O1")
    fp16_backend: str = _taken("auto")
    half_precision_backend: str = _taken("auto")
    tpu_num_cores: int | None = _taken()
    tpu_metrics_debug: bool = _taken(False)
    dispatch_batches: bool | None = _taken()
    split_batches: bool | None = _taken()
    ray_scope: str | None = _taken("last")
    mp_parameters: str = _taken("")

    # ---- what programs read of the arguments ----

    @property
    def world_size(self) -> int:
        """Processes of the run."""
        return number_of("WORLD_SIZE", 1, least=1)

    @property
    def process_index(self) -> int:
        """Number of this process, from 0."""
        return number_of("RANK", 0)

    @property
    def local_process_index(self) -> int:
        """Number of this process on its machine, from 0."""
        return number_of("LOCAL_RANK", 0)

    @property
    def parallel_mode(self) -> ParallelMode:
        """Whether there is one process or several."""
        return ParallelMode.NOT_PARALLEL if self.world_size == 1 else ParallelMode.DISTRIBUTED

    @property
    def should_log(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.process_index == 0

    should_save = should_log

    def get_process_log_level(self) -> int:
        """A level for `logging`: INFO on the first process, and WARNING on the others."""
        return logging.INFO if self.should_log else logging.WARNING

    @contextlib.contextmanager
    def main_process_first(self, local: bool = True, desc: str = "") -> Iterator[None]:
        """Inside, the first process goes before the others, which then find what it has made.

        Args:
            local: as the peer has it; processes share their files.
            desc: what is done, for the reader.
        """
        from bertolt.base.distributed import join  # needs torch

        world = join()
        if not world.first:
            world.wait()
        try:
            yield
        finally:
            if world.first:
                world.wait()


def _as_it_is(value: Any) -> Any:
    return value


OLDER_ARGUMENTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "evaluation_strategy": ("eval_strategy", _as_it_is),
    "evaluate_during_training": ("eval_strategy", lambda yes: "steps" if yes else "no"),
    "group_by_length": (
        "train_sampling_strategy",
        lambda yes: "group_by_length" if yes else "random",
    ),
    "no_cuda": ("use_cpu", _as_it_is),
    "warmup_ratio": ("warmup_steps", _as_it_is),  # a value below 1 is a share of all steps
    "per_gpu_train_batch_size": ("per_device_train_batch_size", _as_it_is),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", _as_it_is),
}
"""Arguments of older versions of the peer that say what one of today says, and how."""

REPLACED_ARGUMENTS = {
    name: instead
    for names, instead in (
        ("use_mps_device", "use use_cpu"),
        (
            "per_device_batch_size",
            "use per_device_train_batch_size, with gradient_accumulation_steps if it is too large",
        ),
        ("adafactor", _OPTIMIZER),
        ("tokenizer", "use processing_class, an argument of Trainer"),
    )
    for name in names.split()
}
"""Arguments of older versions of the peer, and what to write instead."""


def renamed(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments by the names of today, and what to say of those that had older ones.

    An older one whose argument of today is given too stays as it is, and is refused by its name;
    so is a share of warmup that is none.
    """
    today, told = dict(values), []
    for older, (name, change) in OLDER_ARGUMENTS.items():
        share = older != "warmup_ratio" or _is_share(values.get(older))
        if older not in values or name in today or not share:
            continue
        value = today.pop(older)
        if value is not None:
            today[name] = change(value)
            told.append(f"{older} is read as {name}={today[name]!r}")
    return today, told


def _is_share(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < 1)


def is_peers(argument: Field[Any]) -> bool:
    """Whether a field is one that Bertolt does not act on."""
    return "alike" in argument.metadata


def instead_of_argument(name: str, *value: object) -> str | None:
    """What to write instead of an argument of the peer's; None: it is taken, or it is no such one.

    Args:
        name: of the argument.
        value: that it is given; left out: it is not known, and might be any.
    """
    argument = PeerArguments.__dataclass_fields__.get(name)
    if argument is None:
        return REPLACED_ARGUMENTS.get(name)
    if value and value[0] in argument.metadata["alike"]:
        return None
    instead: str | None = argument.metadata.get("instead")
    return instead


def require_supported(kind: Any, values: Mapping[str, Any]) -> None:
    """Refuse names that a class of arguments has not, and values that it cannot honour, at once.

    Raises:
        KeywordError: a name among them.
        UsageError: values alone.
    """
    known = [each.name for each in fields(kind)]
    unknown = {
        name: REPLACED_ARGUMENTS.get(name) or _instead_of_older(name) or _nearest(name, known)
        for name in values
        if name not in known
    }
    refused = {
        f"{name}={value!r}": instead
        for name, value in values.items()
        if name in known and (instead := instead_of_argument(name, value)) is not None
    }
    refuse_arguments(kind.__name__, unknown, refused)


def _instead_of_older(name: str) -> str:
    """What to write for an older name that could not be read as the one of today."""
    if name not in OLDER_ARGUMENTS:
        return ""
    today = OLDER_ARGUMENTS[name][0]
    share = " (a value below 1 is a share of all steps)" if name == "warmup_ratio" else ""
    return f"use {today}{share}, and that alone"


def refuse_arguments(
    owner: str, unknown: Mapping[str, str], refused: Mapping[str, str] | None = None
) -> None:
    """Raise one error for all names that a call has not, and all values that it does not support.

    Args:
        owner: what is called.
        unknown: by name, what to write instead.
        refused: the same, by name and value.

    Raises:
        KeywordError: a name among them.
        UsageError: values alone.
    """
    refused = refused or {}
    advice = {**unknown, **refused}
    kind = KeywordError if unknown else UsageError
    if len(advice) == 1:
        (name, fix) = next(iter(advice.items()))
        what = f"has no argument {name!r}" if unknown else f"does not support {name}"
        raise kind(f"{owner} {what}", fix=fix)
    if advice:
        lines = [f"{name}: {instead}" for name, instead in advice.items()]
        raise kind(
            f"{owner} cannot take {len(advice)} of its arguments: {', '.join(advice)}",
            fix="\n       ".join(lines),
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    acting = [each for each in known if each not in PeerArguments.__dataclass_fields__]
    close = nearest(name, acting)
    return f"use {close}" if close else f"the arguments are {', '.join(acting)}"


def tell_renamed(lines: Sequence[str]) -> None:
    """Say in one line what older arguments were read as; the first process says it."""
    if lines and os.environ.get("RANK", "0") == "0":
        info(f"TrainingArguments: {'; '.join(lines)}")


def tell_taken(arguments: Any) -> None:
    """Name in one line what was given and changes nothing here; the first process says it."""
    names = [
        each.name
        for each in fields(arguments)
        if is_peers(each)
        and each.name != "local_rank"  # that torchrun's forerunner gave to every program
        and getattr(arguments, each.name) not in each.metadata["alike"]
    ]
    if names and os.environ.get("RANK", "0") == "0":
        info(f"TrainingArguments: {', '.join(names)} taken, and without effect here")
