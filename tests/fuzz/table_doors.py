"""Doors of tables that are more than a file of text: Excel, ZIP, folders, several, encodings."""

from __future__ import annotations

import datetime
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from openpyxl import Workbook

from bertolt import BertTokenizer
from bertolt.corpus.options import TextOptions
from bertolt.corpus.read import Reader, find_sources
from bertolt.data.table_file import Layout
from bertolt.tasks.base import Reading
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from tests.fuzz.doors import TABLES, Door, files_below
from tests.fuzz.mutations import mutate_bytes, mutate_zip

TEXTS = {
    "gb18030": "房间很干净，服务也好。我们的人是在这里来的",
    "big5": "房間很乾淨，服務也好。我們的人是在這裡來的",
    "cp1252": "Das Café – “schön” für 5 € und naïve Gäste",
    "utf-16": "房间很干净 and good",
    "utf-16-le": "the film was good and the end was fine",
    "utf-16-be": "the film was good and the end was fine",
    "utf-32": "good 😀",
    "utf-8-sig": "great — naïve",
    "utf-7": "schön",
}
OTHERS = (
    "shift_jis",
    "koi8-r",
    "cp037",
    "cp1251",
    "euc_kr",
    "hz",
    "iso2022_jp",
    "utf-16-le",
    "utf-32-be",
)
"""Encodings that no file says it is in."""


def table_doors(folder: Path, tokenizer: BertTokenizer) -> dict[str, Door]:
    """Doors by name, with their examples below `folder`."""
    folder.mkdir()
    return {
        "excel": _excel(folder / "excel", tokenizer),
        "zip": _zip(folder / "zip", tokenizer),
        "class folder": _class_folder(folder / "classes", tokenizer),
        "several files": _several(folder / "several", tokenizer),
        "encodings": _encodings(folder / "encodings", tokenizer),
    }


def read_all(paths: list[Path], tokenizer: BertTokenizer, columns: Columns | None = None) -> None:
    """Read files as one table, as `finetune` does."""
    table, kind = read_for_task(paths, columns or Columns())
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    encode_rows(task, table, everything, tokenizer, 16)
    for row in range(1, table.rows_read + 1):
        table.place(row)


def _one(tokenizer: BertTokenizer, columns: Columns | None = None) -> Callable[[Path], None]:
    """Reads the only file in a folder."""
    return lambda folder: read_all(list(folder.iterdir()), tokenizer, columns)


def _damage_zip(choose: random.Random, path: Path) -> None:
    path.write_bytes(mutate_zip(choose, path.read_bytes()))


def _excel(folder: Path, tokenizer: BertTokenizer) -> Door:
    folder.mkdir()
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    day = datetime.datetime(2026, 1, 31, 10, 30)
    for row in (
        ("text", "label", "id", "when"),
        ("good film", "pos", 1, day),
        ("bad plot", "neg", 2.5, day.date()),
        ("_x0041_ fine", "pos", True, day.time()),
        ("dull", "neg", "=1+1", datetime.timedelta(hours=30)),
        (None, None, None, None),
        ("a\nb", "#N/A", "", -0.0),
    ):
        sheet.append(row)
    sheet.merge_cells("D6:D7")
    book.create_sheet("Notes")["A1"] = "text"
    book["Notes"].sheet_state = "hidden"
    book.save(folder / "typed.xlsx")
    plain = Workbook()
    assert plain.active is not None
    for number in range(6):
        plain.active.append(("good film", ("pos", "neg")[number % 2]))
    plain.save(folder / "plain.xlsx")
    read_plain = _one(tokenizer, Columns(text="1", label="2", layout=Layout(header=False)))
    read_typed = _one(tokenizer)

    def read(path: Path) -> None:
        (read_plain if (path / "plain.xlsx").exists() else read_typed)(path)

    return Door(folder, ("typed.xlsx", "plain.xlsx"), read, damage=_damage_zip, alone=True)


def _zip(folder: Path, tokenizer: BertTokenizer) -> Door:
    folder.mkdir()
    rows = (TABLES["plain.csv"].replace("review", "text"), TABLES["lines.jsonl"])
    book = folder.parent / "excel" / "typed.xlsx"
    with zipfile.ZipFile(folder / "tables.zip", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("data/a.csv", rows[0])
        package.writestr("data/b.jsonl", rows[1])
        package.writestr("readme.md", "no table")
        package.write(book, "c.xlsx")
    with zipfile.ZipFile(folder / "one.zip", "w") as package:
        package.writestr("a.csv", rows[0])
    return Door(folder, ("tables.zip", "one.zip"), _one(tokenizer), damage=_damage_zip, alone=True)


def _class_folder(folder: Path, tokenizer: BertTokenizer) -> Door:
    for name in ("pos/1.txt", "pos/2.txt", "neg/1.txt", "neg/2.text"):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a good film\nin {name}\n", encoding="utf-8")
    return Door(
        folder,
        files_below(folder),
        lambda path: read_all([path / "data"], tokenizer, Columns(encoding="auto")),
        damage=_damage_folder,
    )


def _damage_folder(choose: random.Random, path: Path) -> None:
    """Bytes of a text; or something else than a file of text in its place, or beside it."""
    how = choose.random()
    if how < 0.4:
        path.write_bytes(mutate_bytes(choose, path.read_bytes()))
        return
    target = path if how < 0.7 else path.parent / choose.choice(_ODD_NAMES)
    if how > 0.9:  # a class of that name
        target = path.parent.parent / target.name
    target.unlink(missing_ok=True)
    make = choose.randrange(6)
    if make == 0:
        os.mkfifo(target)
    elif make == 1:
        target.symlink_to(choose.choice(("nowhere", ".", target.name, "..")))
    elif make == 2:
        target.mkdir()
        (target / "1.txt").write_bytes(b"text")
    elif make == 3:
        target.mkdir()
    elif make == 4:
        target.write_bytes(
            choose.choice((b"", bytes(9), b"\x1f\x8b\x08\x00", b"PK\x03\x04", b"\xff"))
        )


_ODD_NAMES = ("3.txt", "\udcff.txt", "\n.txt", "\x1b[2J.txt", ".txt", "a" * 200 + ".txt", " .TXT")


def _several(folder: Path, tokenizer: BertTokenizer) -> Door:
    folder.mkdir()
    (folder / "a.csv").write_text("text,label,id\ngood film,pos,1\nbad,neg,2\n", encoding="utf-8")
    (folder / "b.jsonl").write_text(TABLES["lines.jsonl"], encoding="utf-8")
    (folder / "c.tsv").write_text("label\ttext\npos\tfine\nneg\tdull\n", encoding="utf-8")
    (folder / "d.json").write_text('[{"text": "good", "label": "pos"}]', encoding="utf-8")
    names = files_below(folder)
    return Door(folder, names, lambda path: read_all(sorted(path.iterdir()), tokenizer))


def _encodings(folder: Path, tokenizer: BertTokenizer) -> Door:
    folder.mkdir()
    for encoding, text in TEXTS.items():
        rows = "".join(f"{text},{('pos', 'neg')[number % 2]}\n" for number in range(4))
        (folder / f"{encoding}.csv").write_bytes(f"text,label\n{rows}".encode(encoding))
        (folder / f"{encoding}.txt").write_bytes(f"{text}\n\n{text}\n".encode(encoding))
    read_table = _one(tokenizer, Columns(encoding="auto"))

    def read(path: Path) -> None:
        (file,) = path.iterdir()
        if file.suffix == ".csv":
            read_table(path)
            return
        for _ in Reader(find_sources([file]).sources, TextOptions(encoding="auto")):
            pass

    return Door(folder, files_below(folder), read, damage=_damage_encoding, alone=True)


def _damage_encoding(choose: random.Random, path: Path) -> None:
    """Bytes; or another encoding, of all or of the end."""
    content = path.read_bytes()
    if choose.random() < 0.6:
        path.write_bytes(mutate_bytes(choose, content))
        return
    text = content.decode(path.stem)
    at = choose.choice((0, choose.randrange(len(text))))
    begin, end = text[:at].encode(path.stem), text[at:].encode(choose.choice(OTHERS), "replace")
    path.write_bytes(begin + end)
