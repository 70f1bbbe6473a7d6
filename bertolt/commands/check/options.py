"""What a user sets for `check`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bertolt.base.errors import UsageError
from bertolt.base.options import EPOCHS, SEED, at_least, check_options, share
from bertolt.commands.file_options import FileOptions
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.data.long import Long
from bertolt.models.config import Precision

_OF_LABEL_ERRORS = ("folds", "epochs", "lr", "batch_size", "seed", "precision", "answers", "csv")


@dataclass(frozen=True, kw_only=True)
class CheckOptions(FileOptions):
    """Settings of `check`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range, or one that belongs to --label-errors without it.
    """

    model: str | None = None
    """Model that is to learn the rows, for words and lengths: a folder, or an id on the hub.
    Default: the demo's, if it is installed."""
    task: str | None = None
    """What is to be learned, as for finetune. Default: as the columns say."""
    text: str | None = None
    """Column of the texts. Default: found by its name."""
    text_pair: str | None = None
    """Column of second texts, for pairs. Default: found if two columns are called like a pair."""
    label: str | None = None
    """Column of the labels, or several with commas between them. Default: found by its name."""
    label_separator: str | None = None
    """What parts several labels in one cell, as ";"."""
    score_scale: str | None = None
    """Least and greatest score of two texts, as 0,5. Default: the usual scale that has them all."""
    eval: Path | None = None
    """File with the rows to evaluate on, which are looked at beside the others."""
    test_size: float = field(default=0.2, metadata=share(0.2, zero=True))
    """Share of the rows that finetune is to hold out; 0: all train."""
    split_seed: int = field(default=42, metadata=SEED)
    """Seed of which rows are held out, and of the folds."""
    group: str | None = None
    """Column, such as a user or a document, whose rows are never parted."""
    max_length: int | None = field(default=None, metadata=at_least(1))
    """Most tokens of a text. Default: all that the model's position table has."""
    long: Long | None = None
    """A text beyond the limit, as finetune is to read it. Default: as the task does."""
    stride: int | None = field(default=None, metadata=at_least(0))
    """Tokens that a window repeats of the one before it, as for finetune."""
    label_errors: bool = False
    """Look for labels that may be wrong too, by models that are trained without their rows."""
    folds: int = field(default=5, metadata=at_least(2))
    """Parts of the rows; each is answered by a model that is trained on the others."""
    answers: Path | None = None
    """Answers that are there already, instead of training: out_of_fold.jsonl, a line a row, with
    its row and its answer."""
    csv: Path | None = None
    """File for all rows, the label most in doubt first."""
    epochs: float = field(default=2.0, metadata=EPOCHS)
    """Passes over the rows of each training."""
    batch_size: int = field(default=32, metadata=at_least(1))
    """Texts in one training step."""
    lr: float = field(default=5e-5, metadata=at_least(0))
    """Peak learning rate."""
    seed: int = field(default=42, metadata=SEED)
    """Seed of the new heads, the order and dropout."""
    precision: Precision = "auto"
    """Number format: auto measures whether bfloat16 is faster here."""
    html: Path | None = None
    """Write the findings to this file, as a page."""
    overwrite: bool = False
    """Replace the files that have these names."""

    def __post_init__(self) -> None:
        check_options(self)
        usual = {each.name: each.default for each in fields(self)}
        for name in _OF_LABEL_ERRORS:
            if not self.label_errors and getattr(self, name) != usual[name]:
                raise UsageError(
                    "it belongs to the search for wrong labels, which was not asked for",
                    place=f"--{name.replace('_', '-')}",
                    fix="add --label-errors, or leave it out",
                )

    def of_finetune(self, **changes: Any) -> FinetuneOptions:
        """The same for a run of finetune.

        Args:
            changes: of its options.
        """
        names = {each.name for each in fields(self)} & {e.name for e in fields(FinetuneOptions)}
        # How many runs there are is said of them, and not to them.
        values = {name: getattr(self, name) for name in names - {"overwrite", "folds"}}
        return FinetuneOptions(**(values | changes))
