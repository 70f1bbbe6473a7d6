"""The folder of a run: checked before anything is done, filled in place, marked complete at last.

While a run lasts, its checkpoints and its log are in the folder. Its result is written under a
hidden name and put in place when it is whole, over an earlier one; `complete.json` comes last.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bertolt.base.distributed import World, note_taken
from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.files import (
    LEFT_BY_THE_SYSTEM,
    disk_errors,
    held_folder,
    no_empty_parents,
    require_no_file,
    sync,
    unfinished,
    write_text,
)
from bertolt.base.json_files import parse_json, read_json
from bertolt.base.settings import SETTINGS
from bertolt.checkpoint.sentence_files import WRITTEN
from bertolt.train.trackers import FILES

ARGUMENTS = "arguments.json"
COMPLETE = "complete.json"
CONFIG = "config.json"
LOG = "log.jsonl"
METRICS = "metrics.json"
REPORT = "report.html"
RUNS = "runs.json"
WEIGHTS = "model.safetensors"
RESULT = frozenset(
    {
        *(ARGUMENTS, COMPLETE, CONFIG, METRICS, REPORT, WEIGHTS, "run.json", "bertolt.json"),
        *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        *("training_args.json", "answers.parquet", "out_of_fold.jsonl", SETTINGS, *WRITTEN),
    }
)
"""Names of what a run leaves as its result."""

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_RUN = re.compile(r"(?:seed|fold|sample|trial)-\d+|all-rows")
_STAGE = "result"
_COPIES = 3  # of the weights in a checkpoint: themselves, and two values of AdamW


class Complete(NamedTuple):
    """A run that came to its end.

    Attributes:
        settings: that decided its result.
        metrics: the content of its `metrics.json`.
        keeps_checkpoints: whether they were to stay; else what is there was about to be removed.
    """

    settings: dict[str, Any]
    metrics: dict[str, Any]
    keeps_checkpoints: bool = True


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A folder for the checkpoints, the log and the result of one run.

    Attributes:
        out: the folder.
        overwrite: an earlier run may be replaced: its checkpoints and its log when the new one
            begins, its result when there is another.
        resume: the run goes on with the checkpoints that are there.
    """

    out: Path
    overwrite: bool
    resume: bool

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, and take away what a killed run left half written.

        It is made if it is not there, and taken away again, with its parents, if nothing comes of
        it.

        Raises:
            UsageError: as in `require_usable`, or another run holds it.
            BertoltError: the file system refused, as it would a result.
        """
        self.require_usable()
        fix = "wait until it is done, or choose another --out"
        with no_empty_parents(self.out), held_folder(self.out, fix=fix):
            self.require_usable()
            with disk_errors(self.out):
                for entry in filter(_is_left_over, self._entries()):
                    _remove(entry)
                if not (self.out / COMPLETE).is_file():  # which may lie where nobody writes
                    tempfile.TemporaryFile(dir=self.out).close()  # now, and not after training
            yield

    def require_usable(self) -> None:
        """Refuse a folder whose content would be lost or mixed up.

        Raises:
            UsageError: it is a file; or holds something, and is neither overwritten nor resumed; or
                no run to go on with; or something that no run wrote, and is overwritten.
        """
        require_no_file(self.out)
        entries = self._entries()
        names = [entry.name for entry in entries if not _is_left_over(entry)]
        names = [name for name in names if not self._is_empty_run(name)]
        if not names or (self.resume and self._has_run(names)):
            return
        foreign = [name for name in names if not self._is_ours(name)]
        problem, fix = "the folder is not empty", "choose another --out"
        if self.overwrite and not foreign:
            return
        if self.overwrite:
            problem = (
                f"the folder holds {foreign[0]!r}, which no run has written, and would be lost"
            )
        elif self.resume:
            problem += ", and holds no run to go on with"
            fix += "" if foreign else ", or replace what is there: --overwrite"
        elif COMPLETE not in names and RUNS in names:
            problem = "there are runs of a command that did not come to its end"
            fix = "--resume goes on with them, --overwrite begins anew"
        elif COMPLETE not in names and any(map(_CHECKPOINT.fullmatch, names)):
            problem = "there are checkpoints of a run that did not come to its end"
            fix = "--resume goes on from them, --overwrite begins anew"
        elif self._has_run(names):
            fix = "go on with what is there: --resume; or replace it: --overwrite"
        elif not foreign:
            fix += ", or --overwrite"
        raise UsageError(problem, place=str(self.out), fix=fix)

    def begin(self, *, but: str = "") -> None:
        """Take away what would mix with the run that now begins; an earlier model stays for now.

        From here on the folder is that of no complete run, until this one is.

        Args:
            but: the folder of the first of several runs, which begins by itself; their record is
                then written anew by the caller.
        """
        runs = self._runs()
        if runs and not self.resume and (self.out / RUNS).is_file():
            # Killed from here on, they are still known for what they are, and gone on with no more.
            names = json.dumps({"runs": [{"name": name} for name in sorted(runs)]})
            write_text(self.out / RUNS, names + "\n")
        kept = {but, RUNS} if but else set()
        with disk_errors(self.out):
            for entry in sorted(self._entries(), key=lambda entry: entry.name == RUNS):
                of_a_run = entry.name in (LOG, RUNS, *FILES)
                of_a_run |= _CHECKPOINT.fullmatch(entry.name) is not None
                of_a_run |= entry.name in runs
                of_a_run &= entry.name not in kept
                if entry.name == COMPLETE or (of_a_run and not self.resume):
                    _remove(entry)
        note_taken(self.out)

    @contextlib.contextmanager
    def result(self) -> Iterator[Path]:
        """A hidden folder for the result, which takes the place of an earlier one when it is whole.

        If the block raises, the earlier result is as it was.

        Raises:
            BertoltError: the file system refused.
        """
        with disk_errors(self.out):
            stage = Path(tempfile.mkdtemp(prefix=f".{_STAGE}.", suffix=".part", dir=self.out))
        try:
            with _named(stage, self.out):
                yield stage
            with disk_errors(self.out):
                self._publish(stage)
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _publish(self, stage: Path) -> None:
        """Move the files; the config goes first and comes last, and without one nothing loads."""
        new = {path.name for path in stage.iterdir()}
        for name in (CONFIG, *(RESULT - new)):
            if os.path.lexists(self.out / name):
                _remove(self.out / name)
        for name in sorted(new, key=lambda name: name == CONFIG):
            if (stage / name).is_dir() and (self.out / name).is_dir():
                _remove(self.out / name)
            (stage / name).replace(self.out / name)
        sync(self.out)

    def mark_complete(self, settings: Mapping[str, Any], *, keeps_checkpoints: bool = True) -> None:
        """Write that the run has come to its end, after all else that it writes."""
        values = {"settings": dict(settings), "keeps_checkpoints": keeps_checkpoints}
        text = json.dumps(values, indent=2, ensure_ascii=False)
        write_text(self.out / COMPLETE, text + "\n")

    def read_complete_run(self, world: World) -> Complete | None:
        """The complete run in the folder, as the first process reads it; all processes call it.

        None if there is none, or some of its result is gone.
        """
        texts = ["", ""]
        if world.first and all(
            (self.out / name).is_file() for name in (COMPLETE, METRICS, WEIGHTS)
        ):
            # What is not UTF-8 is no JSON either, and told apart from it by nobody.
            texts = [
                (self.out / name).read_text(encoding="utf-8", errors="replace")
                for name in (COMPLETE, METRICS)
            ]
        about, metrics = json.loads(world.broadcast_text(json.dumps(texts)))
        try:
            values = parse_json(about)
            keeps = values.get("keeps_checkpoints", True) is not False
            return Complete(values["settings"], parse_json(metrics), keeps)
        except (AttributeError, ValueError, KeyError, TypeError):
            return None

    def _is_ours(self, name: str) -> bool:
        """Whether a run, or a command of several, has written it."""
        if name in RESULT or name in (LOG, RUNS, *FILES) or _CHECKPOINT.fullmatch(name):
            return True
        return name in self._runs()

    def _runs(self) -> set[str]:
        """Folders of several runs: those that `runs.json` names, and empty ones so called."""
        try:
            known = {str(each["name"]) for each in read_json(self.out / RUNS)["runs"]}
        except (OSError, ValueError, KeyError, TypeError):
            known = set()
        return {
            name
            for name in (entry.name for entry in self._entries())
            if _RUN.fullmatch(name) and (name in known or self._is_empty_run(name))
        }

    def _is_empty_run(self, name: str) -> bool:
        """Whether it is the folder of a run that was killed before it wrote anything."""
        folder = self.out / name
        return bool(_RUN.fullmatch(name)) and folder.is_dir() and not any(folder.iterdir())

    def _has_run(self, names: list[str]) -> bool:
        """Whether there is something to go on with, or a complete result."""
        whole = {COMPLETE, METRICS, WEIGHTS} <= set(names)
        return whole or any(name in (LOG, RUNS) or _CHECKPOINT.fullmatch(name) for name in names)

    def _entries(self) -> list[Path]:
        if not self.out.is_dir():
            return []
        return sorted(e for e in self.out.iterdir() if e.name not in LEFT_BY_THE_SYSTEM)


def require_space(out: Path, parameters: int, *, checkpoints: int, beside: int) -> None:
    """Refuse before training what could not be saved after it.

    Args:
        out: the folder of the run.
        parameters: of the model, 4 bytes each.
        checkpoints: that are still to be written, each with the moments of every parameter.
        beside: bytes that logs, tokenizers and reports may take.

    Raises:
        BertoltError: too little is free.
    """
    needed = 4 * parameters * (1 + _COPIES * checkpoints) + beside
    with disk_errors(out):
        free = shutil.disk_usage(out).free
    if free < needed:
        raise BertoltError(
            f"the run needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free",
            place=str(out),
            fix="free some space, keep fewer checkpoints, or choose another --out",
        )


@contextlib.contextmanager
def _named(stage: Path, out: Path) -> Iterator[None]:
    """Let errors name the folder that the user knows, and not the hidden one."""
    try:
        yield
    except BertoltError as error:
        if str(stage) not in error.place:
            raise
        place = error.place.replace(str(stage), str(out))
        raise type(error)(error.problem, place=place, fix=error.fix) from error


def _is_left_over(entry: Path) -> bool:
    """Whether it is what a killed run has left half written or half removed."""
    name = unfinished(entry.name)
    known = name in RESULT or name in (_STAGE, LOG, RUNS, *FILES)
    return name is not None and (known or _CHECKPOINT.fullmatch(name) is not None)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
