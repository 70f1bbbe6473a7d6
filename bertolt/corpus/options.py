"""Settings of `bertolt tokenizer` and `bertolt prepare`; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bertolt.base.errors import UsageError

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
    """Encoding of the text files."""
    on_bad_row: Literal["drop", "error"] = "drop"
    """What to do with a row that cannot be used."""

    def __post_init__(self) -> None:
        _one_of("documents", self.documents, get_args(DocumentRule))
        _one_of("on_bad_row", self.on_bad_row, ("drop", "error"))


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions(TextOptions):
    """Settings of `bertolt tokenizer`; the text below each field is the command's help.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    vocab_size: int = 30_522
    """Tokens of the vocabulary, special ones included."""
    cased: bool = False
    """Keep case and accents. Default: text is lower-cased, and accents are taken off."""
    min_frequency: int = 2
    """Join only pieces that are seen together this often."""
    limit_alphabet: int | None = None
    """Keep this many of the most frequent characters. Default: all."""
    out: Path = Path("tokenizer")
    """Folder for the tokenizer."""
    overwrite: bool = False
    """Replace the tokenizer that is there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("vocab_size", self.vocab_size, 6)
        _at_least("min_frequency", self.min_frequency, 1)
        _at_least("limit_alphabet", self.limit_alphabet, 1)


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
    max_length: int = 512
    """Tokens of a training sequence, special ones included; longer sentences will be divided."""
    held_out: float = 0.01
    """Share of the documents to keep for the held-out loss."""
    workers: int | None = None
    """Processes that tokenize. Default: one for each core, with Ray of the whole cluster."""
    engine: EngineName = "process"
    """Where they run: on this machine, or on a Ray cluster (extra `ray`)."""
    shard_size: int | None = None
    """Characters of text in a shard. Default: 1 to 8 million, by the size of the corpus."""
    out: Path = Path("corpus")
    """Folder for the shards, their manifest and a copy of the tokenizer."""
    overwrite: bool = False
    """Replace what an earlier run left in that folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("objective", self.objective, get_args(Objective))
        _one_of("engine", self.engine, get_args(EngineName))
        _at_least("max_length", self.max_length, 8)
        _at_least("workers", self.workers, 1)
        _at_least("shard_size", self.shard_size, 1000)
        if not 0 <= self.held_out < 1:
            raise UsageError(
                f"--held-out is {self.held_out:g}", fix="give a share from 0 to below 1, as 0.01"
            )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        option = "--" + name.replace("_", "-")
        raise UsageError(f"{option} is {value!r}", fix=f"use {' or '.join(allowed)}")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        option = "--" + name.replace("_", "-")
        raise UsageError(f"{option} is {value}", fix=f"give {least} or more")
