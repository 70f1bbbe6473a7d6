"""`prepare`: files of text become a folder of token shards, by a run that can be stopped.

The files are read here, in order, and divided into parts of about the same number of characters;
an engine tokenizes the parts; their shards are written here. So the bytes depend on the text and
the settings alone, and a part that is there already with the same key is not done again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bertolt.base.console import counting, say
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import write_text
from bertolt.base.format import duration, plural
from bertolt.base.machine import cores
from bertolt.corpus.engine import engine
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.parts import Part, Setup
from bertolt.corpus.read import Found, Reader, find_sources, shard_size, tell_files
from bertolt.corpus.shards import (
    MANIFEST,
    TOKENIZER,
    Manifest,
    ShardEntry,
    SourceEntry,
    content_fingerprint,
    file_sha256,
)
from bertolt.corpus.statistics import statistics, summary, warnings_of
from bertolt.corpus.tally import Tally
from bertolt.corpus.workplace import Done, Workplace, workplace
from bertolt.tokenization import BertTokenizer

Corpora = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Prepared:
    """What a run has made.

    Attributes:
        folder: where it lies; `Corpus.open` opens it.
        manifest: what it is.
        parts: how many parts there are.
        reused: how many of them an earlier run had done.
        seconds: the run took.
    """

    folder: Path
    manifest: Manifest
    parts: int
    reused: int
    seconds: float


def prepare(corpus: Corpora, options: PrepareOptions | None = None) -> Prepared:
    """Turn files of text into token shards for pretraining.

    A run that was stopped or killed is taken up by the next one with the same output: parts whose
    text, tokenizer and settings are the same are not done again.

    Args:
        corpus: files, folders and patterns.
        options: settings.

    Raises:
        UsageError: an option that cannot be honoured, or an output that may not be replaced.
        DataError: a file that cannot be read, or a corpus that cannot be used.
        CheckpointError: a tokenizer that cannot be loaded.
        BertoltError: the file system refused, or a worker was killed.
    """
    options = options or PrepareOptions()
    start = time.monotonic()
    found = find_sources(corpus, without=options.out.resolve())
    tell_files(found)
    tokenizer = BertTokenizer.from_pretrained(options.tokenizer)
    with workplace(options.out, overwrite=options.overwrite) as work:
        tokenizer.save_pretrained(work.corpus / TOKENIZER)
        run = _Run(found, options, work, _setup(tokenizer, work, options))
        try:
            run.tokenize()
            manifest = run.finish()
        except BaseException:
            _tell_kept(work)
            raise
    seconds = time.monotonic() - start
    say(f"Saved to {options.out}: {plural(len(manifest.shards), 'shard')} in {duration(seconds)}")
    return Prepared(options.out, manifest, len(run.done), run.reused, seconds)


def _setup(tokenizer: BertTokenizer, work: Workplace, options: PrepareOptions) -> Setup:
    content = (work.corpus / TOKENIZER / "tokenizer.json").read_text(encoding="utf-8")
    say(f"Tokenizer: {plural(len(tokenizer), 'token')}, from {options.tokenizer}")
    return Setup(
        tokenizer=content,
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        unknown=tokenizer.unk_token_id,
        max_length=options.max_length,
        held_out=options.held_out,
    )


def _tell_kept(work: Workplace) -> None:
    parts = work.count_parts()
    if parts:
        say(f"{plural(parts, 'part')} kept in {work.folder}; the same command goes on from there")


@dataclass
class _Run:
    """A run: what there is to do, and what is done."""

    found: Found
    options: PrepareOptions
    work: Workplace
    setup: Setup
    done: dict[int, ShardEntry] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    reused: int = 0

    def __post_init__(self) -> None:
        self.reader = Reader(self.found.sources, self.options)
        self.size = self.options.shard_size or shard_size(self.found.bytes)

    def tokenize(self) -> None:
        """Do every part that is not done."""
        name, workers = self.options.engine, self.options.workers
        if name == "process":
            # A small corpus has few parts, even if it is packed to a tenth of its size.
            workers = min(workers or cores(), 1 + 10 * self.found.bytes // self.size)
        run = engine(name, workers)
        tokens = 0
        # Closing the results ends the workers at once, whatever ends the loop.
        with (
            counting("Preparing", unit="tokens") as show,
            closing(run(self._new_parts(), self.setup, workers)) as results,
        ):
            for result in results:
                self._note(result.number, self.work.keep(result))
                tokens += result.tally.all.tokens
                show(tokens, result.position / max(self.found.bytes, 1))
        self._tell_reading()

    def _note(self, number: int, done: Done) -> None:
        self.done[number] = done.entry
        self.tally.merge(done.tally)

    def _new_parts(self) -> Iterator[Part]:
        """The parts that no earlier run has done."""
        new = 0
        for part in self._parts():
            done = self.work.find(part.number, part.key)
            if done is not None:
                self._note(part.number, done)
                self.reused += 1
                continue
            if not new and self.reused:
                say(f"{plural(self.reused, 'part')} done by an earlier run; going on from there")
            new += 1
            yield part

    def _parts(self) -> Iterator[Part]:
        """All parts, in order: documents until there are enough characters."""
        texts: list[str] = []
        sources: list[int] = []
        number = characters = 0
        key = self.setup.key()
        for document in self.reader:
            texts.append(document.text)
            sources.append(document.source)
            characters += len(document.text)
            if characters >= self.size:
                yield Part.of(number, texts, sources, key, self.reader.position)
                number, characters, texts, sources = number + 1, 0, [], []
        if texts:
            yield Part.of(number, texts, sources, key, self.reader.position)

    def finish(self) -> Manifest:
        """Check what was found, write the manifest, and publish the folder."""
        tally = self.tally
        self._require_usable(tally)
        entries = [self.done[number] for number in sorted(self.done)]
        files = sorted((self.work.corpus / TOKENIZER).iterdir())
        tokenizer = {path.name: file_sha256(path) for path in files}
        names = [source.name for source in self.found.sources]
        manifest = Manifest(
            objective=self.options.objective,
            max_length=self.options.max_length,
            vocab_size=self.setup.vocab_size,
            fingerprint=content_fingerprint(entries, tokenizer),
            settings={
                "documents": self.options.documents,
                "encoding": self.options.encoding,
                "held_out": self.options.held_out,
                "shard_size": self.size,
                "text": self.options.text,
            },
            sources=tuple(
                SourceEntry(name, counts.documents, counts.sentences, counts.tokens)
                for name, counts in ((n, tally.of_source(i)) for i, n in enumerate(names))
            ),
            shards=tuple(entries),
            tokenizer=tokenizer,
            statistics=statistics(tally, self.reader.account, len(names)),
            warnings=tuple(warnings_of(tally, self.reader.account, names, self.options)),
        )
        write_text(self.work.corpus / MANIFEST, manifest.to_json())
        for line in summary(manifest):
            say(line)
        self.work.publish(entries)
        return manifest

    def _require_usable(self, tally: Tally) -> None:
        """Refuse a corpus without text, and one in which no sentence has another document.

        Raises:
            DataError: there is nothing to train on, or a single document for next sentences.
        """
        if not tally.all.tokens:
            raise DataError("there is no text in the corpus", fix="look at its files")
        if not tally.train.tokens:
            raise UsageError(
                "all documents are held out, and none is left to train on",
                fix="use a smaller --held-out, or more text",
            )
        if self.options.objective == "mlm+nsp":
            self._require_pairs(tally)

    def _require_pairs(self, tally: Tally) -> None:
        documents = self.reader.account.documents
        if documents < 2:
            raise DataError(
                "the corpus is a single document, and half of the sentence pairs need a second"
                " sentence from another one",
                place="--objective mlm+nsp",
                fix="part its documents by blank lines, use --documents lines if every line is one,"
                " or train with --objective mlm",
            )
        if tally.train.documents < 2:
            raise UsageError(
                f"of {documents} documents one is left to train on, and half of the sentence pairs"
                " need a second sentence from another one",
                place="--objective mlm+nsp",
                fix="use --held-out 0, or more text",
            )

    def _tell_reading(self) -> None:
        if self.reused:
            parts = plural(len(self.done), "part")
            say(f"  {self.reused:,} of {parts} had been done by an earlier run, and were kept")
        account = self.reader.account
        for path, column in account.columns.items():
            say(f"  {path}: {column}")
        for reason, count in sorted(account.dropped.items()):
            say(f"  left out: {count:,} for {reason}")
