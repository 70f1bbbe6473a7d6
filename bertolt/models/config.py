"""`BertConfig`: the shape of a model, under the names that `config.json` uses.

The configs of other families are subclasses, in `bertolt.models.families`.

Nothing heavy is imported here, so that reading a configuration costs nothing.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from bertolt.base.checks import are_texts, is_whole
from bertolt.base.console import info
from bertolt.base.errors import CheckpointError, ConfigError, KeywordError, UsageError, nearest
from bertolt.base.files import write_text
from bertolt.base.hub import find_folder
from bertolt.base.json_files import JsonError, read_json
from bertolt.base.options import at_least, between, check_options, share
from bertolt.base.paths import has_file
from bertolt.models.peer_names import NOTES, one_of, take_loading

Precision = Literal["auto", "fp32", "bf16"]
AnswerPrecision = Literal["auto", "fp32", "bf16", "int8"]
EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
# Keys of a `config.json` that would change the numbers, and the only value they may have.
_ONLY = {"position_embedding_type": "absolute"}
Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
_LABELS = ("label2id", "num_labels")
# Beyond these no machine could build the model, and trying would never end.
SIZE = between(1, 2**31)
_LAYERS = between(1, 10_000)
_SHARE = share(0.1, zero=True, one=True)


class _ByName(type):
    """Lets a config be built with labels under each of their names, and names unknown arguments."""

    def __call__(cls, **values: Any) -> Any:
        """An instance of these fields."""
        known = _field_names(cls)
        values = _with_labels(values)
        if notes := {name: values.pop(name) for name in NOTES if name in values}:
            values["extra"] = {**values.get("extra", {}), **notes}
        unknown = [name for name in values if name not in known]
        if unknown:
            advice = [_instead(name, known) for name in unknown]
            if len(unknown) > 1:
                advice = [f"{name}: {what}" for name, what in zip(unknown, advice, strict=True)]
            raise KeywordError(
                f"{cls.__name__} has no field {', '.join(map(repr, unknown))}",
                fix="\n       ".join(filter(None, advice)),
                place="config",
            )
        return super().__call__(**values)


@dataclass(kw_only=True)
class BertConfig(metaclass=_ByName):
    """The shape of a BERT encoder, under the names that `config.json` uses.

    Keys of a file that are not listed here are kept in `extra` and written back unchanged; so is an
    attribute that is set later. `num_labels=` or `label2id=` may be given in place of `id2label=`.

    Raises:
        CheckpointError: a size that cannot be (heads that do not divide the hidden size, …).
        UsageError: a name that is no field, or labels that contradict each other.
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
        self.check()
        object.__setattr__(self, "_whole", True)

    def check(self) -> None:
        """Hold all fields against their ranges and each other, as a model that is built does.

        Raises:
            CheckpointError: one that cannot be.
        """
        check_options(self, shown=str, place="config", error=ConfigError)
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

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field, or keep a note of the user's own under `extra`.

        Raises:
            CheckpointError: a value out of the field's range.
        """
        if name == "id2label":
            value = _checked_labels(value)
        if hasattr(type(self), name) or name in _field_names(type(self)):
            before = vars(self).get(name)
            object.__setattr__(self, name, value)
            if "_whole" in vars(self) and name in _field_names(type(self)):
                self._require_possible(name, before)
            return
        self.extra[name] = value
        known = [*_field_names(type(self)), *_LABELS]
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            info(f"config: {name!r} is no field, and kept as a note; did you mean {close[0]!r}?")

    def _require_possible(self, name: str, before: Any) -> None:
        """Take a field's new value back if it is out of its range."""
        try:
            check_options(self, shown=str, place="config", error=CheckpointError, only=name)
        except CheckpointError:
            object.__setattr__(self, name, before)
            raise

    def __getattr__(self, name: str) -> Any:
        extra = vars(self).get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    @property
    def num_labels(self) -> int:
        """C, the number of classes (or of regression targets)."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if not is_whole(count) or count < 1:
            raise _unfit(f"num_labels is {count!r}", "give a whole number, 1 or more")
        if count != len(self.id2label):
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}

    @property
    def label2id(self) -> dict[str, int]:
        """Label names to their class index."""
        return {name: index for index, name in self.id2label.items()}

    @label2id.setter
    def label2id(self, indices: dict[str, int]) -> None:
        self.id2label = _names_by_index(indices)

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
        indices, count = extra.pop("label2id", None), extra.pop("num_labels", None)
        if "id2label" not in named:
            labels = {"label2id": indices} if indices else {"num_labels": count}
            named.update({name: value for name, value in labels.items() if value is not None})
        return cls(**named, extra=extra)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str] | None = None,
        *,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        **changes: Any,
    ) -> Self:
        """Read `config.json` from a model folder, or of a model on the hub.

        Args:
            directory, pretrained_model_name_or_path: the folder, the file itself, or the id of a
                model on the hub.
            revision: a branch, tag or commit on the hub.
            cache_dir: the hub's cache, when not the usual one.
            local_files_only: take only what the cache has.
            changes: fields to set, as in `changed`; and what else the peer's takes, which is said
                where it changes nothing.

        Raises:
            CheckpointError: there is no such file, it is not JSON, or it is of another family.
            UsageError: a name that is no field of the config, an argument that is not supported.
        """
        directory = one_of(directory, pretrained_model_name_or_path)
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        hub |= take_loading(changes)
        path = Path(directory)
        if not path.is_file():
            path = find_folder(directory, ["config.json"], hub) / "config.json"
        return cls.from_json_file(path).changed(**changes)

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
        return replace(self, **_with_labels(changes, self))

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

    def to_json_string(self) -> str:
        """The text of a `config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_json_file(self, path: str | os.PathLike[str]) -> None:
        """Write the text of a `config.json` under whatever name, whole or not at all.

        Raises:
            CheckpointError: fields that cannot be.
        """
        self.check()
        write_text(Path(path), self.to_json_string())

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `config.json` into `directory`, whole or not at all.

        Raises:
            CheckpointError: fields that cannot be.
        """
        self.to_json_file(Path(directory) / "config.json")

    def update(self, values: dict[str, Any]) -> None:
        """Set several fields, or notes of the user's own.

        Raises:
            CheckpointError: a value out of its field's range.
        """
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def use_return_dict(self) -> bool:
        """Whether outputs have names, which a `forward` of one's own may ask for."""
        return bool(self.extra.get("return_dict", True))


def _field_names(kind: type) -> list[str]:
    return list(kind.__dataclass_fields__)  # type: ignore[attr-defined]


def _instead(name: str, known: list[str]) -> str:
    """What to write in place of a name that is no field."""
    if name in ("dtype", "torch_dtype"):
        return 'the number format is no field: from_pretrained(folder, dtype="bfloat16")'
    close = nearest(name, [*known, "num_labels", "label2id"])
    if close:
        return f"did you mean {close!r}?"
    return f"leave it out, or note it in the config afterwards: config.{name} = …"


def _with_labels(values: dict[str, Any], before: BertConfig | None = None) -> dict[str, Any]:
    """The same fields, with `id2label` in place of `label2id` and `num_labels`.

    Raises:
        CheckpointError: labels or a number of them that cannot be.
        UsageError: they contradict each other.
    """
    indices, count = values.get("label2id"), values.get("num_labels")
    if indices is None and count is None:
        return {name: value for name, value in values.items() if name not in _LABELS}
    labels = values.get("id2label")
    if indices is not None:
        named = _names_by_index(indices)
        if labels is not None and _checked_labels(labels) != named:
            raise UsageError(
                f"id2label is {labels!r} and label2id {indices!r}", fix="give one of the two"
            )
        labels = named
    if count is not None and (not is_whole(count) or count < 1):
        raise _unfit(f"num_labels is {count!r}", "give a whole number, 1 or more")
    if count is not None and labels is not None and len(labels) != count:
        raise UsageError(
            f"num_labels is {count}, and there are {len(labels)} names", fix="leave num_labels out"
        )
    if labels is None and before is not None and len(before.id2label) == count:
        labels = before.id2label
    if labels is None:
        labels = {index: f"LABEL_{index}" for index in range(count or 0)}
    return {**{n: v for n, v in values.items() if n not in _LABELS}, "id2label": labels}


def _names_by_index(label2id: Any) -> dict[int, str]:
    """The names of labels by their indices.

    Raises:
        CheckpointError: it is no mapping, or two names have one index.
    """
    try:
        names = {index: name for name, index in label2id.items()}
    except (AttributeError, TypeError) as error:
        raise _unfit(f"label2id is {label2id!r}", 'write it as {"name": 0, …}') from error
    if len(names) < len(label2id):
        raise _unfit(f"label2id has one index twice: {label2id!r}", "give each name its own")
    return _checked_labels(names)


def _unfit(problem: str, fix: str) -> ConfigError:
    return ConfigError(problem, place="config", fix=fix)


def _what_to_name(folder: Path) -> str:
    """What to do about a folder without a config, which another library may have written."""
    if has_file(folder / "adapter_config.json"):
        return (
            "it is an adapter of PEFT: merge it into its model there (merge_and_unload), save that"
        )
    inner = sorted(each.parent for each in folder.glob("*/config.json"))
    if inner:
        return f"it has a model inside: {inner[0]}"
    return "name a folder that holds config.json and model.safetensors"


def read_values(path: Path) -> dict[str, Any]:
    """The content of a `config.json`.

    Raises:
        CheckpointError: there is no such file, or it is none, or it holds no JSON object.
    """
    if not has_file(path):
        raise CheckpointError(
            "there is no config.json here",
            place=str(path.parent),
            fix=_what_to_name(path.parent),
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
        raise _unfit(f"id2label is {id2label!r}", 'write it as {"0": "name", …}') from error
    if not labels:
        raise _unfit("id2label is empty", "name 1 class or more")
    if sorted(labels) != list(range(len(labels))):
        raise _unfit(f"id2label has the keys {sorted(labels)}", "number them from 0 on")
    return dict(sorted(labels.items()))
