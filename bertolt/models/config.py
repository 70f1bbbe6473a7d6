"""`BertConfig`: the shape of a model, under the names that `config.json` uses.

The configs of other families are subclasses, in `bertolt.models.families`.

Nothing heavy is imported here, so that reading a configuration costs nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from bertolt.base.checks import are_texts, is_whole
from bertolt.base.errors import CheckpointError, UsageError, meant
from bertolt.base.files import write_text
from bertolt.base.json_files import JsonError, read_json
from bertolt.base.options import at_least, between, check_options, share
from bertolt.base.paths import has_file

Precision = Literal["auto", "fp32", "bf16"]
AnswerPrecision = Literal["auto", "fp32", "bf16", "int8"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
# Keys of a `config.json` that would change the numbers, and the only value they may have.
_ONLY = {"position_embedding_type": "absolute"}
Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
# Beyond these no machine could build the model, and trying would never end.
SIZE = between(1, 2**31)
_LAYERS = between(1, 10_000)
_SHARE = share(0.1, zero=True, one=True)


@dataclass(kw_only=True)
class BertConfig:
    """The shape of a BERT encoder, under the names that `config.json` uses.

    Keys of a file that are not listed here are kept in `extra` and written back unchanged.

    Raises:
        CheckpointError: a size that cannot be (heads that do not divide the hidden size, …).
    """

    vocab_size: int = field(default=30522, metadata=SIZE)
    hidden_size: int = field(default=768, metadata=SIZE)
    num_hidden_layers: int = field(default=12, metadata=_LAYERS)
    num_attention_heads: int = field(default=12, metadata=SIZE)
    intermediate_size: int = field(default=3072, metadata=SIZE)
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = field(default=0.1, metadata=_SHARE)
    attention_probs_dropout_prob: float = field(default=0.1, metadata=_SHARE)
    max_position_embeddings: int = field(default=512, metadata=SIZE)
    type_vocab_size: int = field(default=2, metadata=SIZE)
    initializer_range: float = field(default=0.02, metadata=_SHARE)
    layer_norm_eps: float = field(default=1e-12, metadata=_SHARE)
    pad_token_id: int = field(default=0, metadata=at_least(0))
    classifier_dropout: float | None = field(default=None, metadata=_SHARE)
    problem_type: ProblemType | None = None
    id2label: dict[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})
    tie_word_embeddings: bool = True
    is_decoder: bool = False
    add_cross_attention: bool = False
    output_hidden_states: bool = False
    output_attentions: bool = False
    architectures: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    model_type: ClassVar[str] = "bert"

    def __post_init__(self) -> None:
        # Labels are checked by themselves: files write their numbers as texts.
        self.id2label = _checked_labels(self.id2label)
        check_options(self, shown=str, place="config", error=CheckpointError)
        if self.hidden_size % self.num_attention_heads:
            raise _unfit(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}",
                "choose a hidden size that the heads divide",
            )
        for name, expected in _ONLY.items():
            if self.extra.get(name, expected) != expected:
                raise _unfit(
                    f"{name} is {self.extra[name]!r}, and only {expected!r} is supported",
                    "choose a BERT encoder",
                )
        if self.add_cross_attention and not self.is_decoder:
            raise _unfit(
                "add_cross_attention is set, and the model is no decoder",
                "set is_decoder=True as well",
            )
        if self.max_tokens < 1:
            raise _unfit(
                f"max_position_embeddings is {self.max_position_embeddings}, and the first "
                f"{self.position_offset} rows are not for texts",
                f"give {self.position_offset + 1} or more",
            )
        if self.pad_token_id >= self.vocab_size:
            raise _unfit(
                f"pad_token_id {self.pad_token_id!r} is not in the vocabulary of {self.vocab_size}",
                f"give an id of the vocabulary, a whole number below {self.vocab_size}",
            )
        if not are_texts(self.architectures):
            raise _unfit(
                f"architectures is {self.architectures!r}",
                'give a list of class names, as ["BertForMaskedLM"]',
            )

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

    @property
    def position_offset(self) -> int:
        """The row of the position table that the first token of a text has."""
        return 0

    @property
    def max_tokens(self) -> int:
        """The longest text that the position table has rows for."""
        return self.max_position_embeddings - self.position_offset

    @classmethod
    def from_dict(cls, values: dict[str, Any], path: str | os.PathLike[str] | None = None) -> Self:
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
    def _from_dict(cls, values: dict[str, Any]) -> Self:
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
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Self:
        """Read `config.json` from a model folder.

        Raises:
            CheckpointError: there is no such file, it is not JSON, or it is of another family.
        """
        return cls.from_json_file(Path(directory) / "config.json")

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `config.json` under whatever name.

        Raises:
            CheckpointError: there is no such file, it is not JSON, or it is of another family.
        """
        values = read_values(Path(path))
        if (model_type := values.get("model_type", "bert")) != cls.model_type:
            raise CheckpointError(
                f"model_type is {model_type!r}, and a {cls.model_type!r} model is needed here",
                place=str(path),
                fix=f"choose a checkpoint whose model_type is {cls.model_type!r}",
            )
        return cls.from_dict(values, path)

    def changed(self, **changes: Any) -> Self:
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
                    f"{type(self).__name__} has no field {name!r}",
                    fix=meant(name, known),
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


def _unfit(problem: str, fix: str) -> CheckpointError:
    return CheckpointError(problem, place="config", fix=fix)


def read_values(path: Path) -> dict[str, Any]:
    """The content of a `config.json`.

    Raises:
        CheckpointError: there is no such file, or it is none, or it holds no JSON object.
    """
    if not has_file(path):
        raise CheckpointError(
            "there is no config.json here",
            place=str(path.parent),
            fix="name a folder that holds config.json and model.safetensors",
        )
    try:
        values = read_json(path)
    except JsonError as error:
        raise CheckpointError(
            f"not readable as JSON ({error})", place=str(path), fix="fetch the model again"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"it holds a {type(values).__name__}, and an object is needed",
            place=str(path),
            fix="fetch the model again",
        )
    return values


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
