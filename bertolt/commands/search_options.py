"""What a user sets for `search`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bertolt.base.errors import UsageError
from bertolt.base.options import at_least, check_options
from bertolt.commands.file_options import FileOptions
from bertolt.models.config import AnswerPrecision


@dataclass(frozen=True, kw_only=True)
class SearchOptions(FileOptions):
    """Settings of `search`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range, or no query; the message names the option.
    """

    model: str | None = None
    """Folder of a model of sentence-similarity, or of sentence-transformers. Default: the demo's,
    if it is installed."""
    query: list[str] | None = None
    """What to look for; may be given several times."""
    queries: Path | None = None
    """File with a query a line, beside or instead of --query."""
    top: int = field(default=10, metadata=at_least(1))
    """Texts to show for each query."""
    column: Annotated[str | None, Parameter(name=["--column", "--text"])] = None
    """Column of the texts. Default: found by its name."""
    vectors: Path | None = None
    """File for the vectors of the texts, in .npy: made once, and read from then on."""
    overwrite: bool = False
    """Make the file of vectors anew."""
    precision: AnswerPrecision = "auto"
    """Number format: auto measures whether bfloat16 is faster here."""

    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        check_options(self)
        if not self.query and self.queries is None:
            raise UsageError("there is nothing to look for", fix='add --query "…"')
        if self.vectors is not None and self.vectors.suffix.lower() != ".npy":
            raise UsageError(
                f"vectors are kept as .npy, and the name is {self.vectors.name!r}",
                place="--vectors",
                fix=f"name it {self.vectors.stem}.npy",
            )
