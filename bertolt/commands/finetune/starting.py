"""The model that a run begins with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bertolt.base.console import info
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.commands.finetune.options import FinetuneOptions


def choose_model(
    options: FinetuneOptions,
    teacher: Path | None = None,
    *,
    tell: Callable[[str], None] = info,
) -> Path:
    """The folder of the model to begin with, which is said where none is named.

    Args:
        options: of the command.
        teacher: whose layers a student may begin with.
        tell: says it.
    """
    if options.student_layers is not None and teacher is not None:
        return teacher
    if options.model is not None:
        return huggingface.resolve(options.model)
    folder = demo_checkpoint()
    tell(f"No --model given: starting from the demo checkpoint, {folder}")
    return folder
