"""Names that are alike: what of their spelling people take for the same, or for no name at all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from bertolt.base.format import shorten
from bertolt.data.cells import as_number, is_comma_number

_EMPTY = frozenset(
    (
        *("na", "n/a", "n.a.", "#n/a", "<na>", "nan", "null", "<null>", "(null)", "nil", "none"),
        *(
            "undefined",
            "missing",
            "\\n",
            "-",
            "--",
            "–",
            "—",
            "_",
            "?",
            "??",
            ".",
            "..",
            "...",
            "…",
        ),
        *("无", "空", "缺失"),
    )
)
"""What tables and people write where there is no value, without case and spaces."""
_SEPARATORS = (";", "|", "；", "、", ",", "，")
_IN_NAMES = ",，"
_OUTSIDE = frozenset(("O", "o", "0", "OUT", "OUTSIDE", "OTHER", "Other", "other", "_", "-"))
_PREFIX = re.compile(r"[BIESLUMbieslum]([-_:./]).+|.+([-_:./])[BIESLUM]")


def plain_text(text: str) -> str:
    """A text without its case, and with one space where there are several."""
    return " ".join(text.casefold().split())


def quoted(name: str, limit: int = 40) -> str:
    """A name for one line of a message; what cannot be seen stands as its code."""
    name = shorten(name, limit)
    composed = unicodedata.normalize("NFC", name) == name
    return repr(name) if composed else ascii(name)


def _without_invisible(name: str) -> str:
    return "".join(
        each
        for each in name
        if each.isspace() or unicodedata.category(each) not in ("Cc", "Cf", "Cs")
    )


def _compatible(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _without_spaces(name: str) -> str:
    return "".join(name.split())


def _by_value(name: str) -> str:
    number = as_number(name)
    return name if number is None else repr(number + 0.0)


_STEPS: dict[str, Callable[[str], str]] = {
    "invisible characters": _without_invisible,
    "spaces": _without_spaces,
    "Unicode form": _compatible,
    "case": str.casefold,
    "number format": _by_value,
}
"""What two names may differ in and still be meant as one, and how it is taken off."""


def alike_key(name: str, leave: str = "") -> str:
    """The name without all that people do not mean by it; one kind of it is left on request."""
    for what, take_off in _STEPS.items():
        if what != leave:
            name = take_off(name)
    return name


def differences(names: Sequence[str]) -> list[str]:
    """In what names differ that have one `alike_key`."""
    differ, rest = [], set(names)
    for what, take_off in _STEPS.items():
        fewer = {take_off(name) for name in rest}
        if len(fewer) < len(rest) or len({alike_key(name, what) for name in names}) > 1:
            differ.append(what)
        rest = fewer
    return differ


def alike(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that differ only in their spelling, in the order of their first ones."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(alike_key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def looks_empty(name: str) -> bool:
    """Whether a name is what stands in tables where there is no value."""
    return plain_text(name) in _EMPTY


def are_comma_numbers(names: Sequence[str]) -> bool:
    """Whether names are numbers of which some have a decimal comma."""
    commas = [is_comma_number(name) for name in names]
    numbers = [as_number(name) is not None for name in names]
    return any(commas) and all(map(max, commas, numbers))


def joined(names: Sequence[str]) -> tuple[str, list[str]]:
    """What seems to part several labels inside one name, and the names it stands in; or neither.

    A comma stands in plain names too (as in "Paris, Texas"), so it counts only where a part of one
    name is another name, or a part of one.
    """
    if are_comma_numbers(names):
        return "", []
    for separator in _SEPARATORS:
        parts = {name: [part.strip() for part in name.split(separator)] for name in names}
        several = [name for name in names if len(parts[name]) > 1 and all(parts[name])]
        if not several:
            continue
        alone = {name for name in names if separator not in name}
        counts: dict[str, int] = {}
        for name in several:
            for part in set(parts[name]):
                counts[part] = counts.get(part, 0) + 1
        shared = any(part in alone or count > 1 for part, count in counts.items())
        if shared or separator not in _IN_NAMES:
            return separator, several
    return "", []


def odd_outside(tags: Sequence[str]) -> str:
    """A tag that seems to stand for what is in no span, where no tag is `O`; empty without one."""
    if "O" in tags:
        return ""
    return next((tag for tag in tags if tag in _OUTSIDE), "")


def odd_prefixes(tags: Sequence[str]) -> list[str]:
    """Tags with the letters of BIO in another spelling (`b-per`, `B_PER`, `PER-B`), if all have it.

    Tags outside of spans may be among them; tags that are BIO as they stand are not odd.
    """
    inside = [tag for tag in tags if tag not in _OUTSIDE]
    usual = [tag for tag in inside if tag[1:2] == "-" and tag[0] in "BIESLUM"]
    kinds = {tag[0].upper() for tag in inside} | {tag[-1].upper() for tag in inside}
    if usual or len(inside) < 2 or "B" not in kinds or not all(map(_PREFIX.fullmatch, inside)):
        return []
    return inside
