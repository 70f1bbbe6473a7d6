"""The folder that a run fills: claimed before anything is done, published whole at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bertolt.base.errors import BertoltError
from bertolt.base.files import (
    disk_errors,
    held_folder,
    no_empty_parents,
    require_free,
    staged_folder,
    unfinished,
)

FILES = frozenset(
    {
        "arguments.json",
        "bertolt.json",
        "complete.json",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "report.html",
        "run.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_args.json",
        "vocab.txt",
    }
)
"""Names that a run writes, and that `--overwrite` may replace."""

_BESIDE_THE_WEIGHTS = 4 << 20
"""Bytes that the tokenizer, the report and the other files may take."""


@contextlib.contextmanager
def output_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder to fill, which becomes `out` when the block ends well.

    If it does not, nothing is left: neither in `out` nor beside it.

    Args:
        out: the folder to make.
        overwrite: replace what an earlier run left in it.

    Raises:
        UsageError: `out` holds what may not be replaced, or another run is filling it.
        BertoltError: the file system refused.
    """
    require_free(out, overwrite=overwrite, ours=FILES)
    with (
        no_empty_parents(out),
        contextlib.ExitStack() as claim,  # released only after the folder is in its place
        staged_folder(out, overwrite=overwrite, ours=FILES) as stage,
        _named(stage, out),
    ):
        claim.enter_context(_claimed(stage, out))
        require_free(out, overwrite=overwrite, ours=FILES)
        yield stage


@contextlib.contextmanager
def _named(stage: Path, out: Path) -> Iterator[None]:
    """Let errors name the folder that the user knows, and not the temporary one."""
    try:
        yield
    except BertoltError as error:
        if str(stage) not in error.place:
            raise
        place = error.place.replace(str(stage), str(out))
        raise type(error)(error.problem, place=place, fix=error.fix) from error


@contextlib.contextmanager
def _claimed(stage: Path, out: Path) -> Iterator[None]:
    """Hold the new folder; refuse if another run holds one of its own for this `out`."""
    fix = "wait until it is done, or choose another --out"
    with held_folder(stage, fix=fix, out=out):
        for other in stage.parent.iterdir():
            if other != stage and _is_stage(other, out):
                with held_folder(other, fix=fix, out=out) as locked:
                    if locked:  # by nobody else: what a killed run has left
                        shutil.rmtree(other, ignore_errors=True)
        yield


def _is_stage(folder: Path, out: Path) -> bool:
    """Whether it is a run's folder for `out`, and one that this user may look into."""
    named = folder.suffix == ".part" and unfinished(folder.name) == out.resolve().name
    return named and folder.is_dir() and os.access(folder, os.R_OK)


def require_space(stage: Path, out: Path, parameters: int, *, checkpoints: int = 0) -> None:
    """Refuse before training what could not be saved after it.

    Args:
        stage: a folder on the file system in question.
        out: the folder that the user named.
        parameters: of the model, saved with 4 bytes each.
        checkpoints: to be beside it, each with the model and two moments of every parameter.

    Raises:
        BertoltError: too little is free.
    """
    needed = (1 + 3 * checkpoints) * 4 * parameters + _BESIDE_THE_WEIGHTS
    with disk_errors(out):
        free = shutil.disk_usage(stage).free
    if free < needed:
        raise BertoltError(
            f"the run needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free",
            place=str(out),
            fix="free some space, or choose another folder with --out",
        )
