"""What a family of encoders is, which families there are, and which of them a config is of.

A family is one file: its config, its backbone, and the classes that stand on it. The heads
themselves are in `bertolt.models.heads` and `word_heads`, and know no family; a family's class
gives a head its name and, where the published weights have another form, its modules and its tied
parameters.

To add a family, write such a file and name it in `FAMILIES`.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertolt.base.errors import CheckpointError, ConfigError
from bertolt.base.hub import find_folder
from bertolt.checkpoint.loadable import Loadable
from bertolt.models.config import BertConfig, read_values
from bertolt.models.peer_names import one_of, take_loading

FAMILIES: dict[str, str] = {
    "bert": "bertolt.models.families.bert",
    "roberta": "bertolt.models.families.roberta",
    "xlm-roberta": "bertolt.models.families.xlm_roberta",
}
"""The module of each family by the `model_type` of its configs; its `FAMILY` is a `Family`.

Modules are named and not imported, because they are built of models that look up their family here.
"""


@dataclass(frozen=True, kw_only=True)
class Family:
    """The encoders of one `model_type`.

    Attributes:
        config: the class of their configs.
        prefix: the attribute in which a head holds its backbone, and what the backbone's keys begin
            with in files.
        classes: the backbone, then the heads.
    """

    config: type[BertConfig]
    prefix: str
    classes: tuple[type[Loadable], ...]

    @property
    def backbone(self) -> type[Loadable]:
        """The class of the encoder without a head."""
        return self.classes[0]

    def class_for(self, kind: type[Loadable]) -> type[Loadable] | None:
        """The class of this family that is such a head; None if the family has none."""
        return next((each for each in self.classes if issubclass(each, kind)), None)

    def counterpart(self, kind: type[Loadable], other: Family) -> type[Loadable] | None:
        """The class of this family that is the same head as a class of another family."""
        for base in kind.__mro__:
            # A base of several heads does not tell which of them is meant.
            is_one_head = sum(issubclass(each, base) for each in other.classes) == 1
            if is_one_head and (fitting := self.class_for(base)):
                return fitting
        return None


def family_of(model_type: object) -> Family:
    """The family of a `model_type`.

    Raises:
        CheckpointError: there is no such family here.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"model_type is {model_type!r}, and this library builds {listed()} models",
            place="config",
            fix=f"choose a checkpoint of {listed()}",
        )
    family: Family = importlib.import_module(FAMILIES[model_type]).FAMILY
    return family


def listed() -> str:
    """The names of all families, for a message."""
    *most, last = map(repr, FAMILIES)
    return f"{', '.join(most)} or {last}" if most else last


def read_config(directory: str | os.PathLike[str]) -> BertConfig:
    """Read `config.json` from a model folder of any family.

    Raises:
        CheckpointError: there is no such file, it is not JSON, or no family here reads it.
    """
    path = Path(directory) / "config.json"
    values = read_values(path)
    try:
        family = family_of(values.get("model_type", BertConfig.model_type))
    except CheckpointError as error:
        raise CheckpointError(error.problem, place=str(path), fix=error.fix) from error
    return family.config.from_dict(values, path)


class AutoConfig:
    """The config of whichever family a folder is of."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        **changes: Any,
    ) -> BertConfig:
        """Read `config.json` from a model folder, or of a model on the hub.

        Args:
            name_or_path, pretrained_model_name_or_path: the folder, or the id of a model on the
                hub.
            revision, cache_dir, local_files_only: as of `PreTrainedModel.from_pretrained`.
            changes: fields to set, such as `num_labels=3`; and what else the peer's takes, which is
                said where it changes nothing.

        Raises:
            CheckpointError: nothing there, or no family here reads it.
            UsageError: a name that is no field of the config.
        """
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        hub |= take_loading(changes)
        name = one_of(name_or_path, pretrained_model_name_or_path)
        return read_config(find_folder(name, ["config.json"], hub)).changed(**changes)

    @classmethod
    def for_model(cls, model_type: str, **fields: Any) -> BertConfig:
        """A config of the family `model_type`, with fields other than its usual ones.

        Raises:
            CheckpointError: there is no such family here, or a value that cannot be.
            UsageError: a name that is no field of the config.
        """
        return family_of(model_type).config(**fields)


def saved_class(config: BertConfig) -> type[Loadable]:
    """The class that a config was saved from; the backbone if it names none that is known."""
    family = family_of(config.model_type)
    by_name = {each.__name__: each for each in family.classes}
    named = (by_name[name] for name in config.architectures if name in by_name)
    return next(named, family.backbone)
