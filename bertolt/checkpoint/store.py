"""The checkpoints of a run: folders that appear whole, are verified by checksum, and rotate.

What is in them is written and read by `checkpoint/state.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertolt.base.console import info
from bertolt.base.errors import BertoltError, CheckpointError, DiskFullError, UsageError
from bertolt.base.files import disk_errors, swap_folder, sync, unfinished
from bertolt.base.json_files import read_json
from bertolt.base.paths import require_inside

if TYPE_CHECKING:
    from bertolt.base.distributed import World

MANIFEST = "manifest.json"
"""Lists every other file of a checkpoint with its size and checksum."""

# Endings of what a run goes on from: such a file has to be named in the manifest.
_READ = (".json", ".safetensors", ".distcp", ".metadata")
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Store:
    """The folder `checkpoint-STEP` for each step that a run was saved at.

    Args:
        folder: they lie in; made with the first of them.
        keep: how many of the newest to keep; None: all.
    """

    folder: Path
    keep: int | None = None

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.folder / f"checkpoint-{step}"

    def steps(self) -> list[int]:
        """The steps of all checkpoints, whole or not, in their order."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in matches if match)

    def write(
        self,
        step: int,
        fill: Callable[[Path], object],
        *,
        spare: Container[int] = (),
        world: World | None = None,
    ) -> Path:
        """Write a checkpoint and remove those that are too many; it is there whole or not at all.

        All processes of a run call it, and find the checkpoint there when it returns.

        Args:
            step: its step; a checkpoint of the same step is replaced.
            fill: writes the files into the folder that it gets.
            spare: steps that rotation leaves alone, however old.
            world: the processes, if they write into one folder, and not the first of them alone.

        Raises:
            BertoltError: the file system refused; the checkpoints before are as they were.
        """
        path = self.path(step)
        if world is not None and not world.first:
            with disk_errors(path):
                fill(Path(world.broadcast_text("")))
            world.wait()  # all have written
            world.wait()  # it is in place
            return path
        with self._named_errors(path), disk_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            part = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=self.folder)
            try:
                fill(Path(part if world is None else world.broadcast_text(part)))
                if world is not None:
                    world.wait()
                seal(Path(part))
                swap_folder(Path(part), path)
                sync(self.folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            self._rotate(step, spare)
        if world is not None:
            world.wait()
        return path

    def last(self) -> Path | None:
        """The newest checkpoint that is whole; damaged ones are named to the user and left."""
        for step in reversed(self.steps()):
            try:
                require_whole(self.path(step))
            except CheckpointError as error:
                info(f"Skipped {error.place}: {error.problem}")
            else:
                return self.path(step)
        return None

    def require_last(self) -> Path:
        """The newest checkpoint that is whole.

        Raises:
            UsageError: there is no whole checkpoint.
        """
        if (found := self.last()) is None:
            raise UsageError(
                "there is no whole checkpoint to resume from",
                place=str(self.folder),
                fix="name another folder, or begin a new run",
            )
        return found

    def require_none(self) -> None:
        """Refuse to mix the checkpoints of a new run with others.

        Raises:
            UsageError: there are checkpoints.
        """
        if self.steps():
            raise UsageError(
                "there are checkpoints of an earlier run",
                place=str(self.folder),
                fix="resume it, name another folder, or remove them",
            )

    def clear(self) -> None:
        """Remove every checkpoint, and the folder if nothing else is in it."""
        self._tidy()
        for step in self.steps():
            self._remove(step)
        with contextlib.suppress(OSError):  # not there, or something else is in it
            self.folder.rmdir()

    def _rotate(self, step: int, spare: Container[int]) -> None:
        # What is newer was found damaged, or is of a run that went further: it is no older copy.
        past = [known for known in self.steps() if known <= step]
        for known in past[: -self.keep] if self.keep else []:
            if known not in spare:
                self._remove(known)

    def _remove(self, step: int) -> None:
        # Renamed first: half of it would otherwise look like a damaged checkpoint.
        path = self.path(step)
        gone = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=self.folder))
        path.rename(gone / "content")
        shutil.rmtree(gone, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove what a killed run left half written or half removed."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if _NAME.fullmatch(unfinished(entry.name) or ""):
                shutil.rmtree(entry, ignore_errors=True)

    @contextlib.contextmanager
    def _named_errors(self, path: Path) -> Iterator[None]:
        """Let an error name the checkpoint that was to be, and the one to go on from."""
        try:
            yield
        except BertoltError as error:
            whole = [known for known in self.steps() if self.path(known) != path]
            left = f"; {self.path(whole[-1]).name} is there to resume from" if whole else ""
            place = re.sub(r"\.(checkpoint-\d+)\.\w+\.part", r"\1", error.place)
            fix = "free some space" if isinstance(error, DiskFullError) else error.fix
            raise type(error)(error.problem, place=place, fix=f"{fix}{left}") from error


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was made at, by its name.

    Raises:
        CheckpointError: it has another name.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise CheckpointError(
            "not the name of a checkpoint", place=str(checkpoint), fix="name a checkpoint-STEP"
        )
    return int(match.group(1))


def seal(folder: Path) -> None:
    """Write the manifest of all files in the folder, and wait until all is on the disk."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync(path)
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": _checksum(path)}
    text = json.dumps({"files": files}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)


def require_whole(checkpoint: Path) -> None:
    """Compare every file of a checkpoint with the manifest.

    Raises:
        CheckpointError: it is not there, or what differs first.
    """
    if not checkpoint.is_dir():
        raise CheckpointError(
            "the checkpoint is gone", place=str(checkpoint), fix="resume from another one"
        )
    manifest = _listed(checkpoint)
    for path in sorted(checkpoint.rglob("*")):
        name = path.relative_to(checkpoint).as_posix()
        if name.endswith(_READ) and name != MANIFEST and name not in manifest:
            raise _damaged(checkpoint, f"{name} is there, and {MANIFEST} does not name it")
    for name, listed in manifest.items():
        path = checkpoint / name
        try:
            if (size := path.stat().st_size) != listed["bytes"]:
                raise _damaged(checkpoint, f"{name} has {size} of {listed['bytes']} bytes")
            if _checksum(path) != listed["sha256"]:
                raise _damaged(checkpoint, f"the content of {name} is not what was written")
        except BertoltError:
            raise
        except OSError as error:
            raise _damaged(checkpoint, f"{name}: {error.strerror}") from error


def _listed(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Size and checksum of each file, by the manifest."""
    try:
        files = read_json(checkpoint / MANIFEST)["files"]
        return {
            require_inside(name): {key: it[key] for key in ("bytes", "sha256")}
            for name, it in files.items()
        }
    except OSError as error:
        raise _damaged(checkpoint, f"{MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(checkpoint, f"{MANIFEST} cannot be read ({error})") from error


def _damaged(checkpoint: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is damaged: {how}", place=str(checkpoint), fix="resume from another one"
    )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
