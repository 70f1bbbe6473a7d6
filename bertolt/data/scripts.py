"""The script that a word is written in, as people name it."""

from __future__ import annotations

import unicodedata
from functools import cache

_NAMES = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
# Unicode has no name for these that is a script's.
_KINDS = {"N": "digits", "P": "punctuation", "S": "symbols", "Z": "spaces", "C": "control"}
_EMOJI = 0x1F000


@cache
def script_of(character: str) -> str:
    """The script of a character, such as "Latin" or "Cyrillic"; or "digits", "emoji" and so on."""
    category = unicodedata.category(character)
    if category[0] == "S" and (category == "So" or ord(character) >= _EMOJI):
        return "emoji"
    if category[0] in _KINDS:
        return _KINDS[category[0]]
    words = unicodedata.name(character, "other").replace("-", " ").split()
    first = words[words[0] in ("FULLWIDTH", "HALFWIDTH")]
    return _NAMES.get(first, first.title())
