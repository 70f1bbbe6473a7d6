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
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from bertolt.base.files import (
    disk_errors,
    held_folder,
    no_empty_parents,
    require_free,
    swap_folder,
    write_atomically,
    write_text,
)
from bertolt.base.json_files import read_json
from bertolt.base.paths import real
from bertolt.corpus.counts import CorpusCounts
from bertolt.corpus.parts import Result
from bertolt.corpus.shards import MANIFEST, SHARDS, TOKENIZER, ShardEntry, file_sha256

FILES = frozenset({MANIFEST, SHARDS, TOKENIZER})
"""Names that a run writes, and that `--overwrite` may replace."""

_PARTS, _CORPUS = "parts", "corpus"


class FinishedPart(NamedTuple):
    """A part whose shard is written."""

    entry: ShardEntry
    counts: CorpusCounts


@dataclass(frozen=True)
class StagingFolder:
    """A run's own folder; `staging_folder` makes one.

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

    def find(self, number: int, key: str) -> FinishedPart | None:
        """A part that an earlier run has done with the same key, if its shard is whole."""
        try:
            content = read_json(self._record(number))
            entry = ShardEntry.from_dict(content["entry"])
            whole = file_sha256(self.corpus / SHARDS / entry.file) == entry.sha256
            part = FinishedPart(entry, CorpusCounts.from_dict(content["counts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or not whole: it is done again
        return part if whole and content["key"] == key else None

    def keep(self, result: Result) -> FinishedPart:
        """Write the shard of a part, and then the record that says so.

        Raises:
            BertoltError: the file system refused; the parts before are kept.
        """

        def write(path: Path) -> None:
            path.write_bytes(result.data)

        entry = ShardEntry(
            file=f"{result.number:05}-{result.key[:12]}.arrow",
            sha256=hashlib.sha256(result.data).hexdigest(),
            bytes=len(result.data),
            train=result.counts.train,
            held_out=result.counts.held_out,
        )
        write_atomically(self.corpus / SHARDS / entry.file, write)
        record = {"key": result.key, "entry": asdict(entry), "counts": asdict(result.counts)}
        write_text(self._record(result.number), json.dumps(record))
        return FinishedPart(entry, result.counts)

    def publish(self, entries: Iterable[ShardEntry]) -> None:
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
            swap_folder(self.corpus, real(self.out))

    def _record(self, number: int) -> Path:
        return self.folder / _PARTS / f"{number:05}.json"

    def count_parts(self) -> int:
        """Parts that are done, by this run or earlier ones, and that the next could take up."""
        return sum(1 for _ in (self.folder / _PARTS).glob("*.json"))


@contextlib.contextmanager
def staging_folder(out: Path, *, overwrite: bool) -> Iterator[StagingFolder]:
    """Claim the folder beside `out`, with what an earlier run has left in it.

    It is gone afterwards if `out` was published or nothing was done; else it stays.

    Raises:
        UsageError: `out` holds what may not be replaced, or another run is filling it.
        BertoltError: the file system refused.
    """
    require_free(out, overwrite=overwrite, ours=FILES)
    path = real(out)
    folder = path.parent / f".{path.name}.preparing"
    fix = "wait until it is done, or choose another --out"
    with no_empty_parents(path), held_folder(folder, fix=fix, out=out):
        staging = StagingFolder(out, folder, overwrite)
        try:
            require_free(out, overwrite=overwrite, ours=FILES)
            with disk_errors(out):
                shutil.rmtree(staging.corpus / TOKENIZER, ignore_errors=True)
                (staging.corpus / SHARDS).mkdir(parents=True, exist_ok=True)
                (folder / _PARTS).mkdir(exist_ok=True)
                _remove_halves(staging.corpus, staging.corpus / SHARDS, folder / _PARTS)
            yield staging
        finally:
            if not staging.corpus.exists() or not staging.count_parts():
                shutil.rmtree(folder, ignore_errors=True)


def _remove_halves(*folders: Path) -> None:
    """Take away what a run that was killed was writing."""
    for folder in folders:
        for path in folder.glob(".*.part"):
            path.unlink()
