"""Damage to files: bytes that change, JSON values of other kinds. Each follows from a seed."""

from __future__ import annotations

import json
import random
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
