r"""Sentences of Chinese and English text, by their punctuation.

A sentence ends

- at the end of a line, which is \n, \r\n or \r alone;
- after 。！？ or …… ; after a single … or after . ! ? where white space and no small letter follow;
- after ! ? or . between Chinese characters, with no white space at all.

Closing quotes and brackets behind these marks belong to the sentence. A full stop ends no sentence
within a number or a name (3.14, U.S.A, example.com), after an initial (J. Smith) or after one of
the abbreviations below. So "etc." and "p.m." end a sentence where a capital follows, which is
rarely wrong. A wrong rule costs little: no text is lost, and segments are filled with as many
sentences as fit.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(r"\r\n|\r|\n")
_CLOSING = "”’」』）】》〉〕〗)\\]}\"'»›"
_OPENING = "“‘「『（【《〈〔〖(\\[{\"'«‹¿¡"
_MARKS = re.compile(rf"([。！？｡!?.…]+)[{_CLOSING}]*")
_FULL = frozenset("。！？｡")
_NEXT = re.compile(rf"(\s*)[{_OPENING}]*(.?)")
_LAST_WORD = re.compile(r"[^\W\d_](?:[.\w]*\w)?$")

# Words that a full stop abbreviates and that more of the sentence follows; the second kind only
# where a number follows: No. 5, Jan. 3.
_SHORT = (
    "mr mrs ms dr prof rev hon st mt messrs mme gen col lt sgt capt cmdr gov sen rep pres"
    " e.g i.e eg ie cf vs viz al fig figs eq eqs vol pp ed eds approx dept est ca resp"
)
_SHORT_BEFORE_NUMBERS = "no nos p art ch sec jan feb mar apr jun jul aug sep sept oct nov dec"
_ABBREVIATIONS = frozenset(_SHORT.split())
_BEFORE_NUMBERS = frozenset(_SHORT_BEFORE_NUMBERS.split())
_LONGEST_WORD = 16  # characters looked at before a full stop

_FIRST_CHINESE = "\u2e80"  # from here on: radicals, kana, ideographs, wide forms


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without white space around them, and without empty ones.

    Joined they have all characters of the text but white space between sentences.
    """
    sentences: list[str] = []
    for line in _LINE_END.split(text):
        start = 0
        for mark in _MARKS.finditer(line):
            if mark.end() < len(line) and _ends(line, mark):
                sentences.append(line[start : mark.end()].strip())
                start = mark.end()
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends(line: str, mark: re.Match[str]) -> bool:
    """Whether marks inside a line end a sentence."""
    marks = mark[1]
    if not _FULL.isdisjoint(marks) or "……" in marks:
        return True
    after = _NEXT.match(line, mark.end())
    assert after is not None
    space, letter = after.groups()
    before = line[mark.start() - 1 : mark.start()]
    if not space:
        return before >= _FIRST_CHINESE and letter >= _FIRST_CHINESE and marks != "…"
    if letter.islower():
        return False
    return marks != "." or not _is_abbreviation(line, mark.start(), letter)


def _is_abbreviation(line: str, stop: int, letter: str) -> bool:
    """Whether a full stop abbreviates the word before it; `letter` is what follows."""
    match = _LAST_WORD.search(line[max(0, stop - _LONGEST_WORD) : stop])
    if match is None:
        return False
    word = match[0]
    if len(word) == 1:
        return word.isupper() and word != "I"
    word = word.lower()
    return word in _ABBREVIATIONS or (letter.isdigit() and word in _BEFORE_NUMBERS)
