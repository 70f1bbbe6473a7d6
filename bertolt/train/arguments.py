"""`TrainingArguments`: the settings of a `Trainer`, under the names that the peer uses.

Nothing heavy is imported here, so that reading settings costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bertolt.base.errors import UsageError
from bertolt.base.options import (
    EPOCHS,
    FREE,
    SEED,
    SWITCH,
    above,
    at_least,
    check_options,
    seen_in,
    share,
)
from bertolt.models.config import Precision
from bertolt.train.peer_arguments import (
    PeerArguments,
    is_peers,
    renamed,
    require_supported,
    tell_renamed,
    tell_taken,
)
from bertolt.train.trackers import tracker_names

if TYPE_CHECKING:
    import torch

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


@dataclass(kw_only=True)
class TrainingArguments(PeerArguments):
    """Settings of a training run, under the names that the peer's `TrainingArguments` has.

    A run that is resumed has to have the same as it began with, but for those that are free.
    Arguments of the peer that change nothing here are taken, and one line names them, as older
    names are, such as `evaluation_strategy`, with what they are read as; those that
    would change the result and are not supported are refused, all in one error.

    Raises:
        KeywordError: names that there are not, with the nearest; a UsageError and TypeError.
        UsageError: a value that is not supported, or out of its range; the message names it.
    """

    output_dir: str = field(default="out", kw_only=False, metadata=FREE)
    """Folder for the model, its metrics and its report."""
    num_train_epochs: float = field(default=3.0, metadata=EPOCHS)
    """Passes over the training rows."""
    max_steps: int = -1
    """Stop after this many steps, whatever the epochs say; -1: no such limit."""
    per_device_train_batch_size: int = field(default=8, metadata=at_least(1))
    """Texts in one training step, for each process."""
    per_device_eval_batch_size: int = field(default=8, metadata=at_least(1) | FREE)
    """Texts whose tokens, at full length, bound one evaluation batch."""
    gradient_accumulation_steps: int = field(default=1, metadata=at_least(1))
    """Batches that make one optimizer step; together they act as one large batch."""
    auto_find_batch_size: bool = field(default=False, metadata=FREE)
    """Compute a batch in parts where it does not fit into memory; they make the same step."""
    learning_rate: float = field(default=5e-5, metadata=at_least(0))
    """Peak learning rate of AdamW."""
    weight_decay: float = field(default=0.0, metadata=at_least(0))
    """Decay of all weights but biases and layer norms."""
    layer_decay: float = field(default=1.0, metadata=share(0.9, one=True))
    """Rate of each layer as a share of the rate of the one above it; the head has the peak rate."""
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
    activation_checkpointing: bool | None = field(default=None, metadata=FREE | SWITCH)
    """The same by its newer name."""
    fsdp: Literal[True, False] | str | None = field(default=False, metadata=FREE)
    """Split weights, gradients and optimizer over the processes that torchrun starts (FSDP2);
    "full_shard" is True."""
    lr_scheduler_type: str = "linear"
    """Shape of the learning rate's course after warmup."""
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(default_factory=dict)
    """Extra settings of that shape; a text is read as JSON."""
    warmup_steps: float = field(default=0, metadata=at_least(0))
    """Steps of linear warmup; a value below 1 is a share of all steps."""
    label_smoothing_factor: float = field(default=0.0, metadata=share(0.1, zero=True))
    """Share of each label that is spread over all classes."""
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = "random"
    """Order of the training rows."""
    eval_strategy: Literal["no", "epoch", "steps"] = field(default="no", metadata=FREE)
    """When to evaluate while training."""
    eval_delay: float = field(default=0, metadata=at_least(0) | FREE)
    """No evaluation before so many steps, or epochs if eval_strategy is "epoch"."""
    eval_steps: int = field(default=500, metadata=at_least(1) | FREE)
    """Steps between evaluations if eval_strategy is "steps"; logging_steps, where that is given."""
    logging_steps: int = field(default=10, metadata=at_least(1) | FREE)
    """Steps between entries of the log."""
    logging_strategy: Literal["no", "steps", "epoch"] = field(default="steps", metadata=FREE)
    """When to write an entry: each logging_steps, at the end of each epoch, or never."""
    logging_first_step: bool = field(default=False, metadata=FREE)
    """Write one after the first step too."""
    seed: int = field(default=42, metadata=SEED)
    """Seed of the order, of dropout, and of what rows and collators draw from numpy or Python."""
    data_seed: int | None = field(default=None, metadata=SEED)
    """Seed of the order of the rows; None: `seed`."""
    full_determinism: bool = field(default=False, metadata=FREE)
    """Let torch refuse operations whose results differ from run to run."""
    bf16: bool | None = field(default=None, metadata=seen_in("precision") | SWITCH)
    """bfloat16 on or off; None: as `precision` says."""
    precision: Precision = field(default="auto", metadata=seen_in("precision"))
    """"auto" takes bfloat16 where a short measurement finds it faster."""
    use_cpu: bool = field(default=False, metadata=FREE)
    """Stay on the CPU although a GPU is there."""
    disable_tqdm: bool = field(default=False, metadata=FREE)
    """Show no progress."""
    # The peer's argument parser takes the type that stands second.
    report_to: None | str | list[str] = field(default="none", metadata=FREE)  # noqa: RUF036
    """Trackers to tell, in `output_dir` alone: "tensorboard", "mlflow", "wandb", or several; "all":
    those that are installed."""
    save_strategy: Literal["no", "steps", "epoch", "best"] = field(default="no", metadata=FREE)
    """When to write a checkpoint, a folder `checkpoint-STEP` in `output_dir`; "best": after each
    evaluation that is the best so far."""
    save_steps: int = field(default=500, metadata=at_least(1) | FREE)
    """Steps between checkpoints when save_strategy is "steps"."""
    save_total_limit: int | None = field(default=None, metadata=at_least(1) | FREE)
    """Newest checkpoints to keep; None: all."""
    load_best_model_at_end: bool = False
    """End with the weights of the best evaluation, whose checkpoint is kept."""
    metric_for_best_model: str | None = None
    """What the best evaluation is chosen by; None: "loss"."""
    greater_is_better: bool | None = field(default=None, metadata=SWITCH)
    """Whether more of that is better; None: unless its name ends in "loss"."""
    resume_from_checkpoint: Literal[True, False] | str | None = field(default=None, metadata=FREE)
    """Checkpoint to go on from; True: the last whole one in `output_dir`."""
    label_names: list[str] | None = field(default=None, metadata=FREE)
    """Inputs that are labels, of a model of one's own; None: those of `labels`, `start_positions`
    and `end_positions` that there are."""
    remove_unused_columns: bool = field(default=True, metadata=FREE)
    """Leave out of the rows what the `forward` of a model of one's own does not take."""
    do_train: bool = field(default=False, metadata=FREE)
    """For the program to read, as are the two below: the Trainer does what is called."""
    do_eval: bool = field(default=False, metadata=FREE)
    """True too with another `eval_strategy` than "no"."""
    do_predict: bool = field(default=False, metadata=FREE)
    """Whether the program is to predict."""

    _given: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.output_dir, os.PathLike):
            self.output_dir = os.fspath(self.output_dir)
        if self.is_default("eval_steps") and not self.is_default("logging_steps"):
            self.eval_steps = self.logging_steps
        self.lr_scheduler_kwargs = _options_of(self.lr_scheduler_kwargs)
        self.fsdp = _is_split(self.fsdp)
        self.do_eval = bool(self.do_eval or self.eval_strategy != "no")
        check_options(self, shown=str, place="TrainingArguments")
        measured = self.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
        _require(self, "lr_scheduler_type", not measured, "a schedule that goes by the step alone")
        tracker_names(self.report_to, "report_to")
        if self.load_best_model_at_end:
            for name in ("eval_strategy", "save_strategy"):
                why = 'other than "no" with load_best_model_at_end'
                _require(self, name, getattr(self, name) != "no", why)
        if self.save_strategy == "best":
            _require(
                self, "eval_strategy", self.eval_strategy != "no", 'one with save_strategy="best"'
            )
        if self.bf16 is not None:
            self.precision = "bf16" if self.bf16 else "fp32"
        self.gradient_checkpointing |= bool(self.activation_checkpointing)
        tell_taken(self)

    def __new__(cls, *output_dir: str, **values: Any) -> TrainingArguments:
        """Refuse a name or value that is not supported before `__init__` meets it.

        A subclass with an `__init__` of its own has names of its own: what that hands on is looked
        at then.

        Raises:
            KeywordError, UsageError: as the class says.
        """
        arguments = super().__new__(cls)
        if _made_by_dataclass(cls):
            arguments._take(renamed(values)[0])
        return arguments

    def _take(self, values: Mapping[str, Any]) -> None:
        """Check what was written, and remember its names."""
        require_supported(type(self), values)
        known = fields(self)
        # A parser gives every argument, whether somebody wrote it or not.
        given = {f.name for f in known if f.name in values}
        if len(given) == len(known):
            given = {f.name for f in known if values[f.name] != f.default}
        self._given = frozenset(given)  # type: ignore[misc]

    def is_default(self, name: str) -> bool:
        """Whether an argument was left out when the object was made."""
        return name not in self._given

    def count_warmup(self, total_steps: int) -> int:
        """Warmup in steps: `warmup_steps` itself, or that share of `total_steps`, rounded up."""
        if 0 < self.warmup_steps < 1:
            return math.ceil(total_steps * self.warmup_steps)
        return int(self.warmup_steps)

    get_warmup_steps = count_warmup

    @property
    def schedule_options(self) -> dict[str, Any]:
        """`lr_scheduler_kwargs`, whichever way they were given."""
        options: dict[str, Any] = _options_of(self.lr_scheduler_kwargs)
        return options

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        import torch

        return torch.device("cuda" if torch.cuda.is_available() and not self.use_cpu else "cpu")

    @property
    def n_gpu(self) -> int:
        """GPUs of this process: one, or none."""
        return int(self.device.type == "cuda")

    @property
    def train_batch_size(self) -> int:
        """Texts in one training step of this process."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """As `per_device_eval_batch_size`."""
        return self.per_device_eval_batch_size

    def to_dict(self) -> dict[str, Any]:
        """The arguments that do something here, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not is_peers(f)}

    def to_json_string(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, default=str)


def _made_by_dataclass(kind: type) -> bool:
    """Whether the `__init__` of a class takes its fields and nothing else."""
    owner = next(each for each in kind.__mro__ if "__init__" in vars(each))
    return owner is TrainingArguments or "__dataclass_fields__" in vars(owner)


def _checking(init: Callable[..., None]) -> Callable[..., None]:
    """Let the fields' `__init__` check what a subclass with its own hands on to it."""

    @functools.wraps(init)
    def checked(self: TrainingArguments, *output_dir: str, **values: Any) -> None:
        today, told = renamed(values)
        if not _made_by_dataclass(type(self)):
            self._take(today)
        init(self, *output_dir, **today)
        tell_renamed(told)

    return checked


TrainingArguments.__init__ = _checking(TrainingArguments.__init__)  # type: ignore[method-assign]


def _require(owner: object, name: str, fine: bool, allowed: str) -> None:
    if not fine:
        raise UsageError(
            f"{name} is {getattr(owner, name)!r}", place=type(owner).__name__, fix=f"give {allowed}"
        )


def _options_of(value: Any) -> Any:
    """Options that an argument parser has left as JSON."""
    if value is None:
        return {}
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError):
        return json.loads(value)
    return value


def _is_split(value: Any) -> Any:
    """Whether the peer's word for it asks to split the model."""
    words = {"": False, "false": False, "true": True, "full_shard": True}
    if value is None or value == []:
        return False
    first = value.split(" ")[0].lower() if isinstance(value, str) else value
    return words.get(first, value) if isinstance(first, str) else value
