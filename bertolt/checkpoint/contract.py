"""`bertolt.json`: how texts were prepared for a model, shared by all who use it afterwards."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bertolt.base.errors import CheckpointError
from bertolt.base.files import write_text

FILE = "bertolt.json"


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A text and what the saved model answered to it, for the self-test."""

    text: str
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What evaluation, prediction, export and serving must agree on with training.

    Attributes:
        task: what the head does.
        text_column, label_column: columns of the training file.
        labels: names, in the order of the model's outputs.
        majority_label: the most frequent one of the training rows, to compare with.
        max_length: most tokens of a text, special tokens included.
        longer_text: what happens to a longer one.
        library_version: the Bertolt that wrote the model.
        golden: a few texts with their answers in fp32.
    """

    task: str = "sequence-classification"
    text_column: str
    label_column: str
    labels: list[str]
    majority_label: str
    max_length: int
    longer_text: str = "cut at the end"
    library_version: str
    golden: list[Golden] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write it into a model folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_text(folder / FILE, text)

    def check(self) -> None:
        """Refuse values that nobody could prepare a text by.

        Raises:
            ValueError: in words.
        """
        names = self.labels if isinstance(self.labels, list) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"labels are {self.labels!r}, and must be a list of names")
        if self.majority_label not in names:
            raise ValueError(f"majority_label is {self.majority_label!r}, and is no label")
        if not isinstance(self.max_length, int) or self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length!r}, and must be 3 or more")
        for entry in self.golden:
            if sorted(entry.probabilities) != sorted(self.labels):
                raise ValueError(f"the golden text {entry.text!r} has not one probability a label")

    @classmethod
    def read(cls, folder: Path) -> Contract | None:
        """Read it from a model folder; None where another library wrote the model.

        Raises:
            CheckpointError: the file is there and broken.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            golden = [Golden(**entry) for entry in values.pop("golden", [])]
            contract = cls(**values, golden=golden)
            contract.check()
            return contract
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"not a readable contract ({error})",
                place=str(path),
                fix="delete the file to go on without it, or save the model again",
            ) from error
