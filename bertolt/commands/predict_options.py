"""What a user sets for `predict`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bertolt.base.options import FREE, at_least, check_options
from bertolt.commands.file_options import FileOptions
from bertolt.data.long import Long
from bertolt.models.config import AnswerPrecision, EngineName

Style = Literal["jsonl", "csv", "tsv", "json", "conll", "parquet", "xlsx", "npy"]
_Texts = Annotated[list[str] | None, Parameter(consume_multiple=False, allow_leading_hyphen=True)]


@dataclass(frozen=True, kw_only=True)
class PredictOptions(FileOptions):
    """Settings of `predict`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    text: _Texts = field(default=None, metadata=FREE)
    """A text to answer, instead of a file; may be given several times."""
    pair: _Texts = field(default=None, metadata=FREE)
    """The second text of a pair, after its --text; of a question, each of its choices."""
    column: str | None = None
    """Column of the texts. Default: as in training, or found by its name."""
    pair_column: str | None = None
    """Column of second texts, for pairs; of choices, or several with commas between them. Default:
    as in training."""
    task: str | None = None
    """What the model answers, for a folder that does not say it, as one that was pretrained."""
    keep: str | None = None
    """Columns of the file to write beside each answer, with commas between them, or all. One that
    is named like a part of the answer begins with kept_."""
    format: Style | None = None
    """Of the answers; conll is for tagged words. Default: as --out ends, else jsonl."""
    bom: bool = False
    """Begin CSV and TSV with a byte order mark, by which Excel knows UTF-8."""
    safe_csv: bool = False
    """In CSV and TSV, put a ' before a text that begins with = + - @, a tab or a line break, which
    a spreadsheet could run as a formula; numbers stay as they are."""
    out: Path | None = field(default=None, metadata=FREE)
    """File to write to, instead of standard output. Its name ends in .jsonl, .json, .csv, .tsv,
    .conll (also with .gz or .zst), .parquet or .xlsx; of vectors in .npy. The same command goes on
    after it was stopped or killed, but for .xlsx."""
    overwrite: bool = field(default=False, metadata=FREE)
    """Replace the file that has this name, and answers of a killed run that were made otherwise."""
    long: Long | None = None
    """A text beyond the limit: error, truncate its end, head-tail, which keeps a first and a last
    part, or window, which reads all of it. Default: as in training."""
    stride: int | None = field(default=None, metadata=at_least(0))
    """Tokens that a window repeats of the one before it. Default: as in training."""
    precision: AnswerPrecision = "auto"
    """Number format: auto measures whether bfloat16 is faster here; int8 is faster still for many
    texts, and less exact. A folder that was exported has its own."""
    engine: EngineName | Literal["ray"] = field(default="auto", metadata=FREE)
    """What answers: torch; onnxruntime or openvino for a folder that was exported for it; auto is
    what the folder is for. With ray it is torch on the machines of a Ray cluster, with the same
    answers."""
    on_bad_row: Literal["answer", "answer-all", "drop", "error"] = "answer"
    """What to do with a row that cannot be used. With answer, an empty text has an empty answer
    with the reason, so that answers are as many as rows, and any other is an error, as an empty
    --text is; with answer-all each of them has such an answer. A table of answers has a column for
    the reasons if there are any, and always for standard input."""

    def __post_init__(self) -> None:
        check_options(self)
