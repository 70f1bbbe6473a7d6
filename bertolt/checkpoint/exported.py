"""`export.json`: what stands in a folder that `bertolt export` wrote, and how far it was tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bertolt.checkpoint.json_file import JsonFile

FILE = "export.json"
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs the graphs of each format."""
PRECISIONS = ("fp32", "int8")
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "places")
"""What a graph may be given."""


@dataclass(frozen=True, kw_only=True)
class Exported(JsonFile):
    """The card of an exported model.

    Attributes:
        format: "onnx" or "openvino".
        graph: name of the file.
        precision: of its products, "fp32" or "int8".
        task: that it answers.
        inputs, outputs: names with their dimensions; a free one is a name.
        tolerance: how far outputs, and the numbers of answers, may be from those of the model that
            was exported; of outputs beside the size of the largest.
        measured: how far they were in fp32, and on what; `int8`: how far that graph is.
        score: of int8, the primary metric before and after, the rows it is of, and how many rows
            it was calibrated on; else empty.
        versions: of what wrote it.
        opset: of ONNX, and None of other formats.
        max_length: most tokens of a window, special ones counted; None: an earlier version wrote
            the folder.
    """

    file: ClassVar[str] = FILE
    called: ClassVar[str] = "card of an exported model"
    fix: ClassVar[str] = "export the model again: bertolt export MODEL --out DIR"

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
    max_length: int | None = None

    @property
    def engine(self) -> str:
        """What runs it, as `--engine` has it."""
        return ENGINES[self.format]

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
        plain = isinstance(self.graph, str) and Path(self.graph).name == self.graph
        if not plain or self.graph in ("", ".."):
            raise ValueError(f"graph is {self.graph!r}, and must be the name of a file beside it")
        for name in ("inputs", "outputs", "tolerance"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} is {getattr(self, name)!r}, and must be an object")
        if unknown := [name for name in self.inputs if name not in INPUTS]:
            raise ValueError(f"inputs has {unknown[0]!r}, and has some of {', '.join(INPUTS)}")
