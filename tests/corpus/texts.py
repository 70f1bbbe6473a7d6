"""Texts for the tests of a corpus, and what looks into folders."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pyarrow as pa

WORDS = ["the", "film", "was", "good", "bad", "and", "long", "short", "plot", "cast"]
CHINESE = list("今天气很好我们去公园吧不他说走了")
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *WORDS,
    *CHINESE,
    *".,!?。，！？",
    *string.ascii_lowercase,
    *("##" + letter for letter in string.ascii_lowercase),
    *string.digits,
    *("##" + digit for digit in string.digits),
]


def text_of(documents: int, seed: int = 0) -> str:
    """Plain text of so many documents, of sentences in both scripts, a blank line between them."""
    choose = random.Random(seed)

    def sentence() -> str:
        if choose.random() < 0.5:
            return " ".join(choose.choices(WORDS, k=choose.randrange(2, 9))).capitalize() + ". "
        return "".join(choose.choices(CHINESE, k=choose.randrange(2, 9))) + "。"

    def document(number: int) -> str:
        lines = ["".join(sentence() for _ in range(choose.randrange(1, 4))) for _ in range(3)]
        return "\n".join([f"number {number}", *lines])

    return "\n\n".join(map(document, range(documents))) + "\n"


def zstd(content: bytes) -> bytes:
    """`content`, packed."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its name in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
