"""`export.json`: what stands in a folder that `bertolt export` wrote, and how far it was tried."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bertolt.base.errors import CheckpointError
from bertolt.base.files import write_text
from bertolt.base.json_files import read_json

FILE = "export.json"
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs the graphs of each format."""
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The card of an exported model.

    Attributes:
        format: "onnx" or "openvino".
        graph: name of the file.
        precision: of its products, "fp32" or "int8".
        task: that it answers.
        inputs, outputs: names with their dimensions; a free one is a name.
        tolerance: how far outputs, and the numbers of answers, may be from those of the model that
            was exported; of outputs beside the size of the largest.
        measured: how far they were, and on what.
        score: of int8, the primary metric before and after, and the rows it is of; else empty.
        versions: of what wrote it.
        opset: of ONNX, and None of other formats.
    """

    format: str
    graph: str
    precision: str
    task: str
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    tolerance: dict[str, float]
    measured: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    opset: int | None = None

    @property
    def engine(self) -> str:
        """What runs it, as `--engine` has it."""
        return ENGINES[self.format]

    def write(self, folder: Path) -> None:
        """Write it into the folder of the graph."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def check(self) -> None:
        """Refuse values that no graph can be opened by.

        Raises:
            ValueError: with the value, and what it must be.
        """
        if self.format not in ENGINES:
            raise ValueError(f"format is {self.format!r}, and must be one of {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, and must be fp32 or int8")
        # The file is opened: it may be none outside of the folder.
        if not isinstance(self.graph, str) or Path(self.graph).name != self.graph:
            raise ValueError(f"graph is {self.graph!r}, and must be the name of a file beside it")
        for name in ("inputs", "outputs", "tolerance"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} is {getattr(self, name)!r}, and must be an object")

    @classmethod
    def read(cls, folder: Path) -> Exported | None:
        """Read it from a folder; None where nothing was exported.

        Unknown keys come from a later version, and are ignored.

        Raises:
            CheckpointError: the file is there and broken.
        """
        path = folder / FILE
        if not os.path.lexists(path):
            return None
        try:
            values: Mapping[str, Any] = read_json(path)
            names = set(cls.__dataclass_fields__) & values.keys()
            card = cls(**{name: values[name] for name in names})
            card.check()
            return card
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise CheckpointError(
                f"not a readable card of an exported model ({error})",
                place=str(path),
                fix="export the model again: bertolt export MODEL --out DIR",
            ) from error
