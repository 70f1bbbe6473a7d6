"""What there is at a path: links are followed, and told where they lead nowhere."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePath

from bertolt.base.errors import CheckpointError

FILE, FOLDER, PIPE, DISK, SOCKET = "a file", "a folder", "a pipe", "a disk", "a socket"
NOWHERE, CIRCLE = "a link to nothing", "a link that leads back to itself"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: PIPE,
    stat.S_IFSOCK: SOCKET,
    stat.S_IFBLK: DISK,
}


def kind_of(path: Path) -> str:
    """What there is at a path, as "a pipe" or "a link to nothing"; empty where nothing is.

    Raises:
        OSError: the system refuses to say, as for a folder that may not be read.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "a device")
    except OSError as error:
        if error.errno == errno.ELOOP:
            return CIRCLE
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return NOWHERE if path.is_symlink() else ""


def require_inside(name: str) -> str:
    """The name of a file as a manifest tells it, if it is one below the manifest's folder.

    Raises:
        ValueError: it leads elsewhere, from the root or by "..".
    """
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} is not a file of this folder")
    return name


def leads_nowhere(path: Path) -> bool:
    """Whether it is a link with nothing behind it."""
    return kind_of(path) in (NOWHERE, CIRCLE)


def is_circle(path: Path) -> bool:
    """Whether it is a link that leads back to itself, so that nothing can be made behind it."""
    return kind_of(path) == CIRCLE


def is_utf8(path: Path) -> bool:
    """Whether a path is UTF-8: weights and shards are opened by no other."""
    try:
        str(real(path)).encode()
    except UnicodeEncodeError:
        return False
    return True


def real(path: Path) -> Path:
    """The path behind all links, whether something is there or not; a circle stays as it is."""
    return Path(os.path.realpath(path))


def has_file(path: Path) -> bool:
    """Whether a folder of a model has this file.

    Raises:
        CheckpointError: something else has its name: a pipe, which could keep its reader waiting
            for ever, a folder, or a link to nothing, as of a model that was half copied.
    """
    kind = kind_of(path)
    if kind in ("", FILE):
        return bool(kind)
    raise CheckpointError(
        f"it is {kind}, and a file is needed",
        place=str(path),
        fix="copy the file itself there, or fetch the model again",
    )
