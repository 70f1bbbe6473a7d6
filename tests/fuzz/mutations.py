"""Damage to files: bytes that change, JSON values of other kinds. Each follows from a seed."""

from __future__ import annotations

import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

_INSERTED = (
    *(
        b"\x00",
        b"\n",
        b"\r",
        b"\t",
        b'"',
        b"'",
        b",",
        b";",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"\x1b[2J",
    ),
    *(b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", "\u2028".encode(), "é".encode()),
    *(b"-1", b"1e999", b"NaN", b"null", b"true", b"9" * 400, b"9" * 5000, b"A" * 3000),
    *(b"[" * 2000, b'{"a":' * 2000, b"\n" * 500, b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"../../etc"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 10**9, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), "", "a", "\u0000", "\ud800", "x" * 5000, "../../up", "/etc/passwd", "\x1b[31m"),
    *([], {}, [[]], [None], [1, "a"], {"": None}, {"a": {"b": []}}, [0] * 3000),
)


def mutate_bytes(choose: random.Random, content: bytes) -> bytes:
    """One to three changes: bits, a cut, a piece that is gone, doubled, moved or put in."""
    for _ in range(choose.randint(1, 3)):
        content = choose.choice(_CHANGES)(choose, content)
    return content


def _flip(choose: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 8))):
        if changed:
            changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def _cut(choose: random.Random, content: bytes) -> bytes:
    return content[: choose.randrange(len(content) + 1)]


def _piece(choose: random.Random, content: bytes) -> tuple[int, int]:
    start = choose.randrange(len(content) + 1)
    return start, min(len(content), start + choose.choice((1, 4, 30, 300)))


def _remove(choose: random.Random, content: bytes) -> bytes:
    start, stop = _piece(choose, content)
    return content[:start] + content[stop:]


def _repeat(choose: random.Random, content: bytes) -> bytes:
    start, stop = _piece(choose, content)
    return content[:stop] + content[start:stop] * choose.choice((1, 2, 50)) + content[stop:]


def _insert(choose: random.Random, content: bytes) -> bytes:
    start = choose.randrange(len(content) + 1)
    return content[:start] + choose.choice(_INSERTED) + content[start:]


def _swap(choose: random.Random, content: bytes) -> bytes:
    start, stop = _piece(choose, content)
    return content[stop:] + content[start:stop] + content[:start]


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip, _cut, _remove, _repeat, _insert, _swap),
)


def mutate_json(choose: random.Random, content: bytes) -> bytes:
    """Other values, keys that are gone or new, one to three times; still JSON."""
    value = json.loads(content)
    for _ in range(choose.randint(1, 3)):
        value = _changed(choose, value)
    return json.dumps(value).encode()


def _changed(choose: random.Random, value: Any) -> Any:
    inside = isinstance(value, dict | list) and value and choose.random() < 0.85
    if not inside:
        return choose.choice(_VALUES)
    if isinstance(value, list):
        at = choose.randrange(len(value))
        if choose.random() < 0.15:
            return [*value[:at], *value[at + 1 :]]
        return [*value[:at], _changed(choose, value[at]), *value[at + 1 :]]
    key = choose.choice(list(value))
    rest = {name: inner for name, inner in value.items() if name != key}
    how = choose.random()
    if how < 0.1:
        return rest
    if how < 0.15:
        return {
            **value,
            choose.choice(("", "a", "\ud800", "task", "format")): choose.choice(_VALUES),
        }
    return {**value, key: _changed(choose, value[key])}


_NAMES = (
    *(
        "../../up.csv",
        "/etc/a.csv",
        "a.csv",
        "",
        "a/",
        "\x00.csv",
        "\x1b[2J.csv",
        "x" * 300 + ".csv",
    ),
    *(
        ".a.csv",
        "a.xlsx",
        "b.zip",
        "a.csv.gz",
        "\u202e.csv",
        "a\nb.csv",
        "con.csv",
        "a.conll",
        "C:\\a.csv",
    ),
)
_XML = (
    *("", "-1", "0", "1", "9" * 30, "1e999", "NaN", "A0", "A1", "XFD1048576", "ZZZZ9", "A1048577"),
    *(
        "s",
        "n",
        "b",
        "d",
        "e",
        "str",
        "inlineStr",
        "&lt;",
        "#N/A",
        "_x0000_",
        "_xD800_",
        "TRUE",
        "x" * 9000,
    ),
    *("2026-13-45", "-5e9", "1:1048576", "../../up", "preserve", "=1+1", "rId1", "rId99", "0.1.2"),
)
_PART = re.compile(rb'"[^"<>]*"|>[^<>]*<')
_ELEMENT = re.compile(rb"<(\w+)[ >/][^<]{0,200}(?:<[^<]{0,200}){0,6}?</\1>|<\w+[^<>]*/>")


def mutate_zip(choose: random.Random, content: bytes) -> bytes:
    """Bytes of the package; or a file in it that is changed, renamed, doubled, gone or locked."""
    if choose.random() < 0.2:
        return mutate_bytes(choose, content)
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        entries = [(entry.filename, package.read(entry)) for entry in package.infolist()]
    at = choose.randrange(len(entries))
    name, inside = entries[at]
    how = choose.random()
    if how < 0.75:
        xml = name.endswith((".xml", ".rels")) and choose.random() < 0.8
        entries[at] = name, (_mutate_xml if xml else mutate_bytes)(choose, inside)
    elif how < 0.87:
        entries[at] = choose.choice(_NAMES), inside
    elif how < 0.93:
        entries.append((choose.choice((name, *_NAMES)), mutate_bytes(choose, inside)))
    else:
        del entries[at]
    target = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),  # names that are there twice
        zipfile.ZipFile(target, "w", choose.choice((0, 8, 8, 12, 14))) as package,
    ):
        for name, inside in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = package.compression
            package.writestr(entry, inside)
    changed = bytearray(target.getvalue())
    if entries and choose.random() < 0.05:  # flags of the first one, among them a password's
        changed[changed.index(b"PK\x01\x02") + 8] ^= 1 << choose.randrange(8)
    return bytes(changed)


def _mutate_xml(choose: random.Random, content: bytes) -> bytes:
    """Other values of attributes and texts, elements that are gone or there again; still XML."""
    for _ in range(choose.randint(1, 3)):
        element = choose.random() < 0.3
        pattern = _ELEMENT if element else _PART
        parts = list(pattern.finditer(content))
        if not parts:
            return mutate_bytes(choose, content)
        part = choose.choice(parts)
        if element:
            new = part[0] * choose.choice((0, 2, 40))
        else:
            value = choose.choice(_XML).encode()
            new = part[0][:1] + value + part[0][-1:]
        content = content[: part.start()] + new + content[part.end() :]
    return content


_WORDS = (
    *("import transformers", "from transformers import *", "from transformers import A as B, C"),
    *(
        "from transformers.models import x",
        "import transformers.optimization as o",
        "import a, transformers",
    ),
    *(
        "from . import transformers",
        "transformers.Trainer.x.y",
        "Trainer(*a, **b)",
        "a = b = Trainer()",
    ),
    *(
        "class T(Trainer): ...",
        "lambda: Trainer",
        "x: Trainer = Trainer(1, 2, 3, 4, 5, 6, 7)",
        "(",
        ")",
        "\\\n",
    ),
    *(
        ";",
        "\n",
        "    ",
        "\t",
        "\f",
        "\r",
        "# ü\n",
        '"""',
        "f'{Trainer}'",
        "async ",
        "await ",
        "match x:\n case _:",
    ),
    *(
        "\u2028",
        "é; ",
        "\x00",
        "if 1: ",
        "try: from transformers import Trainer\nexcept: pass",
        "\ufeff",
        "del ",
    ),
    *("[" * 150, "not " * 2000, "-" * 3000 + "1", "x." * 3000 + "y", "a+" * 2000 + "a", "9" * 5000),
)
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


def mutate_program(choose: random.Random, path: Any) -> None:
    """Lines and words of Python that are gone, doubled, elsewhere or new; at times bytes."""
    how = choose.random()
    if how < 0.05:
        path.write_bytes(mutate_bytes(choose, path.read_bytes()))
        return
    text = path.read_bytes().decode("utf-8")
    parts = text.splitlines(keepends=True) if how < 0.7 else _TOKEN.findall(text)
    for _ in range(choose.choice((1, 1, 2, 3))):
        at, other = choose.randrange(len(parts)), choose.randrange(len(parts))
        indent = parts[at][: len(parts[at]) - len(parts[at].lstrip(" \t"))] if how < 0.7 else ""
        match choose.randrange(4):
            case 0:
                parts[at] = ""
            case 1:
                parts[at], parts[other] = parts[other], parts[at]
            case 2:
                parts[at] = indent + choose.choice(_WORDS) + choose.choice(("; ", "\n", "\r\n", ""))
            case _:
                end = "\n" if how < 0.7 else ""
                parts.insert(at, indent + choose.choice(_WORDS) + end)
    path.write_bytes("".join(parts).encode("utf-8"))


_HOSTILE = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "\r",
        "\r\n",
        '"',
        '""',
        "'",
        ",",
        ";",
        "|",
        "\\",
        "\\n",
        "=1+1",
        "+1",
        "-1",
    ),
    *(
        "@a",
        "#N/A",
        "NA",
        "null",
        "TRUE",
        "007",
        "1e5",
        "1,5",
        "NaN",
        "\x00",
        "\x07",
        "\x1b[2J",
        "\x7f",
    ),
    *(
        "\x85",
        "\u2028",
        "\u200b",
        "\ufeff",
        "\ufffe",
        "\ufffd",
        "\ud800",
        "\udcff",
        "😀",
        "é",
        "e\u0301",
        "中文",
    ),
    *(
        "_x0041_",
        "_x005F_",
        "_x000D_",
        "</si>",
        "&amp;",
        "<b>",
        "]]>",
        "sep=;",
        "text",
        "label",
        "-DOCSTART-",
    ),
    *(
        "# text = a",
        "PK\x03\x04",
        "\x1f\x8b",
        "[",
        "{",
        "x" * 300,
        "a\tb",
        "a\nb",
        "a b",
        "\x1c",
        "\x0b",
        "\x0c",
    ),
)


def hostile_text(choose: random.Random) -> str:
    """What formats quote, escape, strip or take for something else."""
    return "".join(choose.choice((*_HOSTILE, "a", "good film")) for _ in range(choose.randrange(5)))
