"""`learn_tokenizer`: a WordPiece vocabulary from files of text, which are read as a stream."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bertolt.base.console import counting, info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import staged_folder
from bertolt.base.format import duration, plural
from bertolt.base.paths import real
from bertolt.corpus.options import TokenizerOptions
from bertolt.corpus.read import (
    CorpusFiles,
    Reader,
    describe_files,
    describe_reading,
    find_sources,
)
from bertolt.tokenization import BertTokenizer

FILES = frozenset({"tokenizer.json", "tokenizer_config.json", "vocab.txt"})
"""Names that are written, and that `--overwrite` may replace."""

_BATCH = 1 << 16  # characters that the trainer is given at once


def learn_tokenizer(
    corpus: Sequence[str | os.PathLike[str]], options: TokenizerOptions | None = None
) -> Path:
    """Learn a vocabulary and save its tokenizer; the same text gives the same bytes.

    Args:
        corpus: files, folders and patterns.
        options: settings.

    Returns:
        The folder.

    Raises:
        UsageError: characters that the vocabulary cannot hold, or an output not to be replaced.
        DataError: a file that cannot be read, or a corpus without text.
        BertoltError: the file system refused.
    """
    options = options or TokenizerOptions()
    start = time.monotonic()
    corpus_files = find_sources(corpus, without=real(options.out))
    with staged_folder(options.out, overwrite=options.overwrite, ours=FILES) as stage:
        describe_files(corpus_files)
        texts = _Texts(corpus_files, options)
        tokenizer = _train(texts, options)
        tokenizer.save_pretrained(stage)
    info(
        f"Learned {plural(len(tokenizer), 'token')} from {plural(texts.characters, 'character')}"
        f" in {duration(time.monotonic() - start)}"
    )
    describe_reading(texts.reader.summary)
    if len(tokenizer) < options.vocab_size:
        info(f"  fewer than {options.vocab_size:,}: nothing else is seen often enough")
    info(f"Saved to {options.out}")
    return options.out


def _train(texts: _Texts, options: TokenizerOptions) -> BertTokenizer:
    try:
        return BertTokenizer.train(
            texts,
            options.vocab_size,
            lowercase=not options.cased,
            min_frequency=options.min_frequency,
            limit_alphabet=options.limit_alphabet,
        )
    except UsageError as error:
        flags = {"vocab_size": "--vocab-size", "limit_alphabet": "--limit-alphabet"}
        problem, fix = error.problem, error.fix
        for name, option in flags.items():
            problem, fix = problem.replace(name, option), fix.replace(name, option)
        raise UsageError(problem.replace("size=", "size "), place=error.place, fix=fix) from error


class _Texts:
    """The texts of a corpus in batches, counted as they go by; `reader` reads them."""

    def __init__(self, corpus_files: CorpusFiles, options: TokenizerOptions) -> None:
        self.characters = 0
        self._corpus_files = corpus_files
        self.reader = Reader(corpus_files.sources, options)

    def __iter__(self) -> Iterator[list[str]]:
        with counting("Reading", unit="characters") as show:
            batch: list[str] = []
            size = 0
            for document in self.reader:
                # The trainer takes what it is given as one string, so long ones are given in lines.
                batch += document.text.split("\n")
                size += len(document.text)
                if size >= _BATCH:
                    self.characters += size
                    yield batch
                    batch, size = [], 0
                    show(self.characters, self.reader.position / max(self._corpus_files.bytes, 1))
            self.characters += size
            yield batch
        if not self.characters:
            raise DataError("there is no text in the corpus", fix="look at its files")
