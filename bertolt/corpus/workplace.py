"""The folder beside the output in which a run gathers what is done, so that the next can go on.

    .NAME.preparing/
        parts/00000.json       what part 0 was made of, and its counts; written after its shard
        corpus/                what becomes the output when all of it is there

It stays when a run is stopped or killed, and goes when one ends well or had done nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertolt.base.files import (
    disk_errors,
    held_folder,
    no_empty_parents,
    require_free,
    swap_folder,
    write_atomically,
    write_text,
)
from bertolt.corpus.parts import Result
from bertolt.corpus.shards import MANIFEST, SHARDS, TOKENIZER, Counts, ShardEntry, file_sha256
from bertolt.corpus.tally import Tally

FILES = frozenset({MANIFEST, SHARDS, TOKENIZER})
"""Names that a run writes, and that `--overwrite` may replace."""

_PARTS, _CORPUS = "parts", "corpus"


@dataclass(frozen=True)
class Done:
    """A part whose shard is written."""

    entry: ShardEntry
    tally: Tally


@dataclass(frozen=True)
class Workplace:
    """A run's own folder; `workplace` makes one.

    Attributes:
        out: the folder that it will become.
        folder: the folder beside it.
        overwrite: whether `out` may hold an earlier corpus.
    """

    out: Path
    folder: Path
    overwrite: bool

    @property
    def corpus(self) -> Path:
        """The corpus that is being made."""
        return self.folder / _CORPUS

    def find(self, number: int, key: str) -> Done | None:
        """A part that an earlier run has done with the same key, if its shard is whole."""
        try:
            content = json.loads(self._record(number).read_text(encoding="utf-8"))
            entry = _entry(content["entry"])
            whole = file_sha256(self.corpus / SHARDS / entry.file) == entry.sha256
            tally = Tally.from_dict(content["tally"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or not whole: it is done again
        return Done(entry, tally) if whole and content["key"] == key else None

    def keep(self, result: Result) -> Done:
        """Write the shard of a part, and then the record that says so.

        Raises:
            BertoltError: the file system refused; the parts before are kept.
        """
        name = f"{result.number:05}-{result.key[:12]}.arrow"
        entry = ShardEntry(
            file=name,
            sha256=hashlib.sha256(result.data).hexdigest(),
            bytes=len(result.data),
            train=result.tally.train,
            held_out=result.tally.held_out,
        )
        write_atomically(self.corpus / SHARDS / name, lambda path: _write(path, result.data))
        content = {"key": result.key, "entry": asdict(entry), "tally": result.tally.to_dict()}
        write_text(self._record(result.number), json.dumps(content))
        return Done(entry, result.tally)

    def publish(self, entries: list[ShardEntry]) -> None:
        """Leave nothing but these shards beside the manifest, and let it become the output.

        Raises:
            UsageError: in the meantime there is something else at `out`.
            BertoltError: the file system refused.
        """
        names = {entry.file for entry in entries}
        require_free(self.out, overwrite=self.overwrite, ours=FILES)
        with disk_errors(self.out):
            for path in (self.corpus / SHARDS).iterdir():
                if path.name not in names:
                    path.unlink()
            swap_folder(self.corpus, self.out.resolve())

    def _record(self, number: int) -> Path:
        return self.folder / _PARTS / f"{number:05}.json"

    def count_parts(self) -> int:
        """Parts that are done, by this run or earlier ones, and that the next could take up."""
        return sum(1 for _ in (self.folder / _PARTS).glob("*.json"))


def _entry(content: dict[str, Any]) -> ShardEntry:
    both = {name: Counts(**content[name]) for name in ("train", "held_out")}
    return ShardEntry(**{**content, **both})


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@contextlib.contextmanager
def workplace(out: Path, *, overwrite: bool) -> Iterator[Workplace]:
    """Claim the folder beside `out`, with what an earlier run has left in it.

    It is gone afterwards if `out` was published or nothing was done; else it stays.

    Raises:
        UsageError: `out` holds what may not be replaced, or another run is filling it.
        BertoltError: the file system refused.
    """
    require_free(out, overwrite=overwrite, ours=FILES)
    real = out.resolve()
    folder = real.parent / f".{real.name}.preparing"
    fix = "wait until it is done, or choose another --out"
    with no_empty_parents(real), held_folder(folder, fix=fix, out=out):
        work = Workplace(out, folder, overwrite)
        try:
            require_free(out, overwrite=overwrite, ours=FILES)
            with disk_errors(out):
                shutil.rmtree(work.corpus / TOKENIZER, ignore_errors=True)
                (work.corpus / SHARDS).mkdir(parents=True, exist_ok=True)
                (folder / _PARTS).mkdir(exist_ok=True)
                _remove_halves(work.corpus, work.corpus / SHARDS, folder / _PARTS)
            yield work
        finally:
            if not work.corpus.exists() or not work.count_parts():
                shutil.rmtree(folder, ignore_errors=True)


def _remove_halves(*folders: Path) -> None:
    """Take away what a run that was killed was writing."""
    for folder in folders:
        for path in folder.glob(".*.part"):
            path.unlink()
