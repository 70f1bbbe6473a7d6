"""Schemes of tags against seqeval, against the rules of conlleval, and by hand."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import sequence_labeling
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from bertolt.base.errors import DataError, UsageError
from bertolt.metrics.tags import SCHEMES, breaks, scheme_of, spans_of, to_bio

quick = settings(derandomize=True, deadline=None, max_examples=300)
KINDS = ("A", "B", "A-x")
PREFIXES = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES"}


def tags_with(prefixes: str):
    names = ["O", *[f"{prefix}-{kind}" for prefix in prefixes for kind in KINDS]]
    return st.lists(st.sampled_from(names), max_size=12)


any_tags = st.sampled_from(sorted(set(PREFIXES.values()))).flatmap(tags_with)


def written(kinds, scheme):
    """Tags for a kind (or None) and whether it opens a span at each word; and their spans."""
    spans = []
    for position, (kind, opens) in enumerate(kinds):
        if kind and not opens and spans and spans[-1][1:] == (position, kind):
            spans[-1] = (spans[-1][0], position + 1, kind)
        elif kind:
            spans.append((position, position + 1, kind))
    tags = ["O"] * len(kinds)
    for number, (start, end, kind) in enumerate(spans):
        before = spans[number - 1] if number else None
        touches = before is not None and before[1:] == (start, kind)
        inner = ["I"] * (end - start)
        if scheme == "BIO" or (scheme == "IOB1" and touches):
            inner[0] = "B"
        if scheme == "BIOES":
            inner = ["S"] if end - start == 1 else ["B", *inner[1:-1], "E"]
        tags[start:end] = [f"{prefix}-{kind}" for prefix in inner]
    return tags, spans


sentences = st.lists(
    st.tuples(st.sampled_from([None, *KINDS]), st.booleans()), min_size=1, max_size=12
)


def conlleval(tags):
    """The two questions that conlleval asks at every word, from its published tables."""
    ends = {"BB", "BO", "IB", "IO", "EE", "EI", "EO", "EB"}
    starts = {"BB", "IB", "OB", "OI", "EE", "EI", "EB", "OE"}
    spans, start, before, before_kind = [], 0, "O", ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        changes = kind != before_kind
        if before + prefix in ends or (before != "O" and changes):
            spans.append((start, position, before_kind))
        if before + prefix in starts or (prefix != "O" and changes):
            start = position
        before, before_kind = prefix, kind
    return spans


@given(any_tags)
@quick
def test_spans_are_those_of_seqeval_however_broken(tags):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = sequence_labeling.get_entities(tags)
    assert spans_of(tags) == [(first, last + 1, kind) for kind, first, last in theirs]


@given(st.one_of(tags_with("BI"), tags_with("BIE")))
@quick
def test_spans_are_those_of_conlleval(tags):
    assert spans_of(tags, "BIO") == conlleval(tags)


@given(sentences, st.sampled_from(sorted(PREFIXES)))
@quick
def test_whole_sequences_are_read_back_and_break_nothing(kinds, scheme):
    tags, spans = written(kinds, scheme)
    assert breaks(tags, scheme) == []
    assert spans_of(tags, scheme) == spans == spans_of(tags)
    strict = {"BIO": IOB2, "IOB1": IOB1, "BIOES": IOBES}[scheme]
    theirs = [e.to_tuple() for e in Entities([tags], strict).entities[0]]
    assert [(start, end, kind) for _, kind, start, end in theirs] == spans
    assert to_bio(tags, scheme) == written(kinds, "BIO")[0]


@given(any_tags, st.sampled_from(sorted(PREFIXES)))
@quick
def test_what_breaks_nothing_is_read_the_same_by_the_strict_rules(tags, scheme):
    if breaks(tags, scheme):
        # The same spans written as the scheme has it are other tags.
        kinds = [None] * len(tags)
        for start, end, kind in spans_of(tags):
            kinds[start:end] = [(kind, place == start) for place in range(start, end)]
        assert written([pair or (None, False) for pair in kinds], scheme)[0] != tags
    else:
        strict = {"BIO": IOB2, "IOB1": IOB1, "BIOES": IOBES}[scheme]
        theirs = [e.to_tuple() for e in Entities([tags], strict).entities[0]]
        assert [(start, end, kind) for _, kind, start, end in theirs] == spans_of(tags)


@given(any_tags)
@quick
def test_bio_says_the_same_and_breaks_nothing(tags):
    assert spans_of(to_bio(tags)) == spans_of(tags)
    assert breaks(to_bio(tags), "BIO") == []
    assert to_bio(to_bio(tags)) == to_bio(tags)


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("BIO", "I-A I-A O B-A I-B B-A I-A", [0, 4]),
        ("BIO", "B-A E-A S-A", [1, 2]),
        ("IOB1", "I-A B-A I-A O B-A I-B B-A", [4, 6]),
        ("IOB1", "S-A", [0]),
        ("BIOES", "S-A B-A I-A E-A S-B", []),
        ("BIOES", "B-A O I-A E-A", [0, 2]),
        ("BIOES", "E-A B-A E-B B-A I-A", [0, 1, 2, 4]),
        ("BIOES", "U-A B-A I-A L-A M-A", [4]),
        ("plain", "A A O B I-X", []),
    ],
)
def test_breaks(scheme, tags, expected):
    assert breaks(tags.split(), scheme) == expected


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (["B-A I-A O", "B-A B-A"], "BIO"),
        (["I-A I-A O", "O I-A B-A"], "IOB1"),
        (["I-A I-A", "B-A I-A", "O B-A"], "BIO"),  # one tag breaks BIO, two break IOB1
        (["O O"], "BIO"),
        ([], "BIO"),
        (["B-A I-A E-A", "S-A"], "BIOES"),
        (["B-A L-A", "U-A"], "BIOES"),
        (["B I O"], "BIO"),
        (["PER PER O", "X-Y"], "plain"),
        (["NOUN VERB -LRB-"], "plain"),
    ],
)
def test_scheme_of(sentences, expected):
    assert scheme_of([sentence.split() for sentence in sentences]) == expected
    assert expected in SCHEMES


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # IOB2: every entity opens with B.
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        # IOB1: I opens an entity, B only where two of a type touch.
        ("I-PER I-PER O I-LOC B-LOC I-LOC", [(0, 2, "PER"), (3, 4, "LOC"), (4, 6, "LOC")]),
        # IOBES, and the same with other letters.
        ("S-PER B-LOC I-LOC E-LOC S-LOC", [(0, 1, "PER"), (1, 4, "LOC"), (4, 5, "LOC")]),
        ("S-PER B-LOC M-LOC E-LOC S-LOC", [(0, 1, "PER"), (1, 4, "LOC"), (4, 5, "LOC")]),
        ("U-PER B-LOC I-LOC L-LOC U-LOC", [(0, 1, "PER"), (1, 4, "LOC"), (4, 5, "LOC")]),
        # IOE: E closes, and what follows is another entity.
        ("I-PER E-PER I-PER E-PER", [(0, 2, "PER"), (2, 4, "PER")]),
        # What no scheme allows is read all the same.
        ("I-PER", [(0, 1, "PER")]),
        ("B-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),
        ("S-PER I-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("O E-PER O", [(1, 2, "PER")]),
        ("B-PER O I-PER", [(0, 1, "PER"), (2, 3, "PER")]),
        # Types with a hyphen, and no type at all.
        ("B-ORG-GOV I-ORG-GOV", [(0, 2, "ORG-GOV")]),
        ("B I O", [(0, 2, "_")]),
        ("O O", []),
        ("", []),
    ],
)
def test_spans_by_hand(tags, expected):
    assert spans_of(tags.split()) == expected


@given(any_tags)
@quick
def test_spans_cover_each_tag_once(tags):
    spans = spans_of(tags)
    covered = [i for start, end, _ in spans for i in range(start, end)]
    assert covered == [i for i, tag in enumerate(tags) if tag != "O"]
    for start, end, kind in spans:
        assert {tag[2:] for tag in tags[start:end]} == {kind}


def test_plain_tags_are_runs():
    tags = ["A", "A", "O", "B", "A"]
    assert spans_of(tags) == [(0, 2, "A"), (3, 4, "B"), (4, 5, "A")]
    assert to_bio(tags) == ["B-A", "I-A", "O", "B-B", "B-A"]
    assert to_bio(["B", "I", "O", "S"]) == ["B", "I", "O", "B"]


def test_tags_that_are_refused():
    with pytest.raises(DataError, match=r"with a prefix, 'B-PER', and without, 'LOC'"):
        scheme_of([["B-PER", "O"], ["LOC"]])
    with pytest.raises(DataError, match="without, 'b-per'") as refused:
        scheme_of([["B-PER", "I-Loc", "O"], ["b-per", "i_LOC", "O"]])
    assert refused.value.fix == "write 'B-PER' for 'b-per', 'I-Loc' for 'i_LOC'"
    with pytest.raises(UsageError, match=r"(?s)'LOC' is not a tag.*B-PER"):
        spans_of(["B-PER", "LOC"], "BIO")
    with pytest.raises(UsageError, match="no scheme 'IOB3'"):
        breaks(["O"], "IOB3")
