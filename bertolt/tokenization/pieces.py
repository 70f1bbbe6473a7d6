"""Long texts in pieces: tokenised one by one they have the tokens of the whole, in less memory.

A backend notes where each character of a text came from, and each of its words, until the text is
done. That is some hundred bytes a character, and for a text of a million of them most of a
gigabyte. A piece ends where every step begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel

PIECE = 1 << 14
"""Characters of a piece, at least; it ends at the next place where it may."""

# Before a single space between two letters or digits of ASCII: they are normalised each by itself,
# and the space begins a word of a byte-level vocabulary and no word of another.
_SPACE = r"(?<=[0-9A-Za-z])(?= [0-9A-Za-z])"
# Before a Chinese character behind another or behind punctuation: each is a word by itself.
_CHINESE = r"(?<=[\u4e00-\u9fff。，！？；：、])(?=[\u4e00-\u9fff])"
_ENDS = re.compile(r"^[0-9A-Za-z]|[0-9A-Za-z]$")


def cut_where(backend: Tokenizer) -> re.Pattern[str] | None:
    """Places at which texts may be cut for this backend; None where nobody knows."""
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer
    for token in backend.get_added_tokens_decoder().values():
        strips = token.lstrip or token.rstrip
        crosses = re.search(r"[\s\u4e00-\u9fff]", token.content)
        if crosses or (strips and _ENDS.search(token.content)):
            return None
    if isinstance(splitter, ByteLevel) and splitter.use_regex and normalizer is None:
        return re.compile(_SPACE)
    if isinstance(splitter, BertPreTokenizer) and isinstance(normalizer, BertNormalizer):
        chinese = normalizer.handle_chinese_chars
        return re.compile(f"{_SPACE}|{_CHINESE}" if chinese else _SPACE)
    return None


def pieces_of(text: str, where: re.Pattern[str]) -> Iterator[str]:
    """The text in pieces of `PIECE` characters and more; a shorter one is whole."""
    start = 0
    while len(text) - start > PIECE and (place := where.search(text, start + PIECE)):
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]
