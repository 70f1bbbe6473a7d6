"""`bertolt.json`: how texts were prepared for a model, shared by all who use it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from bertolt.base.checks import are_texts, is_whole
from bertolt.checkpoint.json_file import JsonFile

FILE = "bertolt.json"


@dataclass(frozen=True, kw_only=True)
class Golden:
    """An example and what the saved model answered to it, for the self-test."""

    example: dict[str, Any]
    answer: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Contract(JsonFile):
    """What evaluation, prediction, export and serving must agree on with training.

    Attributes:
        task: its name.
        columns: of the training file, by role.
        settings: what the task keeps beside the config, as it wrote them.
        max_length: most tokens of a window, special tokens included.
        library_version: the Bertolt that wrote the model.
        long: what is done with longer texts; empty: as the task does.
        golden: a few examples with their answers in fp32, or of an exported graph in int8.
    """

    file: ClassVar[str] = FILE
    called: ClassVar[str] = "contract"
    fix: ClassVar[str] = (
        "save or copy the model again: without this file, units, thresholds and limits of its "
        "training are lost"
    )

    task: str
    columns: dict[str, list[str]]
    settings: dict[str, Any] = field(default_factory=dict)
    max_length: int
    library_version: str
    long: dict[str, Any] = field(default_factory=dict)
    golden: list[Golden] = field(default_factory=list)

    def check(self) -> None:
        """Refuse values that nobody could prepare a text by.

        Raises:
            ValueError: with the value, and what it must be.
        """
        for name in ("task", "library_version"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}, and must be a name")
        if not isinstance(self.columns, dict) or not all(map(are_texts, self.columns.values())):
            raise ValueError(f"columns are {self.columns!r}, and must be lists of names by role")
        if "text" not in self.columns:
            raise ValueError("columns name no text")
        if not isinstance(self.settings, dict):
            raise ValueError(f"settings are {self.settings!r}, and must be an object")
        if not isinstance(self.long, dict):
            raise ValueError(f"long is {self.long!r}, and must be an object")
        if not is_whole(self.max_length) or self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length!r}, and must be 3 or more")
        for golden in self.golden:
            if not isinstance(golden.example, dict) or not isinstance(golden.answer, dict):
                raise ValueError("a golden example or answer is no object")
            text, pair = golden.example.get("text"), golden.example.get("text_pair", "")
            choices = pair.get("text") if isinstance(pair, dict) else pair
            if not all(isinstance(each, str) or are_texts(each) for each in (text, choices)):
                raise ValueError("a golden example has no text, or one that is none")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The contract with these values, those of a model of the first version too."""
        values = _from_first_version(values) if "labels" in values else values
        golden = [
            Golden(example=entry["example"], answer=entry["answer"])
            for entry in values.get("golden", [])
        ]
        return super().of({**values, "golden": golden})


def _from_first_version(values: Mapping[str, Any]) -> dict[str, Any]:
    """The contract of a model that was written when there was one task.

    Raises:
        ValueError: its labels and its most frequent label do not fit.
    """
    names = values["labels"]
    if not are_texts(names) or not names:
        raise ValueError(f"labels are {names!r}, and must be a list of names")
    if values["majority_label"] not in names:
        raise ValueError(f"majority_label is {values['majority_label']!r}, and is no label")
    golden = values.get("golden", [])
    for entry in golden:
        if sorted(entry["probabilities"]) != sorted(names):
            raise ValueError(f"the golden text {entry['text']!r} has not one probability a label")
    return {
        **values,
        "columns": {"text": [values["text_column"]], "label": [values["label_column"]]},
        "settings": {"majority": values["majority_label"], "labels": names},
        "golden": [
            {
                "example": {"text": entry["text"]},
                "answer": {
                    "label": entry["label"],
                    "probability": entry["probabilities"][entry["label"]],
                    "probabilities": entry["probabilities"],
                },
            }
            for entry in golden
        ],
    }
