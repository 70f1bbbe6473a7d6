"""What a user sets for `export`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bertolt.base.errors import UsageError
from bertolt.base.options import at_least, check_options
from bertolt.base.paths import real
from bertolt.commands.file_options import FileOptions


@dataclass(frozen=True, kw_only=True)
class ExportOptions(FileOptions):
    """Settings of `export`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range, or a file to calibrate on without --int8 and the other
            way round; the message names the option.
    """

    out: Path
    """Folder for the graph, the tokenizer and the card."""
    format: Literal["onnx", "openvino"] = "onnx"
    """Of the graph: onnx is run by ONNX Runtime, openvino by OpenVINO."""
    int8: bool = False
    """Products in 8 bits: smaller and faster, and less exact. Needs --calibrate."""
    calibrate: Path | None = None
    """File with answers that are known: int8 is calibrated on a fifth of its rows where the format
    needs that, and measured on the others, before and after."""
    score_on: Path | None = None
    """Another file to measure int8 on; then all of --calibrate is there to calibrate on."""
    max_loss: float = field(default=0.01, metadata=at_least(0))
    """What the task's first metric may lose by int8 on these rows, in its own units; an export
    that loses more is refused."""
    text: str | None = None
    """Column of the texts of the files. Default: as in training, or found by its name."""
    text_pair: str | None = None
    """Column of second texts there, for pairs. Default: as in training."""
    label: str | None = None
    """Column of the labels there. Default: as in training, or found by its name."""
    task: str | None = None
    """What the model answers, for a folder that does not say it, as one that was pretrained."""
    overwrite: bool = False
    """Replace what an earlier export left in that folder."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.int8 and self.calibrate is None:
            raise UsageError(
                "int8 is measured before it is written, and no file was given",
                place="--int8",
                fix="add --calibrate FILE, with answers that are known",
            )
        if self.calibrate is not None and not self.int8:
            raise UsageError(
                "a file to calibrate on is for int8 alone",
                place="--calibrate",
                fix="add --int8, or leave it out",
            )
        if self.score_on is not None and self.calibrate is None:
            raise UsageError(
                "a file to measure on is for int8 alone",
                place="--score-on",
                fix="add --int8 --calibrate FILE, or leave it out",
            )
        if (
            self.score_on is not None
            and self.calibrate
            and (real(self.score_on) == real(self.calibrate))
        ):
            raise UsageError(
                "what int8 is calibrated on says too little of what it loses",
                place=f"--score-on {self.score_on}",
                fix="leave --score-on out: the rows of --calibrate are parted",
            )
