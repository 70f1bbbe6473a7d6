"""Files, folders and patterns as a stream of documents.

    sources = find_sources(["wiki/", "books/*.txt.gz", "news.parquet"])
    reader = Reader(sources, options)
    for document in reader: ...
    reader.summary                 # rows and lines that were left out, and why

A *source* is what was named. Where a single folder is named, each entry of it is one, so that the
shares of its parts can be told. Plain text is anything that is not a table by its name; in a folder
only files that end in .txt or .text or in nothing are taken for it. Memory does not depend on the
size of a file: of plain text a piece of a document is held at most, of tables some rows.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bertolt.base.console import info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import require_apart
from bertolt.base.format import plural
from bertolt.base.paths import FILE, PIPE, kind_of, real
from bertolt.corpus.options import TextOptions
from bertolt.data.columns import choose_columns
from bertolt.data.encodings import AUTO
from bertolt.data.formats import KINDS, ending, open_source
from bertolt.data.lines import EncodingError, encoding_of, require_path, text_lines
from bertolt.data.several import require_no_model
from bertolt.data.table_file import BadRow, as_text, counted_reason, is_blank, row_words, unfit

PIECE = 1 << 20  # characters of a document that are held at once

_SHOWN_FILES = 10  # in a message
_TEXT_ENDINGS = frozenset({".txt", ".text", ""})


@dataclass(frozen=True)
class NamedFiles:
    """Something that was named, and its files in the order of their names."""

    name: str
    files: tuple[Path, ...]


class Document(NamedTuple):
    """A text, or a piece of one that is longer than what is held at once.

    Attributes:
        source: the number of its source.
        text: without NUL characters.
        continues: it is a further piece of the document before it.
    """

    source: int
    text: str
    continues: bool = False


@dataclass
class ReadSummary:
    """What was read and what was left out.

    Attributes:
        documents: whole documents, those in pieces counted once.
        cut: documents that were longer than a piece.
        dropped: the reason, and how many rows or lines were left out for it.
        columns: a file, and what was found out about its columns.
        blankless: files of plain text with many lines and no blank one between them.
    """

    documents: int = 0
    cut: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    columns: dict[str, str] = field(default_factory=dict)
    blankless: list[str] = field(default_factory=list)


# ---- finding files ----


@dataclass(frozen=True)
class CorpusFiles:
    """The files of a corpus.

    Attributes:
        sources: with at least one file each.
        skipped: endings of files in folders that are no text, and how many there are.
        repeated: files that were named twice, and are read once.
        bytes: of all files.
    """

    sources: tuple[NamedFiles, ...]
    skipped: Counter[str]
    repeated: tuple[Path, ...]
    bytes: int

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, in the order in which they are read."""
        return tuple(path for source in self.sources for path in source.files)


def find_sources(
    corpus: Sequence[str | os.PathLike[str]], *, without: Path | None = None
) -> CorpusFiles:
    """The files that are named: files, folders with all that is below them, patterns.

    Args:
        corpus: names; `*`, `?`, `[…]` and `**` are patterns where there is no file of that name.
        without: a folder that is not looked into, because the run writes to it.

    Raises:
        UsageError: nothing is named, or a file or folder that the run would replace.
        DataError: a name or pattern that fits nothing, or a folder without text.
    """
    if not corpus:
        raise UsageError("no corpus is named", fix="name files, folders or patterns of text")
    skipped: Counter[str] = Counter()
    named: list[NamedFiles] = []
    for name in map(str, corpus):
        paths = _expanded(name)
        if without is not None:
            require_apart(without, paths)
        for path in paths:
            named += _source(path, skipped, without, alone=len(corpus) == 1)
    sources, repeated = _each_file_once(named)
    size = sum(path.stat().st_size for source in sources for path in source.files)
    return CorpusFiles(sources, skipped, repeated, size)


def describe_files(corpus_files: CorpusFiles) -> None:
    """Say what will be read, and what of the named will not."""
    files, sources = len(corpus_files.files), len(corpus_files.sources)
    info(
        f"Corpus: {plural(files, 'file')}, {corpus_files.bytes / 1e6:,.1f} MB"
        + (f", from {sources:,} sources" if sources > 1 else "")
    )
    if corpus_files.skipped:
        kinds = ", ".join(f"{count:,} {end}" for end, count in sorted(corpus_files.skipped.items()))
        info(f"  left out in folders, for they are no text by their names: {kinds}")
    for path in corpus_files.repeated:
        info(f"  named twice, read once: {path}")


def _expanded(name: str) -> list[Path]:
    path = Path(name)
    if path.exists() or not glob.has_magic(name):
        return [path]
    matches = sorted(map(Path, glob.glob(name, recursive=True)), key=os.fsencode)  # noqa: PTH207
    if not matches:
        raise DataError("the pattern fits no file", place=name, fix="check it, and quote it")
    return matches


def _source(
    path: Path, skipped: Counter[str], without: Path | None, *, alone: bool
) -> list[NamedFiles]:
    if not path.is_dir():
        require_path(path, "file or folder")
        _require_readable(path)
        return [NamedFiles(str(path), (path,))]
    require_no_model(path, "name files or folders of text")
    entries = _below(path, skipped, without)
    if not entries:
        held = f"; it holds files ending in {', '.join(sorted(skipped))}" if skipped else ""
        raise DataError(
            f"there is no text in this folder{held}",
            place=str(path),
            fix=f"name a folder with {', '.join(['.txt', *KINDS])}, packed with .gz or .zst or not",
        )
    if not alone:
        return [NamedFiles(str(path), tuple(entries))]
    parts: dict[str, list[Path]] = {}
    for entry in entries:
        parts.setdefault(str(path / entry.relative_to(path).parts[0]), []).append(entry)
    return [NamedFiles(name, tuple(files)) for name, files in parts.items()]


def _require_readable(path: Path) -> None:
    """Refuse what is no file; text may come through a pipe, for it is read once."""
    kind = kind_of(path)
    if kind == PIPE and ending(path) in _TEXT_ENDINGS:
        info(f"{path} is a pipe, and is read as it comes")
    elif kind != FILE:
        raise DataError(f"this is {kind}", place=str(path), fix="name a file or a folder")


def _below(folder: Path, skipped: Counter[str], without: Path | None) -> list[Path]:
    """Files of text below a folder, sorted; hidden ones and what the run writes left out."""
    paths: list[Path] = []
    links: list[Path] = []
    for parent, folders, names in os.walk(folder):
        inside = Path(parent)
        links += [inside / name for name in folders if (inside / name).is_symlink()]
        folders[:] = [
            name for name in folders if not name.startswith(".") and real(inside / name) != without
        ]
        for path in (inside / name for name in names if not name.startswith(".")):
            if ending(path) in _TEXT_ENDINGS or ending(path) in KINDS:
                paths.append(path)
            else:
                skipped[ending(path)] += 1
    if links:  # which could lead round in a circle, or out of the corpus
        info(f"{plural(len(links), 'link')} to folders not followed (first: {min(links)})")
    paths.sort(key=os.fsencode)
    _require_files(paths)
    return paths


def _require_files(paths: Sequence[Path]) -> None:
    """Refuse names of text in a folder behind which there is no file, all at once."""
    others = [(path, kind) for path in paths if (kind := kind_of(path)) != FILE]
    if others:
        shown = "".join(f"\n  {path}: {kind}" for path, kind in others[:_SHOWN_FILES])
        more = len(others) - _SHOWN_FILES
        raise DataError(
            f"{plural(len(others), 'name')} of text without a file behind:{shown}"
            + (f"\n  and {more:,} more" if more > 0 else ""),
            fix="take them out of the folder, or mend the links",
        )


def _each_file_once(named: Sequence[NamedFiles]) -> tuple[tuple[NamedFiles, ...], tuple[Path, ...]]:
    met: set[Path] = set()
    repeated: list[Path] = []
    sources: dict[str, list[Path]] = {}
    for source in named:
        for path in source.files:
            if (behind := real(path)) in met:
                repeated.append(path)
            else:
                met.add(behind)
                sources.setdefault(source.name, []).append(path)
    return tuple(NamedFiles(name, tuple(files)) for name, files in sources.items()), tuple(repeated)


# ---- reading them ----


class Reader:
    """All documents of some sources, one after the other; iterate once.

    Attributes:
        summary: what was read and what was left out, so far.
        position: bytes of the files, as they lie there, that have been read.
    """

    def __init__(
        self, sources: Sequence[NamedFiles], options: TextOptions, *, piece: int = PIECE
    ) -> None:
        self.summary = ReadSummary()
        self.position = 0
        self._sources = sources
        self._options = options
        self._piece = piece

    def __iter__(self) -> Iterator[Document]:
        """Yields documents in the order of the files and of the text in them.

        Raises:
            EncodingError: files that are not in the encoding: the first one that is met, and all
                behind it.
            DataError: a file that is empty, damaged or without such a column; or a row that cannot
                be used, if that is an error.
        """
        before = 0
        files = [(number, path) for number, each in enumerate(self._sources) for path in each.files]
        for index, (number, path) in enumerate(files):
            size = path.stat().st_size
            try:
                yield from self._documents(number, path, self._seen(before, size))
            except EncodingError as error:
                raise self._with_other_files(error, [path for _, path in files], index) from error
            before += size
            self.position = before

    def _with_other_files(
        self, error: EncodingError, files: Sequence[Path], index: int
    ) -> EncodingError:
        """The error for all files that are not in the encoding; those before `index` are."""
        encoding, later = self._options.encoding, files[index + 1 :]
        if len(files) == 1:
            return error
        what = "of an encoding that can be told" if encoding == AUTO else f"{encoding} text"
        if later:
            info(f"{error.place}: not {what}; looking into {plural(len(later), 'other file')}")
        errors = [error, *filter(None, (_encoding_error(path, encoding) for path in later))]
        if len(errors) == len(files) and all(each.others == error.others for each in errors):
            fix = error.fix
        else:
            names = dict.fromkeys(name for each in errors for name in each.others)
            # iconv knows latin-1 as latin1.
            known = " or ".join(name.replace("latin-1", "latin1") for name in names)
            into = "utf-8" if encoding == AUTO else encoding
            fix = (
                f"write each in {into}, such as by iconv -f ENCODING -t {into} FILE > NEW"
                f" && mv NEW FILE, where ENCODING is {known or 'what it was written in'}; or leave"
                " it out"
            )
            if encoding != AUTO and not any(_encoding_error(path, AUTO) for path in files):
                fix = f"let each be read in its own encoding: --encoding {AUTO}; or {fix}"
        if len(errors) == 1:
            return EncodingError(error.problem, place=error.place, fix=fix)
        places = [
            f"\n  {each.place}" + f": {' or '.join(each.others)}?" * bool(each.others)
            for each in errors[:_SHOWN_FILES]
        ]
        more = len(errors) - len(places)
        return EncodingError(
            f"{len(errors):,} of {plural(len(files), 'file')} are not {what}:"
            + "".join(places)
            + (f"\n  and {more:,} more" if more else ""),
            fix=fix,
        )

    def _seen(self, before: int, size: int) -> Callable[[int], None]:
        def seen(count: int) -> None:
            self.position = before + min(count, size)

        return seen

    def _documents(
        self, source: int, path: Path, seen: Callable[[int], None]
    ) -> Iterator[Document]:
        if ending(path) in KINDS:
            texts = self._whole(self._records(path, seen))
        elif self._options.documents == "lines":
            texts = self._whole(filter(None, self._lines(path, seen)))
        else:
            texts = self._blocks(path, seen)
        cut_before = False
        for text, continues in texts:
            self.summary.documents += not continues
            self.summary.cut += continues and not cut_before
            cut_before = continues
            yield Document(source, text, continues)

    def _whole(self, texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """Texts that are documents, cut where they are long, with whether each continues one."""
        for text in texts:
            for index, piece in enumerate(cut(text, self._piece)):
                yield piece, index > 0

    def _blocks(self, path: Path, seen: Callable[[int], None]) -> Iterator[tuple[str, bool]]:
        """The documents of plain text between blank lines, cut and marked like those of `_whole`.

        Lines are gathered only as far as a piece goes, for a file may have no blank line at all.
        """
        block: list[str] = []
        size = lines = blank = 0
        continues = False
        for line in self._lines(path, seen):
            lines, blank = lines + 1, blank + (not line)
            if block and (not line or size + len(line) > self._piece):
                for piece, more in self._whole(["\n".join(block)]):
                    yield piece, continues or more
                block, size, continues = [], 0, bool(line)
            if line:
                block.append(line)
                size += len(line) + 1
        for piece, more in self._whole(["\n".join(block)] if block else []):
            yield piece, continues or more
        if lines > 1 and not blank:
            self.summary.blankless.append(str(path))

    def _lines(self, path: Path, seen: Callable[[int], None]) -> Iterator[str]:
        """The lines that can be used, without white space around them; blank ones are empty."""
        empty = True
        encoding = encoding_of(path, self._options.encoding)
        if self._options.encoding == AUTO:
            self.summary.columns[str(path)] = f"encoding {encoding}, by its bytes"
        for number, raw in enumerate(text_lines(path, encoding, seen), start=1):
            empty = False
            line = raw.strip()
            reason = unfit(line)
            if reason:
                self._drop(reason, f"a {reason} in the line", f"{path}, line {number}")
            else:
                yield line
        if empty:
            raise DataError(
                "there is nothing in it", place=str(path), fix="leave it out, or fetch it again"
            )

    def _records(self, path: Path, seen: Callable[[int], None]) -> Iterator[str]:
        """The texts of a table, from the column that is named or found."""
        source = open_source(path, self._options.encoding, seen)
        choice = choose_columns(
            replace(source, title=0),
            path,
            text=self._options.text,
            label=None,
            need_label=False,
            prefer={},
            layout=False,
        )
        columns = [f"column {choice.text!r}, {why}"] if (why := choice.found.get("text")) else []
        notes = ("encoding", "quotes")
        seen_of_it = [f"{name} {words}" for name in notes if (words := choice.found.get(name))]
        if columns or seen_of_it:
            self.summary.columns[str(path)] = "; ".join([*columns, *seen_of_it])
        for row, (line, values) in enumerate(source.rows([choice.text]), start=1):
            place = f"{path}, {row_words(row, line)}"
            text = values if isinstance(values, BadRow) else self._cell(values[0], place)
            if isinstance(text, BadRow):
                self._drop(text.reason, text.detail, place)
            else:
                yield text

    def _cell(self, value: object, place: str) -> str | BadRow:
        text = as_text(value)
        if text is None:
            raise DataError(
                f"the text is no text but {str(value)[:40]!r} ({type(value).__name__})",
                place=place,
                fix="choose another column with --text",
            )
        if is_blank(text):
            return BadRow("empty text", "the text is empty")
        reason = unfit(text)
        return BadRow(reason, f"a {reason} in the text") if reason else text

    def _drop(self, reason: str, detail: str, place: str) -> None:
        if self._options.on_bad_row == "error":
            raise DataError(
                detail, place=place, fix="mend it, or leave such out with --on-bad-row drop"
            )
        self.summary.dropped[counted_reason(reason, self.summary.dropped)] += 1


def describe_reading(summary: ReadSummary) -> None:
    """Say what was found out about the files, and what was left out of them."""
    files: dict[str, list[str]] = {}
    for path, words in summary.columns.items():
        files.setdefault(words, []).append(path)
    for words, paths in files.items():
        if len(paths) <= _SHOWN_FILES:
            for path in paths:
                info(f"  {path}: {words}")
        else:
            info(f"  {plural(len(paths), 'file')}, first {paths[0]}: {words}")
    for reason, count in sorted(summary.dropped.items()):
        info(f"  left out: {count:,} for {reason}")


def _encoding_error(path: Path, encoding: str) -> EncodingError | None:
    """Why a file is not in the encoding; what else is wrong with it is told when it is read."""
    if ending(path) in (".parquet", ".xlsx") or kind_of(path) != FILE:
        return None
    try:
        for _ in text_lines(path, encoding):
            pass
    except EncodingError as error:
        return error
    except DataError:
        pass
    return None


def cut(text: str, size: int) -> Iterator[str]:
    """A text in pieces of at most `size` characters, cut at line ends, or at spaces, or anywhere.

    The line end or space at which it is cut is left out.
    """
    start = 0
    while len(text) - start > size:
        end = text.rfind("\n", start + 1, start + size + 1)
        if end < 0:
            end = text.rfind(" ", start + 1, start + size + 1)
        if end < 0:
            end = start + size
        yield text[start:end]
        start = end + (text[end] in "\n ")
    yield text[start:]


def shard_size(total_bytes: int) -> int:
    """Characters of text in a shard, by the size of a corpus: 64 shards, within 1 to 8 million.

    A power of two, so that a corpus that grows a little is divided as before.
    """
    size = 1 << 20
    while size < 1 << 23 and 64 * size < total_bytes:
        size *= 2
    return size
