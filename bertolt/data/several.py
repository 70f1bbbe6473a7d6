"""What is read as one table: a file, several with the same columns, a ZIP of them, or a folder.

A folder has a folder for each class, with a text in each file, as `data/pos/1.txt`; or, where texts
have no labels, the files themselves.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import temporary_errors
from bertolt.base.format import plural
from bertolt.base.paths import FILE, FOLDER, kind_of, real
from bertolt.data.formats import KINDS, PACKED, TAGGED, TEXTS, ending
from bertolt.data.lines import (
    CHUNK,
    LINE_LIMIT,
    encoding_of,
    os_errors,
    require_file,
    text_lines,
    unpacked_limit,
    unpacks_too_large,
)
from bertolt.data.table_file import Row, TableFile, listing


class Part(NamedTuple):
    """A part of a table.

    Attributes:
        name: for messages and answers.
        source: its rows.
        files: the file of each row, where each row is one by itself.
    """

    name: str
    source: TableFile
    files: Sequence[str] = ()


def open_parts(
    paths: Sequence[Path], open_file: Callable[[Path], TableFile], encoding: str
) -> list[Part]:
    """Look into all that is named, in its order.

    Args:
        paths: files and folders.
        open_file: looks into a file.
        encoding: of the files of a folder.

    Raises:
        DataError: one of them cannot be read, or a folder or ZIP has no rows in it.
        UsageError: a path is named twice.
    """
    twice = [name for name, count in Counter(map(str, map(real, paths))).items() if count > 1]
    if twice:
        raise UsageError("it is named twice", place=twice[0], fix="name each file once")
    parts: list[Part] = []
    for path in paths:
        with os_errors(path):
            folder = _folder(path, encoding) if kind_of(path) == FOLDER else None
        if folder is not None:
            parts.append(folder)
        elif path.suffix.lower() == ".zip":
            parts += _zip(path, open_file)
        else:
            source = open_file(path)
            parts.append(Part(f"{path}, {source.part}" if source.part else str(path), source))
    return parts


def joined(parts: Sequence[Part]) -> TableFile:
    """All parts as one table with the columns of the first."""
    first = parts[0].source
    found: dict[str, str] = dict(first.found)
    for part in parts[1:]:
        for what, words in part.source.found.items():
            if words not in found.get(what, ""):
                before = f"{found[what]}; " if what in found else ""
                found[what] = f"{before}in {part.name} {words}"

    def rows(names: Sequence[str]) -> Iterator[Row]:
        for part in parts:
            require_columns(part, names, parts[0].name)
            yield from part.source.rows(names)

    return replace(first, rows=rows, found=found, part="")


def require_columns(part: Part, names: Sequence[str], first: str) -> None:
    """Refuse a part that lacks columns which are read.

    Raises:
        DataError: it does.
    """
    columns = set(part.source.columns)
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(
            f"it has no column {missing[0]!r}, which {first} has; "
            f"there are {listing(part.source.columns)}",
            place=part.name,
            fix="call the columns of all files alike, or read this file by itself",
        )


# ---- folders


def require_no_model(folder: Path, fix: str = "") -> None:
    """Refuse the folder of a model where texts should be.

    Args:
        folder: that is named; anything else is passed over.
        fix: what to type instead, if there is more to say than what to name.

    Raises:
        DataError: it is one.
    """
    if (folder / "config.json").is_file():
        raise DataError(
            "this is the folder of a model",
            place=str(folder),
            fix=fix or "name the file of the texts, and the model where the command takes one",
        )


def _folder(path: Path, encoding: str) -> Part:
    """A folder of classes, or of texts."""
    require_no_model(path)
    left_out: Counter[str] = Counter()
    classes: dict[str, list[Path]] = {}
    for entry in sorted(path.iterdir(), key=lambda each: os.fsencode(each.name)):
        is_class = kind_of(entry) == FOLDER and not entry.name.startswith(".")
        if is_class and (texts := _texts(entry, left_out)):
            classes[entry.name] = texts
    here = _texts(path, Counter() if classes else left_out, folders=not classes)
    if classes:
        left_out["file beside the folders"] = len(
            [each for each in path.iterdir() if kind_of(each) != FOLDER]
        )
    elif here:
        classes = {"": here}
    else:
        raise DataError(
            "this is a folder without texts", place=str(path), fix=_instead_of_folder(path)
        )
    return _texts_part(path, classes, left_out, encoding)


def _instead_of_folder(path: Path) -> str:
    """What to name instead of a folder without texts: its tables, if it has some of one kind."""
    tables = sorted({ending(each) for each in path.iterdir() if kind_of(each) == FILE} - set(TEXTS))
    known = [each for each in tables if each in KINDS]
    if known:
        return f"name its tables: {shlex.quote(str(path))}/*{known[0]}"
    return (
        "name a file, several files, or a folder with a folder of .txt files for each class, as "
        "data/pos/1.txt"
    )


def _texts(folder: Path, left_out: Counter[str], *, folders: bool = True) -> list[Path]:
    """The texts right in a folder, by name; all else is counted."""
    texts: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda each: os.fsencode(each.name)):
        if path.name.startswith("."):
            left_out["hidden file"] += 1
        elif kind_of(path) == FOLDER:
            left_out["inner folder"] += folders
        elif path.suffix.lower() in TEXTS and kind_of(path) == FILE:
            texts.append(path)
        else:
            left_out["file of another kind"] += 1
    return texts


def _texts_part(
    folder: Path, classes: dict[str, list[Path]], left_out: Counter[str], encoding: str
) -> Part:
    labelled = "" not in classes
    files = [(label, path) for label, paths in classes.items() for path in paths]

    def rows(names: Sequence[str]) -> Iterator[Row]:
        for label, path in files:
            values = {"label": label, "text": _content(path, encoding) if "text" in names else ""}
            yield None, tuple([values[name] for name in names])

    counts = ", ".join(f"{len(paths):,} in {label!r}" for label, paths in classes.items())
    rest = ", ".join(_counted(what, count) for what, count in left_out.items() if count)
    words = counts if labelled else plural(len(files), "text")
    source = TableFile(
        columns=["text", "label"] if labelled else ["text"],
        rows=rows,
        found={"files": words + (f"; left out: {rest}" if rest else "")},
    )
    return Part(str(folder), source, [str(path) for _, path in files])


def _counted(what: str, count: int) -> str:
    """ "2 files of another kind"."""
    return plural(count, what, re.sub(r"file|folder", r"\g<0>s", what, count=1))


def _content(path: Path, encoding: str) -> str:
    lines: list[str] = []
    size = 0
    for line in text_lines(path, encoding_of(path, encoding)):
        lines.append(line)
        size += len(line)
        if size > LINE_LIMIT:
            raise DataError(
                f"the text has more than {LINE_LIMIT:,} characters",
                place=str(path),
                fix="take it out of the folder, or cut it",
            )
    return "".join(lines).strip("\r\n")


# ---- ZIP


def _zip(path: Path, open_file: Callable[[Path], TableFile]) -> list[Part]:
    """The tables of a ZIP file, each unpacked to a temporary file under a name of our own."""
    require_file(path)
    parts: list[Part] = []
    with temporary_errors("what a ZIP file holds"):
        folder = tempfile.TemporaryDirectory(prefix="bertolt-")
    with _open_package(path) as package:
        entries = _tables(package, path)
        files = [each for each in package.namelist() if not each.endswith("/")]
        for number, entry in enumerate(entries):
            name = Path(entry.filename)
            packing = name.suffix if name.suffix.lower() in PACKED else ""
            inside = Path(folder.name) / f"{number}{ending(name)}{packing}"
            with temporary_errors("what a ZIP file holds"), inside.open("wb") as target:
                for chunk in _unpacked(package, entry, path):
                    target.write(chunk)
            parts.append(_unzipped(inside, f"{path}/{entry.filename}", folder, open_file))
    others = len(files) - len(entries)
    left_out = f"; left out: {plural(others, 'file')}" if others else ""
    parts[0].source.found["files"] = f"{plural(len(parts), 'table')} in {path}{left_out}"
    return parts


@contextmanager
def _open_package(path: Path) -> Iterator[zipfile.ZipFile]:
    with os_errors(path):
        file = path.open("rb")
    with file:
        with _zip_errors(path):
            package = zipfile.ZipFile(file)
        yield package


def _unpacked(package: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Iterator[bytes]:
    with _zip_errors(path), package.open(entry) as packed:
        while chunk := packed.read(CHUNK):
            yield chunk


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # zipfile raises some ten kinds for damage
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"the ZIP file is damaged ({error})",
        place=str(path),
        fix="fetch or pack the file again, or unpack it and name what comes out",
    )


def _tables(package: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    entries = [
        entry
        for entry in package.infolist()
        if ending(Path(entry.filename)) in KINDS | TAGGED
        and not Path(entry.filename).name.startswith(".")
    ]
    if not entries:
        names = [entry.filename for entry in package.infolist()]
        raise DataError(
            f"there is no table in it; there are {listing(names, 5) or 'no files'}",
            place=str(path),
            fix=f"pack files that end in {', '.join(KINDS)}, or unpack it",
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise DataError(
            "it is protected by a password", place=str(path), fix="unpack it, and name the files"
        )
    if sum(entry.file_size for entry in entries) > unpacked_limit(path.stat().st_size):
        raise unpacks_too_large(path)
    return entries


def _unzipped(
    inside: Path,
    name: str,
    folder: tempfile.TemporaryDirectory[str],
    open_file: Callable[[Path], TableFile],
) -> Part:
    """A table that was unpacked; its temporary folder lasts as long as its rows can be read."""
    with _named(inside, name):
        source = open_file(inside)

    def rows(names: Sequence[str]) -> Iterator[Row]:
        assert folder.name
        with _named(inside, name):
            yield from source.rows(names)

    return Part(f"{name}, {source.part}" if source.part else name, replace(source, rows=rows))


@contextmanager
def _named(inside: Path, name: str) -> Iterator[None]:
    """Errors of a temporary file, by the name under which the user knows it."""
    try:
        yield
    except (DataError, UsageError) as error:
        place = error.place.replace(str(inside), name) if error.place else name
        raise type(error)(error.problem, place=place, fix=error.fix) from error
