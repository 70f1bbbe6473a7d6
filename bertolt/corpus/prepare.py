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
from dataclasses import asdict, dataclass
from pathlib import Path

from bertolt.base.console import counting, info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import require_apart, write_text
from bertolt.base.format import duration, plural
from bertolt.base.machine import cores
from bertolt.base.paths import real
from bertolt.corpus.counts import CorpusCounts
from bertolt.corpus.engine import engine
from bertolt.corpus.options import Objective, PrepareOptions
from bertolt.corpus.parts import Setup, ShardJob
from bertolt.corpus.read import (
    CorpusFiles,
    Reader,
    describe_files,
    describe_reading,
    find_sources,
    shard_size,
)
from bertolt.corpus.shards import (
    MANIFEST,
    TOKENIZER,
    Manifest,
    ShardEntry,
    SourceEntry,
    content_fingerprint,
    file_sha256,
)
from bertolt.corpus.staging import FinishedPart, StagingFolder, staging_folder
from bertolt.corpus.statistics import statistics, summary, warnings_of
from bertolt.tokenization import BertTokenizer

Corpora = Sequence[str | os.PathLike[str]]

_GOES_ON = "the same command goes on from there"


@dataclass(frozen=True)
class TokenizedCorpus:
    """The outcome of a run.

    Attributes:
        folder: the corpus; `Corpus.open` opens it.
        manifest: its content.
        parts: how many parts there are.
        reused: how many of them an earlier run had done.
        seconds: the run took.
    """

    folder: Path
    manifest: Manifest
    parts: int
    reused: int
    seconds: float


def tokenize_corpus(corpus: Corpora, options: PrepareOptions | None = None) -> TokenizedCorpus:
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
    require_apart(options.out, [options.tokenizer])
    corpus_files = find_sources(corpus, without=real(options.out))
    describe_files(corpus_files)
    tokenizer = BertTokenizer.from_pretrained(options.tokenizer)
    with staging_folder(options.out, overwrite=options.overwrite) as staging:
        tokenizer.save_pretrained(staging.corpus / TOKENIZER)
        run = _Run(corpus_files, options, staging, _setup(tokenizer, staging, options))
        try:
            run.tokenize()
            manifest = run.finish()
        except BaseException:
            if parts := staging.count_parts():
                info(f"{plural(parts, 'part')} kept in {staging.folder}; {_GOES_ON}")
            raise
    seconds = time.monotonic() - start
    info(f"Saved to {options.out}: {plural(len(manifest.shards), 'shard')} in {duration(seconds)}")
    return TokenizedCorpus(options.out, manifest, len(run.done), run.reused, seconds)


def _setup(tokenizer: BertTokenizer, staging: StagingFolder, options: PrepareOptions) -> Setup:
    content = (staging.corpus / TOKENIZER / "tokenizer.json").read_text(encoding="utf-8")
    info(f"Tokenizer: {plural(len(tokenizer), 'token')}, from {options.tokenizer}")
    return Setup(
        tokenizer=content,
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        unknown=tokenizer.unk_token_id,
        max_length=options.max_length,
        held_out=options.held_out,
    )


class _Run:
    """A run: what there is to do, and what is done: the shards by number, and their counts."""

    def __init__(
        self, corpus: CorpusFiles, options: PrepareOptions, staging: StagingFolder, setup: Setup
    ) -> None:
        self.corpus, self.options, self.staging, self.setup = corpus, options, staging, setup
        self.reader = Reader(corpus.sources, options)
        self.size = options.shard_size or shard_size(corpus.bytes)
        self.done: dict[int, ShardEntry] = {}
        self.counts = CorpusCounts()
        self.reused = 0

    def tokenize(self) -> None:
        """Do every part that is not done."""
        name, workers = self.options.engine, self.options.workers
        if name == "process":
            # A small corpus has few parts, even if it is packed to a tenth of its size.
            workers = min(workers or cores(), 1 + 10 * self.corpus.bytes // self.size)
        run = engine(name, workers)
        tokens = 0
        # Closing the results ends the workers at once, whatever ends the loop.
        with (
            counting("Preparing", unit="tokens") as show,
            closing(run(self._new_parts(), self.setup, workers)) as results,
        ):
            for result in results:
                self._note(result.number, self.staging.keep(result))
                tokens += result.counts.all.tokens
                show(tokens, result.position / max(self.corpus.bytes, 1))
        self._describe_reading()

    def _note(self, number: int, part: FinishedPart) -> None:
        self.done[number] = part.entry
        self.counts.merge(part.counts)

    def _new_parts(self) -> Iterator[ShardJob]:
        """The parts that no earlier run has done."""
        told = False
        for part in self._parts():
            if finished := self.staging.find(part.number, part.key):
                self._note(part.number, finished)
                self.reused += 1
                continue
            if self.reused and not told:
                info(f"{plural(self.reused, 'part')} done by an earlier run; going on from there")
            told = True
            yield part

    def _parts(self) -> Iterator[ShardJob]:
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
                yield ShardJob.of(number, texts, sources, key, self.reader.position)
                number, characters, texts, sources = number + 1, 0, [], []
        if texts:
            yield ShardJob.of(number, texts, sources, key, self.reader.position)

    def finish(self) -> Manifest:
        """Check what was found, write the manifest, and publish the folder."""
        _require_usable(self.counts, self.reader.summary.documents, self.options.objective)
        manifest = self._manifest()
        write_text(self.staging.corpus / MANIFEST, manifest.to_json())
        for line in summary(manifest):
            info(line)
        self.staging.publish(manifest.shards)
        return manifest

    def _manifest(self) -> Manifest:
        options, counts, summary = self.options, self.counts, self.reader.summary
        shards = tuple(self.done[number] for number in sorted(self.done))
        files = sorted((self.staging.corpus / TOKENIZER).iterdir())
        tokenizer = {path.name: file_sha256(path) for path in files}
        names = [source.name for source in self.corpus.sources]
        return Manifest(
            objective=options.objective,
            max_length=options.max_length,
            vocab_size=self.setup.vocab_size,
            fingerprint=content_fingerprint(shards, tokenizer),
            settings={
                "documents": options.documents,
                "encoding": options.encoding,
                "held_out": options.held_out,
                "shard_size": self.size,
                "text": options.text,
            },
            sources=tuple(
                SourceEntry(name, **asdict(counts.of_source(number)))
                for number, name in enumerate(names)
            ),
            shards=shards,
            tokenizer=tokenizer,
            statistics=statistics(counts, summary, len(names)),
            warnings=tuple(warnings_of(counts, summary, names, options)),
        )

    def _describe_reading(self) -> None:
        if self.reused:
            parts = plural(len(self.done), "part")
            info(f"  {self.reused:,} of {parts} had been done by an earlier run, and were kept")
        describe_reading(self.reader.summary)


def _require_usable(counts: CorpusCounts, documents: int, objective: Objective) -> None:
    """Refuse a corpus without text, and one in which no sentence has another document.

    Raises:
        DataError: there is nothing to train on, or a single document for next sentences.
        UsageError: too much is held out.
    """
    if not counts.all.tokens:
        raise DataError("there is no text in the corpus", fix="look at its files")
    if not counts.train.tokens:
        raise UsageError(
            "all documents are held out, and none is left to train on",
            fix="use a smaller --held-out, or more text",
        )
    pairs = "half of the sentence pairs need a second sentence from another one"
    if objective == "mlm+nsp" and documents < 2:
        raise DataError(
            f"the corpus is a single document, and {pairs}",
            place="--objective mlm+nsp",
            fix="part its documents by blank lines, use --documents lines if every line is one,"
            " or train with --objective mlm",
        )
    if objective == "mlm+nsp" and counts.train.documents < 2:
        raise UsageError(
            f"of {documents} documents one is left to train on, and {pairs}",
            place="--objective mlm+nsp",
            fix="use --held-out 0, or more text",
        )
