"""Schemes of tags, by which a tag for each word says where spans are and of which kind.

    BIO     B-X opens a span of kind X, I-X carries it on; O is outside (IOB2)
    IOB1    I-X opens it too; B-X stands only where a span touches one of the same kind before it
    BIOES   E-X is the last word of a span, S-X a span of one word; BILOU writes L and U for them
    plain   X is the kind itself, without a prefix; equal neighbours are one span

A sequence that breaks its scheme is read as `conlleval` and seqeval by default read it; `breaks`
says where it does. A span is (start, end, kind): the words from `start` up to, not with, `end`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bertolt.base.errors import DataError, UsageError

SCHEMES = ("BIO", "IOB1", "BIOES", "plain")
# The letters of the BMES and BILOU schemes that mean the same as I, E and S.
_SYNONYMS = {"M": "I", "L": "E", "U": "S"}
_BETWEEN = ("-", "_", ":", ".", "/")  # a prefix and its kind, in one spelling or another
_NAMED = 3  # tags that a message names

Span = tuple[int, int, str]


def scheme_of(sequences: Iterable[Sequence[str]]) -> str:
    """The scheme that sequences of tags are in: "BIO", "IOB1", "BIOES" or "plain".

    Tags without prefixes are plain; an E or S (or L, U) says BIOES. Where B and I are all there
    is, it is the one of BIO and IOB1 that fewer tags break, and BIO when neither has fewer.

    Raises:
        DataError: some of the tags have prefixes, and others lack them.
    """
    rows = [list(tags) for tags in sequences]
    names = {tag for row in rows for tag in row} - {"O"}
    plain = {tag for tag in names if not is_prefixed(tag)}
    # A lone letter among plain tags, such as B, is a plain tag too.
    prefixed = {tag for tag in names - plain if "-" in tag}
    if plain and prefixed:
        raise DataError(
            f"tags with a prefix, {min(prefixed)!r}, and without, {min(plain)!r}",
            fix=_prefixes_meant(plain, prefixed)
            or "write all of them with a prefix, as in B-PER, or none",
        )
    if plain:
        return "plain"
    if {_split(tag)[0] for tag in names} & {"E", "S"}:
        return "BIOES"
    broken = {scheme: sum(len(breaks(row, scheme)) for row in rows) for scheme in ("BIO", "IOB1")}
    return "IOB1" if broken["IOB1"] < broken["BIO"] else "BIO"


def _prefixes_meant(plain: Collection[str], prefixed: Collection[str]) -> str:
    """Which tags to write, where those without a prefix have one in another spelling; or empty."""
    kinds = {tag[2:].casefold(): tag[2:] for tag in sorted(prefixed)}
    meant = {"o": "O"} if "o" in plain else {}
    for tag in sorted(set(plain) - {"o"}):
        letter, between, kind = tag[:1].upper(), tag[1:2], tag[2:]
        if between not in _BETWEEN or not kind or not is_prefixed(f"{letter}-"):
            return ""
        meant[tag] = f"{letter}-{kinds.get(kind.casefold(), kind)}"
    words = [f"{right!r} for {tag!r}" for tag, right in meant.items()]
    return f"write {', '.join(words[:_NAMED])}{', and so on' * (len(words) > _NAMED)}"


def spans_of(tags: Sequence[str], scheme: str | None = None) -> list[Span]:
    """The spans in one sentence of tags, from left to right, however they are tagged.

    Tags with prefixes are read by the rule of the CoNLL-2000 evaluation, which reads all schemes
    alike: a tag other than `O` opens a span when the tag before it is `O` or closes one (`E`,
    `S`), when it is itself an opening one (`B`, `S`), or when the kind changes; otherwise it
    carries the span on. So a stray `I-PER` is a span. A prefix alone has the kind "_".
    Source: E. F. Tjong Kim Sang, S. Buchholz, "Introduction to the CoNLL-2000 shared task:
    chunking", CoNLL 2000.

    Args:
        tags: a tag for each word.
        scheme: one of `SCHEMES`; None takes the one that `scheme_of` sees in these tags.

    Raises:
        DataError: without a scheme, tags with and without prefixes.
        UsageError: no such scheme, or a tag without a prefix that the scheme should have.
    """
    spans: list[Span] = []
    before = ("O", "")
    for position, (prefix, kind) in enumerate(_read(tags, scheme or scheme_of([tags]))):
        if prefix != "O":
            opens = before[0] in "OES" or prefix in "BS" or kind != before[1]
            start = position if opens else spans.pop()[0]
            spans.append((start, position + 1, kind))
        before = (prefix, kind)
    return spans


def breaks(tags: Sequence[str], scheme: str) -> list[int]:
    """The positions of the tags that `scheme` does not allow where they stand, ascending.

    Where a span of BIOES is not closed, it is the last tag of the span. Raises as `spans_of`.
    """
    pairs = _read(tags, scheme)
    outside = ("O", "")
    around = zip([outside, *pairs], pairs, [*pairs[1:], outside], strict=False)
    return [
        position
        for position, (before, tag, after) in enumerate(around)
        if tag[0] != "O" and not _allowed(before, tag, after, scheme)
    ]


def _allowed(
    before: tuple[str, str], tag: tuple[str, str], after: tuple[str, str], scheme: str
) -> bool:
    """Whether a tag other than `O` may stand between these two."""
    prefix, kind = tag
    if scheme == "plain":
        return True
    if scheme == "BIO":
        return prefix == "B" or (prefix == "I" and before in (("B", kind), ("I", kind)))
    if scheme == "IOB1":
        return prefix == "I" or (prefix == "B" and before in (("B", kind), ("I", kind)))
    follows = prefix in "BS" or before in (("B", kind), ("I", kind))
    return follows and (prefix in "ES" or after in (("I", kind), ("E", kind)))


def to_bio(tags: Sequence[str], scheme: str | None = None) -> list[str]:
    """The same spans tagged as BIO, a tag for each word. Arguments and errors as `spans_of`."""
    bio = ["O"] * len(tags)
    for start, end, kind in spans_of(tags, scheme):
        name = "" if kind == "_" else f"-{kind}"
        bio[start:end] = [f"B{name}", *[f"I{name}"] * (end - start - 1)]
    return bio


def _read(tags: Sequence[str], scheme: str) -> list[tuple[str, str]]:
    """Prefix (O, B, I, E or S) and kind of each tag."""
    if scheme not in SCHEMES:
        raise UsageError(f"there is no scheme {scheme!r}", fix=f"choose one of {SCHEMES}")
    if scheme == "plain":
        return [("O", "") if tag == "O" else ("I", tag) for tag in tags]
    return [_split(tag) for tag in tags]


def is_prefixed(tag: str) -> bool:
    """Whether a tag begins with a letter that a scheme has, other than `O`."""
    prefix = str(tag).partition("-")[0]
    return _SYNONYMS.get(prefix, prefix) in ("B", "I", "E", "S")


def _split(tag: str) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    if not is_prefixed(tag):
        raise UsageError(
            f"{tag!r} is not a tag",
            fix="write O, or one of B, I, E, S with a kind, such as B-PER",
        )
    prefix, _, kind = tag.partition("-")
    return _SYNONYMS.get(prefix, prefix), kind or "_"
