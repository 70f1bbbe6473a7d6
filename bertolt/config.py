"""What a user sets: `BertConfig` for a model, `TrainingArguments` for the Trainer,
`FinetuneOptions` for the command.

Nothing heavy is imported here, so that reading a configuration costs nothing.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from bertolt.elsewhere import ELSEWHERE
from bertolt.errors import CheckpointError, UsageError, nearest
from bertolt.files import write_text

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
PROBLEM_TYPES: tuple[str, ...] = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
# Keys of a `config.json` that would change the numbers, and the only value they may have.
_ONLY = {"position_embedding_type": "absolute"}
_NUMBERS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "initializer_range",
    "layer_norm_eps",
)
_SWITCHES = (
    "tie_word_embeddings",
    "is_decoder",
    "add_cross_attention",
    "output_hidden_states",
    "output_attentions",
)
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
ACTIVATIONS: tuple[str, ...] = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")


@dataclass(kw_only=True)
class BertConfig:
    """The shape of a BERT encoder, under the names that `config.json` uses.

    Keys of a file that are not listed here are kept in `extra` and written back unchanged.

    Raises:
        CheckpointError: a size that cannot be (heads that do not divide the hidden size, …).
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    classifier_dropout: float | None = None
    problem_type: ProblemType | None = None
    id2label: dict[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})
    tie_word_embeddings: bool = True
    is_decoder: bool = False
    add_cross_attention: bool = False
    output_hidden_states: bool = False
    output_attentions: bool = False
    architectures: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    model_type = "bert"

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise CheckpointError(
                    f"{name} is {value!r}", place="config", fix="give a whole number, 1 or more"
                )
        for name in _NUMBERS:
            value = getattr(self, name)
            if name == "classifier_dropout" and value is None:
                continue
            if not (is_whole(value) or isinstance(value, float)) or not 0 <= value <= 1:
                raise CheckpointError(
                    f"{name} is {value!r}", place="config", fix="give a number from 0 to 1"
                )
        for name in _SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise CheckpointError(
                    f"{name} is {value!r}", place="config", fix="give true or false"
                )
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}",
                place="config",
                fix="choose a hidden size that the heads divide",
            )
        if self.hidden_act not in ACTIVATIONS:
            raise CheckpointError(
                f"hidden_act {self.hidden_act!r} is not known",
                place="config",
                fix=f"use one of {', '.join(ACTIVATIONS)}",
            )
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise CheckpointError(
                f"problem_type {self.problem_type!r} is not known",
                place="config",
                fix=f"use one of {', '.join(PROBLEM_TYPES)}",
            )
        for name, expected in _ONLY.items():
            if self.extra.get(name, expected) != expected:
                raise CheckpointError(
                    f"{name} is {self.extra[name]!r}, and only {expected!r} is supported",
                    place="config",
                    fix="choose a BERT encoder",
                )
        if self.add_cross_attention and not self.is_decoder:
            raise CheckpointError(
                "add_cross_attention is set, and the model is no decoder",
                place="config",
                fix="set is_decoder=True as well",
            )
        if not is_whole(self.pad_token_id) or not 0 <= self.pad_token_id < self.vocab_size:
            raise CheckpointError(
                f"pad_token_id {self.pad_token_id!r} is not in the vocabulary of {self.vocab_size}",
                place="config",
                fix=f"give an id of the vocabulary, a whole number below {self.vocab_size}",
            )
        if not are_texts(self.architectures):
            raise CheckpointError(
                f"architectures is {self.architectures!r}",
                place="config",
                fix='give a list of class names, as ["BertForMaskedLM"]',
            )
        self.id2label = _checked_labels(self.id2label)

    @property
    def num_labels(self) -> int:
        """C, the number of classes (or of regression targets)."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if not is_whole(count) or count < 1:
            raise CheckpointError(
                f"num_labels is {count!r}", place="config", fix="give a whole number, 1 or more"
            )
        if count != len(self.id2label):
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}

    @property
    def label2id(self) -> dict[str, int]:
        """Label names to their class index."""
        return {name: index for index, name in self.id2label.items()}

    @property
    def head_size(self) -> int:
        """D, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(
        cls, values: dict[str, Any], path: str | os.PathLike[str] | None = None
    ) -> BertConfig:
        """Build a config from the content of a `config.json`; `path` is where errors say it is.

        Raises:
            CheckpointError: a value of the wrong type, or one that cannot be.
        """
        try:
            return cls._from_dict(values)
        except CheckpointError as error:
            place = error.place if path is None else str(path)
            raise CheckpointError(error.problem, place=place, fix=error.fix) from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> BertConfig:
        known = {f.name for f in fields(cls)} - {"extra"}
        named = {key: value for key, value in values.items() if key in known and value is not None}
        extra = {key: value for key, value in values.items() if key not in known}
        extra.pop("label2id", None)
        count = extra.pop("num_labels", None)
        config = cls(**named, extra=extra)
        if count is not None and "id2label" not in named:
            config.num_labels = count
        return config

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> BertConfig:
        """Read `config.json` from a model folder.

        Raises:
            CheckpointError: there is no such file, it is not JSON, or it is not a BERT's.
        """
        path = Path(directory) / "config.json"
        if not path.is_file():
            raise CheckpointError(
                "there is no config.json here",
                place=str(directory),
                fix="name a folder that holds config.json and model.safetensors",
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"not readable as JSON ({error})", place=str(path), fix="fetch the model again"
            ) from error
        if not isinstance(values, dict) or values.get("model_type", "bert") != cls.model_type:
            found = values.get("model_type") if isinstance(values, dict) else type(values).__name__
            raise CheckpointError(
                f"model_type is {found!r}, and this library builds 'bert' models",
                place=str(path),
                fix="choose a BERT checkpoint",
            )
        return cls.from_dict(values, path)

    def changed(self, **changes: Any) -> BertConfig:
        """A copy with some fields set; `num_labels=` and `label2id=` are understood as well.

        Raises:
            UsageError: a name that is no field of the config.
        """
        if "label2id" in changes:
            label2id = changes.pop("label2id")
            changes.setdefault("id2label", {index: name for name, index in label2id.items()})
        count = changes.pop("num_labels", None)
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(
                    f"BertConfig has no field {name!r}",
                    fix=f"did you mean {nearest(name, known)!r}?" if nearest(name, known) else "",
                )
        config = replace(self, **changes)
        if count is not None:
            config.num_labels = count
        return config

    def to_dict(self) -> dict[str, Any]:
        """The content of a `config.json`, readable by `transformers`."""
        values: dict[str, Any] = dict(self.extra)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "extra" and not (item.name == "problem_type" and value is None):
                values[item.name] = value
        values["id2label"] = {str(index): name for index, name in self.id2label.items()}
        values["label2id"] = self.label2id
        values["model_type"] = self.model_type
        return values

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `config.json` into `directory`, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        write_text(Path(directory) / "config.json", text)


def is_whole(value: object) -> bool:
    """Whether it is a whole number: true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _checked_labels(id2label: Any) -> dict[int, str]:
    try:
        labels = {int(key): str(name) for key, name in id2label.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"id2label is {id2label!r}", place="config", fix='write it as {"0": "name", …}'
        ) from error
    if not labels:
        raise CheckpointError("id2label is empty", place="config", fix="name 1 class or more")
    if sorted(labels) != list(range(len(labels))):
        raise CheckpointError(
            f"id2label has the keys {sorted(labels)}", place="config", fix="number them from 0 on"
        )
    return dict(sorted(labels.items()))


Precision = Literal["auto", "fp32", "bf16"]
AnswerPrecision = Literal["auto", "fp32", "bf16", "int8"]
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


DECIDING = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "train_sampling_strategy",
    "seed",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
)
"""Arguments that decide the result: a run that is resumed has to have the same."""


@dataclass(kw_only=True)
class TrainingArguments:
    """Settings of a training run, under the names that the peer's `TrainingArguments` has.

    Raises:
        UsageError: a value out of its range; the message names the argument.
    """

    output_dir: str = field(default="out", kw_only=False)
    """Folder for the model, its metrics and its report."""
    num_train_epochs: float = 3.0
    """Passes over the training rows."""
    max_steps: int = -1
    """Stop after this many steps, whatever the epochs say; -1: no such limit."""
    per_device_train_batch_size: int = 8
    """Texts in one training step, for each process."""
    per_device_eval_batch_size: int = 8
    """Texts whose tokens, at full length, bound one evaluation batch."""
    gradient_accumulation_steps: int = 1
    """Batches that make one optimizer step; together they act as one large batch."""
    learning_rate: float = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.0
    """Decay of all weights but biases and layer norms."""
    adam_beta1: float = 0.9
    """First moment's decay."""
    adam_beta2: float = 0.999
    """Second moment's decay."""
    adam_epsilon: float = 1e-8
    """Added to the second moment's root."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0: not clipped."""
    gradient_checkpointing: bool = False
    """Keep less for the backward pass and compute it again there: less memory, more time."""
    fsdp: bool = False
    """Split weights, gradients and optimizer over the processes that torchrun starts (FSDP2)."""
    lr_scheduler_type: str = "linear"
    """Shape of the learning rate's course after warmup."""
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    """Extra settings of that shape."""
    warmup_steps: float = 0
    """Steps of linear warmup; a value below 1 is a share of all steps."""
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = "random"
    """Order of the training rows."""
    eval_strategy: Literal["no", "epoch", "steps"] = "no"
    """When to evaluate while training."""
    eval_steps: int = 500
    """Steps between evaluations when eval_strategy is "steps"."""
    logging_steps: int = 10
    """Steps between entries of the log."""
    seed: int = 42
    """Seed of the order and of dropout."""
    bf16: bool | None = None
    """bfloat16 on or off; None: as `precision` says."""
    precision: Precision = "auto"
    """"auto" takes bfloat16 where a short measurement finds it faster."""
    use_cpu: bool = False
    """Stay on the CPU although a GPU is there."""
    disable_tqdm: bool = False
    """Show no progress."""
    report_to: str | list[str] = "none"
    """Trackers; only "none" so far."""
    save_strategy: Literal["no", "steps", "epoch"] = "no"
    """When to write a checkpoint, a folder `checkpoint-STEP` in `output_dir`."""
    save_steps: int = 500
    """Steps between checkpoints when save_strategy is "steps"."""
    save_total_limit: int | None = None
    """Newest checkpoints to keep; None: all."""
    load_best_model_at_end: bool = False
    """End with the weights of the best evaluation, whose checkpoint is kept."""
    metric_for_best_model: str | None = None
    """What the best evaluation is chosen by; None: "loss"."""
    greater_is_better: bool | None = None
    """Whether more of that is better; None: unless its name ends in "loss"."""
    resume_from_checkpoint: bool | str | None = None
    """Checkpoint to go on from; True: the last whole one in `output_dir`."""

    def __post_init__(self) -> None:
        for name in (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "eval_steps",
            "logging_steps",
            "save_steps",
        ):
            value = getattr(self, name)
            _require(self, name, isinstance(value, int) and value >= 1, "at least 1")
        for name in ("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "seed"):
            _require(self, name, _is_number(getattr(self, name)), "0 or more")
        for name, annotation in get_type_hints(type(self)).items():
            if get_origin(annotation) is Literal:
                choices = get_args(annotation)
                words = " or ".join(map(repr, choices))
                _require(self, name, getattr(self, name) in choices, words)
        measured = self.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
        _require(self, "lr_scheduler_type", not measured, "a schedule that goes by the step alone")
        _require(self, "report_to", self.report_to in ("none", None, [], ["none"]), "'none'")
        epochs = self.num_train_epochs
        _require(self, "num_train_epochs", _is_number(epochs) and epochs > 0, "above 0")
        _require(self, "max_steps", isinstance(self.max_steps, int), "a whole number")
        limit = self.save_total_limit
        _require(self, "save_total_limit", limit is None or limit >= 1, "None or at least 1")
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
                    f"TrainingArguments has no argument {name!r}", fix=ELSEWHERE.get(name, hint)
                )
        return super().__new__(cls)

    def count_warmup(self, total_steps: int) -> int:
        """Warmup in steps: `warmup_steps` itself, or that share of `total_steps`, rounded up."""
        if 0 < self.warmup_steps < 1:
            return math.ceil(total_steps * self.warmup_steps)
        return int(self.warmup_steps)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """Settings of `finetune`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    model: str | None = None
    """Pretrained model: a folder, or an id on the hub. Default: the demo's, if it is installed."""
    text: str | None = None
    """Column of the texts. Default: found by its name."""
    label: str | None = None
    """Column of the labels. Default: found by its name."""
    eval: Path | None = None
    """File with the rows to evaluate on, instead of holding some out."""
    test_size: float = 0.2
    """Share of the rows to hold out for the evaluation."""
    epochs: float = 3.0
    """Passes over the training rows."""
    batch_size: int = 32
    """Texts in one training step, over all processes."""
    lr: float = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decay of all weights but biases and layer norms."""
    warmup: float = 0.1
    """Warmup: a share of all steps if below 1, else steps."""
    schedule: Schedule = "linear"
    """Course of the learning rate after warmup."""
    order: Literal["random", "group_by_length"] = "random"
    """Order of the training rows."""
    max_length: int | None = None
    """Most tokens of a text. Default: all that the model's position table has."""
    shard: bool = False
    """Started by torchrun: split weights, gradients and optimizer over the processes (FSDP2)."""
    seed: int = 42
    """Seed of the new head, the order and dropout."""
    split_seed: int = 42
    """Seed of which rows are held out."""
    precision: Precision = "auto"
    """Number format: auto measures whether bfloat16 is faster here."""
    on_bad_row: Literal["drop", "error"] = "drop"
    """What to do with a row that cannot be used."""
    encoding: str = "utf-8"
    """Encoding of the text files."""
    out: Path = Path("out")
    """Folder for the model, its metrics and its report."""
    overwrite: bool = False
    """Replace what an earlier run left in that folder."""
    save_every: int | None = None
    """Steps between checkpoints, in OUT.checkpoints beside --out. SIGTERM always writes one."""
    keep: int | Literal["best"] = 2
    """Newest checkpoints to keep; best: one, and that of the lowest loss, which is the result."""
    resume: bool = False
    """Go on from the last whole checkpoint; from the start if there is none yet."""
    keep_checkpoints: bool = False
    """Leave OUT.checkpoints there when the run is complete."""

    def __post_init__(self) -> None:
        for name, fine, allowed in (
            ("test_size", 0 < self.test_size < 1, "a share between 0 and 1, as 0.2"),
            ("epochs", 0 < self.epochs < math.inf, "a number above 0"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("lr", 0 <= self.lr < math.inf, "0 or more"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warmup", 0 <= self.warmup < math.inf, "0 or more"),
            ("seed", self.seed >= 0, "0 or more"),
            ("split_seed", self.split_seed >= 0, "0 or more"),
            ("save_every", self.save_every is None or self.save_every >= 1, "1 or more"),
            ("keep", self.keep == "best" or self.keep >= 1, "1 or more, or best"),
        ):
            if not fine:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {getattr(self, name):g}", fix=f"give {allowed}")
        if self.schedule not in get_args(Schedule):
            raise UsageError(
                f"--schedule is {self.schedule!r}", fix=f"use {', '.join(get_args(Schedule))}"
            )

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints: beside `out`, which only appears when the run has ended."""
        return self.out.with_name(f"{self.out.name}.checkpoints")

    def training_arguments(self) -> TrainingArguments:
        """The same, as the Trainer takes it."""
        best = self.keep == "best"
        save_strategy: Literal["no", "steps", "epoch"] = "epoch" if best else "no"
        return TrainingArguments(
            output_dir=str(self.out),
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.batch_size,
            learning_rate=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup,
            lr_scheduler_type=self.schedule,
            train_sampling_strategy=self.order,
            fsdp=self.shard,
            seed=self.seed,
            precision=self.precision,
            eval_strategy="epoch",
            save_strategy=save_strategy if self.save_every is None else "steps",
            save_steps=self.save_every or 500,
            save_total_limit=1 if self.keep == "best" else self.keep,
            load_best_model_at_end=best,
        )


def _is_number(value: object) -> bool:
    """Whether it is one, finite and not below 0; a text or None is none."""
    return isinstance(value, int | float) and 0 <= value < math.inf


def _require(owner: object, name: str, fine: bool, allowed: str) -> None:
    if not fine:
        raise UsageError(
            f"{name} is {getattr(owner, name)!r}, and must be {allowed}",
            place=type(owner).__name__,
        )
