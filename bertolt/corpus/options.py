"""Settings of `bertolt tokenizer` and `bertolt prepare`; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bertolt.base.options import at_least, between, check_options, share

Objective = Literal["mlm", "mlm+nsp"]
EngineName = Literal["process", "ray"]
DocumentRule = Literal["blank-lines", "lines"]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How the files of a corpus are read."""

    text: str | None = None
    """Column of the texts in tables and JSON lines. Default: found by its name."""
    documents: DocumentRule = "blank-lines"
    """What parts the documents of plain text: blank lines, or every line is one."""
    encoding: str = "utf-8"
    """Encoding of the text files; auto finds that of each by its bytes, and says it."""
    on_bad_row: Literal["drop", "error"] = "drop"
    """What to do with a row that cannot be used."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions(TextOptions):
    """Settings of `bertolt tokenizer`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    vocab_size: int = field(default=30_522, metadata=between(6, 10_000_000))
    """Tokens of the vocabulary, special ones included."""
    cased: bool = False
    """Keep case and accents. Default: text is lower-cased, and accents are taken off."""
    min_frequency: int = field(default=2, metadata=at_least(1))
    """Join only pieces that are seen together this often."""
    limit_alphabet: int | None = field(default=None, metadata=at_least(1))
    """Keep this many of the most frequent characters. Default: all."""
    out: Path = Path("tokenizer")
    """Folder for the tokenizer."""
    overwrite: bool = False
    """Replace the tokenizer that is there."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(TextOptions):
    """Settings of `bertolt prepare`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    tokenizer: str = "tokenizer"
    """Folder of the tokenizer or of a model that has one, or an id on the hub."""
    objective: Objective = "mlm"
    """What will be trained: masked tokens, or next sentences too."""
    max_length: int = field(default=512, metadata=at_least(8))
    """Tokens of a training sequence, special ones included; longer sentences will be divided."""
    held_out: float = field(default=0.01, metadata=share(0.01, zero=True))
    """Share of the documents to keep for the held-out loss."""
    workers: int | None = field(default=None, metadata=at_least(1))
    """Processes that tokenize. Default: one for each core, with Ray of the whole cluster."""
    engine: EngineName = "process"
    """Where they run: on this machine, or on a Ray cluster (extra `ray`)."""
    shard_size: int | None = field(default=None, metadata=at_least(1000))
    """Characters of text in a shard. Default: 1 to 8 million, by the size of the corpus."""
    out: Path = Path("corpus")
    """Folder for the shards, their manifest and a copy of the tokenizer."""
    overwrite: bool = False
    """Replace what an earlier run left in that folder."""
