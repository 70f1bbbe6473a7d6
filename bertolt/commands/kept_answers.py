"""Answers on their way to a file, kept beside it, so that the same command goes on after a kill.

    .NAME.answering/
        answers        what is written so far, as the format has it
        done.json      what they were made of, and how far they are; replaced after a window
        whole          what becomes the output, where that is not `answers` itself

A window of texts is read and sorted by length together, so its answers may depend on each other in
their last bits: what goes on begins with a whole one, and ends with the same bytes as if nothing
had happened. The folder stays when a command is stopped or killed, or the disk is full; it goes
when the output is there, and when no window was done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bertolt.base.console import info
from bertolt.base.errors import CheckpointError, DataError, DiskFullError, UsageError
from bertolt.base.files import (
    disk_errors,
    held_folder,
    hidden_prefix,
    no_empty_parents,
    publish,
    sync,
    write_text,
)
from bertolt.base.format import plural, shorten
from bertolt.base.json_files import read_json
from bertolt.base.options import deciding
from bertolt.base.paths import FILE, NOWHERE, kind_of, real
from bertolt.base.version import __version__
from bertolt.checkpoint import huggingface
from bertolt.commands.predict_options import PredictOptions
from bertolt.commands.writers import Format
from bertolt.tasks.predictor import Predictor

EVERY = 1.0
"""Seconds between two notes of how far answers are: a window of a fast model takes a part of one,
and each note waits for the disk."""
_DONE = "done.json"
_SHOWN = 60  # characters of a setting in a message
_CONTENT = "the content of "
_DIGESTS = ("the model's weights", "its tokenizer", "its settings of the task")
_BROUGHT_ABOUT = (
    *("its task", "its settings of the task", "long texts are", "most tokens of a window"),
    *("number format", "answers are written as"),
)
"""What follows from options, and from the model where no option differs."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far answers are.

    Attributes:
        made_of: all that decides them, by names that a user knows.
        size: bytes of the file `answers` that are theirs.
        counts: of the questions: `done`, `cut` and `parted`.
        writer: what the writer goes on with.
    """

    made_of: dict[str, Any]
    size: int
    counts: dict[str, int]
    writer: dict[str, Any]


class KeptAnswers:
    """The folder beside the output; `kept_answers` gives one.

    Args:
        out: the file of answers.
        folder: the folder.

    Attributes:
        answers, whole: files in it.
        mark: how far the answers in it are; None: there are none.
        begun: whether answering has begun: what goes wrong before that says nothing of the answers.
    """

    def __init__(self, out: Path, folder: Path) -> None:
        self.out, self.folder = out, folder
        self.answers, self.whole = folder / "answers", folder / "whole"
        self.mark = self._read()
        self.begun = False
        self._noted = -math.inf

    def _read(self) -> Mark | None:
        try:
            mark = Mark(**read_json(self.folder / _DONE))
            is_whole = self.answers.stat().st_size >= mark.size
        except (OSError, ValueError, TypeError):
            return None  # not there, or not whole
        return mark if is_whole else None

    def require_same(self, made_of: Mapping[str, Any]) -> None:
        """Begin, or refuse to go on with answers that are made of something else.

        Raises:
            UsageError: naming what differs, with the value of then and that of now.
        """
        if self.mark and (changes := changed(self.mark.made_of, made_of)):
            raise UsageError(
                f"{plural(self.mark.counts['done'], 'answer')} of an earlier run are kept beside "
                f"it, and were made otherwise: {changes}",
                place=f"--out {self.out}",
                fix="go on with the same as then, or add --overwrite to begin anew",
            )
        self.begun = True

    def keep(self, mark: Mark) -> None:
        """Note that answers are so far, unless they were noted just before.

        Raises:
            BertoltError: the file system refused.
        """
        if time.monotonic() < self._noted + EVERY:
            return
        with disk_errors(self.out):
            sync(self.answers)
        write_text(self.folder / _DONE, json.dumps(asdict(mark), ensure_ascii=False))
        self.mark, self._noted = mark, time.monotonic()

    def publish(self, path: Path, *, replace: bool) -> None:
        """Give one of the files the name of the output; nothing else is kept then.

        Raises:
            UsageError: another file of this name came to be, and is not to be replaced.
            BertoltError: the file system refused.
        """
        with disk_errors(self.out):
            publish(path, real(self.out), replace)
        self.forget()

    def forget(self) -> None:
        """Take away what is kept."""
        self.mark = None
        for path in self.folder.iterdir():
            path.unlink()


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs of two runs, each with both values; empty: nothing.

    What options bring about is not told beside the options that differ.
    """
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if any(name.startswith("--") for name in names):
        names = [name for name in names if name not in _BROUGHT_ABOUT]
    return ", ".join(_change(name, then.get(name), now.get(name)) for name in names)


def _change(name: str, then: Any, now: Any) -> str:
    if name in _DIGESTS or name.startswith(_CONTENT):
        if then is None or now is None:
            return f"{name} (only {'now' if then is None else 'then'})"
        return f"{name} changed"
    return f"{name} {_shown(then)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    """A value of an option, as it is typed where it can be."""
    if value is None or value is False:
        return "(not given)"
    if value is True:
        return "(given)"
    return shorten(value if isinstance(value, str) else json.dumps(value), _SHOWN)


def can_be_kept(files: Sequence[str], out: Path | None, form: Format) -> bool:
    """Whether a command with these inputs can go on after a kill: the rows of files into a file
    that grows."""
    if out is None or "-" in files or form.style == "xlsx":
        return False
    return kind_of(out) in ("", NOWHERE, FILE)


@contextlib.contextmanager
def kept_answers(out: Path) -> Iterator[KeptAnswers]:
    """Claim the folder beside a file of answers, with what an earlier run has left in it.

    Raises:
        UsageError: another run is writing the same file.
        BertoltError: the file system refused.
    """
    path = real(out)
    folder = path.parent / f"{hidden_prefix(path)}answering"
    fix = "wait until it is done, or choose another --out"
    with no_empty_parents(path), held_folder(folder, fix=fix, out=out):
        kept = KeptAnswers(out, folder)
        try:
            with disk_errors(out):
                yield kept
        except DiskFullError as error:
            if kept.mark is None:
                raise
            fix = f"free some space, and run the same command again: {_count(kept.mark)} are kept"
            raise DiskFullError(error.problem, place=error.place, fix=fix) from error
        except BaseException as error:
            if kept.begun and isinstance(error, DataError | CheckpointError):
                kept.mark = None  # the same command would come to the same end
            if kept.mark is not None:
                goes_on = "the same command goes on from there"
                info(f"{_count(kept.mark)} kept in {folder}; {goes_on}")
            raise
        finally:
            if kept.mark is None:
                shutil.rmtree(folder, ignore_errors=True)


def _count(mark: Mark) -> str:
    return plural(mark.counts["done"], "answer")


def made_of(
    model: str, predictor: Predictor, files: Sequence[str], options: PredictOptions, form: Format
) -> dict[str, Any]:
    """All that decides the bytes of answers, in plain values; `model` is its folder or id."""
    values = {
        **deciding(options),
        "engine": predictor.engine.name,
        "number format": predictor.precision.name,
        "device": predictor.device.type,
        "its task": predictor.task.name,
        "its labels": predictor.labels,
        "long texts are": predictor.long.words(predictor.max_length),
        "most tokens of a window": predictor.max_length,
        "answers are written as": _form(form),
        "the model's weights": huggingface.digest(predictor.model)
        if predictor.graph is None
        else _content(Path(huggingface.resolve(model))),
        "its tokenizer": _digest(predictor.tokenizer.backend_tokenizer.to_str()),
        "its settings of the task": _digest(predictor.task.settings()),
        **{f"{_CONTENT}{file}": _content(Path(file)) for file in files},
        "Bertolt": __version__,
        "PyTorch": torch.__version__,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _form(form: Format) -> str:
    """In which form answers are written, as far as no option says it."""
    reasons = ", with a column of reasons" if form.reasons else ""
    return f"{form.style}{form.packing}{reasons}"


def _digest(value: Any) -> str:
    written = json.dumps(value, default=str).encode()
    return hashlib.blake2b(written, digest_size=6).hexdigest()


def _content(path: Path) -> str:
    """A digest of a file, or of all files in a folder."""
    digest = hashlib.blake2b(digest_size=8)
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if each.is_file():
            digest.update(str(each.relative_to(path)).encode(errors="surrogatepass"))
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
