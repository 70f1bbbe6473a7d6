"""What is told about a corpus: shares and histograms, and what looks wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bertolt.base.format import percent, plural
from bertolt.corpus.counts import CorpusCounts, described
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.read import PIECE, ReadSummary
from bertolt.corpus.shards import Counts, Manifest

REPEATED_LINES = 0.2
"""Share of lines that were there before, above which a corpus is warned about."""
UNKNOWN_TOKENS = 0.01
"""Share of unknown tokens above which the tokenizer does not fit the text."""
ONE_SOURCE = 0.9
"""Share of the tokens that one of several sources has, above which the others hardly count."""

_SHOWN_SOURCES = 5


def statistics(counts: CorpusCounts, summary: ReadSummary, sources: int) -> dict[str, Any]:
    """What the manifest keeps. Shares are from 0 to 1; lengths are in tokens."""
    tokens = max(counts.all.tokens, 1)
    return {
        "unknown_share": round(counts.unknown / tokens, 6),
        "repeated_lines": {
            "share": round(counts.sample.repeated, 6),
            "lines_in_sample": counts.sample.lines,
            "one_line_in": 2**counts.sample.level,
        },
        "source_shares": [
            round(counts.of_source(number).tokens / tokens, 6) for number in range(sources)
        ],
        "sentence_lengths": described(counts.sentences),
        "document_lengths": described(counts.documents),
        "longest_sentence": counts.longest,
        "sentences_beyond_max_length": counts.long,
        "documents_cut": summary.cut,
        "left_out": dict(sorted(summary.dropped.items())),
    }


def warnings_of(
    counts: CorpusCounts, summary: ReadSummary, names: Sequence[str], options: PrepareOptions
) -> Iterator[str]:
    """What may be wrong with a corpus, and what to do about it."""
    repeated = counts.sample.repeated
    if repeated > REPEATED_LINES:
        yield (
            f"{percent(repeated)} of the lines were there before (estimated from"
            f" {counts.sample.lines:,}): what is repeated is learned by heart; drop duplicates"
        )
    unknown = counts.unknown / max(counts.all.tokens, 1)
    if unknown > UNKNOWN_TOKENS:
        yield (
            f"{percent(unknown)} of the tokens are unknown to the tokenizer; learn one from this"
            " corpus with bertolt tokenizer"
        )
    shares = [counts.of_source(n).tokens / max(counts.all.tokens, 1) for n in range(len(names))]
    if len(names) > 1 and max(shares) > ONE_SOURCE:
        name = names[shares.index(max(shares))]
        yield f"{percent(max(shares))} of the tokens are from {name}; the others hardly count"
    if options.held_out and not counts.held_out.documents:
        yield (
            f"no document is held out at --held-out {options.held_out:g}, so there will be no"
            " held-out loss; use a larger share"
        )
    if summary.blankless:
        more = f" and {len(summary.blankless) - 1} more" if len(summary.blankless) > 1 else ""
        yield (
            f"{summary.blankless[0]}{more}: many lines and no blank one, taken as one document;"
            " use --documents lines if every line is one"
        )
    if summary.cut:
        yield (
            f"{plural(summary.cut, 'document is', 'documents are')} longer than {PIECE:,}"
            f" characters and divided; each piece counts as a document{_of_pieces(options)}"
        )


def _of_pieces(options: PrepareOptions) -> str:
    """What follows where pieces of a document count as several."""
    consequences = []
    if options.held_out:
        consequences.append("one may be held out while the others are trained on")
    if options.objective == "mlm+nsp":
        consequences.append("a pair of two of them is one of different documents")
    return "".join(f", and {each}" for each in consequences)


def summary(manifest: Manifest) -> Iterator[str]:
    """The lines that tell about a corpus."""
    values = manifest.statistics
    yield f"Prepared {_counted(manifest.train)}"
    yield f"  held out: {_counted(manifest.held_out)}"
    yield (
        f"  unknown tokens {percent(values['unknown_share'], 2)},"
        f" repeated lines {percent(values['repeated_lines']['share'])}"
    )
    long = values["sentences_beyond_max_length"]
    yield (
        f"  longest sentence {plural(values['longest_sentence'], 'token')},"
        f" {f'{long:,} to be divided' if long else 'none'} beyond {manifest.max_length - 2}"
    )
    if len(manifest.sources) > 1:
        shares = zip(values["source_shares"], manifest.sources, strict=True)
        ranked = sorted(shares, key=lambda entry: -entry[0])
        parts = [f"{source.name} {percent(share)}" for share, source in ranked[:_SHOWN_SOURCES]]
        rest = len(ranked) - len(parts)
        yield f"  tokens by source: {', '.join(parts)}" + (f", {rest} more" if rest else "")
    for warning in manifest.warnings:
        yield f"warning: {warning}"


def _counted(counts: Counts) -> str:
    return (
        f"{plural(counts.documents, 'document')}, {plural(counts.sentences, 'sentence')},"
        f" {plural(counts.tokens, 'token')}"
    )
