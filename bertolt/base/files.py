"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from bertolt.base.errors import BertoltError, DiskFullError, UsageError
from bertolt.base.paths import (
    CIRCLE,
    DISK,
    FILE,
    FOLDER,
    NOWHERE,
    SOCKET,
    is_circle,
    is_utf8,
    kind_of,
    real,
)

if sys.platform != "win32":
    import fcntl

LEFT_BY_THE_SYSTEM = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers leave in a folder that somebody has opened."""

_LONG_NAME = 200  # bytes of a name; most systems take 255
_STATUS = Path("/proc/self/status")  # which tells of this process on Linux
_setting = threading.Lock()
_UNFINISHED = re.compile(r"\.(.+)\.\w{8}\.(part|old|new)")
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def _umask() -> int:
    with contextlib.suppress(OSError, StopIteration), _STATUS.open(encoding="utf-8") as lines:
        return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))
    # Elsewhere it can only be read by setting it, which two threads at once would leave as it is
    # here. Set narrowly, no other thread's file is open to all.
    with _setting:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the operating system says about a write into an error with a fix.

    Raises:
        DiskFullError: no space left.
        BertoltError: no permission, a read-only file system, …
    """
    try:
        yield
    except BertoltError:
        raise
    except OSError as error:
        kind, fix = BertoltError, "choose a folder that you may write to"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            kind, fix = DiskFullError, "free some space, or choose another folder with --out"
        elif error.errno == errno.EFBIG:
            fix = "let files be larger (ulimit -f unlimited), or choose another file system"
        problem = f"cannot be written ({error.strerror or error})"
        raise kind(problem, place=str(path), fix=fix) from error


@contextlib.contextmanager
def temporary_errors(what: str) -> Iterator[None]:
    """Turn what the system says of a temporary file into an error with a fix.

    Args:
        what: is written to it, in words.

    Raises:
        DiskFullError: no space left for it.
        BertoltError: no folder for it, no permission, ….
    """
    try:
        yield
    except BertoltError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (DiskFullError if full else BertoltError)(
            f"{what} cannot be written ({error.strerror or error})",
            place=tempfile.tempdir or "TMPDIR",  # not set where no folder will do
            fix="free some space there, or name another folder: TMPDIR=FOLDER bertolt …",
        ) from error


def write_atomically(path: Path, write: Callable[[Path], None], *, replace: bool = True) -> None:
    """Call `write` with a temporary name beside `path`, then rename it into place.

    A link is followed, and what is no file, such as a device or a pipe, is written to directly.

    Args:
        path: of the file.
        write: writes it, to the path that it is given.
        replace: a file that another process has made there meanwhile.

    Raises:
        UsageError: there is one, and it is not to be replaced.
        BertoltError: the file system refused, `path` is a link in a circle, a disk or a socket, or
            a pipe that nobody reads; `path` is then as it was before.
    """
    with disk_errors(path):
        # One look: between two, another process could make or remove the file.
        kind = kind_of(path)
        if kind in (CIRCLE, DISK, SOCKET):
            raise BertoltError(f"it is {kind}", place=str(path), fix="name a file")
        if kind not in ("", NOWHERE, FILE, FOLDER):
            with _reader_of(path):
                write(path)
            return
        path = real(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=hidden_prefix(path), suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            publish(temporary, path, replace)
        finally:
            temporary.unlink(missing_ok=True)


def hidden_prefix(path: Path) -> str:
    """How the temporary names beside a path begin; a long name is cut, for all have a limit."""
    name = os.fsencode(path.name)
    if len(name) > _LONG_NAME:
        name = name[:_LONG_NAME].decode("utf-8", "ignore").encode()
    return f".{os.fsdecode(name)}."


@contextlib.contextmanager
def _reader_of(path: Path) -> Iterator[None]:
    """Around writing to what is no file: a pipe that nobody reads is refused, and not waited for.

    Its reader would take the end of a first writer for the end of all, so it stays open.
    """
    try:
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise BertoltError(
            f"it is {kind_of(path)}, and nobody reads it",
            place=str(path),
            fix="start what reads it first, or name a file",
        ) from error
    try:
        yield
    finally:
        os.close(handle)


def write_text(path: Path, text: str, *, replace: bool = True) -> None:
    """Write `text` as UTF-8, whole or not at all; half a surrogate pair is written as its escape.

    The name of a file that is no UTF-8 holds such.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, "utf-8", errors="backslashreplace", newline="\n")

    write_atomically(path, write, replace=replace)


def opened_at(path: Path, size: int = 0) -> BinaryIO:
    """A file to write on behind its first `size` bytes; what stands behind those is cut off."""
    if not size:
        return path.open("wb")  # also a device or a pipe, which cannot be cut
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def unfinished(name: str) -> str | None:
    """The name that a temporary file or folder was to have, or had; None for any other name.

    A run that is killed leaves such behind.
    """
    match = _UNFINISHED.fullmatch(name)
    return match.group(1) if match else None


def publish(temporary: Path, path: Path, replace: bool) -> None:
    """Give a file that is whole its name, in the same file system.

    Args:
        temporary: the file.
        path: its name.
        replace: a file that is there already.

    Raises:
        UsageError: there is one, and it is not to be replaced.
        OSError: the file system refused.
    """
    # mkstemp makes files that only their owner can read; a result is for everyone the umask admits.
    temporary.chmod(0o666 & ~_umask())
    sync(temporary)
    if not replace and path.exists():
        raise UsageError(
            "another file of this name came to be while this one was written, and is kept",
            place=str(path),
            fix="run the command again with another name, or with --overwrite",
        )
    temporary.replace(path)


def sync(path: Path) -> None:
    """Wait until a file, or the list of the files in a folder, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def staged_folder(path: Path, *, overwrite: bool, ours: frozenset[str]) -> Iterator[Path]:
    """A new folder beside `path` to fill; it takes `path`'s place when the block ends well.

    Until then nothing is to be seen at `path`, and if the block raises nothing ever is. What a run
    that was killed has left beside it goes.

    Args:
        path: the folder to make; may be there and empty.
        overwrite: allow it to hold files, if all of them have names in `ours`.
        ours: names that a former run may have left.

    Raises:
        UsageError: `path` holds something that may not be replaced, or another run is filling it.
        BertoltError: the file system refused.
    """
    require_free(path, overwrite=overwrite, ours=ours)
    path = real(path)
    fix = "wait until it is done, or choose another --out"
    taken = UsageError("another run is writing to this folder", place=str(path), fix=fix)
    with no_empty_parents(path):
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _take_away_left(path, taken)
            new = tempfile.mkdtemp(prefix=hidden_prefix(path), suffix=".new", dir=path.parent)
        with _locked(Path(new), taken):
            stage = Path(new).with_suffix(".part")  # as others see it, it is locked
            try:
                with disk_errors(path):
                    Path(new).rename(stage)
                yield stage
                require_free(path, overwrite=overwrite, ours=ours)
                with disk_errors(path):
                    swap_folder(stage, path)
            finally:
                shutil.rmtree(stage, ignore_errors=True)


def _take_away_left(path: Path, taken: UsageError) -> None:
    """Take away what runs that were killed had begun to fill in place of a folder.

    Raises:
        UsageError: a run is filling it.
    """
    for left in (each for end in ("part", "new") for each in path.parent.glob(f".*.{end}")):
        is_folder = left.is_dir() and not left.is_symlink()
        if is_folder and unfinished(left.name) == path.name and os.access(left, os.W_OK):
            with _locked(left, taken) as alone:
                if alone:
                    shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def held_folder(path: Path, *, fix: str, out: Path | None = None) -> Iterator[bool]:
    """Hold a lock on a folder, which goes with the process however it ends.

    It is made if it is not there, and then taken away at the end if nothing is in it.

    Args:
        path: the folder.
        fix: what to do where another run holds it.
        out: the folder by which the user knows it; None: itself.

    Yields:
        Whether there are locks here; without them nothing is known of other runs.

    Raises:
        UsageError: another run holds it.
        BertoltError: the file system refused.
    """
    out = out or path
    taken = UsageError("another run is writing to this folder", place=str(out), fix=fix)
    is_new = not path.exists()
    with disk_errors(out):
        real(path).mkdir(parents=True, exist_ok=True)  # also behind a link to nothing
    with _locked(path, taken) as locked:
        try:
            yield locked
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # something is in it
                    path.rmdir()


@contextlib.contextmanager
def _locked(path: Path, taken: UsageError) -> Iterator[bool]:
    if sys.platform == "win32":
        yield False
        return
    with disk_errors(taken.place):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise taken from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError as error:
            raise taken from error
        except OSError:
            locked = False  # some network file systems have no locks
        # The other run may have taken the folder away as it ended, and a third made it again.
        if not _is_at(handle, path):
            raise taken
        yield locked
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def no_empty_parents(path: Path) -> Iterator[None]:
    """Take away the parents that were made for `path` if it did not come to be."""
    new = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        yield
    finally:
        for parent in new:
            with contextlib.suppress(OSError):  # not there, or not empty
                parent.rmdir()


def require_apart(
    out: Path, inputs: Iterable[str | os.PathLike[str] | None], option: str = "--out"
) -> None:
    """Refuse an output that is read too: an input itself, or a folder in which one lies.

    Links of either kind and other spellings of a path are seen through. An output inside a folder
    that is read is fine.

    Args:
        out: a file or a folder, which need not be there.
        inputs: files and folders; None, and what is not there, such as an id on the hub, is passed
            over.
        option: that names the output.

    Raises:
        UsageError: the output may not be written.
    """
    target = real(out)
    for each in [Path(name) for name in inputs if name]:
        if is_circle(each) or not each.exists():
            continue
        if _is_within(target, real(each)) or (out.exists() and out.samefile(each)):
            what = "the file" if each.is_file() else "the folder"
            inside = "" if out.exists() and out.samefile(each) else " inside this folder"
            raise UsageError(
                f"it would replace {what} {each}{inside}, which is read and would be lost",
                place=f"{option} {out}",
                fix=f"choose another name for {option}",
            )


def _is_within(folder: Path, path: Path) -> bool:
    """Whether a path is a folder or below it, also where names differ in case alone."""
    if path.is_relative_to(folder):
        return True
    return folder.is_dir() and any(folder.samefile(parent) for parent in path.parents)


def require_no_file(path: Path) -> None:
    """Refuse what can neither be nor become a folder that is read again; a link to nothing can.

    Raises:
        UsageError: there is a file, a pipe, or a link in a circle; or the path is no UTF-8.
    """
    if not is_utf8(path):
        raise UsageError(
            "the path is not in UTF-8, and weights and shards are opened by no other",
            place=str(path),
            fix="choose another --out",
        )
    if (path.exists() and not path.is_dir()) or is_circle(path):
        raise UsageError(
            f"there is {kind_of(path)} of this name", place=str(path), fix="choose another --out"
        )


def require_free(path: Path, *, overwrite: bool, ours: frozenset[str]) -> None:
    """Refuse a folder whose content a run would replace without being allowed to.

    Raises:
        UsageError: it is a file, or holds files and `overwrite` is off, or files not in `ours`; or
            it cannot be replaced, because it is a mount point or the folder one is in.
    """
    require_no_file(path)
    if not path.is_dir():
        return
    if path.is_mount() or Path.cwd().is_relative_to(real(path)):
        raise UsageError(
            "this folder cannot be replaced as a whole: it is a mount point, or you are in it",
            place=str(path),
            fix=f"name a folder inside it: {path / 'run'}",
        )
    names = sorted({entry.name for entry in path.iterdir()} - LEFT_BY_THE_SYSTEM)
    foreign = [name for name in names if name not in ours]
    if names and not overwrite:
        raise UsageError(
            "the folder is not empty", place=str(path), fix="choose another --out, or --overwrite"
        )
    if foreign:
        raise UsageError(
            f"the folder holds {foreign[0]!r}, which no run has written, and would be lost",
            place=str(path),
            fix="choose another --out",
        )


def swap_folder(stage: Path, path: Path) -> None:
    """Give a new folder its name; what had that name before is removed, once the new one has it.

    Where the system can exchange two names, there is no moment without a folder of this name: none
    that a kill could make last, and none for who reads it meanwhile.
    """
    stage.chmod(0o777 & ~_umask())
    if not path.exists():
        stage.rename(path)
        return
    if _exchange(stage, path):
        shutil.rmtree(stage, ignore_errors=True)
        return
    old = Path(tempfile.mkdtemp(prefix=hidden_prefix(path), suffix=".old", dir=path.parent))
    try:
        path.rename(old / "content")
        stage.rename(path)
    except BaseException:
        if not path.exists():
            (old / "content").rename(path)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change their names in one step; whether that was possible."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # of glibc 2.28 or newer
    names = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0
