"""The folder of a pretraining run: there while the run lasts, with its log and checkpoints."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.files import disk_errors, held_folder, require_free, unfinished

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
FILES = frozenset(
    {
        LOG,
        TENSORBOARD,
        "arguments.json",
        "complete.json",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "report.html",
        "run.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
)
"""Names that a run writes beside its checkpoints, and that `--overwrite` may replace."""

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_COPIES = 3  # of the weights in a checkpoint: themselves, and two values of AdamW
_BESIDE = 64 << 20  # bytes that logs, tokenizers and reports may take


@contextlib.contextmanager
def run_folder(out: Path, *, overwrite: bool, resume: bool) -> Iterator[None]:
    """Hold the folder of a run; a folder that was made for nothing is taken away again.

    What a killed run left half written goes.

    Args:
        out: the folder, made if it is not there.
        overwrite: remove what an earlier run left in it, unless it is resumed.
        resume: leave it there, to go on with.

    Raises:
        UsageError: it holds what may not be replaced, or another run holds it.
        BertoltError: the file system refused.
    """
    require_usable(out, overwrite=overwrite, resume=resume)
    with held_folder(out, fix="wait until it is done, or choose another --out"):
        for entry in _entries(out):
            if (overwrite and not resume) or (unfinished(entry.name) and _is_ours(entry)):
                _remove(entry)
        yield


def require_usable(out: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder whose content would be lost or mixed up.

    Raises:
        UsageError: it is a file; or holds something, and is neither overwritten nor resumed; or
            something that no run wrote, and is overwritten; or no run at all, and is resumed.
    """
    if not out.is_dir():
        require_free(out, overwrite=False, ours=FILES)
        return
    found = _entries(out)
    foreign = [each.name for each in found if not _is_ours(each)]
    if found and not (overwrite or resume):
        raise UsageError(
            "the folder is not empty",
            place=str(out),
            fix="go on with what is there: --resume; or replace it: --overwrite",
        )
    if resume and found and not any(map(_is_of_a_run, found)):
        raise UsageError(
            "the folder holds something, and no run to go on with",
            place=str(out),
            fix="choose another --out",
        )
    if overwrite and not resume and foreign:
        raise UsageError(
            f"the folder holds {foreign[0]!r}, which no run has written, and would be lost",
            place=str(out),
            fix="choose another --out",
        )


def require_space(out: Path, parameters: int, checkpoints: int) -> None:
    """Refuse before training what could not be saved.

    Args:
        out: the folder of the run.
        parameters: of the model, 4 bytes each.
        checkpoints: that are there at the same time.

    Raises:
        BertoltError: too little is free.
    """
    needed = 4 * parameters * (1 + _COPIES * checkpoints) + _BESIDE
    with disk_errors(out):
        free = shutil.disk_usage(out).free
    if free < needed:
        raise BertoltError(
            f"the model and its checkpoints need {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB "
            "are free",
            place=str(out),
            fix="free some space, keep fewer with --keep 1, or choose another --out",
        )


def _entries(out: Path) -> list[Path]:
    return sorted(entry for entry in out.iterdir() if entry.name not in (".DS_Store", "Thumbs.db"))


def _is_ours(entry: Path) -> bool:
    name = unfinished(entry.name) or entry.name
    return name in FILES or _CHECKPOINT.fullmatch(name) is not None


def _is_of_a_run(entry: Path) -> bool:
    name = unfinished(entry.name) or entry.name
    return name == LOG or _CHECKPOINT.fullmatch(name) is not None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
