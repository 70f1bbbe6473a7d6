"""What a user sets for `evaluate` and `compare`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bertolt.base.options import Metadata, Range, at_least, check_options
from bertolt.commands.file_options import FileOptions
from bertolt.data.long import Long
from bertolt.models.config import AnswerPrecision, EngineName

_ROWS = Metadata(range=Range("a whole number, 1 or more", 1))


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(FileOptions):
    """How a model answers a file whose answers are known: settings of `evaluate` and `compare`.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    text: str | None = None
    """Column of the texts. Default: as in training, or found by its name."""
    text_pair: str | None = None
    """Column of second texts, for pairs. Default: as in training."""
    label: str | None = None
    """Column of the labels, or several with commas between them. Default: as in training, or found
    by its name."""
    label_separator: str | None = None
    """What parts several labels in one cell. Default: as in training."""
    label_map: str | None = None
    """What the file calls the model's labels, as LABEL_0=bad,LABEL_1=good, a label several times
    where the file has several names for it; or a JSON file with such an object. Default: as the
    model does; numbers are those of its outputs."""
    group: str | None = None
    """Column, such as a user or a document, whose rows depend on each other: the interval by
    resampling is then by whole groups of rows."""
    long: Long | None = None
    """A text beyond the limit: error, truncate its end, head-tail, which keeps a first and a last
    part, or window, which reads all of it. Default: as in training."""
    stride: int | None = field(default=None, metadata=at_least(0))
    """Tokens that a window repeats of the one before it. Default: as in training."""
    task: str | None = None
    """What the model answers, for a folder that does not say it, as one that was pretrained."""
    precision: AnswerPrecision = "auto"
    """Number format: auto measures whether bfloat16 is faster here; int8 is faster still for many
    texts, and less exact. A folder that was exported has its own."""
    engine: EngineName = "auto"
    """What answers: torch; onnxruntime or openvino for a folder that was exported for it; auto is
    what the folder is for."""
    on_bad_row: Literal["drop", "error"] = "drop"
    """What to do with a row that cannot be used."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(MeasureOptions):
    """Settings of `evaluate`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    by: str | None = None
    """Columns whose values part the rows, with commas between them, each part with scores of its
    own; length parts them by their tokens."""
    sample: int | Literal["all"] | None = field(default=None, metadata=_ROWS)
    """Rows for what takes a run for each token, the pseudo-perplexity of a masked language model;
    all takes each row. Default: 100."""
    json: bool = False
    """Print JSON instead of a table."""
