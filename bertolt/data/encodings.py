"""Which encoding a text is in, by its bytes, for those who say `--encoding auto`.

UTF-8, UTF-16 and UTF-32 are told for certain or nearly so. Of the others three are taken where the
text then looks like one: GB18030 and Big5 by the share of the commonest Chinese characters, Windows
1252 by letters that stand alone among ASCII ones, as accents do. Anything else is refused: there is
no telling Turkish from French letters, and a wrong guess is silent.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable

AUTO = "auto"
"""The name that asks for the encoding to be found."""

_SAMPLE = 1 << 20  # bytes that are looked at for plausibility; all are for validity
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# A third of any Chinese text, simplified or traditional.
_COMMON = frozenset(
    "的一是不了在人有我他这個们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行"
    "所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实很"
    "個這們來為國說時會對於著過發後裡種經麼學現當沒動還進樣開從實"
)
_LEAST_COMMON = 0.08
_LEAST_WESTERN = 0.95
_CHINESE = ("gb18030", "big5", "big5hkscs")
_WESTERN = "cp1252"
_SIGNS = frozenset("’‘“”„–—…«»¿¡€£§°·®™©½¼× \xa0")

Chunks = Callable[[], Iterable[bytes]]
"""Gives the bytes of a text from their beginning, each time it is called."""


def detect(chunks: Chunks) -> str | None:
    """The encoding of a text, in which all of it is valid; None where it cannot be told."""
    start = _start(chunks)
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name if _is_valid(chunks, name) else None
    if b"\0" in start:
        unmarked = _unmarked(start)
        return unmarked if unmarked and _is_valid(chunks, unmarked) else None
    if _is_valid(chunks, "utf-8"):
        return "utf-8"
    shares = {name: _common_share(_text(start, name)) for name in _CHINESE}
    best = max(_CHINESE, key=lambda name: shares[name])
    if shares[best] >= _LEAST_COMMON and _is_valid(chunks, best):
        return best
    plausible = _is_western(_text(start, _WESTERN)) and _is_valid(chunks, _WESTERN)
    return _WESTERN if plausible else None


def _start(chunks: Chunks) -> bytes:
    start = b""
    for chunk in chunks():
        start += chunk
        if len(start) >= _SAMPLE:
            break
    return start[:_SAMPLE]


def _is_valid(chunks: Chunks, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        for chunk in chunks():
            decoder.decode(chunk)
        decoder.decode(b"", True)
    except UnicodeError:
        return False
    return True


def _unmarked(start: bytes) -> str | None:
    """UTF-16 without a mark: read from the wrong side, hardly a character is a usual one."""
    shares = {}
    for name in ("utf-16-le", "utf-16-be"):
        text = _text(start, name)
        usual = sum(" " <= each < "\x7f" or each in _COMMON for each in text)
        shares[name] = usual / max(len(text), 1)
    best, other = sorted(shares, key=lambda name: -shares[name])
    fits = shares[best] >= _LEAST_COMMON and shares[best] > 3 * shares[other]
    return best if fits else None


def _text(start: bytes, name: str) -> str:
    """The text of a sample, whose last character may be cut; empty if it is not valid."""
    try:
        return codecs.getincrementaldecoder(name)().decode(start)
    except UnicodeError:
        return ""


def _common_share(text: str) -> float:
    """The share of the commonest Chinese characters among all letters that are not ASCII."""
    letters = [each for each in text if each >= "\x80" and each.isalpha()]
    return sum(each in _COMMON for each in letters) / max(len(letters), 1)


def _is_western(text: str) -> bool:
    """Whether characters beyond ASCII are letters that stand alone, or signs at edges of words."""
    places = [place for place, each in enumerate(text) if each >= "\x80"]
    around = f" {text} "
    fit = sum(_fits(around[place : place + 3]) for place in places)
    return bool(places) and fit >= _LEAST_WESTERN * len(places)


def _fits(three: str) -> bool:
    before, it, behind = list(three)
    if it.isalpha():
        return not (before >= "\x80" and before.isalpha() and behind >= "\x80")
    return it in _SIGNS and (it == "’" or not (before.isalpha() and behind.isalpha()))
