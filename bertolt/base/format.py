"""Numbers and foreign text made fit to be shown to people."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TypeGuard

ABSENT = "n/a"
LONGEST_TEXT = 2000

# HTML cannot carry most control characters, and bidirectional overrides would turn the words around
# them: both are shown as Python would write them.
_BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (*_BIDIRECTIONAL, 0xFFFE, 0xFFFF)},
    **dict.fromkeys((0x0A, 0x2028, 0x2029), " ↵ "),
    0x09: " ",
}
_OBEYED = re.compile(f"[\x80-\x9f{''.join(map(chr, _BIDIRECTIONAL))}]")
_ON_TERMINALS = {code: shown for code, shown in _VISIBLE.items() if code not in (0x09, 0x0A)}


def visible(text: str) -> str:
    """The text as a terminal may have it: line ends and tabs stay, other control characters show.

    Labels and names of files come from others, and could move the cursor or hide what was written.
    """
    return text.translate(_ON_TERMINALS)


def clean(text: str) -> str:
    """The text with control characters, and whatever UTF-8 cannot hold, made visible."""
    text = text.replace("\r\n", "\n").translate(_VISIBLE)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible_json(text: str) -> str:
    """JSON of the same value in which nothing moves a cursor or turns the words around it."""
    return text if text.isascii() else _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shorten(text: str, limit: int = LONGEST_TEXT) -> str:
    """At most `limit` characters of a text, an ellipsis standing for what was left out."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number to show or to draw."""
    return value is not None and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """0.8512 as "85.1%"."""
    if not is_number(value):
        return ABSENT
    return f"{100 * value:.{digits}f}%"


def interval(low: float | None, high: float | None) -> str:
    """Two shares as "83.5–86.5", or nothing when either end is unknown."""
    if not is_number(low) or not is_number(high):
        return ""
    return f"{100 * low:.1f}–{100 * high:.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """A whole number with thousands separated, or another one with `digits` significant digits."""
    if not is_number(value):
        return ABSENT
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{round(value):,}"
    return f"{value:#.{digits}g}".rstrip(".")


def plural(count: int, one: str, many: str = "") -> str:
    """ "1 row", "2 rows"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def columns(text: str) -> int:
    """Columns that a text takes on a terminal: two for a wide character, no column for a mark."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)
    return len(text) + wide - marks


def padded(text: str, width: int) -> str:
    """A text with spaces behind it up to `width` columns of a terminal."""
    return text + " " * (width - columns(text))


def millions(count: int) -> str:
    """22713216 as "22.7 M"."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def gibibytes(count: int | None) -> str:
    """Bytes as "15.6 GiB"."""
    return ABSENT if count is None else f"{count / 2**30:.1f} GiB"


def duration(seconds: float | None) -> str:
    """Seconds as "41 s", "3 min 22 s" or "2 h 05 min"."""
    if not is_number(seconds):
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
