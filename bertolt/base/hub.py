"""Folders of models and tokenizers: here, or fetched into the hub's cache."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertolt.base.errors import CheckpointError, nearest
from bertolt.base.paths import kind_of, leads_nowhere

# What an id on the hub looks like: a name, or an owner and a name.
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def find_folder(
    name_or_path: str | os.PathLike[str],
    files: Sequence[str],
    options: Mapping[str, Any] | None = None,
) -> Path:
    """The folder itself, or the one in the hub's cache that holds `files` of the id.

    Args:
        name_or_path: a folder, or an id on the hub.
        files: patterns of the files to fetch.
        options: more arguments of the hub's client: `revision`, `local_files_only`, …

    Raises:
        CheckpointError: neither such a folder nor anything that the hub gave.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    name = str(name_or_path)
    if leads_nowhere(path):
        raise CheckpointError(
            f"this is {kind_of(path)}", place=name, fix="name the folder of the model"
        )
    if path.exists():
        raise CheckpointError(
            "this is a file, and a model is a folder",
            place=name,
            fix=f"name the folder: {path.parent}",
        )
    if not _ID.fullmatch(name) or name.startswith("."):
        raise _no_folder(path, name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), **(options or {})))
    # The hub, the network and a name can fail in many ways, each library with its own exceptions.
    except Exception as error:
        fix = "name a folder, or a hub id that is in the cache or can be fetched"
        near = _near(path)
        raise CheckpointError(
            f"this is neither a folder here nor anything that the hub gave ({_reason(error)})",
            place=name,
            fix=f"did you mean the folder {near!r}? Else {fix}" if near else fix,
        ) from error


def _no_folder(path: Path, name: str) -> CheckpointError:
    near = _near(path)
    fix = f"did you mean {near!r}?" if near else "check the path"
    return CheckpointError("there is no such folder", place=name, fix=fix)


def _near(path: Path) -> str:
    """The folder beside this path whose name is most like it; empty if none is."""
    if not path.parent.is_dir():
        return ""
    near = nearest(path.name, [each.name for each in path.parent.iterdir() if each.is_dir()])
    return str(path.parent / near) if near else ""


def _reason(error: Exception) -> str:
    """Why the hub gave nothing, in words that need no knowledge of its client."""
    kind = type(error).__name__
    if kind == "RepositoryNotFoundError":
        return "the hub has no model of this name, or shows it to its owner alone"
    if kind in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        return "it is not in the cache, and the hub is out of reach or HF_HUB_OFFLINE is set"
    return next(iter(str(error).strip().splitlines()), kind)
